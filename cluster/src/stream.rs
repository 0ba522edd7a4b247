//! What the cluster knows of a stream: the document `clusterdb.sluicegate_stream`.

use mongodb::bson::Bson;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::clock::UnixMs;
use crate::ids::{Epoch, Incarnation, NodeId, PublisherSession, StreamKey};
use crate::placed::Placed;

/// The picture as published.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PictureSize {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Frames a second.
    pub fps: f64,
}

impl PictureSize {
    /// Megapixels a second.
    #[must_use]
    pub fn mpx(self) -> f64 {
        f64::from(self.width) * f64::from(self.height) * self.fps / 1e6
    }
}

/// How a stream is published: AMS's `publishType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PublishType {
    /// By RTMP.
    #[default]
    #[serde(rename = "RTMP")]
    Rtmp,
    /// By WebRTC.
    #[serde(rename = "WebRTC")]
    WebRtc,
}

impl PublishType {
    /// AMS's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rtmp => "RTMP",
            Self::WebRtc => "WebRTC",
        }
    }
}

/// What is said of a stream that was made by REST (AMS's `Broadcast`). One that is only published has none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamNotes {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whatever a program wants to find again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<String>,
    /// When it was made, in the database's time.
    pub created_at: UnixMs,
}

/// How a stream's ladder keeps up with it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LadderState {
    /// Rungs that are not made for now, because encoders were late.
    pub given_up: Vec<String>,
    /// How far it is behind the source, milliseconds.
    pub lag_ms: u64,
    /// Frames of the source that it has passed over because it was late.
    pub frames_lost: u64,
    /// How often its transcoder broke down and was started again.
    pub restarts: u64,
    /// What decoding takes, percent of one processor.
    pub decode_percent: f64,
    /// What scaling takes, for all rungs together.
    pub scale_percent: f64,
    /// What encoding takes, for all rungs together.
    pub encode_percent: f64,
}

/// The origin of a stream: the present one, or the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// The run of its process that made the claim.
    pub incarnation: Incarnation,
}

/// Which write of a stream's document: what a compare-and-set is guarded by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamVersion {
    /// The claim that it is of.
    pub epoch: Epoch,
    /// The writes so far.
    pub rev: i64,
}

/// A stream's document. It stays when the stream has ended: its numbers go on from there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamRecord {
    /// `app/stream`.
    #[serde(rename = "_id")]
    pub key: StreamKey,
    /// Its origin, or the one it had when it ended: that one still serves its last playlist for a while.
    #[serde(flatten)]
    pub owner: Owner,
    /// When it ended, in the database's time. `None` while it is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UnixMs>,
    /// The number of the present or last claim.
    pub epoch: Epoch,
    /// Raised by every write, so that a late one of the same claim changes nothing.
    #[serde(default)]
    pub rev: i64,
    /// How many claims there have been: HLS's discontinuity sequence follows it.
    pub claims: i64,
    /// The publisher's connection. Whoever holds it may move the stream.
    pub session: PublisherSession,
    /// The rungs that are served, the source first.
    pub renditions: Vec<String>,
    /// The source's picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<PictureSize>,
    /// The media sequence number last recorded.
    pub sequence: i64,
    /// When it was recorded, in the database's time.
    pub sequence_at: UnixMs,
    /// When the present or last claim was made.
    pub started_at: UnixMs,
    /// Bits a second that come in.
    pub bitrate_bps: u64,
    /// Viewers, as the edges told the origin.
    pub viewers: u64,
    /// Those of them that watch by WebRTC.
    #[serde(default)]
    pub webrtc_viewers: u64,
    /// How it is published.
    #[serde(default)]
    pub publish_type: PublishType,
    /// Why the present or last claim's origin has it. Views know it not: it is read when somebody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<Box<Placed>>,
    /// How its ladder keeps up.
    #[serde(default)]
    pub ladder: Box<LadderState>,
    /// What REST was told when it made the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<Box<StreamNotes>>,
    /// When more than its figures last changed: what readers poll. The store's to stamp: what a writer says
    /// of it counts for nothing.
    #[serde(deserialize_with = "date_or_ms")]
    pub changed: UnixMs,
}

impl StreamRecord {
    /// Which write this is.
    #[must_use]
    pub fn version(&self) -> StreamVersion {
        StreamVersion { epoch: self.epoch, rev: self.rev }
    }

    /// The `rev` of what is written over this.
    #[must_use]
    pub fn next_rev(&self) -> i64 {
        self.rev.saturating_add(1)
    }

    /// The same without its publisher's session, which moves the stream, and without what REST was told: what may
    /// be shown, and told to nodes that need only find it.
    #[must_use]
    pub fn without_session(&self) -> Self {
        Self { session: PublisherSession::from(""), notes: None, placed: None, ..self.clone() }
    }

    /// Whether `other` is the same claim, be it by another incarnation of its node.
    #[must_use]
    pub fn is_same_claim(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.owner.node == other.owner.node
    }

    /// Whether this claim, being in the store, ends the one that `node` has made under `epoch`. Two origins may make the
    /// same epoch in one millisecond while the store is away; whose is written first has the stream.
    #[must_use]
    pub fn supersedes(&self, epoch: Epoch, node: &NodeId) -> bool {
        self.epoch > epoch || (self.epoch == epoch && self.owner.node != *node)
    }

    /// Whether an origin holds it.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.ended_at.is_none()
    }
}

/// What an origin records of a running stream every [`crate::limits::PROGRESS_EVERY`].
#[derive(Debug, Clone, PartialEq)]
pub struct StreamProgress {
    /// Which stream.
    pub key: StreamKey,
    /// Under which claim. A stale one matches nothing.
    pub epoch: Epoch,
    /// The source's picture, once known.
    pub size: Option<PictureSize>,
    /// The rungs that are served, the source first.
    pub renditions: Vec<String>,
    /// The newest media sequence number.
    pub sequence: i64,
    /// Bits a second that come in.
    pub bitrate_bps: u64,
    /// Viewers on all edges.
    pub viewers: u64,
    /// Those of them that watch by WebRTC.
    pub webrtc_viewers: u64,
    /// How its ladder keeps up.
    pub ladder: Box<LadderState>,
    /// Whether picture or rungs are other than was last recorded: only then is the stream `changed`.
    pub is_news: bool,
}

/// A stream's figures, which change without its being `changed`: whoever shows them reads them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamFigures {
    /// Which stream.
    #[serde(rename = "_id")]
    pub key: StreamKey,
    /// Under which claim.
    pub epoch: Epoch,
    /// When they were recorded, in the database's time.
    pub sequence_at: UnixMs,
    /// Bits a second that come in.
    pub bitrate_bps: u64,
    /// Viewers on all edges.
    pub viewers: u64,
    /// Those of them that watch by WebRTC.
    #[serde(default)]
    pub webrtc_viewers: u64,
    /// How its ladder keeps up.
    #[serde(default)]
    pub ladder: Box<LadderState>,
}

impl StreamFigures {
    /// What `progress`, recorded at `at`, says.
    #[must_use]
    pub fn of(progress: &StreamProgress, at: UnixMs) -> Self {
        Self {
            key: progress.key.clone(),
            epoch: progress.epoch,
            sequence_at: at,
            bitrate_bps: progress.bitrate_bps,
            viewers: progress.viewers,
            webrtc_viewers: progress.webrtc_viewers,
            ladder: progress.ladder.clone(),
        }
    }
}

impl From<&StreamRecord> for StreamFigures {
    fn from(stream: &StreamRecord) -> Self {
        Self {
            key: stream.key.clone(),
            epoch: stream.epoch,
            sequence_at: stream.sequence_at,
            bitrate_bps: stream.bitrate_bps,
            viewers: stream.viewers,
            webrtc_viewers: stream.webrtc_viewers,
            ladder: stream.ladder.clone(),
        }
    }
}

/// A time as the database stamps it, or in milliseconds, as files have it.
fn date_or_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixMs, D::Error> {
    match Bson::deserialize(deserializer)? {
        Bson::DateTime(date) => Ok(UnixMs(date.timestamp_millis())),
        Bson::Int64(ms) => Ok(UnixMs(ms)),
        Bson::Int32(ms) => Ok(UnixMs(ms.into())),
        _ => Err(D::Error::custom("changed is no time")),
    }
}
