//! The seam between a balancer and the edge in its own process. An edge is a [`ViewerDoor`]: it answers
//! viewers' requests without knowing which server they came through. Its own HTTP server is one front door;
//! Pingora, inside a balancer, is the other, and needs no network hop.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderMap, Method, StatusCode};

/// What a viewer asks for.
#[derive(Debug, Clone)]
pub struct ViewerRequest {
    /// GET, HEAD or OPTIONS; others get 405.
    pub method: Method,
    /// The path, as sent.
    pub path: String,
    /// What follows `?`, as sent.
    pub query: Option<String>,
    /// The request's headers. [`crate::hints::HEADER`] among them is believed: each front door takes it off
    /// requests that are not a node's.
    pub headers: HeaderMap,
}

/// What it gets.
pub struct ViewerResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers, `content-length` among them when it is known.
    pub headers: HeaderMap,
    /// The body.
    pub body: ViewerBody,
}

/// A body: from memory, or as it arrives from the origin.
pub enum ViewerBody {
    /// None: a HEAD, a 304, a 204.
    Empty,
    /// All of it.
    Whole(Bytes),
    /// In pieces. An error means that it broke off: the connection must then break off too, never end as if
    /// the body were complete.
    Pieces(BoxStream<'static, Result<Bytes, BrokenOff>>),
}

/// The origin's body ended before it was complete, and could not be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the origin's answer broke off")]
pub struct BrokenOff;

/// Answers viewers.
#[async_trait]
pub trait ViewerDoor: Send + Sync + 'static {
    /// The answer to `request`, if that needs no more than a look into memory; never in pieces. What gets none here
    /// has not been counted, and gets one by [`ViewerDoor::answer`].
    fn at_hand(&self, request: &ViewerRequest) -> Option<ViewerResponse>;

    /// The answer to `request`. Never fails: what goes wrong is an answer with a status.
    async fn answer(&self, request: ViewerRequest) -> ViewerResponse;
}
