//! What an origin serves to edges: `GET /origin/{app}/streams/{file}`, to nodes of the cluster only.
//!
//! Files are complete when they are listed, so every answer has its length and a strong tag, and a fetch
//! that broke off goes on by Range (RFC 9110 section 14). What is about to come is waited for: the playlist that
//! `_HLS_msn` and `_HLS_part` ask for, and the part that a playlist hints at.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::{AppName, NodeId, StreamKey};
use sluicegate_cluster::metrics::Kind;
use sluicegate_cluster::node::Role;
use sluicegate_cluster::report::{self, OriginReport, Watched};
use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_media::names::{self, FileName, Rung};
use sluicegate_media::reload::{BadDirectives, Directives, Reach, Verdict};

use crate::hold::NotHeld;
use crate::live::LiveStream;
use crate::origin::Origin;
use crate::webrtc;

/// The header by which an edge tells how many viewers a stream has there.
const VIEWERS: &str = "sluicegate-viewers";

impl Origin {
    /// The routes that edges use. Requests without a token of this cluster get 401.
    pub fn router(self: Arc<Self>, key: ClusterKey) -> Router {
        Router::new()
            .route("/origin/{app}/streams/{file}", get(file))
            .route(report::PATH, get(report))
            .route(report::WATCHED_PATH, post(watched))
            .merge(webrtc::routes())
            .layer(middleware::from_fn_with_state(key, from_a_node))
            .with_state(self)
    }

    async fn find(&self, asked: &Asked) -> Result<File, Refusal> {
        let stream = self.stream(&asked.app, &asked.name).ok_or(NotHeld::Absent)?;
        match &asked.name {
            FileName::MediaPlaylist { rung, .. } => {
                asked.tell_viewers(&stream);
                let directives = Directives::parse(asked.query.as_deref())?;
                let reach = stream.reach(*rung).ok_or(NotHeld::Absent)?;
                self.holds.until(reach, |reach| reach.verdict(&directives)).await?;
                found(Kind::Playlist, stream.media_playlist(*rung, directives.skip))
            }
            FileName::Multivariant { .. } => {
                asked.tell_viewers(&stream);
                found(Kind::Playlist, stream.multivariant())
            }
            FileName::Segment { .. } => found(Kind::Segment, stream.file(&asked.name)),
            FileName::Init { .. } => found(Kind::Init, stream.file(&asked.name)),
            FileName::Part { rung, epoch, sequence, part, .. } => {
                if u64::try_from(stream.epoch.0) == Ok(*epoch) {
                    self.until_made(&stream, *rung, *sequence, (*part).into()).await?;
                }
                found(Kind::Part, stream.file(&asked.name))
            }
        }
    }

    /// Waits for a part if it is the next one.
    async fn until_made(
        &self,
        stream: &LiveStream,
        rung: Rung,
        sequence: u64,
        part: u64,
    ) -> Result<(), NotHeld> {
        let reach = stream.reach(rung).ok_or(NotHeld::Absent)?;
        let verdict =
            |reach: &Reach| if reach.is_next(sequence, part) { Verdict::Hold } else { Verdict::Now };
        self.holds.until(reach, verdict).await
    }

    fn stream(&self, app: &str, name: &FileName) -> Option<Arc<LiveStream>> {
        let key = StreamKey { app: app.parse::<AppName>().ok()?, stream: name.stream().parse().ok()? };
        self.streams.get(&key)
    }
}

/// A request for a file.
struct Asked {
    app: String,
    name: FileName,
    query: Option<String>,
    from: NodeId,
    viewers: Option<u64>,
}

impl Asked {
    fn tell_viewers(&self, stream: &LiveStream) {
        if let Some(viewers) = self.viewers {
            stream.watched_by(&self.from, viewers, clock::now());
        }
    }
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Bad(#[from] BadDirectives),
    #[error(transparent)]
    NotHeld(#[from] NotHeld),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) | Self::NotHeld(NotHeld::TooFar) => StatusCode::BAD_REQUEST,
            Self::NotHeld(NotHeld::Absent) => StatusCode::NOT_FOUND,
            Self::NotHeld(NotHeld::Paused | NotHeld::TooMany) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

fn found(kind: Kind, body: Option<Bytes>) -> Result<File, Refusal> {
    let content_type = match kind {
        Kind::Playlist => "application/vnd.apple.mpegurl",
        Kind::Init => "video/mp4",
        _ => "video/iso.segment",
    };
    let body = body.ok_or(NotHeld::Absent)?;
    Ok(File { kind, body, content_type })
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

/// What a balancer is told that probes this origin.
async fn report(State(origin): State<Arc<Origin>>) -> axum::Json<OriginReport> {
    axum::Json(origin.report())
}

/// An edge tells who watches by WebRTC. Streams that are not here any more are nobody's.
async fn watched(
    State(origin): State<Arc<Origin>>,
    axum::Extension(Asker(edge)): axum::Extension<Asker>,
    axum::Json(told): axum::Json<Vec<Watched>>,
) -> StatusCode {
    let now = clock::now();
    for Watched { stream, viewers } in told.into_iter().take(Watched::MAX) {
        if let Some(stream) = origin.streams.get(&stream) {
            stream.watched_by_webrtc(&edge, viewers, now);
        }
    }
    StatusCode::NO_CONTENT
}

async fn file(
    State(origin): State<Arc<Origin>>,
    Path((app, file)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    axum::Extension(Asker(from)): axum::Extension<Asker>,
    headers: HeaderMap,
) -> Response {
    let viewers = headers.get(VIEWERS).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let found = match names::parse(&file) {
        Some(name) => origin.find(&Asked { app, name, query, from, viewers }).await,
        None => Err(NotHeld::Absent.into()),
    };
    match found {
        Ok(found) => {
            let kind = found.kind;
            let (response, sent_bytes) = answer(found, &file, &headers);
            origin.http_metrics.record(Role::Origin, kind, response.status().as_u16(), sent_bytes);
            response
        }
        Err(why) => {
            origin.http_metrics.record(Role::Origin, Kind::Other, why.status().as_u16(), 0);
            problem(why.status(), &why.to_string())
        }
    }
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
pub(crate) fn problem(status: StatusCode, title: &str) -> Response {
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
