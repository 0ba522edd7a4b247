//! How much a peer may make a session hold. Each bound is checked before memory is taken.

/// Largest body of a media or data message. A 4K keyframe at 60 Mbit/s has about 1 MiB.
pub const MESSAGE_BYTES: usize = 4 << 20;
/// Memory held for messages that have not ended yet, over all chunk streams of a connection.
pub const PARTIAL_BYTES: usize = 8 << 20;
/// Largest body of a command or of protocol control.
pub const COMMAND_BYTES: usize = 64 << 10;
/// Chunk streams in one direction of a connection. Encoders use three to six.
pub const CHUNK_STREAMS: usize = 64;
/// How deep objects and arrays may nest in a command.
pub const AMF_DEPTH: usize = 16;
/// Bytes that wait to be taken by `take_output`.
pub const OUTPUT_BYTES: usize = 8 << 20;
/// The largest chunk size there is (5.4.1: the first bit is zero). It takes no memory by itself.
pub const CHUNK_SIZE_MAX: u32 = 0x7FFF_FFFF;
/// The chunk size that we announce: nearly every message is one chunk.
pub const OWN_CHUNK_BYTES: u32 = 64 << 10;
/// Bytes after which a peer is to acknowledge, and after which we do until it names its own window.
pub const WINDOW_BYTES: u32 = 2_500_000;
/// A smaller acknowledgement window is taken as this, so that a peer cannot make us mostly acknowledge.
pub const WINDOW_BYTES_MIN: u32 = 16 << 10;

const _: () = assert!(MESSAGE_BYTES <= PARTIAL_BYTES && MESSAGE_BYTES < OUTPUT_BYTES);
const _: () = assert!(OWN_CHUNK_BYTES <= CHUNK_SIZE_MAX && WINDOW_BYTES_MIN <= WINDOW_BYTES);

/// The bounds of one connection; [`Limits::default`] has the constants of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest body of a media or data message, in bytes.
    pub message_bytes: usize,
    /// Memory for unfinished messages, over all chunk streams, in bytes.
    pub partial_bytes: usize,
    /// Largest body of a command or of protocol control, in bytes.
    pub command_bytes: usize,
    /// Chunk streams that the peer may use.
    pub chunk_streams: usize,
    /// How deep objects and arrays may nest in a command.
    pub amf_depth: usize,
    /// Bytes that may wait to be taken by `take_output`.
    pub output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: MESSAGE_BYTES,
            partial_bytes: PARTIAL_BYTES,
            command_bytes: COMMAND_BYTES,
            chunk_streams: CHUNK_STREAMS,
            amf_depth: AMF_DEPTH,
            output_bytes: OUTPUT_BYTES,
        }
    }
}
