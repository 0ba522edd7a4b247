//! The server's side of a publisher's connection: what a balancer and an origin speak to an encoder.
//!
//! [`ServerSession::read`] hands out [`ServerEvent::Connect`] and [`ServerEvent::Publish`] and then expects
//! an answer before it is called again; bytes that arrive meanwhile wait with the caller. ffmpeg, OBS
//! (librtmp) and GStreamer differ in what they ask around that, and all of it is answered here.

use super::amf::AmfValue;
use super::chunk::{self, Message};
use super::command::{self, Command};
use super::handshake::RANDOM_BYTES;
use super::link::Link;
use super::{HAND_OVER, Limits, MediaKind, MediaMessage, RtmpError};

/// The message stream that every `createStream` is answered with: a connection publishes one stream.
const STREAM_ID: u32 = 1;

/// Something for the caller to decide or to pass on.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerEvent {
    /// The publisher wants into an application: answer by [`ServerSession::accept_connect`] or
    /// [`ServerSession::reject_connect`].
    Connect(ConnectRequest),
    /// It wants to publish: answer by [`ServerSession::accept_publish`] or
    /// [`ServerSession::reject_publish`].
    Publish(PublishRequest),
    /// `onMetaData`, whole as it was sent (usually behind `@setDataFrame`), so that relaying it loses nothing.
    Metadata(MediaMessage),
    /// Audio, video or other data of the accepted publish.
    Media(MediaMessage),
    /// The publisher ended its publish. It may close the connection or publish again.
    Unpublish,
    /// A balancer says that the stream goes on at another origin: this one has all of it up to here, and its end
    /// is not the stream's ([`super::ClientSession::hand_over`]).
    HandedOver,
}

/// What `connect` asks for (7.2.1.1).
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectRequest {
    /// The application exactly as sent: `live`, `live?token=x`, `live/key`.
    pub app: String,
    /// The URL that the encoder was given.
    pub tc_url: Option<String>,
    /// The whole command object, `app` and `tcUrl` included.
    pub properties: Vec<(String, AmfValue)>,
}

impl ConnectRequest {
    /// The application's name: `app` up to its first `/` or `?`.
    #[must_use]
    pub fn app_name(&self) -> &str {
        let (path, _) = split_query(&self.app);
        path.split_once('/').map_or(path, |(name, _)| name)
    }

    /// What follows the application's name in `app`, where encoders put a part of the stream's name:
    /// `key` of `live/key`.
    #[must_use]
    pub fn app_rest(&self) -> Option<&str> {
        let (path, _) = split_query(&self.app);
        path.split_once('/').map(|(_, rest)| rest.trim_matches('/')).filter(|rest| !rest.is_empty())
    }

    /// The query of `app`, without its `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        split_query(&self.app).1
    }

    /// A property that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.as_str())
    }
}

/// What `publish` asks for (7.2.2.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// The stream's name, unchecked, without its query.
    pub name: String,
    /// What follows the first `?` of the name that was sent.
    pub query: Option<String>,
    /// `live`, `record` or `append`; `live` if nothing was sent.
    pub kind: String,
}

/// One publisher's connection.
#[derive(Debug)]
pub struct ServerSession {
    link: Link,
    amf_depth: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Nothing but `connect` is possible.
    Opened,
    Connecting {
        transaction: f64,
    },
    Connected,
    PublishAsked {
        stream_id: u32,
    },
    Publishing {
        stream_id: u32,
    },
    /// Something was rejected: what still arrives is not looked at.
    Rejected,
}

impl ServerSession {
    /// A connection just accepted. `random` is sent to the peer and need not be secret.
    #[must_use]
    pub fn new(limits: Limits, random: &[u8; RANDOM_BYTES]) -> Self {
        Self { link: Link::server(limits, random), amf_depth: limits.amf_depth, state: State::Opened }
    }

    /// Takes bytes from the front of `input` up to the next event. `None` means that all of `input` was
    /// taken. Call it again with the same `input` after each event.
    ///
    /// # Errors
    /// The peer broke a rule or a limit: close the connection.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<ServerEvent>, RtmpError> {
        if !self.link.shake_hands(input)? {
            return Ok(None);
        }
        while let Some(message) = self.link.read(input)? {
            if let Some(event) = self.message(message)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The bytes to send to the publisher now.
    #[must_use = "what is taken and not sent is lost"]
    pub fn take_output(&mut self) -> bytes::Bytes {
        self.link.take_output()
    }

    /// Lets the publisher into the application it asked for.
    ///
    /// # Errors
    /// [`RtmpError::OutOfOrder`] unless a [`ServerEvent::Connect`] waits for its answer.
    pub fn accept_connect(&mut self) -> Result<(), RtmpError> {
        let State::Connecting { transaction } = self.state else { return Err(RtmpError::OutOfOrder) };
        self.state = State::Connected;
        self.link.send_windows()?;
        self.link.send_chunk_size()?;
        // Encoders look at no version; some at `capabilities` being there.
        let server = command::object([("fmsVer", "FMS/3,5,7,7009".into()), ("capabilities", 31.0.into())]);
        let info = command::object([
            ("level", "status".into()),
            ("code", "NetConnection.Connect.Success".into()),
            ("description", "Connection succeeded.".into()),
            ("objectEncoding", 0.0.into()),
        ]);
        self.link.send_command(0, "_result", transaction, &[server, info])
    }

    /// Refuses `connect` with a code like `NetConnection.Connect.Rejected`. Close the connection when the
    /// output has been sent.
    ///
    /// # Errors
    /// [`RtmpError::OutOfOrder`] unless a [`ServerEvent::Connect`] waits for its answer.
    pub fn reject_connect(&mut self, code: &str, description: &str) -> Result<(), RtmpError> {
        let State::Connecting { transaction } = self.state else { return Err(RtmpError::OutOfOrder) };
        self.state = State::Rejected;
        let info = command::status("error", code, description);
        self.link.send_command(0, "_error", transaction, &[AmfValue::Null, info])
    }

    /// Tells the publisher to start.
    ///
    /// # Errors
    /// [`RtmpError::OutOfOrder`] unless a [`ServerEvent::Publish`] waits for its answer.
    pub fn accept_publish(&mut self) -> Result<(), RtmpError> {
        let State::PublishAsked { stream_id } = self.state else { return Err(RtmpError::OutOfOrder) };
        self.state = State::Publishing { stream_id };
        self.link.send_stream_begin(stream_id)?;
        self.send_status(stream_id, "status", "NetStream.Publish.Start", "Publishing.")
    }

    /// Refuses a publish, or ends the one that runs, with a code like `NetStream.Publish.BadName`. Close
    /// the connection when the output has been sent.
    ///
    /// # Errors
    /// [`RtmpError::OutOfOrder`] if nothing is published or about to be.
    pub fn reject_publish(&mut self, code: &str, description: &str) -> Result<(), RtmpError> {
        let (State::PublishAsked { stream_id } | State::Publishing { stream_id }) = self.state else {
            return Err(RtmpError::OutOfOrder);
        };
        self.state = State::Rejected;
        self.send_status(stream_id, "error", code, description)
    }

    fn message(&mut self, message: Message) -> Result<Option<ServerEvent>, RtmpError> {
        if self.state == State::Rejected {
            return Ok(None);
        }
        match message.type_id {
            chunk::AUDIO => Ok(self.media(MediaKind::Audio, message)),
            chunk::VIDEO => Ok(self.media(MediaKind::Video, message)),
            chunk::DATA => Ok(self.media(MediaKind::Data, message)),
            chunk::COMMAND => self.command(&message),
            chunk::AGGREGATE => Err(RtmpError::UnsupportedMessage(message.type_id)),
            _ => Ok(None),
        }
    }

    /// Media outside a publish (encoders send a little after its end) and empty messages are dropped.
    fn media(&self, kind: MediaKind, message: Message) -> Option<ServerEvent> {
        let Message { timestamp_ms, payload, .. } = message;
        if payload.is_empty() || !matches!(self.state, State::Publishing { .. }) {
            return None;
        }
        let is_metadata = kind == MediaKind::Data && is_metadata(&payload);
        let media = MediaMessage { kind, timestamp_ms, payload };
        Some(if is_metadata { ServerEvent::Metadata(media) } else { ServerEvent::Media(media) })
    }

    fn command(&mut self, message: &Message) -> Result<Option<ServerEvent>, RtmpError> {
        let command = Command::decode(&message.payload, self.amf_depth)?;
        if command.name == "connect" {
            return self.connect(command).map(Some);
        }
        if matches!(self.state, State::Opened | State::Connecting { .. }) {
            return Err(RtmpError::OutOfOrder);
        }
        match command.name.as_str() {
            "createStream" => self.answer(&command, f64::from(STREAM_ID).into())?,
            "releaseStream" | "_checkbw" => self.answer(&command, AmfValue::Undefined)?,
            "getStreamLength" => self.answer(&command, 0.0.into())?,
            "FCPublish" => {
                self.answer(&command, AmfValue::Undefined)?;
                self.send_notice("onFCPublish", "NetStream.Publish.Start", &command)?;
            }
            "publish" => return self.publish(&command, message.stream_id).map(Some),
            "play" | "play2" => {
                let (code, why) = ("NetStream.Play.StreamNotFound", "Streams are not played by RTMP here.");
                self.send_status(message.stream_id, "error", code, why)?;
            }
            "FCUnpublish" => {
                self.send_notice("onFCUnpublish", "NetStream.Unpublish.Success", &command)?;
                return self.unpublish();
            }
            "deleteStream" | "closeStream" => return self.unpublish(),
            HAND_OVER if matches!(self.state, State::Publishing { .. }) => {
                self.state = State::Connected;
                return Ok(Some(ServerEvent::HandedOver));
            }
            // Encoders ask for more than they need; ffmpeg takes an `_error` it did not expect as the end.
            _ => {}
        }
        Ok(None)
    }

    fn connect(&mut self, command: Command) -> Result<ServerEvent, RtmpError> {
        if self.state != State::Opened {
            return Err(RtmpError::OutOfOrder);
        }
        let transaction = command.transaction;
        let Some(AmfValue::Object(properties) | AmfValue::EcmaArray(properties)) =
            command.arguments.into_iter().next()
        else {
            return Err(RtmpError::IncompleteCommand);
        };
        let mut request = ConnectRequest { app: String::new(), tc_url: None, properties };
        request.app = request.text("app").ok_or(RtmpError::IncompleteCommand)?.to_owned();
        request.tc_url = request.text("tcUrl").map(str::to_owned);
        self.state = State::Connecting { transaction };
        Ok(ServerEvent::Connect(request))
    }

    fn publish(&mut self, command: &Command, stream_id: u32) -> Result<ServerEvent, RtmpError> {
        if self.state != State::Connected {
            return Err(RtmpError::OutOfOrder);
        }
        let (name, query) = split_query(command.text(1).ok_or(RtmpError::IncompleteCommand)?);
        let request = PublishRequest {
            name: name.to_owned(),
            query: query.map(str::to_owned),
            kind: command.text(2).unwrap_or("live").to_owned(),
        };
        self.state = State::PublishAsked { stream_id };
        Ok(ServerEvent::Publish(request))
    }

    fn unpublish(&mut self) -> Result<Option<ServerEvent>, RtmpError> {
        let (State::PublishAsked { stream_id } | State::Publishing { stream_id }) = self.state else {
            return Ok(None);
        };
        self.state = State::Connected;
        self.send_status(stream_id, "status", "NetStream.Unpublish.Success", "Unpublished.")?;
        Ok(Some(ServerEvent::Unpublish))
    }

    fn answer(&mut self, command: &Command, value: AmfValue) -> Result<(), RtmpError> {
        self.link.send_command(0, "_result", command.transaction, &[AmfValue::Null, value])
    }

    fn send_notice(&mut self, name: &str, code: &str, command: &Command) -> Result<(), RtmpError> {
        let info = command::status("status", code, command.text(1).unwrap_or_default());
        self.link.send_command(0, name, 0.0, &[AmfValue::Null, info])
    }

    fn send_status(
        &mut self,
        stream_id: u32,
        level: &str,
        code: &str,
        description: &str,
    ) -> Result<(), RtmpError> {
        let info = command::status(level, code, description);
        self.link.send_command(stream_id, "onStatus", 0.0, &[AmfValue::Null, info])
    }
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)))
}

fn is_metadata(mut payload: &[u8]) -> bool {
    let name = AmfValue::decode(&mut payload, 0);
    matches!(name.as_ref().map(AmfValue::as_str), Ok(Some("@setDataFrame" | "onMetaData")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(app: &str) -> ConnectRequest {
        ConnectRequest { app: app.to_owned(), tc_url: None, properties: Vec::new() }
    }

    #[test]
    fn an_app_is_taken_apart() {
        let plain = request("live");
        assert_eq!((plain.app_name(), plain.app_rest(), plain.query()), ("live", None, None));
        let query = request("live?token=a/b");
        assert_eq!((query.app_name(), query.app_rest(), query.query()), ("live", None, Some("token=a/b")));
        let key = request("live/cam1/?x");
        assert_eq!((key.app_name(), key.app_rest(), key.query()), ("live", Some("cam1"), Some("x")));
        assert_eq!(request("live/").app_rest(), None);
    }

    #[test]
    fn metadata_is_told_from_other_data() {
        let is = |name| is_metadata(&command::encode(name, 0.0, &[]));
        assert!(is("@setDataFrame") && is("onMetaData"));
        assert!(!is("onCuePoint") && !is_metadata(b"") && !is_metadata(&[0x11]));
    }

    #[test]
    fn answers_without_a_question_are_refused() {
        let mut session = ServerSession::new(Limits::default(), &[0; RANDOM_BYTES]);
        assert_eq!(session.accept_connect(), Err(RtmpError::OutOfOrder));
        assert_eq!(session.accept_publish(), Err(RtmpError::OutOfOrder));
        assert_eq!(session.reject_connect("a", "b"), Err(RtmpError::OutOfOrder));
        assert_eq!(session.reject_publish("a", "b"), Err(RtmpError::OutOfOrder));
        assert!(session.take_output().is_empty());
    }
}
