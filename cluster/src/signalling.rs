//! What nodes call the HTTP signalling of WebRTC among each other.

use crate::metrics::Kind;

/// The media type of offers and answers (RFC 9725 section 4.2).
pub const SDP_MEDIA_TYPE: &str = "application/sdp";

/// HTTP signalling of WebRTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Publishing: RFC 9725.
    Whip,
    /// Viewing, and an edge's pull from an origin: draft-ietf-wish-whep.
    Whep,
}

impl Protocol {
    /// Its name in paths.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Whep => "whep",
        }
    }

    /// What its requests are counted as.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Whip => Kind::Whip,
            Self::Whep => Kind::Whep,
        }
    }
}
