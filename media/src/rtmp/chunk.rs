//! The chunk stream (5.3): messages cut into chunks that several chunk streams may interleave.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use bytes::Bytes;

pub use reader::ChunkReader;
pub use writer::ChunkWriter;

/// Protocol control: the sender's chunk size (5.4.1).
pub const SET_CHUNK_SIZE: u8 = 1;
/// Protocol control: an unfinished message is given up (5.4.2).
pub const ABORT: u8 = 2;
/// Protocol control: bytes received so far (5.4.3).
pub const ACKNOWLEDGEMENT: u8 = 3;
/// User control: stream begin, ping and others (6.2).
pub const USER_CONTROL: u8 = 4;
/// Protocol control: how many bytes the sender sends before it wants an acknowledgement (5.4.4).
pub const WINDOW_SIZE: u8 = 5;
/// Protocol control: how many unacknowledged bytes the peer may send (5.4.5).
pub const PEER_BANDWIDTH: u8 = 6;
/// The body of an FLV audio tag.
pub const AUDIO: u8 = 8;
/// The body of an FLV video tag.
pub const VIDEO: u8 = 9;
/// Data in AMF3: a zero byte, then AMF0.
pub const DATA_AMF3: u8 = 15;
/// A command in AMF3: a zero byte, then AMF0.
pub const COMMAND_AMF3: u8 = 17;
/// Data in AMF0.
pub const DATA: u8 = 18;
/// A command in AMF0.
pub const COMMAND: u8 = 20;
/// Several messages in one (7.1.6). No known encoder publishes with it.
pub const AGGREGATE: u8 = 22;

/// The chunk size until a peer sets another.
const INITIAL_CHUNK_BYTES: u32 = 128;
/// A 24-bit time of this value means that 32 bits follow the header.
const EXTENDED_TIME: u32 = 0xFF_FFFF;

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is: one of the constants of this module, or something unknown.
    pub type_id: u8,
    /// The message stream it belongs to; 0 is the connection.
    pub stream_id: u32,
    /// The sender's time in milliseconds, which wraps.
    pub timestamp_ms: u32,
    /// Its body.
    pub payload: Bytes,
}
