//! RTMP as a balancer and an origin need it: the server's side of a publisher's connection, the client's
//! side towards an origin, and the chunk stream, AMF0 and handshake beneath. Rules are those of Adobe's
//! "Real Time Messaging Protocol" 1.0 (section numbers below are its own) as encoders really follow them.
//!
//! Nothing here reads a socket or a clock. A session takes the bytes that arrived by `read`, which hands
//! out one event at a time, and gives the bytes to send by `take_output`. Whoever drives it writes that
//! output after every `read` and every call that answers an event.

pub mod amf;
pub mod chunk;
pub mod client;
pub mod handshake;
pub mod limits;
pub mod server;

mod command;
mod error;
mod link;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use amf::{AmfError, AmfValue};
pub use client::{ClientEvent, ClientSession, PublishTarget};
pub use error::RtmpError;
pub use limits::Limits;
pub use server::{ConnectRequest, PublishRequest, ServerEvent, ServerSession};

/// The command by which a balancer tells an origin that it has got all it gets of a stream that goes on. Ours
/// alone: others leave out what they do not know.
const HAND_OVER: &str = "sluicegateHandOver";

/// What a [`MediaMessage`] carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// The body of an FLV audio tag.
    Audio,
    /// The body of an FLV video tag.
    Video,
    /// AMF0 values: metadata, cue points, captions.
    Data,
}

impl MediaKind {
    const fn type_id(self) -> u8 {
        match self {
            Self::Audio => chunk::AUDIO,
            Self::Video => chunk::VIDEO,
            Self::Data => chunk::DATA,
        }
    }
}

/// One message of a published stream, as it is relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaMessage {
    /// What the payload is.
    pub kind: MediaKind,
    /// The publisher's time in milliseconds; it wraps after 49.7 days and may step back.
    pub timestamp_ms: u32,
    /// The message's body, shared and not copied when cloned.
    pub payload: Bytes,
}
