//! Answers to viewers: objects, parts of them, and problems (RFC 9457).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AGE, ALLOW, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, DATE, ETAG, RETRY_AFTER, VARY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::coding::{self, Coding};
use sluicegate_cluster::token::TokenRefusal;
use sluicegate_cluster::viewer::{BrokenOff, ViewerBody, ViewerRequest, ViewerResponse};
use sluicegate_media::reload::{BadDirectives, Directives};
use sluicegate_web::{Asset, PLAYER_SECURITY_POLICY};

use crate::cache;
use crate::failure::Failure;
use crate::object::{Head, Object};
use crate::policy;
use crate::range::{self, Wanted};
use crate::route::NoRoute;

const METHODS: &str = "GET, HEAD, OPTIONS";
const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";

/// The answer with the playlist `object`, or word that it has not changed.
pub(crate) fn playlist(
    request: &ViewerRequest,
    asked: &Directives,
    object: &Object,
    coding: Coding,
    now: Instant,
) -> ViewerResponse {
    let gzip = if coding == Coding::Gzip { object.gzip() } else { None };
    let (coding, body) = gzip.map_or((Coding::Identity, &object.body), |gzip| (Coding::Gzip, gzip));
    let max_age_s = object.playlist.map_or(0, |playlist| policy::playlist_max_age_s(&playlist, asked));
    let mut headers = media_headers(&object.head, PLAYLIST_TYPE, "");
    insert(&mut headers, CACHE_CONTROL, &format!("public, max-age={max_age_s}"));
    headers.insert(AGE, HeaderValue::from(cache::age(object, now).as_secs()));
    coded(request, headers, coding, body.clone())
}

/// The answer with a body that is the same to all who accept its coding, or word that it has not changed. The tag in
/// `headers` is that of the body as it is.
fn coded(request: &ViewerRequest, mut headers: HeaderMap, coding: Coding, body: Bytes) -> ViewerResponse {
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(tag) = headers.get(ETAG).map(|tag| coding.tag(tag)) {
        let unchanged = range::is_unchanged(&request.headers, tag.as_bytes());
        headers.insert(ETAG, tag);
        if unchanged {
            return respond(StatusCode::NOT_MODIFIED, headers, ViewerBody::Empty);
        }
    }
    if let Some(name) = coding.header() {
        headers.insert(CONTENT_ENCODING, name);
    }
    whole(request, StatusCode::OK, headers, body)
}

/// The answer with all of the media `object`, the part of it that is asked for, or word that it has not
/// changed.
pub(crate) fn object(request: &ViewerRequest, object: &Object, now: Instant) -> ViewerResponse {
    let mut headers = segment_headers(&object.head);
    headers.insert(AGE, HeaderValue::from(cache::age(object, now).as_secs()));
    let etag = object.head.etag.as_bytes();
    if range::is_unchanged(&request.headers, etag) {
        return respond(StatusCode::NOT_MODIFIED, headers, ViewerBody::Empty);
    }
    let body = &object.body;
    if request.method != Method::GET {
        return whole(request, StatusCode::OK, headers, body.clone());
    }
    match range::wanted(&request.headers, etag, body.len()) {
        Wanted::Whole => whole(request, StatusCode::OK, headers, body.clone()),
        Wanted::Part(part) => {
            let last = part.end.saturating_sub(1);
            let place = format!("bytes {}-{last}/{}", part.start, body.len());
            insert(&mut headers, CONTENT_RANGE, &place);
            whole(request, StatusCode::PARTIAL_CONTENT, headers, body.slice(part))
        }
        Wanted::Unsatisfiable => {
            let mut response =
                problem(request, StatusCode::RANGE_NOT_SATISFIABLE, "the file does not reach that far");
            insert(&mut response.headers, CONTENT_RANGE, &format!("bytes */{}", body.len()));
            response
        }
    }
}

/// The answer with a segment that is still coming.
pub(crate) fn coming(
    head: &Head,
    length: Option<usize>,
    pieces: BoxStream<'static, Result<Bytes, BrokenOff>>,
) -> ViewerResponse {
    let mut headers = segment_headers(head);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    respond(StatusCode::OK, headers, ViewerBody::Pieces(pieces))
}

/// The answer with a file of the player page.
pub(crate) fn page(request: &ViewerRequest, asset: Asset) -> ViewerResponse {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(asset.cache_control()));
    headers.insert(ETAG, HeaderValue::from_static(asset.etag));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PLAYER_SECURITY_POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let (coding, body) = coding::of_asset(&request.headers, &asset);
    coded(request, headers, coding, Bytes::from_static(body))
}

/// The answer to OPTIONS: any page may play from here.
pub(crate) fn options() -> ViewerResponse {
    let mut headers = HeaderMap::with_capacity(5);
    headers.insert(ALLOW, HeaderValue::from_static(METHODS));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, range, if-range, if-none-match"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    respond(StatusCode::NO_CONTENT, headers, ViewerBody::Empty)
}

/// The answer to a method that nothing here knows.
pub(crate) fn method_not_allowed(request: &ViewerRequest) -> ViewerResponse {
    let mut response =
        problem(request, StatusCode::METHOD_NOT_ALLOWED, "files are read by GET, HEAD and OPTIONS");
    response.headers.insert(ALLOW, HeaderValue::from_static(METHODS));
    response
}

/// The answer to a path that names nothing.
pub(crate) fn no_route(request: &ViewerRequest, why: NoRoute) -> ViewerResponse {
    problem(request, StatusCode::NOT_FOUND, &why.to_string())
}

/// The answer to a viewer whose token does not open the stream (RFC 6750 section 3).
pub(crate) fn not_admitted(request: &ViewerRequest, refusal: TokenRefusal) -> ViewerResponse {
    let mut response = problem(request, refusal.status(), &refusal.to_string());
    if response.status == StatusCode::UNAUTHORIZED {
        response.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The answer to delivery directives that are none.
pub(crate) fn bad_directives(request: &ViewerRequest, why: BadDirectives) -> ViewerResponse {
    problem(request, StatusCode::BAD_REQUEST, &why.to_string())
}

/// The answer when there is nothing to serve.
pub(crate) fn failed(request: &ViewerRequest, failure: Failure) -> ViewerResponse {
    let mut response = problem(request, failure.status(), &failure.to_string());
    if response.status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A problem body (RFC 9457) of the type that the status itself describes.
pub(crate) fn problem(request: &ViewerRequest, status: StatusCode, detail: &str) -> ViewerResponse {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(policy::CACHE_ERROR));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Problem"),
        "status": status.as_u16(),
        "detail": detail,
    });
    whole(request, status, headers, Bytes::from(body.to_string()))
}

/// A time as HTTP writes it (RFC 9110 5.6.7).
pub(crate) fn http_date(at: UnixMs) -> HeaderValue {
    let since = Duration::from_millis(u64::try_from(at.0).unwrap_or(0));
    let text = UNIX_EPOCH.checked_add(since).map(httpdate::fmt_http_date);
    text.and_then(|text| text.parse().ok()).unwrap_or_else(|| HeaderValue::from_static(""))
}

/// The tag of a file whose origin gave none and whose name says which one it is: epoch and number.
pub(crate) fn name_tag(path: &str) -> HeaderValue {
    let name = path.rsplit('/').next().unwrap_or(path);
    quoted(name)
}

/// The tag of a playlist.
pub(crate) fn body_tag(body: &[u8]) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    quoted(&format!("{:016x}", hasher.finish()))
}

fn quoted(tag: &str) -> HeaderValue {
    format!("\"{tag}\"").parse().unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn segment_headers(head: &Head) -> HeaderMap {
    let mut headers = media_headers(head, head.format.content_type(), head.format.cache_control());
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers
}

fn media_headers(head: &Head, content_type: &'static str, cache_control: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
    headers.insert(ETAG, head.etag.clone());
    headers.insert(DATE, head.date.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("age, date, etag, content-range"));
    headers
}

/// A body of known length, left out where HEAD asks for the head only.
fn whole(request: &ViewerRequest, status: StatusCode, mut headers: HeaderMap, body: Bytes) -> ViewerResponse {
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let body = if request.method == Method::HEAD { ViewerBody::Empty } else { ViewerBody::Whole(body) };
    respond(status, headers, body)
}

fn respond(status: StatusCode, headers: HeaderMap, body: ViewerBody) -> ViewerResponse {
    ViewerResponse { status, headers, body }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
