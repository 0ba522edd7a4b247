//! Who may do what operators do: ask and command the cluster over REST and from the console. Nothing of that
//! is open beyond loopback: whoever comes from elsewhere is refused here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Json;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::ids::NodeId;
use crate::trust::{self, ClusterKey};

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

/// Why somebody is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It comes from elsewhere.
    #[error("this is open to this machine only")]
    Elsewhere,
    /// It names this machine by a name that anybody can give it: a page in a browser here may be behind it.
    #[error("this machine is to be named by a loopback address")]
    Misnamed,
}

/// The check itself.
#[derive(Clone)]
pub struct Access {
    key: ClusterKey,
}

impl Access {
    /// For a cluster of this key.
    #[must_use]
    pub fn new(key: ClusterKey) -> Self {
        Self { key }
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

    /// Whether `caller` may go on.
    ///
    /// # Errors
    /// [`Denied`] says why not.
    pub fn admit(&self, caller: &Caller, headers: &HeaderMap) -> Result<(), Denied> {
        match caller {
            Caller::Node(_) => Ok(()),
            Caller::Client(ip) if !ip.is_loopback() => Err(Denied::Elsewhere),
            Caller::Client(_) if !is_loopback_name(headers) => Err(Denied::Misnamed),
            Caller::Client(_) => Ok(()),
        }
    }
}

/// The check as a layer. Who was let in is an extension of the request: [`Caller`]. Its answer is AMS's: `{"success": false, "message": …}` with 401.
pub async fn guard(
    State(access): State<Access>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let caller = access.caller(peer, headers);
    match access.admit(&caller, headers) {
        Ok(()) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(denied) => {
            let body = serde_json::json!({"success": false, "message": denied.to_string()});
            (StatusCode::UNAUTHORIZED, Json(body)).into_response()
        }
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
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |v: &str| HeaderValue::from_str(v).unwrap();
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), value(v))).collect()
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
        let access = Access::new(ClusterKey::random());
        let token = access.key.token(&"lb-1".parse().unwrap()).unwrap();
        let forged = ClusterKey::random().token(&"lb-1".parse().unwrap()).unwrap();
        let here: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let there: SocketAddr = "10.0.0.9:4000".parse().unwrap();
        let admit = |peer, pairs: &[(&'static str, &str)]| {
            let headers = headers(&[pairs, &[("host", "127.0.0.1:5080")]].concat());
            access.admit(&access.caller(peer, &headers), &headers)
        };
        assert_eq!(admit(here, &[]), Ok(()));
        assert_eq!(admit(there, &[]), Err(Denied::Elsewhere));
        assert_eq!(admit(there, &[(FORWARDED_FOR, "127.0.0.1")]), Err(Denied::Elsewhere));
        assert_eq!(
            admit(there, &[(FORWARDED_FOR, "127.0.0.1"), (trust::HEADER, &forged)]),
            Err(Denied::Elsewhere)
        );
        assert_eq!(admit(there, &[(trust::HEADER, &token)]), Ok(()));
        assert_eq!(admit(there, &[(trust::HEADER, &token), (FORWARDED_FOR, "127.0.0.1")]), Ok(()));
        assert_eq!(
            admit(here, &[(trust::HEADER, &token), (FORWARDED_FOR, "10.0.0.9")]),
            Err(Denied::Elsewhere)
        );
        assert_eq!(admit(here, &[(trust::HEADER, &token), (FORWARDED_FOR, "?")]), Err(Denied::Elsewhere));
    }

    #[test]
    fn a_page_that_names_this_machine_otherwise_is_refused() {
        let access = Access::new(ClusterKey::random());
        let headers = headers(&[("host", "rebound.example")]);
        let caller = access.caller("127.0.0.1:4000".parse().unwrap(), &headers);
        assert_eq!(access.admit(&caller, &headers), Err(Denied::Misnamed));
    }
}
