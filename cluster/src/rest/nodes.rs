//! The cluster's nodes: `/rest/v2/cluster/…` (AMS `ClusterNodeRestService`), `liveness`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::page::Page;
use super::{Outcome, Parts, RestError};
use crate::ams::ClusterNode;
use crate::ams::cluster_node::{is_mirrored, mirror_id};
use crate::clock::{self, UnixMs};
use crate::node::{NodeRecord, NodeState};
use crate::store::ClusterStore;
use crate::view::ClusterView;

/// A node as AMS's panel reads it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeShown {
    id: String,
    ip: Option<String>,
    last_update_time: Option<i64>,
    memory: Option<String>,
    cpu: Option<String>,
    #[serde(rename = "dbQueryAveargeTimeMs")]
    db_query_average_time_ms: Option<i64>,
    /// `alive` or `dead`.
    status: &'static str,
    /// Ours only: AMS's panel has columns for them, and its own nodes do not fill them.
    #[serde(skip_serializing_if = "Option::is_none")]
    streams: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    viewers: Option<u64>,
}

impl NodeShown {
    fn of(node: ClusterNode, alive: bool) -> Self {
        Self {
            id: node.id,
            ip: node.ip,
            last_update_time: node.last_update_time,
            memory: node.memory,
            cpu: node.cpu,
            db_query_average_time_ms: node.db_query_average_time_ms,
            status: if alive { "alive" } else { "dead" },
            streams: None,
            viewers: None,
        }
    }

    fn ours(record: &NodeRecord, loads_at: UnixMs) -> Self {
        Self {
            streams: Some(record.load.publishes),
            viewers: Some(record.load.viewers),
            ..Self::of(ClusterNode::of(record, Duration::ZERO), record.is_alive(loads_at))
        }
    }
}

/// All edges and origins that have not ended, by id.
fn shown(view: &ClusterView) -> Vec<NodeShown> {
    let ours = view.nodes.values().filter(|n| n.state != NodeState::Gone && is_mirrored(n));
    let mut shown: Vec<NodeShown> = ours.map(|n| NodeShown::ours(n, view.loads_at)).collect();
    let now = view.now(clock::now());
    let theirs = view.ams.nodes.values();
    shown.extend(theirs.map(|n| NodeShown::of(n.document.clone(), n.document.is_alive(now))));
    shown.sort_by(|a, b| a.id.cmp(&b.id));
    shown
}

/// Open to all, as in AMS: it says nothing of the load.
pub(super) async fn liveness(State(parts): Parts) -> Json<Value> {
    Json(json!({"host": parts.node, "status": "ok"}))
}

pub(super) async fn cluster_mode(State(parts): Parts) -> Json<Outcome> {
    Outcome::new(parts.store.ams().is_some())
}

pub(super) async fn count(State(parts): Parts) -> Json<Value> {
    Json(json!({"number": shown(&parts.view.load()).len()}))
}

pub(super) async fn list(State(parts): Parts, page: Page) -> Json<Vec<NodeShown>> {
    Json(page.of(shown(&parts.view.load())))
}

pub(super) async fn remove(State(parts): Parts, Path(id): Path<String>) -> Result<Json<Outcome>, RestError> {
    remove_dead(parts.store.as_ref(), &parts.view.load_full(), &id).await?;
    Ok(Outcome::new(true))
}

/// Removes a dead node of ours, by its id or its mirror's.
pub(crate) async fn remove_dead(
    store: &dyn ClusterStore,
    view: &ClusterView,
    id: &str,
) -> Result<(), RestError> {
    let refuse = |status, why| Err(RestError::new(status, why));
    let named = |n: &&Arc<NodeRecord>| n.id.as_str() == id || mirror_id(n) == id;
    let Some(record) = view.nodes.values().find(named) else {
        if view.ams.nodes.values().any(|n| n.document.id == id || n.id.as_str() == id) {
            return refuse(
                StatusCode::CONFLICT,
                "this node wrote its document itself, and so it is left alone",
            );
        }
        return refuse(StatusCode::NOT_FOUND, "there is no such node");
    };
    if view.lives(record) {
        return refuse(StatusCode::CONFLICT, "this node lives; only a dead one can be removed");
    }
    // Guarded by what was seen: one that comes back meanwhile stays.
    if !store.remove_node(&record.id, record.rev).await? {
        return refuse(StatusCode::CONFLICT, "this node has just been written again");
    }
    if let Some(ams) = store.ams() {
        ams.remove_cluster_node(&mirror_id(record)).await?;
    }
    Ok(())
}
