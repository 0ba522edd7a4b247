//! Why there is nothing to serve.

use http::StatusCode;

/// Why a request cannot be answered with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The origin does not have it, or nobody does.
    #[error("there is no such stream or file")]
    NotFound,
    /// This node knows nothing of the cluster yet.
    #[error("this node is starting")]
    NotReady,
    /// The stream is live, but its origin is gone and no other has taken it yet.
    #[error("the stream's origin is gone")]
    OriginGone,
    /// The origin cannot be connected to, or the connection broke before an answer.
    #[error("the stream's origin cannot be reached")]
    Unreachable,
    /// The origin answered that it cannot serve this now (409, 429, 5xx).
    #[error("the stream's origin cannot serve this now")]
    Refused,
    /// The origin does not trust this node: their cluster keys differ, or their clocks do.
    #[error("the stream's origin does not trust this node")]
    Distrusted,
    /// The answer is not one that an origin gives: its status, its length or its form.
    #[error("the stream's origin gave an answer that cannot be used")]
    Malformed,
    /// Larger than `limits.edge_object_bytes`.
    #[error("the file is larger than an edge carries")]
    TooLarge,
    /// The body ended too early and could not be resumed.
    #[error("the origin's answer broke off")]
    BrokeOff,
    /// Not complete within `limits.edge_fill_ms`.
    #[error("the stream's origin took too long")]
    TimedOut,
    /// The origin's playlist is older than the one that was served last.
    #[error("the origin's playlist is older than the last one")]
    WentBack,
    /// The playlist or part did not come in the time that a request may be held (RFC 8216bis 6.2.5.2).
    #[error("the stream has paused")]
    Paused,
    /// Too far ahead of the origin's playlist (RFC 8216bis 6.2.5.2).
    #[error("that is too far ahead of the playlist")]
    TooFar,
    /// As many requests as `limits.edge_holds` wait for what is about to come.
    #[error("as many requests wait here as may")]
    Crowded,
    /// As many fetches as `limits.edge_fills` are running.
    #[error("this node fetches as much as it may")]
    Busy,
}

impl Failure {
    /// The status a viewer gets for it.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::TooFar => StatusCode::BAD_REQUEST,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::NotReady
            | Self::OriginGone
            | Self::Refused
            | Self::WentBack
            | Self::Paused
            | Self::Crowded
            | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable | Self::Distrusted | Self::Malformed | Self::TooLarge | Self::BrokeOff => {
                StatusCode::BAD_GATEWAY
            }
        }
    }

    /// Its name in logs.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NotReady => "not_ready",
            Self::OriginGone => "origin_gone",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Distrusted => "distrusted",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::BrokeOff => "broke_off",
            Self::TimedOut => "timed_out",
            Self::WentBack => "went_back",
            Self::Paused => "paused",
            Self::TooFar => "too_far",
            Self::Crowded => "crowded",
            Self::Busy => "busy",
        }
    }
}
