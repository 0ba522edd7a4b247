//! Which nodes answer. Every balancer asks every edge and origin once a second; a node that does not answer
//! is not used, however fresh its heartbeat, and one that answers is, however late its heartbeat.

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
use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::limits;
use sluicegate_cluster::membership::mark_gone;
use sluicegate_cluster::node::{NodeRecord, NodeState, Role};
use sluicegate_cluster::view::ClusterView;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::state::Balancer;

/// How often each node is asked.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// For it to answer.
const PROBE_ANSWER: Duration = Duration::from_millis(900);
/// Probes in a row that fail before a node is taken to be down: one may be lost.
const FAILURES: u32 = 2;
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
        && (health.is_up(&node.id) || node.is_alive(view.read_at))
}

/// The nodes that are dead: probes say that they are down, and their heartbeat is old as well.
fn dead(view: &ClusterView, health: &Health) -> Vec<Arc<NodeRecord>> {
    let is_dead = |n: &&Arc<NodeRecord>| {
        n.state != NodeState::Gone
            && health.is_down(&n.id)
            && n.heartbeat.age(view.read_at) >= limits::HEARTBEAT_GONE_UNANSWERED
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
            let nodes = asked(&self.0.view.load());
            let before = self.0.health();
            let after = before.after(ask_all(nodes).await);
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

/// A node to ask, and the path that it answers while it lives.
struct Question {
    node: NodeId,
    address: SocketAddr,
    path: &'static str,
}

/// The nodes to ask: those that others are sent to, AMS's own among them.
fn asked(view: &ClusterView) -> Vec<Question> {
    let serves =
        |n: &&Arc<NodeRecord>| n.state != NodeState::Gone && (n.has(Role::Edge) || n.has(Role::Origin));
    let ours = view.nodes.values().filter(serves);
    let ours = ours.map(|n| Question { node: n.id.clone(), address: n.addresses.http, path: "/healthz" });
    let theirs = view.ams.nodes.values();
    let theirs =
        theirs.map(|n| Question { node: n.id.clone(), address: n.http(), path: "/rest/v2/liveness" });
    ours.chain(theirs).collect()
}

async fn ask_all(nodes: Vec<Question>) -> Vec<(NodeId, bool)> {
    let mut waiting = nodes.into_iter();
    let mut asking = FuturesUnordered::new();
    let mut answers = Vec::new();
    loop {
        while asking.len() < PROBES_AT_ONCE
            && let Some(Question { node, address, path }) = waiting.next()
        {
            asking.push(async move { (node, answers_at(address, path).await) });
        }
        match asking.next().await {
            Some(answer) => answers.push(answer),
            None => return answers,
        }
    }
}

/// A request, not just a connection, which the kernel of a node that hangs still accepts.
async fn answers_at(address: SocketAddr, path: &str) -> bool {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await?;
        let mut status = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut status).await?;
        Ok::<_, std::io::Error>(status.ends_with(b" 200"))
    };
    matches!(tokio::time::timeout(PROBE_ANSWER, asking).await, Ok(Ok(true)))
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock::UnixMs;
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
        let view = ClusterView { read_at: now, ..ClusterView::default() };
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
}
