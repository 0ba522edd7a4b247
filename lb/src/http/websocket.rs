//! AMS's WebSocket signalling, ended here: [`crate::websocket`] decides, and this carries it out, by WHIP and WHEP
//! towards the nodes that the balancer chooses.
//!
//! Pingora passes the upgrade on to this process's own `node.http`, where axum speaks WebSocket. Whoever comes there
//! must hold the cluster's key; the client's address is what the balancer says.

mod ask;
mod lines;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, StatusCode};
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use rand::Rng as _;
use sluicegate_cluster::clock;
use sluicegate_cluster::config::IceServer;
use sluicegate_cluster::ids::{AppName, NodeId, StreamKey};
use sluicegate_cluster::node::NodeState;
use sluicegate_cluster::stream::StreamRecord;
use sluicegate_cluster::token::TokenUse;
use sluicegate_cluster::trust;

use lines::{Lines, News};

use crate::state::Balancer;
use crate::websocket::{Action, Answered, Ask, Closing, Cluster, MESSAGE_BYTES_MAX, Session, Way};

/// What is read of a message at all. One between this and [`MESSAGE_BYTES_MAX`] is refused and the socket kept.
const FRAME_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;
/// What waits to be written to a client.
const WRITE_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;
/// What is read and written at a time. The library's own 128 KiB would be taken for each socket that only waits.
const BUFFER_BYTES: usize = 4 << 10;
/// Pingora 0.9 takes the end of the upgrade's empty body for the end of the socket where that is still under way between
/// its two halves as the answer comes (`proxy_handle_upstream`): on loopback one time in forty. So the answer waits.
const ANSWER_AFTER: Duration = Duration::from_millis(50);
/// For a client to take a message.
const WRITE: Duration = Duration::from_secs(10);
/// How often a socket looks at its streams' nodes.
const TICK: Duration = Duration::from_millis(500);
/// The clients of a node that is drained are told within this time.
const MOVED_WITHIN: Duration = Duration::from_secs(10);
/// For nodes to be told that a client has gone.
const ENDING: Duration = Duration::from_secs(15);

/// What is counted.
pub(crate) struct SocketMetrics {
    open: IntGauge,
    messages: IntCounterVec,
    closed: IntCounterVec,
}

impl SocketMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            open: IntGauge::new("sluicegate_websockets", "Clients of AMS's signalling")?,
            messages: IntCounterVec::new(
                Opts::new(
                    "sluicegate_websocket_messages_total",
                    "What clients of AMS's signalling were told",
                ),
                &["command"],
            )?,
            closed: IntCounterVec::new(
                Opts::new(
                    "sluicegate_websockets_closed_total",
                    "Sockets of AMS's signalling that were closed",
                ),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.open.clone()))?;
        registry.register(Box::new(metrics.messages.clone()))?;
        registry.register(Box::new(metrics.closed.clone()))?;
        Ok(metrics)
    }
}

/// `/{app}/websocket`, and AMS's other name for it.
pub(crate) fn router(balancer: Arc<Balancer>) -> Router {
    Router::new()
        .route("/{app}/websocket", get(open))
        .route("/{app}/websocket/signaling", get(open_signaling))
        .with_state(balancer)
}

async fn open_signaling(
    balancer: State<Arc<Balancer>>,
    Path(app): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, (StatusCode, String)> {
    open(balancer, Path(app), headers, upgrade).await
}

async fn open(
    State(balancer): State<Arc<Balancer>>,
    Path(app): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, (StatusCode, String)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    balancer.key.verify(text(trust::HEADER)).map_err(|why| (StatusCode::UNAUTHORIZED, why.to_string()))?;
    let app = app.parse().ok().filter(|app| balancer.is_app(app));
    let app: AppName =
        app.ok_or_else(|| (StatusCode::NOT_FOUND, "there is no such application".to_owned()))?;
    let client = text("x-forwarded-for").and_then(|ip| ip.parse().ok());
    let upgrade = upgrade
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BYTES_MAX);
    tokio::time::sleep(ANSWER_AFTER).await;
    let answer = upgrade.on_upgrade(move |socket| async move {
        let pace = MOVED_WITHIN.mul_f64(rand::rng().random_range(0.0..1.0));
        let session = Session::new(app, pace, clock::now(), balancer.as_ref());
        balancer.sockets.open.inc();
        let counted = Arc::clone(&balancer);
        let (asks, lines) = (FuturesUnordered::new(), Lines::new());
        Connection { balancer, client, socket, session, asks, lines }.run().await;
        counted.sockets.open.dec();
    });
    Ok(answer)
}

/// A client's connection.
struct Connection {
    balancer: Arc<Balancer>,
    client: Option<IpAddr>,
    socket: WebSocket,
    session: Session,
    /// What nodes are asked. The session bounds them.
    asks: FuturesUnordered<BoxFuture<'static, (Ask, Answered)>>,
    /// Its streams on AMS's own nodes. The session bounds them, too.
    lines: Lines,
}

/// What is next.
enum Next {
    Message(Message),
    Answer(Box<(Ask, Answered)>),
    News(News),
    Tick,
    Gone,
}

impl Connection {
    async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                message = self.socket.recv() => {
                    message.and_then(Result::ok).map_or(Next::Gone, Next::Message)
                }
                Some(answer) = self.asks.next() => Next::Answer(Box::new(answer)),
                Some(news) = self.lines.next() => Next::News(news),
                _ = ticks.tick() => Next::Tick,
            };
            let (now, cluster) = (clock::now(), self.balancer.as_ref());
            let actions = match next {
                Next::Message(Message::Text(text)) => self.session.take(&text, now, cluster),
                // Read as text is: AMS's messages are JSON, and this is none.
                Next::Message(Message::Binary(_)) => self.session.take("", now, cluster),
                // Answered by the library.
                Next::Message(Message::Ping(_) | Message::Pong(_)) => continue,
                Next::Answer(answer) => self.session.answered(answer.0, answer.1, now, cluster),
                Next::News(News { line, said: Some(text) }) => self.session.said(&line, text, now),
                Next::News(News { line, said: None }) => self.session.lost(&line),
                Next::Tick => self.session.tick(now, cluster),
                Next::Message(Message::Close(_)) | Next::Gone => break,
            };
            if self.carry_out(actions).await.is_err() {
                break;
            }
        }
        // Who leaves in the middle of a question leaves a session behind that has to be ended.
        let _ = tokio::time::timeout(ENDING, self.end()).await;
    }

    /// Carries it out. `Err`: the socket is closed.
    async fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), Closed> {
        for action in actions {
            match action {
                Action::Say(message) => {
                    self.count(&message);
                    self.send(Message::Text(message.to_string().into())).await?;
                }
                Action::Ask(ask) => self.ask(ask),
                Action::Open(line) => self.lines.open(&self.balancer, self.client, line),
                Action::Pass(line, text) => self.lines.pass(line, text),
                Action::HangUp(line) => self.lines.hang_up(line),
                Action::Relay(text) => {
                    // AMS's words are no closed set.
                    self.balancer.sockets.messages.with_label_values(&["relayed"]).inc();
                    self.send(Message::Text(text.into())).await?;
                }
                Action::Close(why) => {
                    self.balancer.sockets.closed.with_label_values(&[why_closed(why).1]).inc();
                    let (code, reason) = why_closed(why);
                    let _ = self.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
                    return Err(Closed);
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), Closed> {
        match tokio::time::timeout(WRITE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Closed),
        }
    }

    fn ask(&self, ask: Ask) {
        let (balancer, client) = (Arc::clone(&self.balancer), self.client);
        self.asks.push(Box::pin(async move {
            let answered = ask::ask(&balancer, client, &ask).await;
            (ask, answered)
        }));
    }

    fn count(&self, message: &serde_json::Value) {
        // Both are words of a closed set.
        let word = |name: &str| message[name].as_str();
        let word = word("definition").or_else(|| word("command")).unwrap_or_default();
        self.balancer.sockets.messages.with_label_values(&[word]).inc();
    }

    /// Tells nodes that the client has gone.
    async fn end(&mut self) {
        let mut actions = self.session.end();
        loop {
            for action in actions {
                if let Action::Ask(ask) = action {
                    self.ask(ask);
                }
            }
            let Some((ask, answered)) = self.asks.next().await else { return };
            actions = self.session.answered(ask, answered, clock::now(), self.balancer.as_ref());
        }
    }
}

/// Nothing can be said any more.
struct Closed;

/// The code of a close frame (RFC 6455 section 7.4.1), and a label for metrics.
fn why_closed(why: Closing) -> (u16, &'static str) {
    match why {
        Closing::Silent => (close_code::NORMAL, "silent"),
        Closing::Flood => (close_code::POLICY, "flood"),
        Closing::Moved => (close_code::AWAY, "moved"),
    }
}

impl Cluster for Balancer {
    fn admits(&self, key: &StreamKey, way: Way, token: Option<&str>) -> bool {
        let purpose = match way {
            Way::Publish => TokenUse::Publish,
            Way::Play => TokenUse::Play,
        };
        self.admission.admit(key, purpose, token, clock::unix_ms()).is_ok()
    }

    fn live(&self, key: &StreamKey) -> Option<Arc<StreamRecord>> {
        self.view.load().stream(key).filter(|stream| stream.is_live()).cloned()
    }

    fn is_at_ams(&self, key: &StreamKey) -> bool {
        self.view.load().is_ams(key)
    }

    fn drains(&self, node: &NodeId) -> bool {
        self.view.load().nodes.get(node).is_some_and(|node| node.state == NodeState::Draining)
    }

    fn is_stopping(&self) -> bool {
        self.life.is_stopping()
    }

    fn is_drained(&self) -> bool {
        self.life.state() == NodeState::Draining
    }

    fn ice_servers(&self) -> &[IceServer] {
        &self.ice_servers
    }
}
