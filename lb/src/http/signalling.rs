//! WebRTC sessions by HTTP: WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep). A new session is placed, a
//! publisher's like an RTMP publish, a viewer's like a request for media; what is asked of it later finds its
//! node by the id in the session's address ([`session_id`]). Only the signalling passes here: media flows
//! between the client and the node.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::Result;
use pingora::proxy::Session;
use sluicegate_cluster::clock;
use sluicegate_cluster::hints;
use sluicegate_cluster::ids::{NodeId, PublisherSession};
use sluicegate_cluster::signalling::{Protocol, SDP_MEDIA_TYPE};
use sluicegate_cluster::ticket::PublishTicket;
use sluicegate_cluster::token::{self, TokenRefusal, TokenUse};
use sluicegate_cluster::viewer::{ViewerBody, ViewerResponse};

use super::route::Endpoint;
use super::{EDGE_TRIES, door, problem, viewer_address};
use crate::origins;
use crate::state::Balancer;

mod ask;
mod session_id;
#[cfg(test)]
mod tests;

pub(crate) use ask::NodeClient;

use ask::{AskError, NodeAnswer, Question};
use session_id::SessionId;

/// The longest description of a session, in a request or in an answer.
const SDP_BYTES_MAX: usize = 64 << 10;
/// A body that is refused for its length is still read up to here, so that its sender reads the answer.
const DRAINED_BYTES_MAX: usize = 1 << 20;
/// For a request's body to arrive.
const BODY: Duration = Duration::from_secs(10);

/// Candidates and ICE restarts (RFC 8840 section 9).
const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// Why the balancer itself refuses a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("sessions are made by POST at the stream's address and changed by PATCH and DELETE at their own")]
    Method { allow: &'static str },
    #[error("the body's type is to be {wanted}")]
    MediaType { wanted: &'static str },
    #[error("the body is longer than {SDP_BYTES_MAX} bytes")]
    TooLong,
    #[error("the body did not arrive in time")]
    Slow,
    #[error("{0}")]
    NotAdmitted(#[from] TokenRefusal),
    #[error("there is no such session")]
    NoSession,
    #[error("no origin has room for this stream")]
    NoRoom,
    #[error("no edge takes viewers")]
    NoEdge,
    #[error("no node that could take this session answers")]
    NoAnswer,
    #[error("the node's answer cannot be used")]
    BadAnswer,
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::NotAdmitted(refusal) => refusal.status(),
            Self::NoSession => StatusCode::NOT_FOUND,
            Self::NoRoom | Self::NoEdge => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoAnswer | Self::BadAnswer => StatusCode::BAD_GATEWAY,
        }
    }

    fn answer(&self) -> ViewerResponse {
        let mut answer = problem(self.status(), &self.to_string());
        match self {
            Self::Method { allow } => {
                answer.headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            Self::NotAdmitted(_) if answer.status == StatusCode::UNAUTHORIZED => {
                answer.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::MediaType { wanted } => {
                answer.headers.insert("accept-post", HeaderValue::from_static(wanted));
            }
            _ => {}
        }
        answer
    }
}

/// How a request was answered.
pub(super) struct Signalled {
    pub(super) sent: door::Sent,
    /// The node that answered it.
    pub(super) node: Option<NodeId>,
}

/// Answers a request at `endpoint`.
///
/// # Errors
/// When the client leaves.
pub(super) async fn serve(
    session: &mut Session,
    balancer: &Balancer,
    endpoint: &Endpoint,
) -> Result<Signalled> {
    let (answer, node) = match answer(session, balancer, endpoint).await? {
        Ok((answer, node)) => (answer, node),
        Err(refusal) => {
            // What it has not read of the body would be taken for the next request.
            session.as_downstream_mut().set_keepalive(None);
            (refusal.answer(), None)
        }
    };
    let sent = door::write(session, with_cors(answer)).await?;
    Ok(Signalled { sent, node })
}

pub(super) type Answered = std::result::Result<(ViewerResponse, Option<NodeId>), Refusal>;

async fn answer(session: &mut Session, balancer: &Balancer, endpoint: &Endpoint) -> Result<Answered> {
    let method = session.req_header().method.clone();
    let wanted = match (&method, &endpoint.session) {
        (&Method::OPTIONS, _) => return Ok(Ok((options(endpoint), None))),
        (&Method::POST, None) => Some(SDP_MEDIA_TYPE),
        (&Method::PATCH, Some(_)) => Some(SDP_FRAGMENT),
        (&Method::DELETE, Some(_)) => None,
        _ => return Ok(Err(Refusal::Method { allow: allowed(endpoint) })),
    };
    if let Some(wanted) = wanted
        && !is_of_type(&session.req_header().headers, wanted)
    {
        return Ok(Err(Refusal::MediaType { wanted }));
    }
    if let Err(refusal) = admit(session, balancer, endpoint) {
        return Ok(Err(refusal.into()));
    }
    let body = match read_body(session).await? {
        Ok(body) => body,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let asked = Asked {
        balancer,
        endpoint,
        method,
        query: session.req_header().uri.query().map(|q| format!("?{q}")).unwrap_or_default(),
        headers: ask::passed_on(&session.req_header().headers),
        viewer: viewer_address(session, balancer),
        body,
    };
    Ok(match (&endpoint.session, endpoint.protocol) {
        (Some(id), _) => asked.change(id, "").await,
        (None, Protocol::Whip) => asked.publish().await,
        (None, Protocol::Whep) => asked.view().await,
    })
}

/// Checks the token of whoever makes a session. What is asked of it later is asked by its own address.
fn admit(
    session: &Session,
    balancer: &Balancer,
    endpoint: &Endpoint,
) -> std::result::Result<(), TokenRefusal> {
    if endpoint.session.is_some() {
        return Ok(());
    }
    let purpose = match endpoint.protocol {
        Protocol::Whip => TokenUse::Publish,
        Protocol::Whep => TokenUse::Play,
    };
    let head = session.req_header();
    let token = token::presented(head.uri.query(), &head.headers);
    balancer.admission.admit(&endpoint.key, purpose, token, clock::cluster_ms())
}

/// A request whose form is right.
pub(super) struct Asked<'a> {
    pub(super) balancer: &'a Balancer,
    pub(super) endpoint: &'a Endpoint,
    pub(super) method: Method,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) viewer: String,
    pub(super) body: Bytes,
}

impl Asked<'_> {
    /// Places a publisher, under a session and a reservation of its own.
    pub(super) async fn publish(self) -> Answered {
        let publisher = PublisherSession::random();
        let (mut tried, mut last) = (Vec::new(), Err(Refusal::NoRoom));
        for _ in 0..origins::TRIES {
            let key = &self.endpoint.key;
            let Some(choice) = origins::choose(self.balancer, key, &tried).await else { break };
            tried.push(choice.node.clone());
            let ticket = PublishTicket {
                session: publisher.clone(),
                reservation: choice.reservation,
                address: self.viewer.parse().ok(),
                handover: false,
                placed: choice.placed,
                reached: origins::reached(self.balancer, key),
            };
            last = self.create(choice.node.clone(), choice.http, self.ticket_headers(&ticket)).await;
            let taken = matches!(&last, Ok((answer, _)) if answer.status.is_success());
            if let Some(unwanted) = ticket.reservation.filter(|_| !taken) {
                origins::give_back(self.balancer, choice.node, unwanted);
            }
            if !is_worth_another_try(&last) {
                break;
            }
        }
        let result = match &last {
            Ok((answer, _)) if answer.status.is_success() => "placed",
            Ok(_) => "refused",
            Err(_) => "failed",
        };
        self.balancer.placements.with_label_values(&["publish", result]).inc();
        last
    }

    /// Places a viewer.
    pub(super) async fn view(self) -> Answered {
        let key = &self.endpoint.key;
        let table = self.balancer.viewers.load_full();
        let view = self.balancer.view.load_full();
        if view.stream(key).is_some() {
            self.balancer.demand.count(key);
        }
        let claim = view.hint(key).and_then(|claim| hints::header(claim));
        let told: HeaderMap =
            claim.map(|claim| (HeaderName::from_static(hints::HEADER), claim)).into_iter().collect();
        let mut last = Err(Refusal::NoEdge);
        for edge in table.place(key, &self.viewer).take(EDGE_TRIES) {
            last = self.create(edge.node.clone(), edge.http, told.clone()).await;
            if !is_worth_another_try(&last) {
                break;
            }
        }
        last
    }

    /// Has `node` make the session.
    async fn create(&self, node: NodeId, address: SocketAddr, more: HeaderMap) -> Answered {
        let answer = match self.ask(address, "", more).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(stream = %self.endpoint.key, %node, %error, "a node did not take a session");
                return Err(Refusal::NoAnswer);
            }
        };
        let location = answer.location.clone();
        let mut response = response(answer);
        if response.status == StatusCode::CREATED {
            let made = location.and_then(|location| SessionId::made(&node, &location));
            let location = made.and_then(|made| self.public_address(&made)).ok_or(Refusal::BadAnswer)?;
            response.headers.insert(header::LOCATION, location);
        }
        Ok((response, Some(node)))
    }

    /// Passes a change of the session on to its node, or of what is `below` its address there.
    pub(super) async fn change(self, id: &str, below: &str) -> Answered {
        let key = &self.balancer.key;
        let session = SessionId::read(id, self.endpoint, key).map_err(|_| Refusal::NoSession)?;
        let view = self.balancer.view.load_full();
        let node = view.nodes.get(&session.node).ok_or(Refusal::NoSession)?;
        let answer =
            self.ask(node.addresses.http, &format!("/{}{below}", session.id), HeaderMap::new()).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(node = %session.node, %error, "a session's node does not answer");
            Refusal::NoAnswer
        })?;
        Ok((response(answer), Some(session.node)))
    }

    async fn ask(
        &self,
        address: SocketAddr,
        session: &str,
        more: HeaderMap,
    ) -> std::result::Result<NodeAnswer, AskError> {
        let Endpoint { key, protocol, .. } = self.endpoint;
        // A node that is both has viewers' addresses at the root, as for playlists.
        let root = match protocol {
            Protocol::Whip => "/origin",
            Protocol::Whep => "",
        };
        let mut headers = self.headers.clone();
        headers.extend(more);
        if let Ok(viewer) = HeaderValue::from_str(&self.viewer) {
            headers.insert("x-forwarded-for", viewer);
        }
        let question = Question {
            method: self.method.clone(),
            target: format!("{root}/{}/{}/{}{session}{}", key.app, protocol.as_str(), key.stream, self.query),
            headers,
            body: self.body.clone(),
        };
        self.balancer.nodes.ask(address, &question).await
    }

    /// The ticket's properties as headers. The token among them is sent with every question.
    fn ticket_headers(&self, ticket: &PublishTicket) -> HeaderMap {
        let properties = ticket.properties(&self.balancer.node, &self.balancer.key).unwrap_or_default();
        let header = |(name, value): (String, String)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        };
        let token = sluicegate_cluster::trust::HEADER;
        properties.into_iter().filter_map(header).filter(|(name, _)| name != token).collect()
    }

    fn public_address(&self, session: &SessionId) -> Option<HeaderValue> {
        let Endpoint { key, protocol, .. } = self.endpoint;
        let id = session.public(self.endpoint, &self.balancer.key).ok()?;
        let address = format!("/{}/{}/{}/{id}{}", key.app, protocol.as_str(), key.stream, self.query);
        HeaderValue::try_from(address).ok()
    }
}

/// Whether another node may do better: this one did not answer, or cannot take it just now.
fn is_worth_another_try(answered: &Answered) -> bool {
    match answered {
        Ok((answer, _)) => answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS,
        Err(_) => true,
    }
}

fn response(answer: NodeAnswer) -> ViewerResponse {
    let NodeAnswer { status, mut headers, body, .. } = answer;
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::NO_CONTENT {
        return ViewerResponse { status, headers, body: ViewerBody::Empty };
    }
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    ViewerResponse { status, headers, body: ViewerBody::Whole(body) }
}

fn allowed(endpoint: &Endpoint) -> &'static str {
    if endpoint.session.is_some() { "PATCH, DELETE, OPTIONS" } else { "POST, OPTIONS" }
}

/// What a browser asks before it sends the request of a page of another site (Fetch section 3.2).
fn options(endpoint: &Endpoint) -> ViewerResponse {
    let mut headers = HeaderMap::new();
    let mut say = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    say(header::ALLOW, allowed(endpoint));
    say(header::ACCESS_CONTROL_ALLOW_METHODS, "POST, PATCH, DELETE, OPTIONS");
    say(header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, if-match");
    say(header::ACCESS_CONTROL_MAX_AGE, "86400");
    say(HeaderName::from_static("accept-post"), SDP_MEDIA_TYPE);
    ViewerResponse { status: StatusCode::NO_CONTENT, headers, body: ViewerBody::Empty }
}

/// Pages of any site may publish and view.
fn with_cors(mut answer: ViewerResponse) -> ViewerResponse {
    let mut say = |name: HeaderName, value| answer.headers.insert(name, HeaderValue::from_static(value));
    say(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    say(header::ACCESS_CONTROL_EXPOSE_HEADERS, "location, etag, link, retry-after");
    answer
}

/// Whether `Content-Type` is `wanted`, parameters aside.
fn is_of_type(headers: &HeaderMap, wanted: &str) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

async fn read_body(session: &mut Session) -> Result<std::result::Result<Bytes, Refusal>> {
    let mut body = BytesMut::new();
    let mut read = 0;
    let reading = async {
        while let Some(piece) = session.as_downstream_mut().read_request_body().await? {
            read += piece.len();
            if read <= SDP_BYTES_MAX {
                body.extend_from_slice(&piece);
            } else if read > DRAINED_BYTES_MAX {
                break;
            }
        }
        Ok(())
    };
    match tokio::time::timeout(BODY, reading).await {
        Ok(Err(left)) => Err(left),
        Ok(Ok(())) if read > SDP_BYTES_MAX => Ok(Err(Refusal::TooLong)),
        Ok(Ok(())) => Ok(Ok(body.freeze())),
        Err(_) => Ok(Err(Refusal::Slow)),
    }
}
