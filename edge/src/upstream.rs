//! Asking an origin: `GET /origin/{app}/streams/{file}` at its `node.http`, under the cluster's key.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, RANGE, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::{Client, RequestBuilder, Response};
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_cluster::view::Upstream;

use crate::failure::Failure;
use crate::limits;
use crate::range;

/// Tells an origin how many watch a stream on the edge that asks.
pub const VIEWERS_HEADER: &str = "sluicegate-viewers";

/// The client of all origins.
pub(crate) struct Upstreams {
    client: Client,
    key: ClusterKey,
    node: NodeId,
    complained: Mutex<Option<Instant>>,
}

/// An origin's answer whose body is still to come.
pub(crate) struct Answer {
    /// Its strong entity tag, without which it cannot be resumed.
    pub(crate) etag: Option<HeaderValue>,
    /// Its length, when it says so.
    pub(crate) length: Option<u64>,
    response: Response,
}

impl Answer {
    /// The next piece of the body; `None` after the last. An error when the connection broke off.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        self.response.chunk().await.map_err(|_| Failure::BrokeOff)
    }
}

impl Upstreams {
    /// A client that asks in the name of `node`.
    pub(crate) fn new(key: ClusterKey, node: NodeId) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .http1_only()
            .http1_max_headers(limits::UPSTREAM_HEADERS)
            .connect_timeout(limits::CONNECT)
            .pool_max_idle_per_host(limits::IDLE_CONNECTIONS)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, key, node, complained: Mutex::new(None) })
    }

    /// Asks `origin` for what viewers know as `path`, and says how many `viewers` the stream has here.
    pub(crate) async fn get(
        &self,
        origin: &Upstream,
        path: &str,
        viewers: Option<u64>,
    ) -> Result<Answer, Failure> {
        let mut request = self.request(origin, path)?;
        if let Some(viewers) = viewers.filter(|_| !origin.is_ams) {
            request = request.header(VIEWERS_HEADER, viewers);
        }
        let response = self.send(origin.http, request).await?;
        if response.status() != StatusCode::OK || !is_framed(response.headers()) {
            return Err(Failure::Malformed);
        }
        let etag = response.headers().get(ETAG).filter(|tag| is_strong(tag.as_bytes())).cloned();
        Ok(Answer { etag, length: length(response.headers()), response })
    }

    /// Asks `origin` for the rest of `path` from byte `from` on, if it is still the version `etag`.
    pub(crate) async fn resume(
        &self,
        origin: &Upstream,
        path: &str,
        etag: &HeaderValue,
        from: u64,
    ) -> Result<Answer, Failure> {
        let request = self
            .request(origin, path)?
            .header(RANGE, format!("bytes={from}-"))
            .header(IF_RANGE, etag.clone());
        let response = self.send(origin.http, request).await?;
        let headers = response.headers();
        let begins = headers.get(CONTENT_RANGE).and_then(|value| range::content_range(value.to_str().ok()?));
        let continues = begins.is_some_and(|(first, _)| first == from)
            && headers.get(ETAG).is_none_or(|tag| tag == etag)
            && is_framed(headers);
        if response.status() != StatusCode::PARTIAL_CONTENT || !continues {
            return Err(Failure::Malformed);
        }
        let length = begins.and_then(|(_, whole)| whole);
        Ok(Answer { etag: Some(etag.clone()), length, response })
    }

    /// AMS's own nodes are asked as a viewer would, and told nothing of this cluster.
    fn request(&self, origin: &Upstream, path: &str) -> Result<RequestBuilder, Failure> {
        let at = origin.http;
        if origin.is_ams {
            return Ok(self.client.get(format!("http://{at}{path}")));
        }
        let token = self.key.token(&self.node).map_err(|_| Failure::Distrusted)?;
        Ok(self.client.get(format!("http://{at}/origin{path}")).header(trust::HEADER, token))
    }

    async fn send(&self, origin: SocketAddr, request: RequestBuilder) -> Result<Response, Failure> {
        // A connection that was kept may have been closed just when it was used again: one more try.
        let again = request.try_clone();
        let response = match (request.send().await, again) {
            (Err(error), Some(again)) if !error.is_connect() => again.send().await,
            (sent, _) => sent,
        };
        let response = response.map_err(|_| Failure::Unreachable)?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(Failure::NotFound),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.complain(origin);
                Err(Failure::Distrusted)
            }
            StatusCode::BAD_REQUEST => Err(Failure::TooFar),
            StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => Err(Failure::Refused),
            status if status.is_server_error() => Err(Failure::Refused),
            _ => Ok(response),
        }
    }

    /// Says, once per [`limits::LOG_EVERY`], that an origin does not trust this node.
    fn complain(&self, origin: SocketAddr) {
        let now = clock::now();
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| now.saturating_duration_since(at) >= limits::LOG_EVERY) {
            *complained = Some(now);
            tracing::error!(%origin, "an origin does not trust this node: compare cluster.key and the clocks");
        }
    }
}

/// Whether the end of the body can be told from a connection that broke, and the bytes are the file's own.
fn is_framed(headers: &HeaderMap) -> bool {
    (headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING))
        && !headers.contains_key(CONTENT_ENCODING)
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A strong entity tag of a bearable length (RFC 9110 8.8.3).
fn is_strong(tag: &[u8]) -> bool {
    let inner = tag.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    tag.len() <= limits::ETAG_BYTES
        && inner.is_some_and(|inner| inner.iter().all(|b| b.is_ascii_graphic() && *b != b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strong_and_short_tags_are_taken_over() {
        assert!(is_strong(b"\"7-41\""));
        assert!(!is_strong(b"W/\"7-41\""));
        assert!(!is_strong(b"7-41"));
        assert!(!is_strong(b"\"a\"b\""));
        assert!(!is_strong(b"\""));
        assert!(!is_strong(format!("\"{}\"", "x".repeat(limits::ETAG_BYTES)).as_bytes()));
    }
}
