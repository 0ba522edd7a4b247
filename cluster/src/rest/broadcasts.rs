//! Streams: `/{app}/rest/v2/broadcasts/…` (AMS `BroadcastRestService`). What is made here is kept in the
//! stream's own record, and mirrored for AMS; reads are answered by any node, and what ends a live stream is
//! carried to its origin.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::app::App;
use super::page::Page;
use super::{Outcome, Parts, RestError, RestParts};
use crate::access::Caller;
use crate::ams::{Broadcast, BroadcastMirror};
use crate::clock::{self, UnixMs};
use crate::ids::{AppName, Epoch, PublisherSession, StreamKey, StreamName};
use crate::stream::{Owner, PublishType, StreamNotes, StreamRecord};
use crate::view::ClusterView;

/// The longest name, description or metadata.
const TEXT_BYTES: usize = 8 << 10;

/// How often an ended publish is looked for, and how many times.
const END_LOOK_EVERY: Duration = Duration::from_millis(100);
const END_LOOKS: usize = 45;

pub(super) fn routes() -> Router<Arc<RestParts>> {
    const BASE: &str = "/{app}/rest/v2/broadcasts";
    let at = |path: &str| format!("{BASE}{path}");
    Router::new()
        .route(&at("/create"), post(create))
        .route(&at("/count"), get(count))
        .route(&at("/active-live-stream-count"), get(count_live))
        .route(&at("/list/{offset}/{size}"), get(list))
        .route(&at("/total-broadcast-statistics"), get(total_statistics))
        .route(&at("/{id}"), get(one).delete(remove))
        .route(&at("/{id}/stop"), post(stop))
        .route(&at("/{id}/broadcast-statistics"), get(statistics))
}

/// What `create` reads of AMS's `Broadcast`. Other fields of it are of no use here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NewBroadcast {
    stream_id: Option<String>,
    name: Option<String>,
    description: Option<String>,
    meta_data: Option<String>,
}

impl NewBroadcast {
    /// A list would do for a struct, were it read as one at once.
    fn read(fields: Map<String, Value>) -> Result<Self, RestError> {
        serde_path_to_error::deserialize(Value::Object(fields))
            .map_err(|error| RestError::new(StatusCode::BAD_REQUEST, error.to_string()))
    }

    fn notes(&self, now: UnixMs) -> Result<StreamNotes, RestError> {
        let texts = [&self.name, &self.description, &self.meta_data];
        if texts.into_iter().flatten().any(|text| text.len() > TEXT_BYTES) {
            let why = format!("name, description and metaData are of {TEXT_BYTES} bytes at most");
            return Err(RestError::new(StatusCode::BAD_REQUEST, why));
        }
        let (name, description) = (self.name.clone(), self.description.clone());
        Ok(StreamNotes { name, description, meta_data: self.meta_data.clone(), created_at: now })
    }
}

async fn create(
    State(parts): Parts,
    App(app): App,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Json<Broadcast>, RestError> {
    let Json(fields) = body?;
    let new = NewBroadcast::read(fields)?;
    let random = || format!("{:024}", rand::random::<u64>());
    let id = new.stream_id.clone().filter(|id| !id.is_empty()).unwrap_or_else(random);
    let key = StreamKey { app, stream: parse_id(&id)? };
    let seen = parts.store.stream(&key).await?;
    let in_use = parts.view.load().ams.streams.contains_key(&key) || seen.as_ref().is_some_and(is_known);
    if in_use {
        return Err(RestError::new(StatusCode::BAD_REQUEST, "Stream id is already being used"));
    }
    let now = parts.store.now().await?;
    let expected = seen.as_ref().map(StreamRecord::version);
    let record = StreamRecord {
        rev: seen.as_ref().map_or(1, StreamRecord::next_rev),
        notes: Some(Box::new(new.notes(now)?)),
        changed: now,
        ..seen.unwrap_or_else(|| unpublished(&parts, key, now))
    };
    if !parts.store.put_stream(&record, expected).await? {
        return Err(RestError::new(StatusCode::CONFLICT, "the stream changed just now"));
    }
    let broadcast = Broadcast::of(&record, None, now);
    mirror(&parts, &record, broadcast.clone(), now).await;
    Ok(Json(broadcast))
}

/// The record of a stream that nobody has published yet.
fn unpublished(parts: &RestParts, key: StreamKey, now: UnixMs) -> StreamRecord {
    StreamRecord {
        key,
        owner: Owner { node: parts.node.clone(), incarnation: "".into() },
        ended_at: Some(now),
        epoch: Epoch(0),
        rev: 1,
        claims: 0,
        session: PublisherSession::random(),
        renditions: Vec::new(),
        size: None,
        sequence: 0,
        sequence_at: now,
        started_at: now,
        bitrate_bps: 0,
        viewers: 0,
        webrtc_viewers: 0,
        publish_type: PublishType::default(),
        placed: None,
        ladder: Box::default(),
        notes: None,
        changed: now,
    }
}

/// Writes AMS's document. That it fails is nobody's trouble: the origin writes it when the stream is live.
async fn mirror(parts: &RestParts, record: &StreamRecord, broadcast: Broadcast, now: UnixMs) {
    let Some(ams) = parts.store.ams() else { return };
    let (key, node) = (record.key.clone(), parts.node.clone());
    let mirror = BroadcastMirror { key, node, epoch: record.epoch, broadcast };
    if let Err(error) = ams.put_broadcasts(&[mirror], now).await {
        tracing::warn!(%error, stream = %record.key, "AMS's document of a stream cannot be written");
    }
}

async fn one(State(parts): Parts, App(app): App, Id(id): Id) -> Result<Json<Broadcast>, RestError> {
    find_now(&parts, &StreamKey { app, stream: id }).await.map(Json)
}

async fn list(State(parts): Parts, App(app): App, page: Page) -> Json<Vec<Broadcast>> {
    Json(page.of(shown(&parts.view.load(), &app)))
}

async fn count(State(parts): Parts, App(app): App) -> Json<Value> {
    Json(json!({"number": shown(&parts.view.load(), &app).len()}))
}

async fn count_live(State(parts): Parts, App(app): App) -> Json<Value> {
    Json(json!({"number": live(&shown(&parts.view.load(), &app)).count()}))
}

async fn statistics(State(parts): Parts, App(app): App, Id(id): Id) -> Result<Json<Value>, RestError> {
    let broadcast = find_now(&parts, &StreamKey { app, stream: id }).await?;
    Ok(Json(watchers([&broadcast].into_iter())))
}

async fn total_statistics(State(parts): Parts, App(app): App) -> Json<Value> {
    let all = shown(&parts.view.load(), &app);
    let mut total = watchers(live(&all));
    total["activeLiveStreamCount"] = live(&all).count().into();
    Json(total)
}

fn watchers<'a>(broadcasts: impl Iterator<Item = &'a Broadcast>) -> Value {
    let mut sums = [0; 4];
    for broadcast in broadcasts {
        let counts = [
            broadcast.rtmp_viewer_count,
            broadcast.hls_viewer_count,
            broadcast.webrtc_viewer_count,
            broadcast.dash_viewer_count,
        ];
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.unwrap_or(0));
    }
    let [rtmp, hls, webrtc, dash] = sums;
    json!({
        "totalRTMPWatchersCount": rtmp, "totalHLSWatchersCount": hls,
        "totalWebRTCWatchersCount": webrtc, "totalDASHWatchersCount": dash,
    })
}

/// Ends the publish. The stream may be published again.
async fn stop(
    State(parts): Parts,
    App(app): App,
    Id(id): Id,
    Extension(caller): Extension<Caller>,
) -> Result<Response, RestError> {
    let key = StreamKey { app, stream: id };
    find_now(&parts, &key).await?;
    let path = format!("/{}/rest/v2/broadcasts/{}/stop", key.app, key.stream);
    match parts.end_publish(&key, &caller, Method::POST, &path).await? {
        Some(answer) => Ok(answer),
        None => Ok(Outcome::failed("the stream is not live").into_response()),
    }
}

/// Ends the publish if there is one, and forgets what `create` was told.
async fn remove(
    State(parts): Parts,
    App(app): App,
    Id(id): Id,
    Extension(caller): Extension<Caller>,
) -> Result<Response, RestError> {
    let key = StreamKey { app, stream: id };
    find_now(&parts, &key).await?;
    let path = format!("/{}/rest/v2/broadcasts/{}", key.app, key.stream);
    let ended = parts.end_publish(&key, &caller, Method::DELETE, &path).await?;
    if let Some(answer) = ended.filter(|_| !parts.has(&key)) {
        return Ok(answer);
    }
    forget(&parts, &key).await?;
    Ok(Outcome::new(true).into_response())
}

async fn forget(parts: &RestParts, key: &StreamKey) -> Result<(), RestError> {
    if let Some(seen) = ended(parts, key).await?.filter(|s| s.notes.is_some()) {
        let (changed, version) = (parts.store.now().await?, seen.version());
        let record = StreamRecord { rev: seen.next_rev(), notes: None, changed, ..seen };
        if !parts.store.put_stream(&record, Some(version)).await? {
            return Err(RestError::new(StatusCode::CONFLICT, "the stream changed just now"));
        }
    }
    if let Some(ams) = parts.store.ams()
        && let Err(error) = ams.remove_broadcast(key).await
    {
        tracing::warn!(%error, stream = %key, "AMS's document of a stream cannot be removed");
    }
    Ok(())
}

/// The record of a stream whose publish was just ended. Until its origin has written that, nobody else may
/// write it: under one epoch the last one to write wins.
async fn ended(parts: &RestParts, key: &StreamKey) -> Result<Option<StreamRecord>, RestError> {
    for _ in 0..END_LOOKS {
        match parts.store.stream(key).await? {
            Some(record) if record.is_live() => tokio::time::sleep(END_LOOK_EVERY).await,
            ended => return Ok(ended),
        }
    }
    Err(RestError::new(StatusCode::GATEWAY_TIMEOUT, "the stream's publish has not ended in time"))
}

/// A stream that is live, or was made here.
fn is_known(record: &StreamRecord) -> bool {
    record.is_live() || record.notes.is_some()
}

/// A stream that this node knows to be live, else what the store says now: it may have begun, or been made or deleted,
/// a moment ago. While the store is away, what is known.
async fn find_now(parts: &RestParts, key: &StreamKey) -> Result<Broadcast, RestError> {
    let view = parts.view.load_full();
    let now = view.now(clock::now());
    let known = find(&view, key);
    if let Some(live) = known.as_ref().filter(|b| b.is_live(now)) {
        return Ok(live.clone());
    }
    let found = match parts.store.stream(key).await {
        Ok(stored) => stored
            .filter(is_known)
            .map(|s| Broadcast::of(&s, origin_ip(&view, &s), now))
            .or_else(|| known.filter(|_| view.is_ams(key))),
        Err(error) => Some(known.ok_or(error)?),
    };
    found.ok_or_else(|| RestError::new(StatusCode::NOT_FOUND, "there is no such stream"))
}

fn find(view: &ClusterView, key: &StreamKey) -> Option<Broadcast> {
    let now = view.now(clock::now());
    let ours = view.stream(key).filter(|s| is_known(s));
    let ours = ours.map(|s| Broadcast::of(s, origin_ip(view, s), now));
    let theirs = || view.ams.streams.get(key).map(|s| s.broadcast.clone().as_shown(now));
    let live = ours.clone().filter(|b| b.is_live(now));
    live.or_else(theirs).or(ours)
}

/// All of an application, by name.
fn shown(view: &ClusterView, app: &AppName) -> Vec<Broadcast> {
    let ours = view.all_streams().filter(|s| s.key.app == *app && is_known(s)).map(|s| &s.key);
    let theirs = view.ams.streams.keys().filter(|key| key.app == *app);
    let keys: std::collections::BTreeSet<&StreamKey> = ours.chain(theirs).collect();
    keys.into_iter().filter_map(|key| find(view, key)).collect()
}

fn live(broadcasts: &[Broadcast]) -> impl Iterator<Item = &Broadcast> {
    broadcasts.iter().filter(|b| b.status.as_deref() == Some(crate::ams::broadcast::BROADCASTING))
}

fn origin_ip(view: &ClusterView, record: &StreamRecord) -> Option<std::net::IpAddr> {
    view.nodes.get(&record.owner.node).filter(|_| record.claims > 0).map(|n| n.addresses.http.ip())
}

fn parse_id(id: &str) -> Result<StreamName, RestError> {
    id.parse()
        .map_err(|why| RestError::new(StatusCode::BAD_REQUEST, format!("Stream id is not valid: {why}")))
}

/// `{id}` of a path.
struct Id(StreamName);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Id {
    type Rejection = RestError;

    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, RestError> {
        let path = Path::<std::collections::HashMap<String, String>>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(path)| path.get("id").cloned()).unwrap_or_default();
        parse_id(&id).map(Self)
    }
}
