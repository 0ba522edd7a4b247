//! What the console and `sluicegate nodes|streams` show: the cluster's view in plain values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ams::peers::{AmsNode, AmsStream};
use crate::ams::roles::RoleRules;
use crate::clock::UnixMs;
use crate::ids::{NodeId, StreamKey};
use crate::node::{Gpu, NodeRecord, NodeState, Role};
use crate::stream::StreamRecord;
use crate::view::ClusterView;

/// How long a stream is shown whose origin is no more and that nobody took over.
const LOST_SHOWN: Duration = Duration::from_secs(60);

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
    /// The live streams, and those that have just lost their origin, by name.
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
}

impl ClusterModel {
    pub(super) fn new(about: About, view: &ClusterView, now: UnixMs) -> Self {
        let died_just_now = |n: &NodeRecord| n.found_dead_by.is_some() && n.heartbeat.age(now) < DEAD_SHOWN;
        let readable = view.nodes.values().filter(|n| n.state != NodeState::Gone || died_just_now(n));
        let mut nodes: Vec<NodeModel> = readable.map(|n| node_model(n, view.loads_at, now)).collect();
        nodes.extend(view.unreadable.iter().map(|bad| NodeModel {
            id: bad.id.clone(),
            state: "unreadable".to_owned(),
            problem: Some(bad.why.clone()),
            ..NodeModel::default()
        }));
        nodes.extend(view.ams.nodes.values().map(|n| ams_node_model(n, about.ams_roles.role_of(n.ip), now)));
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        let is_ours = |key| view.upstream(key).is_none_or(|u| !u.is_ams);
        let last_seen = |s: &StreamRecord| {
            let owner = view.nodes.get(&s.owner.node).filter(|n| n.incarnation == s.owner.incarnation);
            owner.map_or(s.changed, |owner| owner.heartbeat.max(s.changed))
        };
        let lost_just_now = |s: &StreamRecord| s.is_live() && last_seen(s).age(now) < LOST_SHOWN;
        let shown = view.all_streams().filter(|s| is_ours(&s.key) && (view.is_live(s) || lost_just_now(s)));
        let mut streams: Vec<StreamModel> = shown.map(|s| stream_model(s, view, now)).collect();
        let theirs = view.ams.streams.iter().filter(|(key, _)| view.upstream(key).is_some_and(|u| u.is_ams));
        streams.extend(theirs.map(|(key, stream)| ams_stream_model(key, stream, now)));
        streams.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            cluster: about.cluster.to_owned(),
            node: about.node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            player_base: about.player_base,
            now,
            state_age_ms: age_ms(view.read_at, now),
            store_ok: view.store_ok,
            nodes,
            streams,
        }
    }
}

pub(super) fn node_model(node: &NodeRecord, loads_at: UnixMs, now: UnixMs) -> NodeModel {
    let (state, problem) = match (&node.found_dead_by, node.is_alive(loads_at)) {
        (Some(by), _) => (NodeState::Gone.as_str(), Some(format!("found dead by {by}"))),
        (None, true) => (node.state.as_str(), None),
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
        version: node.version.clone(),
        problem,
    }
}

pub(super) fn stream_model(stream: &StreamRecord, view: &ClusterView, now: UnixMs) -> StreamModel {
    let size = stream.size.unwrap_or_default();
    StreamModel {
        key: stream.key.to_string(),
        origin: stream.owner.node.to_string(),
        epoch: stream.epoch.0,
        claims: stream.claims,
        viewers: stream.viewers,
        bitrate_bps: stream.bitrate_bps,
        renditions: stream.renditions.clone(),
        width: size.width,
        height: size.height,
        fps: size.fps,
        started_at: stream.started_at,
        age_ms: age_ms(stream.started_at, now),
        live: view.is_live(stream),
    }
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

fn ams_stream_model(key: &StreamKey, stream: &AmsStream, now: UnixMs) -> StreamModel {
    let broadcast = &stream.broadcast;
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let started_at = UnixMs(broadcast.start_time.unwrap_or(0));
    StreamModel {
        key: key.to_string(),
        origin: stream.node.to_string(),
        epoch: stream.run.0,
        claims: 0,
        viewers: broadcast.viewers(),
        bitrate_bps: broadcast.bitrate.and_then(|b| u64::try_from(b).ok()).unwrap_or(0),
        renditions: vec!["source".to_owned()],
        width: number(broadcast.width),
        height: number(broadcast.height),
        fps: 0.0,
        started_at,
        age_ms: age_ms(started_at, now),
        live: true,
    }
}

fn age_ms(then: UnixMs, now: UnixMs) -> u64 {
    u64::try_from(then.age(now).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, stream_held_by};

    const NOW: UnixMs = UnixMs(1_000_000);

    #[test]
    fn silent_and_unreadable_nodes_are_shown_as_such() {
        let bad = crate::store::UnreadableNode { id: "x".to_owned(), why: "rev: missing".to_owned() };
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
