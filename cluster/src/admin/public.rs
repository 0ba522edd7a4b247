//! The console where others can reach it: on `node.http`, behind a login. Its files hold nothing of the cluster
//! and are open; what they show is asked for at guarded addresses.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Deserialize;

use super::{AdminParts, api, console_asset};
use crate::access::{self, Access, Asked, LoginRefusal};
use crate::clock;

/// The longest form: a password of 256 bytes, each escaped.
const FORM_BYTES: usize = 1_024;

/// What a login page may do.
const LOGIN_POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[derive(Deserialize)]
struct Form {
    password: String,
}

/// The console, its login, and what it asks for.
pub fn public(parts: Arc<AdminParts>, access: Access) -> Router {
    let guarded = api(&parts).layer(middleware::from_fn_with_state(access.clone(), access::guard));
    let open = Router::new()
        .route("/", get(front))
        .route("/assets/{*path}", get(asset))
        .route("/login.css", get(style))
        .route("/login", post(log_in).layer(DefaultBodyLimit::max(FORM_BYTES)))
        .route("/logout", post(log_out));
    open.merge(guarded).layer(Extension(access)).with_state(parts)
}

async fn front(
    State(parts): State<Arc<AdminParts>>,
    Extension(access): Extension<Access>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let asked = Asked { method: &Method::GET, path: uri.path(), headers: &headers };
    if access.admit(&access.caller(peer, &headers), &asked, clock::cluster_ms(), clock::now()).is_ok() {
        return console_asset("index.html", &headers);
    }
    let why = if access.login().is_some() {
        ""
    } else {
        "This node has no password: set node.admin_password_file."
    };
    page(&parts, StatusCode::OK, why)
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    console_asset(&format!("assets/{path}"), &headers)
}

async fn style() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, sluicegate_web::LOGIN_STYLE).into_response()
}

async fn log_in(
    State(parts): State<Arc<AdminParts>>,
    Extension(access): Extension<Access>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !access::is_of_this_site(&headers) {
        return page(&parts, StatusCode::FORBIDDEN, "That came from another site.");
    }
    let Some(login) = access.login() else {
        return page(
            &parts,
            StatusCode::FORBIDDEN,
            "This node has no password: set node.admin_password_file.",
        );
    };
    let Some(form) = read_form(&body) else {
        return page(&parts, StatusCode::BAD_REQUEST, "That is no login.");
    };
    let from = access.address(peer, &headers);
    let secure = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    match login.log_in(from, form.password, secure, clock::now()).await {
        Ok(cookie) => {
            tracing::info!(%from, "an operator logged in");
            let to = HeaderValue::from_static("./#/cluster");
            (StatusCode::SEE_OTHER, [(header::SET_COOKIE, cookie), (header::LOCATION, to)]).into_response()
        }
        Err(refusal) => {
            tracing::warn!(%from, %refusal, "a login was refused");
            refused(&parts, refusal)
        }
    }
}

async fn log_out(Extension(access): Extension<Access>, headers: HeaderMap) -> Response {
    let to = HeaderValue::from_static("./");
    match access.login().filter(|_| access::is_of_this_site(&headers)) {
        Some(login) => {
            let cookie = login.log_out(&headers);
            (StatusCode::SEE_OTHER, [(header::SET_COOKIE, cookie), (header::LOCATION, to)]).into_response()
        }
        None => StatusCode::FORBIDDEN.into_response(),
    }
}

fn refused(parts: &AdminParts, refusal: LoginRefusal) -> Response {
    let (status, why) = match refusal {
        LoginRefusal::Wrong => (StatusCode::UNAUTHORIZED, "That is not the password."),
        LoginRefusal::TooMany => (StatusCode::TOO_MANY_REQUESTS, "Too many tries. Wait a minute."),
    };
    let mut response = page(parts, status, why);
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    }
    response
}

/// A form as browsers send it (`application/x-www-form-urlencoded`): written like a query.
fn read_form(body: &[u8]) -> Option<Form> {
    let uri: Uri = format!("/?{}", std::str::from_utf8(body).ok()?).parse().ok()?;
    Query::try_from_uri(&uri).ok().map(|Query(form)| form)
}

fn page(parts: &AdminParts, status: StatusCode, why: &str) -> Response {
    // A node's id holds no byte that HTML would take for its own.
    let html =
        sluicegate_web::LOGIN_PAGE.replace("{{node}}", parts.node.as_str()).replace("{{refusal}}", why);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, LOGIN_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, html).into_response()
}
