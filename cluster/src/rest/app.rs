//! `/{app}/…`: the application that a path names.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::{RestError, RestParts};
use crate::ids::AppName;

/// An application that there is.
pub(super) struct App(pub(super) AppName);

impl FromRequestParts<Arc<RestParts>> for App {
    type Rejection = RestError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<RestParts>) -> Result<Self, RestError> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let named = path.ok().and_then(|Path(path)| path.get("app").cloned()).unwrap_or_default();
        let known = state.apps.iter().find(|app| app.as_str() == named);
        known
            .cloned()
            .map(Self)
            .ok_or_else(|| RestError::new(StatusCode::NOT_FOUND, "there is no such application"))
    }
}
