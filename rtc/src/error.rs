//! Why an offer, an answer or a change of a session is refused.

/// Why an offer, an answer or a change of a session is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot be read, or lacks what every description must have.
    #[error("the session description is malformed: {0}")]
    Malformed(String),
    /// Longer than [`crate::limits::SDP_BYTES`] or [`crate::limits::FRAGMENT_BYTES`].
    #[error("the session description is too long")]
    TooLong,
    /// It can be read, and asks for what is not done here.
    #[error("{0}")]
    Unsupported(&'static str),
    /// No codec in common: H.264 (packetization-mode 1), VP8 to receive, Opus.
    #[error("no codec in common: H.264 (packetization-mode 1) and Opus are taken")]
    NoCodec,
    /// Too many sessions, or too many that are not connected yet. Worth trying again.
    #[error("too many sessions")]
    Busy,
    /// The session has ended.
    #[error("there is no such session")]
    Gone,
    /// The mux is being stopped.
    #[error("WebRTC is being stopped here")]
    Stopped,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Whoever owns it closed it.
    Closed,
    /// The other side closed it (DTLS close_notify).
    ClosedByPeer,
    /// ICE and DTLS were not done within [`crate::Limits::handshake`].
    NotConnected,
    /// Nothing was heard for [`crate::Limits::silence`].
    Silent,
    /// The other side broke the protocol, or what was to be sent could not be.
    Failed,
}

impl Ended {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Closed, Self::ClosedByPeer, Self::NotConnected, Self::Silent, Self::Failed];

    /// A label for metrics, from a closed set.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ClosedByPeer => "closed_by_peer",
            Self::NotConnected => "not_connected",
            Self::Silent => "silent",
            Self::Failed => "failed",
        }
    }
}
