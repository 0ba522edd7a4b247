//! Viewers' requests: routed by path, placed on an edge, answered from the edge in this process or proxied
//! to another node; and the signalling of WebRTC, viewers' and publishers', by HTTP ([`signalling`]) and AMS's ([`websocket`]).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::http::RequestHeader;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use sluicegate_cluster::access::FORWARDED_FOR;
use sluicegate_cluster::hints;
use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::metrics::Kind;
use sluicegate_cluster::node::Role;
use sluicegate_cluster::viewer::{ViewerBody, ViewerResponse};
use sluicegate_cluster::{telemetry, trust};
use sluicegate_media::reload::Directives;

use crate::listen::activity::Activity;
use crate::placement::EdgeSeat;
use crate::state::Balancer;

pub(crate) mod at_hand;
mod door;
mod head;
mod route;
pub(crate) mod signalling;
mod tunnel;
pub(crate) mod websocket;

use route::{Route, route};

/// Edges tried for one request.
const EDGE_TRIES: usize = 3;
/// To connect to an edge on the internal network.
const EDGE_CONNECT: Duration = Duration::from_secs(1);
/// An edge's silence within an answer: longer than it holds a request, which is three target durations, of up to
/// 12 s, and a little.
const EDGE_READ: Duration = Duration::from_secs(45);
/// How long a connection to an edge is kept for the next request.
const EDGE_KEEP: Duration = Duration::from_secs(60);
/// A viewer that takes less than this is let go, bytes a second.
const VIEWER_RATE_MIN: usize = 1_000;

/// The HTTP side of the balancer.
pub(crate) struct Viewers {
    balancer: Arc<Balancer>,
}

impl Viewers {
    pub(crate) fn new(balancer: Arc<Balancer>) -> Self {
        Self { balancer }
    }

    /// The edges for this request, best first.
    fn edges(&self, route: &Route, viewer: &str) -> Vec<EdgeSeat> {
        let table = self.balancer.viewers.load();
        match route {
            Route::Media { key, .. } => table.place(key, viewer).take(EDGE_TRIES).cloned().collect(),
            // Pages are the same everywhere: this node first, for it costs no hop.
            Route::Page(_) => {
                let own = table.edges().iter().filter(|e| self.balancer.is_self(&e.node));
                let others = table.edges().iter().filter(|e| !self.balancer.is_self(&e.node));
                own.chain(others).take(EDGE_TRIES).cloned().collect()
            }
            Route::Rest => vec![self.balancer.own_seat()],
            Route::WebSocket | Route::Signalling(_) | Route::Ams(_) | Route::NotFound(_) => Vec::new(),
        }
    }
}

impl Balancer {
    /// A viewer counts once for each segment, however it follows the playlist. Names that nobody publishes are no
    /// demand, and what cannot be understood is refused by the edge.
    fn count_demand(&self, key: &StreamKey, query: Option<&str>) {
        let view = self.view.load();
        let is_known = view.stream(key).is_some() || view.ams.streams.contains_key(key);
        if is_known && Directives::parse(query).is_ok_and(|asked| asked.begins_segment()) {
            self.demand.count(key);
        }
    }

    /// Who asks, whatever proxies are between it and `peer`, as far as they are trusted.
    fn viewer(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let said = headers.get_all(FORWARDED_FOR).iter();
        let said: Vec<&str> = said.filter_map(|value| value.to_str().ok()).collect();
        self.trusted_proxies.client(peer, said.into_iter())
    }

    /// Counts an answer, and writes its line of the access log.
    fn answered(&self, answered: &Answered<'_, impl fmt::Display>) {
        let Answered { viewer, method, path, kind, status, body_bytes, edge, reason } = answered;
        // Status 0: the viewer left before an answer began.
        if *status > 0 {
            self.http_metrics.record(Role::Lb, *kind, *status, *body_bytes);
        }
        tracing::info!(
            target: telemetry::ACCESS,
            %viewer,
            method = method.as_str(),
            path,
            status,
            body_bytes,
            edge = edge.map(NodeId::as_str),
            reason,
            "request"
        );
    }
}

/// What is counted and told of an answer.
struct Answered<'a, V> {
    /// Who asked.
    viewer: V,
    method: &'a Method,
    path: &'a str,
    kind: Kind,
    /// 0 when none was given.
    status: u16,
    body_bytes: u64,
    /// Which edge has answered.
    edge: Option<&'a NodeId>,
    /// Why it is that one.
    reason: &'static str,
}

/// What is decided about one request.
pub(crate) struct Viewing {
    kind: Kind,
    edges: std::vec::IntoIter<EdgeSeat>,
    /// The edge that answers, for the access log.
    placed_on: Option<NodeId>,
    /// Why it is that one.
    reason: &'static str,
    answered_here: Option<door::Sent>,
    /// Whether it is AMS's own node that answers.
    to_ams: bool,
    /// What an edge may not know of the stream's claim.
    claim: Option<HeaderValue>,
    /// Whether its connection was told that it runs.
    is_running: bool,
    /// Whether it may become a WebSocket.
    is_upgraded: bool,
}

#[async_trait]
impl ProxyHttp for Viewers {
    type CTX = Viewing;

    fn new_ctx(&self) -> Viewing {
        Viewing {
            kind: Kind::Other,
            edges: Vec::new().into_iter(),
            placed_on: None,
            reason: "none",
            answered_here: None,
            to_ams: false,
            claim: None,
            is_running: false,
            is_upgraded: false,
        }
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Viewing) -> Result<bool> {
        // Only a balancer tells of claims.
        session.req_header_mut().remove_header(hints::HEADER);
        if let Some(activity) = Activity::of(session.digest()) {
            activity.begins();
            ctx.is_running = true;
        }
        let limits = &self.balancer.limits;
        let downstream = session.as_downstream_mut();
        downstream.set_read_timeout(Some(limits.http_idle));
        downstream.set_write_timeout(Some(limits.http_idle));
        downstream.set_min_send_rate(Some(VIEWER_RATE_MIN));
        downstream.set_keepalive(Some(limits.http_idle.as_secs()));

        let route = route(session.req_header().uri.path(), |app| self.balancer.is_app(app));
        ctx.kind = route.kind();
        if let Route::NotFound(why) = route {
            return refuse(session, 404, why).await.map(|sent| {
                ctx.answered_here = Some(sent);
                true
            });
        }
        if let Route::Signalling(endpoint) = &route {
            let signalled = signalling::serve(session, &self.balancer, endpoint).await?;
            (ctx.placed_on, ctx.reason) = (signalled.node, "signalling");
            ctx.answered_here = Some(signalled.sent);
            return Ok(true);
        }
        if let Route::Media { key, kind } = &route {
            if *kind == Kind::Playlist {
                self.balancer.count_demand(key, session.req_header().uri.query());
            }
            ctx.claim = self.balancer.view.load().hint(key).and_then(|claim| hints::header(claim));
        }
        let mut edges = self.edges(&route, &viewer_address(session, &self.balancer));
        if edges.is_empty() {
            edges = tunnel::nodes(&self.balancer, session, &route);
            ctx.to_ams = !edges.is_empty();
        }
        if edges.is_empty() && route == Route::WebSocket {
            edges.push(self.balancer.own_seat());
        }
        ctx.edges = edges.into_iter();
        let Some(first) = ctx.edges.as_slice().first() else {
            let (status, why) = match route {
                Route::Ams(why) => (404, why),
                _ => (503, "no edge takes viewers"),
            };
            ctx.answered_here = Some(refuse(session, status, why).await?);
            return Ok(true);
        };
        ctx.placed_on = Some(first.node.clone());
        ctx.is_upgraded = ctx.to_ams || route == Route::WebSocket;
        if ctx.is_upgraded {
            tunnel::prepare(session);
        }
        if matches!(route, Route::Media { .. } | Route::Page(_))
            && self.balancer.is_self(&first.node)
            && let Some(own) = &self.balancer.own_edge
        {
            ctx.reason = "own_edge";
            ctx.answered_here = Some(door::serve(session, own.as_ref()).await?);
            return Ok(true);
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Viewing) -> Result<Box<HttpPeer>> {
        let Some(edge) = ctx.edges.next() else {
            return Err(Error::explain(ErrorType::ConnectError, "no edge answers"));
        };
        let mut peer = HttpPeer::new(edge.http, false, String::new());
        peer.options.connection_timeout = Some(EDGE_CONNECT);
        peer.options.read_timeout = Some(if ctx.is_upgraded { tunnel::silence(session) } else { EDGE_READ });
        peer.options.idle_timeout = Some(EDGE_KEEP);
        ctx.reason = if ctx.placed_on.as_ref() == Some(&edge.node) { "hash" } else { "next_after_failure" };
        ctx.placed_on = Some(edge.node);
        Ok(Box::new(peer))
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Viewing,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(ctx.edges.len() > 0);
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut Viewing,
    ) -> Result<()> {
        if ctx.is_upgraded && session.is_upgrade_req() {
            upstream.remove_header(trust::HEADER);
        } else {
            strip_hop_by_hop(upstream);
        }
        if !ctx.to_ams {
            let token = self
                .balancer
                .key
                .token(&self.balancer.node)
                .map_err(|e| Error::because(ErrorType::InternalError, "signing the cluster token", e))?;
            upstream.insert_header(trust::HEADER, token)?;
            if let Some(claim) = ctx.claim.clone() {
                upstream.insert_header(hints::HEADER, claim)?;
            }
        }
        upstream.insert_header("x-forwarded-for", viewer_address(session, &self.balancer))?;
        let scheme = if is_over_tls(session, &self.balancer) { "https" } else { "http" };
        upstream.insert_header("x-forwarded-proto", scheme)?;
        Ok(())
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Viewing) -> FailToProxy {
        let begun = session.response_written().is_some();
        let (status, why) = match error.esource() {
            _ if begun => (0, ""),
            ErrorSource::Downstream => (0, ""),
            ErrorSource::Upstream => (502, "the edge did not answer"),
            _ if *error.etype() == ErrorType::ConnectError => (502, "no edge answers"),
            _ => (500, "the balancer failed"),
        };
        if status > 0
            && let Ok(sent) = refuse(session, status, why).await
        {
            ctx.answered_here = Some(sent);
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Viewing) {
        if let Some(activity) = Activity::of(session.digest()).filter(|_| ctx.is_running) {
            activity.ends();
        }
        let (status, body_bytes) = match &ctx.answered_here {
            Some(sent) => (sent.status, sent.body_bytes),
            None => (
                session.response_written().map_or(0, |r| r.status.as_u16()),
                session.body_bytes_sent() as u64,
            ),
        };
        let head = session.req_header();
        self.balancer.answered(&Answered {
            viewer: viewer_address(session, &self.balancer),
            method: &head.method,
            path: head.uri.path(),
            kind: ctx.kind,
            status,
            body_bytes,
            edge: ctx.placed_on.as_ref(),
            reason: ctx.reason,
        });
    }

    /// Pingora's own words about a request that failed. The query is left out: it may hold a viewer's token.
    fn request_summary(&self, session: &Session, _: &Viewing) -> String {
        let head = session.req_header();
        format!("{} {}", head.method, head.uri.path())
    }

    fn suppress_error_log(&self, _: &Session, _: &Viewing, error: &Error) -> bool {
        *error.esource() == ErrorSource::Downstream
    }
}

/// The headers that belong to one connection (RFC 9110 section 7.6.1), those that `Connection` names, and
/// what only nodes may say.
fn strip_hop_by_hop(request: &mut RequestHeader) {
    let named: Vec<HeaderName> = request
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        request.remove_header(&name);
    }
    for name in ["connection", "keep-alive", "proxy-connection", "te", "upgrade", trust::HEADER] {
        request.remove_header(name);
    }
}

/// Who asks, whatever proxies are between, as far as they are trusted.
fn viewer_address(session: &Session, balancer: &Balancer) -> String {
    let Some(peer) = peer(session) else { return String::new() };
    balancer.viewer(peer, &session.req_header().headers).to_string()
}

/// Whether the viewer's connection is encrypted, here or at a proxy that is trusted.
fn is_over_tls(session: &Session, balancer: &Balancer) -> bool {
    let said = session.req_header().headers.get("x-forwarded-proto").is_some_and(|s| s == "https");
    let is_trusted = || peer(session).is_some_and(|peer| balancer.trusted_proxies.trusts(peer));
    session.digest().is_some_and(|d| d.ssl_digest.is_some()) || said && is_trusted()
}

fn peer(session: &Session) -> Option<IpAddr> {
    session.client_addr()?.as_inet().map(|address| address.ip())
}

/// Answers with a problem body.
async fn refuse(session: &mut Session, status: u16, why: &str) -> Result<door::Sent> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = problem(status, why);
    if session.req_header().method == Method::HEAD {
        answer.body = ViewerBody::Empty;
    }
    door::write(session, answer).await
}

/// An answer with a problem body (RFC 9457).
fn problem(status: StatusCode, why: &str) -> ViewerResponse {
    let body = serde_json::json!({ "title": why, "status": status.as_u16(), "type": "about:blank" });
    let body = Bytes::from(body.to_string());
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    ViewerResponse { status, headers, body: ViewerBody::Whole(body) }
}
