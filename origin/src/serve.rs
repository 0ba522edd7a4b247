//! What an origin serves to edges: `GET /origin/{app}/streams/{file}`, to nodes of the cluster only.
//!
//! Files are complete when they are listed, so every answer has its length and a strong tag, and a fetch
//! that broke off goes on by Range (RFC 9110 section 14).

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::{AppName, NodeId, StreamKey};
use sluicegate_cluster::metrics::Kind;
use sluicegate_cluster::node::Role;
use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_media::names::{self, FileName};

use crate::origin::Origin;

/// The header by which an edge tells how many viewers a stream has there.
const VIEWERS: &str = "sluicegate-viewers";

impl Origin {
    /// The routes that edges use. Requests without a token of this cluster get 401.
    pub fn router(self: Arc<Self>, key: ClusterKey) -> Router {
        Router::new()
            .route("/origin/{app}/streams/{file}", get(file))
            .layer(middleware::from_fn_with_state(key, from_a_node))
            .with_state(self)
    }

    fn find(&self, app: &str, name: &FileName, from: &NodeId, viewers: Option<u64>) -> Option<File> {
        let key = StreamKey { app: app.parse::<AppName>().ok()?, stream: name.stream().parse().ok()? };
        let stream = self.streams.get(&key)?;
        match name {
            FileName::MediaPlaylist { .. } | FileName::Multivariant { .. } => {
                if let Some(viewers) = viewers {
                    stream.watched_by(from, viewers, clock::now());
                }
                let text = match name {
                    FileName::MediaPlaylist { rung, .. } => stream.media_playlist(*rung)?,
                    _ => stream.multivariant()?,
                };
                Some(File { kind: Kind::Playlist, body: text, content_type: "application/vnd.apple.mpegurl" })
            }
            FileName::Segment { .. } => Some(File {
                kind: Kind::Segment,
                body: stream.file(name)?,
                content_type: "video/iso.segment",
            }),
            FileName::Init { .. } => {
                Some(File { kind: Kind::Init, body: stream.file(name)?, content_type: "video/mp4" })
            }
        }
    }
}

/// A file of a stream.
struct File {
    kind: Kind,
    body: Bytes,
    content_type: &'static str,
}

/// Who asks, once it is known.
#[derive(Clone)]
struct Asker(NodeId);

async fn from_a_node(State(key): State<ClusterKey>, mut request: Request, next: Next) -> Response {
    let token = request.headers().get(trust::HEADER).and_then(|t| t.to_str().ok());
    match key.verify(token) {
        Ok(node) => {
            request.extensions_mut().insert(Asker(node));
            next.run(request).await
        }
        Err(why) => problem(StatusCode::UNAUTHORIZED, &why.to_string()),
    }
}

async fn file(
    State(origin): State<Arc<Origin>>,
    Path((app, file)): Path<(String, String)>,
    axum::Extension(Asker(from)): axum::Extension<Asker>,
    headers: HeaderMap,
) -> Response {
    let viewers = headers.get(VIEWERS).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let found = names::parse(&file).and_then(|name| origin.find(&app, &name, &from, viewers));
    let Some(found) = found else {
        origin.http_metrics.record(Role::Origin, Kind::Other, 404, 0);
        return problem(StatusCode::NOT_FOUND, "there is no such file of a live stream here");
    };
    let kind = found.kind;
    let (response, sent_bytes) = answer(found, &file, &headers);
    origin.http_metrics.record(Role::Origin, kind, response.status().as_u16(), sent_bytes);
    response
}

/// The whole file, or from an offset on when `Range` asks so and `If-Range`, if there, names this file.
fn answer(file: File, name: &str, asked: &HeaderMap) -> (Response, u64) {
    let tag = tag_of(&file, name);
    let from = asked
        .get(header::RANGE)
        .filter(|_| asked.get(header::IF_RANGE).is_none_or(|if_range| *if_range == tag))
        .and_then(offset);
    let length = file.body.len();
    let (status, body) = match from {
        Some(from) if from >= length => (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new()),
        Some(from) => (StatusCode::PARTIAL_CONTENT, file.body.slice(from..)),
        None => (StatusCode::OK, file.body),
    };
    let sent_bytes = body.len() as u64;
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, tag);
    let range = match (status, from) {
        (StatusCode::PARTIAL_CONTENT, Some(from)) => Some(format!("bytes {from}-{}/{length}", length - 1)),
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => Some(format!("bytes */{length}")),
        _ => None,
    };
    if let Some(range) = range.and_then(|r| HeaderValue::from_str(&r).ok()) {
        headers.insert(header::CONTENT_RANGE, range);
    }
    (response, sent_bytes)
}

/// Segments' names never name anything else again; a playlist is named by what is in it.
fn tag_of(file: &File, name: &str) -> HeaderValue {
    let tag = match file.kind {
        Kind::Playlist => {
            use std::hash::{DefaultHasher, Hash as _, Hasher as _};
            let mut hasher = DefaultHasher::new();
            file.body.hash(&mut hasher);
            format!("\"{:016x}\"", hasher.finish())
        }
        _ => format!("\"{name}\""),
    };
    HeaderValue::from_str(&tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// `bytes=N-`: all that a resumed fetch asks for. Others are answered with the whole.
fn offset(range: &HeaderValue) -> Option<usize> {
    range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// A problem body (RFC 9457).
fn problem(status: StatusCode, title: &str) -> Response {
    let body = serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16() });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> File {
        File {
            kind: Kind::Segment,
            body: Bytes::from_static(b"0123456789"),
            content_type: "video/iso.segment",
        }
    }

    #[track_caller]
    fn check(asked: &[(&'static str, &'static str)], status: u16, sent: u64, range: Option<&str>) {
        let asked = asked
            .iter()
            .map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v)))
            .collect::<HeaderMap>();
        let (response, sent_bytes) = answer(segment(), "a_source__1_2.m4s", &asked);
        assert_eq!((response.status().as_u16(), sent_bytes), (status, sent));
        let told = response.headers().get(header::CONTENT_RANGE).map(|r| r.to_str().unwrap());
        assert_eq!(told, range);
    }

    #[test]
    fn a_fetch_goes_on_where_it_broke_off_if_it_is_the_same_file() {
        check(&[], 200, 10, None);
        check(&[("range", "bytes=4-")], 206, 6, Some("bytes 4-9/10"));
        check(&[("range", "bytes=4-"), ("if-range", "\"a_source__1_2.m4s\"")], 206, 6, Some("bytes 4-9/10"));
        check(&[("range", "bytes=4-"), ("if-range", "\"other\"")], 200, 10, None);
        check(&[("range", "bytes=10-")], 416, 0, Some("bytes */10"));
        check(&[("range", "bytes=0-3")], 200, 10, None);
    }
}
