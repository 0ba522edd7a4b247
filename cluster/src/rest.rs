//! AMS's REST interface: its paths, its shapes, its ways to say no. Every node serves it on `node.http`, and
//! balancers lead there. Reads are answered from what this node knows of the cluster.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get};
use axum::{Json, Router};
use serde::Serialize;

use crate::access::{self, Access};
use crate::ids::{AppName, NodeId};
use crate::store::{ClusterStore, StoreError};
use crate::view::{Attention, SharedView};

mod app;
mod broadcasts;
mod carry;
mod nodes;
mod page;

pub use carry::{StreamControl, client};
pub(crate) use nodes::remove_dead;

/// The largest body that is read.
const BODY_BYTES: usize = 64 << 10;

/// What REST needs.
pub struct RestParts {
    /// This node.
    pub node: NodeId,
    /// The cluster as it is known.
    pub view: SharedView,
    /// Who looks at it.
    pub attention: Arc<Attention>,
    /// Its memory.
    pub store: Arc<dyn ClusterStore>,
    /// The applications there are.
    pub apps: Vec<AppName>,
    /// The origin in this process.
    pub origin: Option<Arc<dyn StreamControl>>,
    /// Asks other nodes.
    pub client: reqwest::Client,
    /// Who may use it.
    pub access: Access,
}

type Parts = State<Arc<RestParts>>;

/// The routes. All but `liveness` are behind [`Access`].
pub fn router(parts: Arc<RestParts>) -> Router {
    let open = Router::new().route("/rest/v2/liveness", get(nodes::liveness));
    let guarded = Router::new()
        .route("/rest/v2/cluster-mode-status", get(nodes::cluster_mode))
        .route("/rest/v2/cluster/node-count", get(nodes::count))
        .route("/rest/v2/cluster/nodes/{offset}/{size}", get(nodes::list))
        .route("/rest/v2/cluster/node/{id}", delete(nodes::remove))
        .merge(broadcasts::routes())
        .layer(middleware::from_fn_with_state(Arc::clone(&parts), look))
        .route("/rest/{*path}", any(no_such_path))
        .route("/{app}/rest/{*path}", any(no_such_path))
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(parts.access.clone(), access::guard));
    open.merge(guarded).with_state(parts)
}

/// What is answered is of the last moments.
async fn look(State(parts): Parts, request: Request, next: Next) -> Response {
    parts.attention.look(&parts.view).await;
    next.run(request).await
}

async fn no_such_path() -> RestError {
    RestError::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

async fn no_such_method() -> RestError {
    RestError::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
}

/// AMS's `Result`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_id: Option<String>,
    error_id: i32,
}

impl Outcome {
    fn new(success: bool) -> Json<Self> {
        Json(Self { success, message: None, data_id: None, error_id: 0 })
    }

    /// What could not be done, though nothing was wrong with the request.
    fn failed(message: &str) -> Json<Self> {
        Json(Self { success: false, message: Some(message.to_owned()), data_id: None, error_id: 0 })
    }
}

/// A refusal: AMS's `Result` with a status.
#[derive(Debug)]
pub(crate) struct RestError {
    status: StatusCode,
    message: String,
}

impl RestError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl From<JsonRejection> for RestError {
    fn from(rejection: JsonRejection) -> Self {
        // AMS knows no 422: a body of the wrong shape is a bad request.
        let status = match rejection.status() {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        Self::new(status, rejection.body_text())
    }
}

impl From<StoreError> for RestError {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        let outcome = Outcome { success: false, message: Some(self.message), data_id: None, error_id: -1 };
        (self.status, Json(outcome)).into_response()
    }
}
