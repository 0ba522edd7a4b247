//! Which nodes answer. Every balancer asks every edge and origin once a second; a node that does not answer
//! is not used, however fresh its heartbeat, and one that answers is, however late its heartbeat. An origin's
//! answer says as well what the store may not know of it ([`sluicegate_cluster::report`]).

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use serde::{Deserialize, Serialize};
use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::membership::mark_gone;
use sluicegate_cluster::node::{NodeRecord, NodeState, Role};
use sluicegate_cluster::report::{self, OriginReport};
use sluicegate_cluster::view::ClusterView;
use sluicegate_cluster::{limits, trust};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::placement::ToldRooms;
use crate::state::Balancer;

/// How often each node is asked.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// For it to answer.
const PROBE_ANSWER: Duration = Duration::from_millis(900);
/// Probes in a row that fail before a node is taken to be down: one may be lost.
const FAILURES: u32 = 2;
/// The bytes of `HTTP/1.1 200`.
const STATUS_BYTES: u64 = 12;
/// Nodes asked at the same time.
const PROBES_AT_ONCE: usize = 256;

/// What the probes say. Nodes that were never asked are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    failures: HashMap<NodeId, u32>,
}

impl Health {
    /// Whether probes say that `node` is down.
    #[must_use]
    pub fn is_down(&self, node: &NodeId) -> bool {
        self.failures.get(node).is_some_and(|failures| *failures >= FAILURES)
    }

    /// Whether probes say that `node` answers.
    #[must_use]
    pub fn is_up(&self, node: &NodeId) -> bool {
        self.failures.get(node).is_some_and(|failures| *failures < FAILURES)
    }

    /// The nodes that are down.
    #[must_use]
    pub fn down(&self) -> HashSet<NodeId> {
        self.failures.keys().filter(|node| self.is_down(node)).cloned().collect()
    }

    /// Health after one round: `answers` has every node asked, and whether it answered. Others are
    /// forgotten.
    #[must_use]
    pub fn after(&self, answers: impl IntoIterator<Item = (NodeId, bool)>) -> Self {
        let failures = answers.into_iter().map(|(node, answered)| {
            let before = self.failures.get(&node).copied().unwrap_or(0);
            let failures = if answered { 0 } else { before.saturating_add(1) };
            (node, failures)
        });
        Self { failures: failures.collect() }
    }
}

/// Whether new work may be sent to `node`: it serves, and probes say so, or, before the first probe, its
/// heartbeat does.
#[must_use]
pub(crate) fn takes_work(node: &NodeRecord, view: &ClusterView, health: &Health) -> bool {
    node.state == NodeState::Serving
        && !health.is_down(&node.id)
        && (health.is_up(&node.id) || view.lives(node))
}

/// The nodes that are dead: probes say that they are down, and their heartbeat is old as well.
#[must_use]
pub fn dead(view: &ClusterView, health: &Health) -> Vec<Arc<NodeRecord>> {
    let is_dead = |n: &&Arc<NodeRecord>| {
        n.state != NodeState::Gone
            && health.is_down(&n.id)
            && n.heartbeat.age(view.loads_at) >= limits::HEARTBEAT_GONE_UNANSWERED
    };
    let known = view.nodes.values().filter(|_| view.store_ok);
    known.filter(is_dead).cloned().collect()
}

/// Asks the nodes.
pub(crate) struct Prober(pub(crate) Arc<Balancer>);

#[async_trait]
impl BackgroundService for Prober {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = tokio::time::interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut burying: Option<JoinHandle<()>> = None;
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = ticks.tick() => {}
            }
            let (nodes, asked_at) = (asked(&self.0.view.load()), self.0.view.load().now(clock::now()));
            let before = self.0.health();
            let answers = ask_all(nodes, &self.token()).await;
            let after = before.after(answers.iter().map(|answer| (answer.node.clone(), answer.lives)));
            self.note(answers, asked_at);
            for node in after.down().difference(&before.down()) {
                tracing::warn!(%node, "a node does not answer; it is not used");
            }
            for node in before.down().difference(&after.down()) {
                tracing::info!(%node, "a node answers again");
            }
            if burying.as_ref().is_none_or(JoinHandle::is_finished) {
                burying = Some(self.bury(dead(&self.0.view.load(), &after)));
            }
            let changed = after.down() != before.down();
            self.0.set_health(after);
            if changed {
                self.0.make_table();
            }
        }
    }
}

impl Prober {
    /// What origins are asked with. Without one they still say that they live.
    fn token(&self) -> String {
        self.0.key.token(&self.0.node).unwrap_or_default()
    }

    /// Takes in what origins said of themselves when they were asked, at `asked_at` (database time).
    fn note(&self, answers: Vec<Answer>, asked_at: UnixMs) {
        let said = answers.into_iter().filter_map(|answer| Some((answer.node, answer.report?)));
        let said: Vec<(NodeId, OriginReport)> = said.collect();
        self.0.rooms.store(Arc::new(ToldRooms::of(said.iter().map(|(node, word)| (node, word)), asked_at)));
        let claims = said.into_iter().map(|(node, report)| (node, report.unconfirmed)).collect();
        self.0.hints.told_by_origins(claims, clock::now());
    }

    /// Has nodes marked gone that are dead.
    fn bury(&self, dead: Vec<Arc<NodeRecord>>) -> JoinHandle<()> {
        let (store, own) = (Arc::clone(&self.0.store), self.0.node.clone());
        // The store's connections live on the node's runtime.
        self.0.node_runtime.spawn(async move {
            for node in dead {
                let silent_for = limits::HEARTBEAT_GONE_UNANSWERED;
                let marked = mark_gone(store.as_ref(), &node.id, &node.incarnation, &own, silent_for).await;
                if let Err(error) = marked {
                    tracing::debug!(%error, node = %node.id, "a dead node could not be marked gone");
                }
            }
        })
    }
}

/// A node to ask.
struct Question {
    node: NodeId,
    address: SocketAddr,
    about: About,
}

/// What a node is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// Whether it lives, at this path.
    Life(&'static str),
    /// The same, and what an origin says of itself.
    Origin,
}

impl About {
    fn path(self) -> &'static str {
        match self {
            Self::Life(path) => path,
            Self::Origin => report::PATH,
        }
    }
}

/// What a node said.
struct Answer {
    node: NodeId,
    lives: bool,
    report: Option<OriginReport>,
}

/// The nodes to ask: those that others are sent to, AMS's own among them.
fn asked(view: &ClusterView) -> Vec<Question> {
    let serves =
        |n: &&Arc<NodeRecord>| n.state != NodeState::Gone && (n.has(Role::Edge) || n.has(Role::Origin));
    let ours = view.nodes.values().filter(serves);
    let ours = ours.map(|n| Question {
        node: n.id.clone(),
        address: n.addresses.http,
        about: if n.has(Role::Origin) { About::Origin } else { About::Life("/healthz") },
    });
    let theirs = view.ams.nodes.values();
    let theirs = theirs.map(|n| Question {
        node: n.id.clone(),
        address: n.http(),
        about: About::Life("/rest/v2/liveness"),
    });
    ours.chain(theirs).collect()
}

async fn ask_all(nodes: Vec<Question>, token: &str) -> Vec<Answer> {
    let mut waiting = nodes.into_iter();
    let mut asking = FuturesUnordered::new();
    let mut answers = Vec::new();
    loop {
        while asking.len() < PROBES_AT_ONCE
            && let Some(question) = waiting.next()
        {
            asking.push(ask(question, token));
        }
        match asking.next().await {
            Some(answer) => answers.push(answer),
            None => return answers,
        }
    }
}

/// A request, not just a connection, which the kernel of a node that hangs still accepts.
async fn ask(question: Question, token: &str) -> Answer {
    let Question { node, address, about } = question;
    let asking = tokio::time::timeout(PROBE_ANSWER, exchange(address, about, token)).await;
    let answer = asking.ok().and_then(Result::ok).unwrap_or_default();
    match (about, status(&answer)) {
        (About::Life(_), status) => Answer { node, lives: status == Some(200), report: None },
        // One that does not know what is asked, or trusts this balancer no more, lives all the same.
        (About::Origin, status) => {
            let lives = status.is_some_and(|status| status < 500);
            let report = body(&answer).filter(|_| status == Some(200));
            Answer { report: report.and_then(|body| OriginReport::read(&node, body)), lives, node }
        }
    }
}

/// The bytes of an answer: its status line's begin, or, of an origin, all of it.
async fn exchange(address: SocketAddr, about: About, token: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let path = about.path();
    // AMS's own nodes are told nothing of the cluster.
    let token = match about {
        About::Life(_) => String::new(),
        About::Origin => format!("{}: {token}\r\n", trust::HEADER),
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{token}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let most = match about {
        About::Life(_) => STATUS_BYTES,
        About::Origin => report::BYTES_MAX,
    };
    let mut answer = Vec::new();
    stream.take(most).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The status in `HTTP/1.1 200 OK…`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.get(..usize::try_from(STATUS_BYTES).ok()?)?;
    std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

/// What follows the headers.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    answer.get(end + 4..)
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::testing::node;

    use super::*;

    #[test]
    fn one_lost_probe_is_forgiven_two_are_not_and_one_answer_mends_it() {
        let id: NodeId = "o1".parse().unwrap();
        let round = |health: &Health, answered| health.after([(id.clone(), answered)]);
        let once = round(&Health::default(), false);
        assert!(!once.is_down(&id));
        let twice = round(&once, false);
        assert!(twice.is_down(&id) && !twice.is_up(&id));
        assert!(round(&twice, true).is_up(&id));
        assert!(!twice.after([]).is_down(&id), "a node that is not asked any more is forgotten");
    }

    #[test]
    fn a_node_is_dead_when_it_neither_answers_nor_writes() {
        let now = UnixMs(1_000_000);
        let (fresh, old) = (node("o1", now), node("o1", UnixMs(now.0 - 3_000)));
        let up = Health::default().after([(fresh.id.clone(), true)]);
        let down = up.after([(fresh.id.clone(), false)]).after([(fresh.id.clone(), false)]);
        let of = |node: &NodeRecord| ClusterView::default().fold(vec![Ok(node.clone())], Vec::new(), now);
        assert_eq!(dead(&of(&old), &down).len(), 1);
        assert!(dead(&of(&old), &up).is_empty(), "late heartbeats alone are not death");
        assert!(dead(&of(&fresh), &down).is_empty());
        assert!(dead(&of(&NodeRecord { state: NodeState::Gone, ..old.clone() }), &down).is_empty());
        assert!(dead(&ClusterView { store_ok: false, ..of(&old) }, &down).is_empty());
    }

    #[test]
    fn probes_outrank_heartbeats() {
        let now = UnixMs(1_000_000);
        let view = ClusterView { loads_at: now, ..ClusterView::default() };
        let (fresh, late) = (node("o1", now), node("o1", UnixMs(0)));
        let unknown = Health::default();
        let up = unknown.after([(fresh.id.clone(), true)]);
        let down = unknown.after([(fresh.id.clone(), false)]).after([(fresh.id.clone(), false)]);
        assert!(takes_work(&fresh, &view, &unknown) && !takes_work(&late, &view, &unknown));
        assert!(takes_work(&late, &view, &up));
        assert!(!takes_work(&fresh, &view, &down));
        let draining = NodeRecord { state: NodeState::Draining, ..fresh };
        assert!(!takes_work(&draining, &view, &up));
    }

    /// What comes of asking a node that sends `answer` and hangs up.
    async fn ask_one(about: About, answer: &'static str) -> Answer {
        let listener = tokio::net::TcpListener::bind("127.0.6.3:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 512];
            let read = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            assert_eq!(request.contains("secret"), about == About::Origin, "{request}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        ask(Question { node: "o1".parse().unwrap(), address, about }, "secret").await
    }

    #[tokio::test]
    async fn an_origin_says_that_it_lives_and_what_it_has() {
        let told = r#"{"capacityMpx": 8, "runningMpx": 2, "unconfirmed": []}"#;
        let full = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{told}", told.len());
        let answer = ask_one(About::Origin, full.leak()).await;
        assert!(answer.lives && answer.report.is_some_and(|report| report.capacity_mpx > 7.9));
        for (answer, lives) in [
            ("HTTP/1.1 200 OK\r\n\r\nok", true),
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", true),
            ("HTTP/1.1 404 Not Found\r\n\r\n", true),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false),
            ("HTTP/1.1 20", false),
            ("220 mail.example.net", false),
            ("", false),
        ] {
            let said = ask_one(About::Origin, answer).await;
            assert_eq!((said.lives, said.report), (lives, None), "{answer}");
        }
        assert!(ask_one(About::Life("/healthz"), "HTTP/1.1 200 OK\r\n\r\n").await.lives);
        assert!(!ask_one(About::Life("/healthz"), "HTTP/1.1 404 Not Found\r\n\r\n").await.lives);
    }
}
