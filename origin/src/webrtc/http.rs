//! WHIP's and WHEP's requests, as far as they are alike (RFC 9725 section 4).

use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, patch, post};
use bytes::Bytes;
use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::metrics::Kind;
use sluicegate_cluster::node::Role;
use sluicegate_cluster::signalling::{Protocol, SDP_MEDIA_TYPE};
use sluicegate_rtc::limits::SDP_BYTES;
use sluicegate_rtc::{Answer, FRAGMENT_MEDIA_TYPE, Fragment, IceChange, Refused};
use tokio_util::sync::CancellationToken;

use super::resources::{Kept, Resource};
use super::{whep, whip};
use crate::error::IngestError;
use crate::origin::Origin;
use crate::serve::problem;

/// When a full origin, or a stream that nobody publishes yet, is worth another try, seconds.
const RETRY_AFTER_S: u32 = 2;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// No stream or application can have such a name, or there is no such session.
    #[error("{0}")]
    NotFound(&'static str),
    /// The body is of another type.
    #[error("the body's type is to be {0}")]
    MediaType(&'static str),
    /// The body is no text.
    #[error("the body is not UTF-8")]
    NotText,
    /// No `If-Match` (RFC 6585 section 3).
    #[error("If-Match is to name the ICE session")]
    NoPrecondition,
    /// `If-Match` names another ICE session than the one that runs.
    #[error("If-Match names another ICE session than the one that runs")]
    Precondition,
    /// The session itself is refused.
    #[error("{0}")]
    Session(#[from] Refused),
    /// The publish is refused.
    #[error("{0}")]
    Publish(#[from] IngestError),
    /// Nobody publishes the stream (WHEP).
    #[error("nobody publishes this stream at the moment")]
    NotLive,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) | Self::Session(Refused::Gone) | Self::Publish(IngestError::NoApp) => {
                StatusCode::NOT_FOUND
            }
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotText | Self::Session(Refused::Malformed(_)) => StatusCode::BAD_REQUEST,
            Self::NoPrecondition => StatusCode::PRECONDITION_REQUIRED,
            Self::Precondition => StatusCode::PRECONDITION_FAILED,
            Self::Session(Refused::TooLong) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Session(Refused::Unsupported(_) | Refused::NoCodec) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Session(Refused::Busy | Refused::Stopped)
            | Self::Publish(IngestError::Full | IngestError::Drained | IngestError::Stopping) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NotLive | Self::Publish(IngestError::InUse) => StatusCode::CONFLICT,
            Self::Publish(IngestError::Distrust(_)) => StatusCode::UNAUTHORIZED,
            Self::Publish(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = problem(status, &self.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE || matches!(self, Self::NotLive) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S.into());
        }
        response
    }
}

/// The routes, below what checks that a node of the cluster asks.
pub(crate) fn routes() -> Router<Arc<Origin>> {
    let router = Router::new()
        .route("/origin/{app}/whip/{stream}", endpoint(post(whip::create)))
        .route("/origin/{app}/whep/{stream}", endpoint(post(whep::create)));
    let router = [Protocol::Whip, Protocol::Whep].into_iter().fold(router, |router, protocol| {
        let path = format!("/origin/{{app}}/{}/{{stream}}/{{id}}", protocol.as_str());
        router.route(&path, session(protocol))
    });
    router.layer(DefaultBodyLimit::max(SDP_BYTES))
}

fn endpoint(router: MethodRouter<Arc<Origin>>) -> MethodRouter<Arc<Origin>> {
    router.options(options).fallback(|| async { not_allowed("POST, OPTIONS") })
}

fn session(protocol: Protocol) -> MethodRouter<Arc<Origin>> {
    patch(move |state, path, headers, body| change(protocol, state, path, headers, body))
        .delete(move |state, path| delete(protocol, state, path))
        .fallback(|| async { not_allowed("PATCH, DELETE, OPTIONS") })
}

/// The stream that a path names.
pub(super) fn stream_key(app: &str, stream: &str) -> Result<StreamKey, Refusal> {
    let app = app.parse().map_err(|_| Refusal::NotFound("no application has such a name"))?;
    let stream = stream.parse().map_err(|_| Refusal::NotFound("no stream has such a name"))?;
    Ok(StreamKey { app, stream })
}

/// The body, which is to be an offer.
pub(super) fn offer<'a>(headers: &HeaderMap, body: &'a Bytes) -> Result<&'a str, Refusal> {
    text(headers, body, SDP_MEDIA_TYPE)
}

/// A session that was made: its address is kept for as long as what is returned first is.
pub(super) fn created(
    origin: &Origin,
    protocol: Protocol,
    key: &StreamKey,
    answer: Answer,
) -> (Kept, CancellationToken, Response) {
    let etag = etag_of(&answer.ufrag);
    let deleted = CancellationToken::new();
    let kept = origin.webrtc.resources.add(Resource {
        protocol,
        key: key.clone(),
        session: answer.session,
        etag: etag.clone(),
        deleted: deleted.clone(),
    });
    let location = format!("/origin/{}/{}/{}/{}", key.app, protocol.as_str(), key.stream, kept.id);
    let mut response = (StatusCode::CREATED, answer.sdp).into_response();
    let headers = response.headers_mut();
    let mut say = |name, value: String| HeaderValue::try_from(value).map(|value| headers.insert(name, value));
    // Both are made of letters, digits and what names may have.
    let _ = (say(header::LOCATION, location), say(header::ETAG, etag));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP_MEDIA_TYPE));
    link(origin, headers);
    (kept, deleted, response)
}

/// Counts an answer.
pub(super) fn counted(origin: &Origin, kind: Kind, answer: Result<Response, Refusal>) -> Response {
    let response = answer.unwrap_or_else(IntoResponse::into_response);
    origin.http_metrics.record(Role::Origin, kind, response.status().as_u16(), 0);
    response
}

async fn options(State(origin): State<Arc<Origin>>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    headers.insert("accept-post", HeaderValue::from_static(SDP_MEDIA_TYPE));
    link(&origin, headers);
    response
}

/// PATCH: trickled candidates, or an ICE restart (RFC 9725 section 4.3).
async fn change(
    protocol: Protocol,
    State(origin): State<Arc<Origin>>,
    Path((app, stream, id)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let changed = async {
        let resource = find(&origin, protocol, &app, &stream, &id)?;
        let fragment = Fragment::parse(text(&headers, &body, FRAGMENT_MEDIA_TYPE)?)?;
        let wanted = headers.get(header::IF_MATCH).ok_or(Refusal::NoPrecondition)?;
        if wanted != "*" && *wanted != resource.etag {
            return Err(Refusal::Precondition);
        }
        match origin.webrtc.mux.change_ice(resource.session, fragment).await? {
            IceChange::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
            IceChange::Restarted { ufrag, fragment } => {
                let etag = etag_of(&ufrag);
                origin.webrtc.resources.restarted(&id, &etag);
                let headers = [(header::CONTENT_TYPE, FRAGMENT_MEDIA_TYPE.to_owned()), (header::ETAG, etag)];
                Ok((StatusCode::OK, headers, fragment).into_response())
            }
        }
    };
    counted(&origin, protocol.kind(), changed.await)
}

/// DELETE: the session is over, and with it what was published.
async fn delete(
    protocol: Protocol,
    State(origin): State<Arc<Origin>>,
    Path((app, stream, id)): Path<(String, String, String)>,
) -> Response {
    let deleted = find(&origin, protocol, &app, &stream, &id).map(|resource| {
        resource.deleted.cancel();
        StatusCode::OK.into_response()
    });
    counted(&origin, protocol.kind(), deleted)
}

fn find(origin: &Origin, protocol: Protocol, app: &str, stream: &str, id: &str) -> Result<Resource, Refusal> {
    let key = stream_key(app, stream)?;
    origin.webrtc.resources.get(id, protocol, &key).ok_or(Refusal::NotFound("there is no such session"))
}

fn text<'a>(headers: &HeaderMap, body: &'a Bytes, wanted: &'static str) -> Result<&'a str, Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted) {
        return Err(Refusal::MediaType(wanted));
    }
    std::str::from_utf8(body).map_err(|_| Refusal::NotText)
}

fn etag_of(ufrag: &str) -> String {
    format!("\"{ufrag}\"")
}

fn link(origin: &Origin, headers: &mut HeaderMap) {
    for link in &origin.webrtc.links {
        headers.append(header::LINK, link.clone());
    }
}

fn not_allowed(allow: &'static str) -> Response {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("what is allowed here: {allow}"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
