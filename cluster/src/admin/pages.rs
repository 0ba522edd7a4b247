//! The console's own answers: updates once a second, one stream's page, why a stream is where it is, what if a
//! node were gone; and the removal of a dead node.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::Stream;
use serde::Serialize;
use serde_json::Value;

use super::console::{ConsoleModel, ConsoleQuery, Shown};
use super::model::{ClusterModel, NodeModel, StreamModel};
use super::without::without;
use super::{AdminParts, EVENT_EVERY, about, model_of, streams};
use crate::access::InSession;
use crate::clock;
use crate::ids::StreamKey;
use crate::placed::Placed;
use crate::rest::remove_dead;
use crate::stream::LadderState;
use crate::timeline;

/// Events in an update, and on a stream's page.
const EVENTS_SHOWN: usize = 12;

/// For the store to say why a stream is where it is.
const PLACED_WAIT: Duration = Duration::from_millis(500);

type Admin = State<Arc<AdminParts>>;

/// A stream's page.
#[derive(Debug, Serialize)]
struct StreamPage {
    #[serde(flatten)]
    about: ClusterModel,
    logged_in: bool,
    stream: StreamModel,
    /// The rungs that are served.
    renditions: Vec<String>,
    ladder: LadderState,
    /// The node that it comes from.
    origin: Option<NodeModel>,
    /// The edges for its viewers, the first one first.
    edges: Vec<NodeModel>,
    /// What was seen when it was placed where it is.
    placed: Option<Placed>,
    /// What this node's balancer would decide now.
    why: Option<Value>,
    events: Vec<timeline::Event>,
}

pub(super) async fn console(
    State(parts): Admin,
    Extension(session): Extension<InSession>,
    Query(query): Query<ConsoleQuery>,
) -> Json<ConsoleModel> {
    Json(update(&parts, session, &query))
}

pub(super) async fn console_events(
    State(parts): Admin,
    Extension(session): Extension<InSession>,
    Query(query): Query<ConsoleQuery>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = tokio::time::interval(EVENT_EVERY);
    let events =
        futures_util::stream::unfold((parts, query, ticks), move |(parts, query, mut ticks)| async move {
            ticks.tick().await;
            parts.attention.look(&parts.view).await;
            let update = update(&parts, session, &query);
            let event = Event::default().event("console").json_data(update).unwrap_or_default();
            Some((Ok(event), (parts, query, ticks)))
        });
    Sse::new(events)
}

fn update(parts: &AdminParts, InSession(logged_in): InSession, query: &ConsoleQuery) -> ConsoleModel {
    let view = parts.view.load();
    let shown = Shown { view: &view, now: view.now(clock::now()), about: about(parts), logged_in };
    ConsoleModel::new(shown, query, parts.timeline.newest(EVENTS_SHOWN, |_| true))
}

pub(super) async fn stream(
    State(parts): Admin,
    Extension(InSession(logged_in)): Extension<InSession>,
    Path((app, name)): Path<(String, String)>,
) -> Response {
    let Ok(key) = StreamKey::new(&app, &name) else { return no_such_stream() };
    let (view, subject) = (parts.view.load_full(), key.to_string());
    let now = view.now(clock::now());
    let Some(stream) = streams::find(&view, &key).map(|stream| stream.model(now)) else {
        return no_such_stream();
    };
    let mut about = ClusterModel::without_streams(about(&parts), &view, now);
    let mut nodes = std::mem::take(&mut about.nodes);
    let renditions = stream.renditions.clone();
    let ladder = view.stream(&key).map(|s| (*s.ladder).clone()).unwrap_or_default();
    let why = parts.explains.as_ref().map(|explains| explains.why(&key));
    let named = why.as_ref().and_then(|w| w["answer"]["edges"].as_array()).cloned().unwrap_or_default();
    let edge = |id: &Value| nodes.iter().find(|n| *id == n.id).cloned();
    let edges = named.iter().filter_map(edge).collect();
    let origin = nodes.iter().position(|n| n.id == stream.origin).map(|at| nodes.swap_remove(at));
    // What decides is of interest to programs; a page is small.
    let why = why.map(|w| serde_json::json!({"answer": w["answer"]}));
    let events = parts.timeline.newest(EVENTS_SHOWN, |e| e.subject == subject);
    let placed = placed(&parts, &key).await;
    let page =
        StreamPage { about, logged_in, stream, renditions, ladder, origin, edges, placed, why, events };
    Json(page).into_response()
}

pub(super) async fn why(State(parts): Admin, Path((app, name)): Path<(String, String)>) -> Response {
    let Ok(key) = StreamKey::new(&app, &name) else { return no_such_stream() };
    match &parts.explains {
        Some(explains) => {
            let mut why = explains.why(&key);
            if let (Some(why), Some(placed)) = (why.as_object_mut(), placed(&parts, &key).await) {
                why.insert("placed".to_owned(), serde_json::to_value(placed).unwrap_or_default());
            }
            Json(why).into_response()
        }
        None => problem(StatusCode::NOT_FOUND, "this node is no balancer: ask one that is"),
    }
}

pub(super) async fn node_without(State(parts): Admin, Path(id): Path<String>) -> Response {
    match without(&model_of(&parts), &id) {
        Some(without) => Json(without).into_response(),
        None => problem(StatusCode::NOT_FOUND, "there is no such node"),
    }
}

/// Pages elsewhere cannot ask for this: a browser asks first before it sends a DELETE, and is not answered.
pub(super) async fn remove(State(parts): Admin, Path(id): Path<String>) -> Response {
    match remove_dead(parts.store.as_ref(), &parts.view.load_full(), &id).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => refused.into_response(),
    }
}

/// Why the stream is where it is, from its record: the one thing that a page asks the store for. Without the store
/// it is left out.
async fn placed(parts: &AdminParts, key: &StreamKey) -> Option<Placed> {
    let record = tokio::time::timeout(PLACED_WAIT, parts.store.stream(key)).await.ok()?.ok()??;
    record.placed.map(|placed| *placed)
}

fn no_such_stream() -> Response {
    problem(StatusCode::NOT_FOUND, "there is no such stream")
}

/// A problem body (RFC 9457).
pub(super) fn problem(status: StatusCode, title: &str) -> Response {
    let body = serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16() });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
