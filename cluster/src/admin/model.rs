//! What the console and `sluicegate nodes|streams` show: the cluster's view in plain values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::streams;
use crate::ams::peers::AmsNode;
use crate::ams::roles::RoleRules;
use crate::clock::UnixMs;
use crate::ids::NodeId;
use crate::limits;
use crate::node::{Gpu, NodeRecord, NodeState, Role};
use crate::view::ClusterView;

/// How long a node that was found dead is shown. One that ended by itself is not.
const DEAD_SHOWN: Duration = Duration::from_secs(600);

/// Who shows it.
pub(super) struct About {
    pub(super) cluster: &'static str,
    pub(super) node: NodeId,
    pub(super) player_base: Option<String>,
    pub(super) ams_roles: RoleRules,
}

/// The cluster, as one node sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterModel {
    /// `mongodb` or `embedded`.
    pub cluster: String,
    /// The node that answers.
    pub node: NodeId,
    /// The version it runs.
    pub version: String,
    /// Where the player is, if this node has a balancer.
    pub player_base: Option<String>,
    /// The time.
    pub now: UnixMs,
    /// How old this state is, milliseconds.
    pub state_age_ms: u64,
    /// Whether the cluster's memory answers.
    pub store_ok: bool,
    /// The nodes, by id. Those that ended by themselves are not listed, those found dead for ten minutes.
    pub nodes: Vec<NodeModel>,
    /// The live streams, those that have just lost their origin, and those whose documents cannot be read, by name.
    pub streams: Vec<StreamModel>,
}

/// A node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NodeModel {
    /// Its id.
    pub id: String,
    /// What it does.
    pub roles: Vec<Role>,
    /// Its region or site.
    pub group: String,
    /// Where other nodes reach it.
    pub http: String,
    /// `joining`, `serving`, `draining`, `silent` (no heartbeat), `gone` (found dead) or `unreadable`.
    pub state: String,
    /// How old its last heartbeat is, milliseconds.
    pub heartbeat_age_ms: u64,
    /// Processors, percent.
    pub cpu: f64,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Memory in all.
    pub memory_total_bytes: u64,
    /// What it can encode, Mpx/s.
    pub capacity_mpx: f64,
    /// What is left of it.
    pub free_mpx: f64,
    /// Its graphics cards.
    pub gpus: Vec<Gpu>,
    /// Bits a second to viewers.
    pub egress_bps: u64,
    /// Viewers.
    pub viewers: u64,
    /// Streams published to it.
    pub publishes: u64,
    /// How far its machine's clock is ahead of the cluster's time, milliseconds; negative when it is behind.
    pub clock_ahead_ms: i64,
    /// The version it runs.
    pub version: String,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// A live stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamModel {
    /// `app/stream`.
    pub key: String,
    /// Its origin.
    pub origin: String,
    /// The number of the origin's claim.
    pub epoch: i64,
    /// How many claims there have been.
    pub claims: i64,
    /// Viewers on all edges.
    pub viewers: u64,
    /// Bits a second that come in.
    pub bitrate_bps: u64,
    /// The renditions that are served, the source first.
    pub renditions: Vec<String>,
    /// Those that are not made for now, because encoders were late.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<String>,
    /// Pixels across; 0 until known.
    pub width: u32,
    /// Pixels down; 0 until known.
    pub height: u32,
    /// Frames a second; 0 until known.
    pub fps: f64,
    /// When the claim was made.
    pub started_at: UnixMs,
    /// How long ago, milliseconds.
    pub age_ms: u64,
    /// Whether the origin that claimed it lives.
    pub live: bool,
    /// What is wrong with its document, which cannot be read.
    pub problem: Option<String>,
}

impl ClusterModel {
    pub(super) fn new(about: About, view: &ClusterView, now: UnixMs) -> Self {
        let mut streams: Vec<StreamModel> = streams::shown(view, now).map(|s| s.model(now)).collect();
        streams.sort_by(|a, b| a.key.cmp(&b.key));
        Self { streams, ..Self::without_streams(about, view, now) }
    }

    /// The same without the streams, of which there may be tens of thousands.
    pub(super) fn without_streams(about: About, view: &ClusterView, now: UnixMs) -> Self {
        Self {
            cluster: about.cluster.to_owned(),
            nodes: nodes(&about.ams_roles, view, now),
            node: about.node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            player_base: about.player_base,
            now,
            state_age_ms: age_ms(view.read_at, now),
            store_ok: view.store_ok,
            streams: Vec::new(),
        }
    }
}

fn nodes(ams_roles: &RoleRules, view: &ClusterView, now: UnixMs) -> Vec<NodeModel> {
    let died_just_now = |n: &NodeRecord| n.found_dead_by.is_some() && n.heartbeat.age(now) < DEAD_SHOWN;
    let readable = view.nodes.values().filter(|n| n.state != NodeState::Gone || died_just_now(n));
    let mut nodes: Vec<NodeModel> = readable.map(|n| node_model(n, view.loads_at, now)).collect();
    nodes.extend(view.unreadable.iter().map(|bad| NodeModel {
        id: bad.id.clone(),
        state: "unreadable".to_owned(),
        problem: Some(bad.why.clone()),
        ..NodeModel::default()
    }));
    nodes.extend(view.ams.nodes.values().map(|n| ams_node_model(n, ams_roles.role_of(n.ip), now)));
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    nodes
}

pub(super) fn node_model(node: &NodeRecord, loads_at: UnixMs, now: UnixMs) -> NodeModel {
    let (state, problem) = match (&node.found_dead_by, node.is_alive(loads_at)) {
        (Some(by), _) => (NodeState::Gone.as_str(), Some(format!("found dead by {by}"))),
        (None, true) => {
            let full = node.load.full.map(|full| full.why().to_owned());
            (node.state.as_str(), full.or_else(|| clock_problem(node.load.clock_ahead_ms)))
        }
        (None, false) => ("silent", Some("no heartbeat".to_owned())),
    };
    NodeModel {
        id: node.id.to_string(),
        roles: node.roles.clone(),
        group: node.group.clone(),
        http: node.addresses.http.to_string(),
        state: state.to_owned(),
        heartbeat_age_ms: age_ms(node.heartbeat, now),
        cpu: node.load.cpu,
        memory_used_bytes: node.load.memory.used_bytes,
        memory_total_bytes: node.load.memory.total_bytes,
        capacity_mpx: node.capacity_mpx,
        free_mpx: node.free_mpx,
        gpus: node.load.gpus.clone(),
        egress_bps: node.load.egress_bps,
        viewers: node.load.viewers,
        publishes: node.load.publishes,
        clock_ahead_ms: node.load.clock_ahead_ms,
        version: node.version.clone(),
        problem,
    }
}

/// Nodes go by the cluster's time whatever their machines' clocks say; people who read logs do not.
fn clock_problem(ahead_ms: i64) -> Option<String> {
    let is_off = ahead_ms.unsigned_abs() > limits::CLOCK_OFF_TOLD.as_millis() as u64;
    let which = if ahead_ms > 0 { "ahead of" } else { "behind" };
    is_off
        .then(|| format!("its clock is {:.1} s {which} the cluster's", ahead_ms.unsigned_abs() as f64 / 1e3))
}

/// One of AMS's own: what its document does not say is zero, and said to be missing.
fn ams_node_model(node: &AmsNode, role: Option<Role>, now: UnixMs) -> NodeModel {
    let document = &node.document;
    let alive = document.is_alive(now);
    let (used, total) = document.memory_bytes().unwrap_or_default();
    let problem = match (alive, document.cpu.is_some(), role) {
        (false, ..) => Some("its document is old"),
        (_, false, _) => Some("its document says no cpu"),
        (.., None) => Some("lb.roles gives it no role"),
        _ => None,
    };
    NodeModel {
        id: node.id.to_string(),
        roles: role.into_iter().collect(),
        group: "AMS".to_owned(),
        http: node.http().to_string(),
        state: if alive { "serving" } else { "silent" }.to_owned(),
        heartbeat_age_ms: document.last_update_time.map_or(0, |at| age_ms(UnixMs(at), now)),
        cpu: document.cpu.as_ref().map_or(0.0, |_| document.cpu_percent()),
        memory_used_bytes: used,
        memory_total_bytes: total,
        version: "Ant Media Server".to_owned(),
        problem: problem.map(str::to_owned),
        ..NodeModel::default()
    }
}

pub(super) fn age_ms(then: UnixMs, now: UnixMs) -> u64 {
    u64::try_from(then.age(now).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, stream_held_by};

    const NOW: UnixMs = UnixMs(1_000_000);

    #[test]
    fn a_clock_that_is_off_is_told() {
        let told = |clock_ahead_ms| {
            let load = crate::node::Load { clock_ahead_ms, ..Default::default() };
            node_model(&NodeRecord { load, ..node("a", NOW) }, NOW, NOW).problem
        };
        assert_eq!(told(600_000).as_deref(), Some("its clock is 600.0 s ahead of the cluster's"));
        assert_eq!(told(-2_500).as_deref(), Some("its clock is 2.5 s behind the cluster's"));
        assert_eq!((told(2_000), told(i64::MIN).is_some()), (None, true));
    }

    #[test]
    fn silent_and_unreadable_nodes_are_shown_as_such() {
        let bad = crate::store::UnreadableDocument { id: "x".to_owned(), why: "rev: missing".to_owned() };
        let silent = node("b", UnixMs(NOW.0 - 60_000));
        let gone = NodeRecord { state: NodeState::Gone, ..node("g", NOW) };
        let streams = vec![
            stream_held_by("live/a", "a", "s", NOW),
            stream_held_by("live/g", "g", "s", NOW),
            stream_held_by("live/long_lost", "l", "s", UnixMs(NOW.0 - 180_000)),
        ];
        let long_gone = NodeRecord { heartbeat: UnixMs(NOW.0 - 90_000), ..node("l", NOW) };
        let long_gone = NodeRecord { state: NodeState::Gone, ..long_gone };
        let dead = NodeRecord { found_dead_by: Some("a".parse().unwrap()), ..gone.clone() };
        let dead = NodeRecord { id: "h".parse().unwrap(), ..dead };
        let reads = vec![Ok(node("a", NOW)), Ok(silent), Ok(gone), Ok(long_gone), Ok(dead), Err(bad)];
        let view = ClusterView::default().fold(reads, streams, NOW);
        let about = About {
            cluster: "embedded",
            node: "a".parse().unwrap(),
            player_base: None,
            ams_roles: RoleRules::default(),
        };
        let model = ClusterModel::new(about, &view, NOW.plus(Duration::from_millis(1_500)));
        let states: Vec<_> = model.nodes.iter().map(|n| (n.id.as_str(), n.state.as_str())).collect();
        assert_eq!(states, [("a", "serving"), ("b", "silent"), ("h", "gone"), ("x", "unreadable")]);
        assert_eq!(model.state_age_ms, 1_500);
        assert_eq!(model.streams[0].origin, "a");
        let live: Vec<_> = model.streams.iter().map(|s| (s.key.as_str(), s.live)).collect();
        assert_eq!(live, [("live/a", true), ("live/g", false)]);
    }
}
