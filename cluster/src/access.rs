//! Who may do what operators do: ask and command the cluster over REST and from the console. To this machine
//! it is open; whoever comes from elsewhere logs in or brings a token.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::clock::{self, UnixMs};
use crate::config::AppSettings;
use crate::ids::{AppName, NodeId};
use crate::limits;
use crate::token::{self, TokenKeys};
use crate::trust::{self, ClusterKey};

mod login;
mod password;
mod tries;

pub use login::{Login, LoginRefusal};
pub use password::PasswordError;

/// Names the client for whom a balancer asks. Believed from nodes of the cluster only.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A node of this cluster, by itself.
    Node(NodeId),
    /// Somebody at this address, perhaps by way of a balancer.
    Client(IpAddr),
}

/// Whether a request comes from a login's session, which its browser can end: an extension of what [`guard`] let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InSession(pub bool);

/// Why somebody is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It comes from elsewhere, without a login or a token.
    #[error("log in, or bring an operator's token; without, this is open to this machine only")]
    Elsewhere,
    /// It names this machine by a name that anybody can give it: a page in a browser here may be behind it.
    #[error("this machine is to be named by a loopback address")]
    Misnamed,
    /// A page of another site is behind it.
    #[error("that came from another site")]
    OtherSite,
}

impl Denied {
    fn status(self) -> StatusCode {
        match self {
            Self::Elsewhere => StatusCode::UNAUTHORIZED,
            Self::Misnamed => StatusCode::MISDIRECTED_REQUEST,
            Self::OtherSite => StatusCode::FORBIDDEN,
        }
    }
}

/// What somebody asks for, as far as access goes.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Reading changes nothing.
    pub method: &'a Method,
    /// REST below an application has keys of its own.
    pub path: &'a str,
    /// Where logins and tokens are.
    pub headers: &'a HeaderMap,
}

/// The check itself: from this machine, by a login, or by a token: one that the cluster's key signed for an
/// operator, or for an application's REST one of its own keys (AMS: `jwtSecretKey`).
#[derive(Clone)]
pub struct Access {
    key: ClusterKey,
    rest_keys: Arc<HashMap<AppName, TokenKeys>>,
    login: Option<Arc<Login>>,
}

impl Access {
    /// For a cluster of this key, with these applications. Without `login`, nobody logs in.
    #[must_use]
    pub fn new(key: ClusterKey, apps: &[AppSettings], login: Option<Arc<Login>>) -> Self {
        let rest_keys = apps.iter().map(|app| (app.name.clone(), app.rest_keys.clone())).collect();
        Self { key, rest_keys: Arc::new(rest_keys), login }
    }

    /// The door that a password opens.
    #[must_use]
    pub fn login(&self) -> Option<&Arc<Login>> {
        self.login.as_ref()
    }

    /// What shows another node that this one asks.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self, node: &NodeId) -> Result<String, trust::Distrust> {
        self.key.token(node)
    }

    /// Who is behind a request that came from `peer`.
    #[must_use]
    pub fn caller(&self, peer: SocketAddr, headers: &HeaderMap) -> Caller {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
        let Ok(node) = self.key.verify(text(trust::HEADER)) else { return Caller::Client(peer.ip()) };
        match text(FORWARDED_FOR) {
            None => Caller::Node(node),
            // What a balancer cannot name is treated as the stranger it may be.
            Some(client) => {
                Caller::Client(client.trim().parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
            }
        }
    }

    /// The address behind a request: that of a node itself, or of whom it asks for.
    #[must_use]
    pub fn address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        match self.caller(peer, headers) {
            Caller::Node(_) => peer.ip(),
            Caller::Client(ip) => ip,
        }
    }

    /// Whether `caller` may have what it asks for, at `now` by both clocks.
    ///
    /// # Errors
    /// [`Denied`] says why not.
    pub fn admit(
        &self,
        caller: &Caller,
        asked: &Asked<'_>,
        now: UnixMs,
        monotonic: Instant,
    ) -> Result<(), Denied> {
        let Caller::Client(ip) = caller else { return Ok(()) };
        if token_of(asked.headers).is_some_and(|token| self.is_operators(token, asked.path, now)) {
            return Ok(());
        }
        // A browser sends a session's cookie whoever made the page that asks.
        let in_session = self.is_in_session(asked.headers, monotonic);
        let is_safe = asked.method.is_safe() || is_of_this_site(asked.headers);
        match (in_session, ip.is_loopback()) {
            (true, _) if is_safe => Ok(()),
            (true, _) => Err(Denied::OtherSite),
            (false, false) => Err(Denied::Elsewhere),
            (false, true) if is_loopback_name(asked.headers) => Ok(()),
            (false, true) => Err(Denied::Misnamed),
        }
    }

    fn is_in_session(&self, headers: &HeaderMap, now: Instant) -> bool {
        self.login.as_ref().is_some_and(|login| login.is_logged_in(headers, now))
    }

    fn is_operators(&self, token: &str, path: &str, now: UnixMs) -> bool {
        if token.len() > limits::TOKEN_BYTES {
            return false;
        }
        let mut parts = path.trim_start_matches('/').split('/');
        let app = parts
            .next()
            .and_then(|name| name.parse::<AppName>().ok())
            .filter(|_| parts.next() == Some("rest"));
        let keys = app.and_then(|app| self.rest_keys.get(&app));
        self.key.verify_admin(token).is_ok() || keys.is_some_and(|keys| keys.has_signed(token, now))
    }
}

/// The check as a layer. Who was let in are extensions of the request: [`Caller`] and [`InSession`]. Its answer is
/// AMS's: `{"success": false, "message": …}` with 401.
pub async fn guard(
    State(access): State<Access>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let caller = access.caller(peer, headers);
    let asked = Asked { method: request.method(), path: request.uri().path(), headers };
    let now = clock::now();
    let in_session = InSession(access.is_in_session(headers, now));
    match access.admit(&caller, &asked, clock::cluster_ms(), now) {
        Ok(()) => {
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(in_session);
            next.run(request).await
        }
        Err(denied) => {
            let body = serde_json::json!({"success": false, "message": denied.to_string()});
            (denied.status(), Json(body)).into_response()
        }
    }
}

/// The token of `Authorization`: a bearer's, or alone, as AMS's clients send it.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    let alone = || headers.get(header::AUTHORIZATION)?.to_str().ok().filter(|text| !text.contains(' '));
    token::bearer(headers).or_else(alone)
}

/// Whether no page of another site is behind a request: browsers name the site of whoever sends one that
/// changes something (Fetch section 3.1), other clients name none.
pub(crate) fn is_of_this_site(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text(header::ORIGIN), text(header::HOST)) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, named)| named == host),
        (Some(_), None) => false,
    }
}

/// Whether the request names its host by a loopback address or `localhost`, which no page elsewhere can.
pub(crate) fn is_loopback_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|h| h.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |v: &str| HeaderValue::from_str(v).unwrap();
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), value(v))).collect()
    }

    fn admit(
        access: &Access,
        peer: SocketAddr,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(), Denied> {
        let asked = Asked { method, path, headers };
        access.admit(&access.caller(peer, headers), &asked, clock::unix_ms(), clock::now())
    }

    #[track_caller]
    fn check(host: &str, expect: bool) {
        assert_eq!(is_loopback_name(&headers(&[("host", host)])), expect, "{host}");
    }

    #[test]
    fn only_loopback_names_are_this_machine() {
        check("127.0.0.1:9180", true);
        check("127.3.2.1", true);
        check("localhost:9180", true);
        check("[::1]:9180", true);
        check("evil.example:9180", false);
        check("127.0.0.1.evil.example", false);
        check("10.0.0.1:9180", false);
        assert!(!is_loopback_name(&HeaderMap::new()));
    }

    #[test]
    fn only_this_machine_and_nodes_of_the_cluster_are_let_in() {
        let access = Access::new(ClusterKey::random(), &[], None);
        let token = access.key.token(&"lb-1".parse().unwrap()).unwrap();
        let forged = ClusterKey::random().token(&"lb-1".parse().unwrap()).unwrap();
        let here: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let there: SocketAddr = "10.0.0.9:4000".parse().unwrap();
        let from = |peer, pairs: &[(&'static str, &str)]| {
            let headers = headers(&[pairs, &[("host", "127.0.0.1:5080")]].concat());
            admit(&access, peer, &Method::GET, "/rest/v2/cluster/node-count", &headers)
        };
        assert_eq!(from(here, &[]), Ok(()));
        assert_eq!(from(there, &[]), Err(Denied::Elsewhere));
        assert_eq!(from(there, &[(FORWARDED_FOR, "127.0.0.1")]), Err(Denied::Elsewhere));
        assert_eq!(
            from(there, &[(FORWARDED_FOR, "127.0.0.1"), (trust::HEADER, &forged)]),
            Err(Denied::Elsewhere)
        );
        assert_eq!(from(there, &[(trust::HEADER, &token)]), Ok(()));
        assert_eq!(from(there, &[(trust::HEADER, &token), (FORWARDED_FOR, "127.0.0.1")]), Ok(()));
        assert_eq!(
            from(here, &[(trust::HEADER, &token), (FORWARDED_FOR, "10.0.0.9")]),
            Err(Denied::Elsewhere)
        );
        assert_eq!(from(here, &[(trust::HEADER, &token), (FORWARDED_FOR, "?")]), Err(Denied::Elsewhere));
    }

    #[test]
    fn a_page_that_names_this_machine_otherwise_is_refused() {
        let access = Access::new(ClusterKey::random(), &[], None);
        let headers = headers(&[("host", "rebound.example")]);
        let peer = "127.0.0.1:4000".parse().unwrap();
        assert_eq!(admit(&access, peer, &Method::GET, "/", &headers), Err(Denied::Misnamed));
    }

    #[test]
    fn a_token_opens_from_anywhere_what_its_key_is_for() {
        let apps = crate::testing::apps(
            "[[app]]\nname = \"live\"\nrest_keys = [{ id = \"a\", key = \"0123456789abcdef\" }]\n\
             [[app]]\nname = \"other\"\n",
        );
        let access = Access::new(ClusterKey::random(), &apps, None);
        let admin = access.key.admin_token(&"n".parse().unwrap(), Duration::from_secs(60)).unwrap();
        let sign = |claims: serde_json::Value| {
            let key = jsonwebtoken::EncodingKey::from_secret(b"0123456789abcdef");
            jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
        };
        let exp = clock::unix_ms().0 / 1_000 + 60;
        let there: SocketAddr = "10.0.0.9:4000".parse().unwrap();
        let opens = |token: &str, path: &str| {
            let headers = headers(&[("host", "node"), ("authorization", token)]);
            admit(&access, there, &Method::DELETE, path, &headers).is_ok()
        };
        let bearer = format!("Bearer {admin}");
        assert!(opens(&bearer, "/api/v1/cluster") && opens(&admin, "/live/rest/v2/broadcasts/a"));
        let app = sign(serde_json::json!({ "exp": exp }));
        assert!(opens(&app, "/live/rest/v2/broadcasts/a"), "as AMS's clients send it");
        assert!(!opens(&app, "/other/rest/v2/broadcasts/a") && !opens(&app, "/rest/v2/cluster/nodes/0/9"));
        assert!(!opens(&app, "/live/restless") && !opens(&app, "/api/v1/cluster"));
        let play = sign(serde_json::json!({ "exp": exp, "streamId": "a", "type": "play" }));
        assert!(!opens(&play, "/live/rest/v2/broadcasts/a"), "a viewer's token");
        let over = sign(serde_json::json!({ "exp": exp - 120 }));
        assert!(!opens(&over, "/live/rest/v2/broadcasts/a"));
        assert!(!opens("Bearer x", "/api/v1/cluster") && !opens(&"x".repeat(9_000), "/api/v1/cluster"));
    }

    #[tokio::test]
    async fn a_login_opens_but_not_to_pages_of_other_sites() {
        let folder = tempfile::tempdir().unwrap();
        let (login, told) = Login::open(&folder.path().join("p")).unwrap();
        let there: SocketAddr = "10.0.0.9:4000".parse().unwrap();
        let cookie = login.log_in(there.ip(), told.unwrap(), false, clock::now()).await.unwrap();
        let cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        let access = Access::new(ClusterKey::random(), &[], Some(login));
        let asks = |method: Method, origin: &[(&'static str, &str)]| {
            let headers = headers(&[origin, &[("host", "node:5080"), ("cookie", &cookie)]].concat());
            admit(&access, there, &method, "/api/v1/nodes/x", &headers)
        };
        assert_eq!(asks(Method::GET, &[]), Ok(()));
        assert_eq!(asks(Method::DELETE, &[("origin", "http://node:5080")]), Ok(()));
        assert_eq!(asks(Method::DELETE, &[("origin", "http://evil.example")]), Err(Denied::OtherSite));
        assert_eq!(asks(Method::DELETE, &[("origin", "null")]), Err(Denied::OtherSite));
    }
}
