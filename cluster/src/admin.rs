//! The admin plane of a node: console, cluster state as JSON and as events, metrics, health. To this machine it
//! is open, when named by a loopback address, so that no page elsewhere can reach it through a name that
//! resolves to this machine; others bring a token ([`crate::access`]).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use prometheus::{Registry, TextEncoder};

use crate::access::{self, Access};
use crate::ams::roles::RoleRules;
use crate::clock;
use crate::coding;
use crate::ids::{NodeId, StreamKey};
use crate::membership::NodeLife;
use crate::metrics::ClusterMetrics;
use crate::node::NodeState;
use crate::store::ClusterStore;
use crate::timeline::Timeline;
use crate::view::{Attention, SharedView};

mod console;
mod model;
mod orders;
mod pages;
mod public;
mod streams;
mod without;

pub use model::{ClusterModel, NodeModel, StreamModel};
pub use public::public;
pub use without::{Carried, Without};

/// How often events are sent to a console.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// A balancer's reasons.
pub trait Explains: Send + Sync + 'static {
    /// What decides where `stream` goes, and the decision.
    fn why(&self, stream: &StreamKey) -> serde_json::Value;
}

/// What the admin plane shows.
pub struct AdminParts {
    /// This node.
    pub node: NodeId,
    /// Where a browser on this machine finds the player: `http://127.0.0.1:5080`.
    pub player_base: Option<String>,
    /// The cluster.
    pub view: SharedView,
    /// The cluster's memory, for an operator's orders only.
    pub store: Arc<dyn ClusterStore>,
    /// The balancer in this process.
    pub explains: Option<Arc<dyn Explains>>,
    /// What AMS's own nodes do.
    pub ams_roles: RoleRules,
    /// What happened.
    pub timeline: Arc<Timeline>,
    /// Who looks at what is shown.
    pub attention: Arc<Attention>,
    /// This node's state.
    pub life: Arc<NodeLife>,
    /// Its metrics.
    pub registry: Registry,
    /// Those that are read from the view.
    pub cluster_metrics: Arc<ClusterMetrics>,
}

type Admin = State<Arc<AdminParts>>;

/// The admin plane's routes.
pub fn router(parts: Arc<AdminParts>, access: Access) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(api(&parts))
        .route("/", get(console_index))
        .route("/{*path}", get(console))
        .layer(middleware::from_fn_with_state(access, access::guard))
        .with_state(parts)
}

/// What the console asks for.
fn api(parts: &Arc<AdminParts>) -> Router<Arc<AdminParts>> {
    Router::new()
        .route("/api/v1/cluster", get(cluster))
        .route("/api/v1/console", get(pages::console))
        .route("/api/v1/console/events", get(pages::console_events))
        .route("/api/v1/streams/{app}/{stream}", get(pages::stream))
        .route("/api/v1/why/{app}/{stream}", get(pages::why))
        .route("/api/v1/nodes/{id}", delete(pages::remove))
        .route("/api/v1/nodes/{id}/without", get(pages::node_without))
        .route("/api/v1/nodes/{id}/drain", post(orders::drain))
        .route("/api/v1/nodes/{id}/undrain", post(orders::undrain))
        .layer(middleware::from_fn_with_state(Arc::clone(parts), look))
}

/// What is shown is of the last moments.
async fn look(State(parts): Admin, request: Request, next: Next) -> Response {
    parts.attention.look(&parts.view).await;
    next.run(request).await
}

async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 while the node takes work and the cluster, as this node reads it, knows that; 503 with the reason
/// before, while it is drained or stops, and when it never read the cluster's state.
async fn readyz(State(parts): Admin) -> Response {
    let (life, view) = (&parts.life, parts.view.load());
    let known = view.nodes.get(&parts.node).map_or(NodeState::Joining, |node| node.state);
    let why_not = match (life.state(), known) {
        _ if life.is_stopping() => "stopping",
        (NodeState::Serving, NodeState::Serving) => return "ready\n".into_response(),
        (NodeState::Draining, _) | (_, NodeState::Draining) => "draining",
        _ => "joining",
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why_not}\n")).into_response()
}

async fn metrics(State(parts): Admin) -> Response {
    parts.cluster_metrics.refresh(parts.view.load().now(clock::now()));
    match TextEncoder::new().encode_to_string(&parts.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn cluster(State(parts): Admin) -> Json<ClusterModel> {
    Json(model_of(&parts))
}

fn model_of(parts: &AdminParts) -> ClusterModel {
    let view = parts.view.load();
    ClusterModel::new(about(parts), &view, view.now(clock::now()))
}

fn about(parts: &AdminParts) -> model::About {
    model::About {
        cluster: parts.store.kind(),
        node: parts.node.clone(),
        player_base: parts.player_base.clone(),
        ams_roles: parts.ams_roles.clone(),
    }
}

async fn console_index(headers: HeaderMap) -> Response {
    console_asset("index.html", &headers)
}

async fn console(Path(path): Path<String>, headers: HeaderMap) -> Response {
    console_asset(&path, &headers)
}

fn console_asset(path: &str, asked: &HeaderMap) -> Response {
    let Some(asset) = sluicegate_web::console(path) else {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, asset.cache_control()),
        (header::CONTENT_SECURITY_POLICY, sluicegate_web::CONSOLE_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let (coding, body) = coding::of_asset(asked, &asset);
    let tag = coding.tag(&HeaderValue::from_static(asset.etag));
    let unchanged = asked.get(header::IF_NONE_MATCH).is_some_and(|have| *have == tag);
    let coded = [(header::ETAG, tag), (header::VARY, HeaderValue::from_static("accept-encoding"))];
    if unchanged {
        return (StatusCode::NOT_MODIFIED, headers, coded).into_response();
    }
    let mut response = (headers, coded, body).into_response();
    if let Some(name) = coding.header() {
        response.headers_mut().insert(header::CONTENT_ENCODING, name);
    }
    response
}
