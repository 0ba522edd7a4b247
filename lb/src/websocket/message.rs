//! Messages: what a client says, read; what it is told, written (AMS `WebSocketConstants.java`, and
//! `websocket_adaptor.js` of its SDK).

use serde::Deserialize;
use serde_json::{Value, json};
use sluicegate_cluster::config::IceServer;
use sluicegate_cluster::ids::{AppName, StreamKey};
use sluicegate_cluster::stream::StreamRecord;
use sluicegate_media::names::Rung;

/// The longest message that is read: AMS's own limit.
pub const MESSAGE_BYTES_MAX: usize = 81_920;
/// What is said of the sound's rate, which nobody measures: what origins encode it with.
const AUDIO_BPS: u64 = 128_000;

/// Which way media flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    Publish,
    /// To it.
    Play,
}

/// A client's message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// One that is about no stream.
    Ping,
    /// Which STUN or TURN server is there?
    IceServerConfig,
    /// One about a stream.
    About(StreamKey, Command),
}

/// What a client wants of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// To publish or to play it.
    Begin(Way, Option<String>),
    /// To end that.
    Stop,
    /// Its offer (a publisher) or answer (a player).
    Description(Way, String),
    /// A candidate. None is needed: nodes are ICE-lite, and learn addresses by the checks that come from there
    /// (RFC 8445 section 2.5).
    Candidate,
    /// What renditions are there?
    Info,
    /// The rendition of so many lines; 0: whichever its network carries.
    Height(u32),
    /// What tracks are there? A stream is one.
    Tracks,
    /// Something that is not known here.
    Unknown,
}

/// Why a message is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message has {MESSAGE_BYTES_MAX} bytes at most")]
    TooLong,
    /// No JSON, or a field is missing or of another type.
    #[error("{0}")]
    Malformed(String),
    /// A command that is not known here.
    #[error("this command is not known here")]
    Unknown,
    /// A command about a stream that names none.
    #[error("streamId is missing")]
    NoStream,
    /// No stream can have such a name.
    #[error("{0}")]
    BadName(String),
}

/// What an error is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Definition {
    /// Nobody publishes it.
    NoStreamExist,
    /// No stream is named.
    NoStreamNameSpecified,
    /// No stream can be named so.
    InvalidStreamName,
    /// Somebody else publishes it.
    StreamIdInUse,
    /// This client publishes it already.
    AlreadyPublishing,
    /// This client plays it already.
    AlreadyPlaying,
    /// There is no room.
    HighResourceUsage,
    /// No token, or not a good one.
    UnauthorizedAccess,
    /// A description cannot be used, or no codec is in common.
    NotSetRemoteDescription,
    /// A message came before the one that has to come first.
    NotInitializedYet,
    /// No offer came.
    PublishTimeout,
    /// Something failed here.
    ServerError,
    /// What came is no message of this protocol. AMS has no word for it.
    InvalidMessage,
}

impl Definition {
    /// AMS's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoStreamExist => "no_stream_exist",
            Self::NoStreamNameSpecified => "noStreamNameSpecified",
            Self::InvalidStreamName => "invalidStreamName",
            Self::StreamIdInUse => "streamIdInUse",
            Self::AlreadyPublishing => "already_publishing",
            Self::AlreadyPlaying => "already_playing",
            Self::HighResourceUsage => "highResourceUsage",
            Self::UnauthorizedAccess => "unauthorized_access",
            Self::NotSetRemoteDescription => "notSetRemoteDescription",
            Self::NotInitializedYet => "not_initialized_yet",
            Self::PublishTimeout => "publishTimeoutError",
            Self::ServerError => "server_error_check_logs",
            Self::InvalidMessage => "invalid_message",
        }
    }
}

impl BadMessage {
    /// What it is called.
    #[must_use]
    pub fn definition(&self) -> Definition {
        match self {
            Self::NoStream => Definition::NoStreamNameSpecified,
            Self::BadName(_) => Definition::InvalidStreamName,
            Self::TooLong | Self::Malformed(_) | Self::Unknown => Definition::InvalidMessage,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    command: String,
    stream_id: Option<String>,
    token: Option<String>,
    r#type: Option<String>,
    sdp: Option<String>,
    stream_height: Option<u32>,
}

impl Message {
    /// Reads a message of a client of `app`.
    ///
    /// # Errors
    /// [`BadMessage`] says what is wrong with it.
    pub fn read(text: &str, app: &AppName) -> Result<Self, BadMessage> {
        if text.len() > MESSAGE_BYTES_MAX {
            return Err(BadMessage::TooLong);
        }
        let raw: Raw =
            serde_json::from_str(text).map_err(|error| BadMessage::Malformed(error.to_string()))?;
        match raw.command.as_str() {
            "ping" => return Ok(Self::Ping),
            "getIceServerConfig" => return Ok(Self::IceServerConfig),
            _ => {}
        }
        let command = Command::of(&raw)?;
        let name = raw.stream_id.as_deref().filter(|name| !name.is_empty());
        let name = match (name, &command) {
            (Some(name), _) => name,
            (None, Command::Unknown) => return Err(BadMessage::Unknown),
            (None, _) => return Err(BadMessage::NoStream),
        };
        let stream = name
            .parse()
            .map_err(|why: sluicegate_cluster::ids::BadName| BadMessage::BadName(why.to_string()))?;
        Ok(Self::About(StreamKey { app: app.clone(), stream }, command))
    }
}

impl Command {
    fn of(raw: &Raw) -> Result<Self, BadMessage> {
        let missing = |name: &str| BadMessage::Malformed(format!("{name} is missing"));
        let token = || raw.token.clone().filter(|token| !token.is_empty());
        Ok(match raw.command.as_str() {
            "publish" => Self::Begin(Way::Publish, token()),
            "play" => Self::Begin(Way::Play, token()),
            "stop" => Self::Stop,
            "takeConfiguration" => {
                let way = match raw.r#type.as_deref() {
                    Some("offer") => Way::Publish,
                    Some("answer") => Way::Play,
                    _ => return Err(BadMessage::Malformed("type is to be offer or answer".to_owned())),
                };
                Self::Description(way, raw.sdp.clone().ok_or_else(|| missing("sdp"))?)
            }
            "takeCandidate" => Self::Candidate,
            "getStreamInfo" => Self::Info,
            "forceStreamQuality" => Self::Height(raw.stream_height.ok_or_else(|| missing("streamHeight"))?),
            "getTrackList" => Self::Tracks,
            _ => Self::Unknown,
        })
    }
}

/// The answer to a ping.
pub(super) fn pong() -> Value {
    json!({ "command": "pong" })
}

/// The server that clients are told of: one only, so a TURN server rather than a STUN server.
pub(super) fn ice_server_config(servers: &[IceServer]) -> Option<Value> {
    let of = |scheme: &str| servers.iter().find(|server| server.url.starts_with(scheme));
    let server = of("turn:").or_else(|| of("stun:"))?;
    Some(json!({
        "command": "iceServerConfig",
        "stunServerUri": server.url,
        "turnServerUsername": server.username.as_deref().unwrap_or_default(),
        "turnServerCredential": server.credential.as_deref().unwrap_or_default(),
    }))
}

/// A publisher may offer.
pub(super) fn start(stream: &str) -> Value {
    json!({ "command": "start", "streamId": stream, "subscriberId": "" })
}

/// The answer to a publisher's offer.
pub(super) fn answer(stream: &str, sdp: &str) -> Value {
    json!({ "command": "takeConfiguration", "streamId": stream, "type": "answer", "sdp": sdp })
}

/// An offer for a player, and which section is of which stream: the SDK looks each up.
pub(super) fn offer(stream: &str, sdp: &str) -> Value {
    let mids = sdp.lines().filter_map(|line| line.trim_end().strip_prefix("a=mid:"));
    let mapping: serde_json::Map<String, Value> = mids.map(|mid| (mid.to_owned(), stream.into())).collect();
    let mut message =
        json!({ "command": "takeConfiguration", "streamId": stream, "type": "offer", "sdp": sdp });
    message["idMapping"] = mapping.into();
    message
}

/// Something has happened to a stream.
pub(super) fn notification(definition: &str, stream: &str) -> Value {
    json!({ "command": "notification", "definition": definition, "streamId": stream })
}

/// The client is to connect anew, and finds another node then.
pub(super) fn server_will_stop() -> Value {
    json!({ "command": "notification", "definition": "server_will_stop" })
}

/// An error. `information` is for people.
pub(super) fn error(definition: Definition, stream: Option<&str>, information: Option<&str>) -> Value {
    let mut message = json!({ "command": "error", "definition": definition.as_str() });
    if let Some(stream) = stream {
        message["streamId"] = stream.into();
    }
    if let Some(information) = information {
        message["information"] = information.into();
    }
    if definition == Definition::NoStreamExist {
        message["error_code"] = "404".into();
    }
    message
}

/// A stream's tracks.
pub(super) fn track_list(stream: &str) -> Value {
    json!({ "command": "trackList", "streamId": stream, "trackList": [stream] })
}

/// A stream's renditions, the largest first.
pub(super) fn stream_information(record: &StreamRecord) -> Value {
    let (width, height) = record.size.map_or((0, 0), |size| (size.width, size.height));
    let information = |width: u32, height: u32, video_bps: u64| {
        json!({
            "streamWidth": width,
            "streamHeight": height,
            "videoBitrate": video_bps,
            "audioBitrate": AUDIO_BPS,
            "videoCodec": "h264",
        })
    };
    let rung = |name: &String| match name.parse().ok()? {
        Rung::Source => Some(information(width, height, record.bitrate_bps)),
        Rung::Encoded { height: lines, kbps } => {
            // As wide as the source is for its height; encoders want an even number.
            let wide = u64::from(width) * u64::from(lines) / u64::from(height.max(1));
            let wide = u32::try_from(wide.next_multiple_of(2)).unwrap_or(0);
            Some(information(wide, lines, u64::from(kbps) * 1_000))
        }
    };
    let all: Vec<Value> = record.renditions.iter().filter_map(rung).collect();
    json!({ "command": "streamInformation", "streamId": record.key.stream.as_str(), "streamInfo": all })
}
