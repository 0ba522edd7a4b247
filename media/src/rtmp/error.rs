//! What ends an RTMP session.

use super::amf::AmfError;

/// Why a session cannot go on. After any but [`RtmpError::NotPublishing`] and [`RtmpError::OutputFull`] the
/// session is of no further use and the connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtmpError {
    /// The first byte is not 3: RTMPE, TLS, HTTP, or nothing that is known.
    #[error("the peer speaks version {0}, not RTMP version 3")]
    Version(u8),
    /// A message's header promises more than is allowed for its type.
    #[error("a message of type {type_id} announces {bytes} bytes, more than {limit}")]
    MessageTooLong {
        /// The message's type.
        type_id: u8,
        /// The length in its header.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// More chunk streams than [`super::Limits::chunk_streams`].
    #[error("the peer uses more than {0} chunk streams")]
    ChunkStreams(usize),
    /// Unfinished messages hold more than [`super::Limits::partial_bytes`].
    #[error("unfinished messages hold more than {0} bytes")]
    PartialBytes(usize),
    /// A chunk refers to an earlier header of its chunk stream, and there is none.
    #[error("a compressed chunk header comes first on chunk stream {0}")]
    NoEarlierHeader(u32),
    /// A message begins before the one before it on the same chunk stream has ended.
    #[error("a message begins inside another one on chunk stream {0}")]
    HeaderInsideMessage(u32),
    /// A chunk size of 0 or above [`super::limits::CHUNK_SIZE_MAX`].
    #[error("a chunk size of {0} is not possible")]
    ChunkSize(u32),
    /// A protocol control message without its fields.
    #[error("a control message of type {0} is too short")]
    ControlTooShort(u8),
    /// A message type that is known and not taken: dropping it would lose media silently.
    #[error("messages of type {0} are not supported")]
    UnsupportedMessage(u8),
    /// A command's values cannot be read.
    #[error("a command is malformed: {0}")]
    Amf(#[from] AmfError),
    /// A command does not begin with its name and a number, or lacks an argument that it needs.
    #[error("a command lacks its name, its transaction or an argument")]
    IncompleteCommand,
    /// A command that is not possible now: before `connect`, or for a second time.
    #[error("a command came out of order")]
    OutOfOrder,
    /// Media was to be sent before the peer accepted the publish, or after it ended.
    #[error("the stream is not being published")]
    NotPublishing,
    /// More than [`super::Limits::output_bytes`] wait to be written.
    #[error("more than {0} bytes wait to be sent")]
    OutputFull(usize),
}

impl RtmpError {
    /// A short constant name, for a metric's label.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::MessageTooLong { .. } => "message_too_long",
            Self::ChunkStreams(_) => "chunk_streams",
            Self::PartialBytes(_) => "partial_bytes",
            Self::NoEarlierHeader(_) => "no_earlier_header",
            Self::HeaderInsideMessage(_) => "header_inside_message",
            Self::ChunkSize(_) => "chunk_size",
            Self::ControlTooShort(_) => "control_too_short",
            Self::UnsupportedMessage(_) => "unsupported_message",
            Self::Amf(error) => error.kind(),
            Self::IncompleteCommand => "incomplete_command",
            Self::OutOfOrder => "out_of_order",
            Self::NotPublishing => "not_publishing",
            Self::OutputFull(_) => "output_full",
        }
    }
}
