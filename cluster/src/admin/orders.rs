//! What an operator orders of the cluster through any node: `POST /api/v1/nodes/{id}/drain` and `…/undrain`.
//!
//! A page of another site can make a browser send forms and plain text here, but not `application/json`
//! without asking first, and that is not answered: so only JSON is taken (the body itself says nothing).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::pages::problem;
use super::{AdminParts, model};
use crate::clock;
use crate::ids::NodeId;
use crate::membership::{self, DrainError};

type Admin = State<Arc<AdminParts>>;

pub(super) async fn drain(parts: Admin, id: Path<String>, headers: HeaderMap) -> Response {
    set_drain(parts, id, &headers, true).await
}

pub(super) async fn undrain(parts: Admin, id: Path<String>, headers: HeaderMap) -> Response {
    set_drain(parts, id, &headers, false).await
}

/// Answers with the node as it is shown.
async fn set_drain(
    State(parts): Admin,
    Path(id): Path<String>,
    headers: &HeaderMap,
    drain: bool,
) -> Response {
    if !is_json(headers) {
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "orders are sent as application/json");
    }
    let id: NodeId = match id.parse() {
        Ok(id) => id,
        Err(why) => return problem(StatusCode::NOT_FOUND, &format!("there is no such node: {why}")),
    };
    match membership::set_drain(parts.store.as_ref(), &id, drain).await {
        Ok(node) => {
            tracing::info!(node = %id, drain, "an operator's order was written");
            let now = parts.view.load().now(clock::now());
            Json(model::node_model(&node, now, now)).into_response()
        }
        Err(error) => problem(status(&error), &error.to_string()),
    }
}

fn status(error: &DrainError) -> StatusCode {
    match error {
        DrainError::Unknown(_) => StatusCode::NOT_FOUND,
        DrainError::Gone(_) => StatusCode::CONFLICT,
        DrainError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Option<&'static str>, expect: bool) {
        let headers = kind.map(|kind| (header::CONTENT_TYPE, kind.parse().unwrap()));
        assert_eq!(is_json(&headers.into_iter().collect()), expect, "{kind:?}");
    }

    #[test]
    fn what_a_form_can_send_is_no_order() {
        check(Some("application/json"), true);
        check(Some("Application/JSON; charset=utf-8"), true);
        check(Some("text/plain"), false);
        check(Some("application/x-www-form-urlencoded"), false);
        check(Some("multipart/form-data; boundary=application/json"), false);
        check(None, false);
    }
}
