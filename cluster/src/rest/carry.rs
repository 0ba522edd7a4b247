//! What ends a live stream is carried to its origin: this node, another of ours under the cluster's key, or
//! AMS's own, which is asked as AMS's REST is.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::{Outcome, RestError, RestParts};
use crate::access::Caller;
use crate::ids::StreamKey;
use crate::trust;

/// For an origin to answer (AMS waits as long for its own).
const ANSWER: Duration = Duration::from_secs(5);
/// The longest answer that is passed on.
const ANSWER_BYTES: usize = 64 << 10;

/// The origin in this process.
pub trait StreamControl: Send + Sync + 'static {
    /// Ends the publish of `key`. `false`: nobody publishes it here.
    fn stop(&self, key: &StreamKey) -> bool;

    /// Whether `key` is being published here.
    fn has(&self, key: &StreamKey) -> bool;
}

/// The client of other nodes' REST.
///
/// # Errors
/// When it cannot be made.
pub fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().timeout(ANSWER).redirect(reqwest::redirect::Policy::none()).no_proxy().build()
}

impl RestParts {
    /// Whether `key` is being published here.
    pub(super) fn has(&self, key: &StreamKey) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.has(key))
    }

    /// Ends the publish of `key` wherever it is, by asking its origin for `path`. `None`: it is not live.
    pub(super) async fn end_publish(
        &self,
        key: &StreamKey,
        caller: &Caller,
        method: Method,
        path: &str,
    ) -> Result<Option<Response>, RestError> {
        if self.origin.as_ref().is_some_and(|origin| origin.stop(key)) {
            return Ok(Some(Outcome::new(true).into_response()));
        }
        let changes = || RestError::new(StatusCode::CONFLICT, "the stream's origin changes just now");
        let view = self.view.load_full();
        let live = view.stream(key).is_some_and(|s| s.is_live()) || view.ams.streams.contains_key(key);
        let origin = match view.upstream(key).filter(|_| live) {
            Some(origin) => origin,
            // It may have begun a moment ago, which no view shows yet.
            None => match self.store.stream(key).await?.filter(|stored| stored.is_live()) {
                Some(stored) => view.origin_of(&stored).ok_or_else(changes)?,
                None => return Ok(None),
            },
        };
        // A node that asks has looked where the stream is: it has moved meanwhile, and is not chased.
        if matches!(caller, Caller::Node(_)) || origin.node == self.node {
            // Or it has ended a moment ago, which no view shows yet.
            if !self.store.stream(key).await?.is_some_and(|stored| stored.is_live()) {
                return Ok(None);
            }
            return Err(changes());
        }
        self.carry(origin.http, !origin.is_ams, method, path).await.map(Some)
    }

    async fn carry(
        &self,
        at: SocketAddr,
        is_ours: bool,
        method: Method,
        path: &str,
    ) -> Result<Response, RestError> {
        let failed =
            |why: String| RestError::new(StatusCode::BAD_GATEWAY, format!("the stream's origin: {why}"));
        let mut request = self.client.request(method, format!("http://{at}{path}"));
        if is_ours {
            let token = self.access.token(&self.node).map_err(|e| failed(e.to_string()))?;
            request = request.header(trust::HEADER, token);
        }
        let mut answer = request.send().await.map_err(|e| failed(e.without_url().to_string()))?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| failed(e.without_url().to_string()))? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(failed("its answer is too long".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, [(header::CONTENT_TYPE, "application/json")], body).into_response())
    }
}
