//! The relay's HTTP: WHEP (draft-ietf-wish-whep) for viewers who come through a balancer. Whoever asks must
//! hold the cluster's key.
//!
//! Two things more, for AMS's signalling: a POST without an offer is answered with one, as WHEP's first drafts had
//! it, and PATCH brings the answer; and `PUT {session}/height` chooses a rendition.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{patch, post, put};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sluicegate_cluster::clock;
use sluicegate_cluster::hints;
use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::metrics::Kind;
use sluicegate_cluster::node::Role;
use sluicegate_cluster::signalling::SDP_MEDIA_TYPE;
use sluicegate_cluster::token::{self, TokenUse};
use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_rtc::{FRAGMENT_MEDIA_TYPE, Fragment, IceChange, limits};

use super::doors::Made;
use super::fanout::Message;
use super::{Admitted, Relay, WhepError, layers};

/// When to ask again for a stream that is not live.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("2");

const SDP: HeaderValue = HeaderValue::from_static(SDP_MEDIA_TYPE);

/// `POST /{app}/whep/{stream}`, PATCH and DELETE one level below, and `PUT …/height` below that.
pub(crate) fn router(relay: Arc<Relay>, key: ClusterKey) -> Router {
    Router::new()
        .route("/{app}/whep/{stream}", post(create))
        .route("/{app}/whep/{stream}/{session}", patch(change).delete(end))
        .route("/{app}/whep/{stream}/{session}/height", put(choose))
        .layer(axum::extract::DefaultBodyLimit::max(limits::SDP_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&relay), counted))
        .layer(middleware::from_fn_with_state(key, from_a_node))
        .with_state(relay)
}

async fn from_a_node(State(key): State<ClusterKey>, request: Request, next: Next) -> Response {
    let token = request.headers().get(trust::HEADER).and_then(|t| t.to_str().ok());
    match key.verify(token) {
        Ok(_) => next.run(request).await,
        Err(why) => problem(StatusCode::UNAUTHORIZED, &why.to_string()),
    }
}

async fn counted(State(relay): State<Arc<Relay>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    relay.http.record(Role::Edge, Kind::Whep, response.status().as_u16(), 0);
    response
}

async fn create(
    State(relay): State<Arc<Relay>>,
    Path((app, stream)): Path<(String, String)>,
    axum::extract::RawQuery(query): axum::extract::RawQuery,
    headers: HeaderMap,
    offer: String,
) -> Result<Response, WhepError> {
    let key = relay.stream(&app, &stream)?;
    let token = query.as_deref().and_then(token::in_query).or_else(|| token::bearer(&headers));
    relay.admission.admit(&key, TokenUse::Play, token, clock::cluster_ms())?;
    if let Some(claim) = hints::told_in(&headers, &key) {
        relay.hints.told(claim, clock::now());
    }
    let admitted = if offer.is_empty() { relay.invite(&key).await } else { relay.admit(&key, &offer).await };
    let Admitted { id, sdp, ufrag } = admitted?;
    let mut response = Response::new(Body::from(sdp));
    *response.status_mut() = StatusCode::CREATED;
    let told = response.headers_mut();
    told.insert(header::CONTENT_TYPE, SDP);
    told.insert(header::ETAG, etag(&ufrag));
    let location = format!("/{app}/whep/{stream}/{id}");
    told.insert(header::LOCATION, HeaderValue::try_from(location).unwrap_or(HeaderValue::from_static("/")));
    for server in &relay.ice_servers {
        told.append(header::LINK, server.clone());
    }
    Ok(response)
}

async fn change(
    State(relay): State<Arc<Relay>>,
    Path((app, stream, id)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, WhepError> {
    let Made { session, ufrag } = relay.session(&relay.stream(&app, &stream)?, &id)?;
    if headers.get(header::CONTENT_TYPE) == Some(&SDP) {
        relay.mux.answer(session, body).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let wanted = headers.get(header::IF_MATCH).ok_or(WhepError::NoIfMatch)?;
    if wanted != "*" && *wanted != etag(&ufrag) {
        return Err(WhepError::IfMatch);
    }
    let change = relay.mux.change_ice(session, Fragment::parse(&body)?).await?;
    let IceChange::Restarted { ufrag, fragment } = change else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    relay.restarted(&id, &ufrag);
    let mut response = Response::new(Body::from(fragment));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FRAGMENT_MEDIA_TYPE));
    response.headers_mut().insert(header::ETAG, etag(&ufrag));
    Ok(response)
}

/// The viewer wants the rendition of so many lines; 0: whichever its network carries.
async fn choose(
    State(relay): State<Arc<Relay>>,
    Path((app, stream, session)): Path<(String, String, String)>,
    lines: String,
) -> Result<StatusCode, WhepError> {
    let key = relay.stream(&app, &stream)?;
    let Made { session, .. } = relay.session(&key, &session)?;
    let lines = lines.parse().map_err(|_| WhepError::NoHeight)?;
    let layers = layers::layers(relay.view.load().stream(&key).ok_or(WhepError::NotLive)?).into();
    if !relay.mux.post(session.shard(), Message::Height(session, lines, layers)) {
        return Err(WhepError::Busy);
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn end(
    State(relay): State<Arc<Relay>>,
    Path((app, stream, session)): Path<(String, String, String)>,
) -> Result<StatusCode, WhepError> {
    let key = StreamKey::new(&app, &stream).map_err(|_| WhepError::NoSession)?;
    relay.mux.close(relay.session(&key, &session)?.session).await;
    Ok(StatusCode::OK)
}

/// The ICE session's name (RFC 9725 section 4.3.1).
fn etag(ufrag: &str) -> HeaderValue {
    HeaderValue::try_from(format!("\"{ufrag}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

impl IntoResponse for WhepError {
    fn into_response(self) -> Response {
        let mut response = problem(self.status(), &self.to_string());
        if let Self::NotLive | Self::Busy = self {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S);
        }
        if let Self::Token(_) = self {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A problem body (RFC 9457).
fn problem(status: StatusCode, why: &str) -> Response {
    let body = serde_json::json!({ "title": why, "status": status.as_u16(), "type": "about:blank" });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
