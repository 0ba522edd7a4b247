//! Why a stream is where it is, and where it would go: everything that decides it, and the decision. What an
//! operator is shown can be replayed: the same question has the same answer, by the code that places streams.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluicegate_cluster::admin::Explains;
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::limits;
use sluicegate_cluster::node::{NodeRecord, NodeState, Role};
use sluicegate_cluster::placed::Placed;
use sluicegate_cluster::store::LoadAfter;
use sluicegate_cluster::stream::StreamRecord;
use sluicegate_cluster::view::ClusterView;

use crate::health::{Health, takes_work};
use crate::origins;
use crate::placement::{self, SlowStart, ViewerTable, ams};
use crate::state::Balancer;

/// Edges named for viewers.
const EDGES_SHOWN: usize = 5;

/// What decides where a stream goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Which stream.
    pub stream: StreamKey,
    /// What its publish would cost an origin, Mpx/s.
    pub cost_mpx: f64,
    /// The balancer's own group.
    pub group: String,
    /// When the cluster's state was read, in the database's time.
    pub read_at: UnixMs,
    /// From a newcomer's first work to all of its part, milliseconds.
    pub slow_start_ms: u64,
    /// The nodes as read, without what is reserved for whom.
    pub nodes: Vec<NodeRecord>,
    /// What the balancer's probes say of them.
    pub health: Health,
    /// The stream's record, without its publisher's session.
    pub record: Option<StreamRecord>,
    /// The AMS node that has the stream.
    pub ams_holder: Option<NodeId>,
    /// AMS's origins that answer, and their processors' load, percent.
    pub ams_origins: Vec<(NodeId, f64)>,
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The origin that a publish is sent to.
    pub origin: Option<NodeId>,
    /// Why there.
    pub reason: Reason,
    /// Every origin, and what speaks for or against it.
    pub candidates: Vec<Candidate>,
    /// The edges for its viewers, the first one first. Streams in demand spill over to the next.
    pub edges: Vec<NodeId>,
}

/// Why a publish goes where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// That origin has the stream, and lives.
    HasTheStream,
    /// That AMS node has the stream.
    AmsHasTheStream,
    /// That origin would be the least loaded for its size.
    LeastLoaded,
    /// No origin of ours takes it; of two of AMS's, the less loaded does.
    AmsLessLoaded,
    /// Nobody has room.
    NoRoom,
}

/// An origin and what speaks for or against it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// What it has left, Mpx/s.
    pub free_mpx: f64,
    /// Its processors, percent.
    pub cpu: f64,
    /// How old its last heartbeat was, milliseconds.
    pub heartbeat_age_ms: u64,
    /// `up`, `down` or `not asked`.
    pub probes: String,
    /// `chosen`, or why it is not.
    pub verdict: String,
}

/// Both together, as they are shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// What decides.
    pub question: Question,
    /// The decision.
    pub answer: Answer,
    /// What was seen when the stream was placed where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<Placed>,
}

impl Question {
    pub(crate) fn of(balancer: &Balancer, stream: &StreamKey) -> Self {
        let (view, health) = (balancer.view.load(), balancer.health());
        let bare = |n: &NodeRecord| NodeRecord { reservations: Vec::new(), ..n.clone() };
        let mut nodes: Vec<NodeRecord> = view.nodes.values().map(|n| bare(n)).collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        let ams_origins = ams::nodes_of(&view, &health, &balancer.ams_roles, Role::Origin);
        let holder = view.ams.stream(stream).map(|(_, node)| node.id.clone());
        Self {
            stream: stream.clone(),
            cost_mpx: origins::cost_mpx(balancer, &view, stream),
            slow_start_ms: u64::try_from(balancer.limits.slow_start.as_millis()).unwrap_or(u64::MAX),
            group: balancer.group().to_owned(),
            read_at: view.loads_at,
            nodes,
            record: view.stream(stream).map(|s| s.without_session()),
            ams_holder: holder.filter(|node| !health.is_down(node)),
            ams_origins: ams_origins.iter().map(|n| (n.id.clone(), n.document.cpu_percent())).collect(),
            health: Health::clone(&health),
        }
    }

    /// The decision.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let reads = self.nodes.iter().cloned().map(Ok).collect();
        let view =
            ClusterView::default().fold(reads, self.record.clone().into_iter().collect(), self.read_at);
        let (origin, reason) = self.origin(&view);
        let candidates = self.nodes.iter().filter(|n| n.has(Role::Origin));
        let candidates = candidates.map(|n| self.candidate(n, &view, origin.as_ref())).collect();
        let working = view.nodes.values().map(AsRef::as_ref).filter(|n| takes_work(n, &view, &self.health));
        let ramp = std::time::Duration::from_millis(self.slow_start_ms);
        let slow_start = SlowStart { now: self.read_at, ramp };
        let table = ViewerTable::new(working, &self.group, &std::collections::HashMap::new(), slow_start);
        let edges = table.place(&self.stream, "").take(EDGES_SHOWN).map(|e| e.node.clone()).collect();
        Answer { origin, reason, candidates, edges }
    }

    fn origin(&self, view: &ClusterView) -> (Option<NodeId>, Reason) {
        if let Some(node) = &self.ams_holder {
            return (Some(node.clone()), Reason::AmsHasTheStream);
        }
        if let Some(holder) = placement::live_origin(view, &self.health, &self.stream) {
            return (Some(holder.id.clone()), Reason::HasTheStream);
        }
        let candidates = placement::origins_by_room(view, &self.health, &[]);
        let fits =
            candidates.iter().filter(|id| self.can_reserve(view, id)).filter_map(|id| view.nodes.get(id));
        let after = |n: &NodeRecord| LoadAfter::new(n.capacity_mpx, n.free_mpx, self.cost_mpx);
        if let Some(taken) = fits.min_by(|a, b| after(a).order(&after(b))) {
            return (Some(taken.id.clone()), Reason::LeastLoaded);
        }
        match self.ams_origins.iter().min_by(|a, b| a.1.total_cmp(&b.1)) {
            Some((node, _)) => (Some(node.clone()), Reason::AmsLessLoaded),
            None => (None, Reason::NoRoom),
        }
    }

    /// What `take_room` asks of an origin.
    fn can_reserve(&self, view: &ClusterView, id: &NodeId) -> bool {
        let takes = |n: &NodeRecord| {
            n.free_mpx >= self.cost_mpx && n.heartbeat.age(self.read_at) <= limits::HEARTBEAT_LATE
        };
        view.nodes.get(id).is_some_and(|n| takes(n))
    }

    fn candidate(&self, node: &NodeRecord, view: &ClusterView, chosen: Option<&NodeId>) -> Candidate {
        let verdict = if chosen == Some(&node.id) {
            "chosen"
        } else if node.state != NodeState::Serving {
            node.state.as_str()
        } else if self.health.is_down(&node.id) {
            "does not answer probes"
        } else if !takes_work(node, view, &self.health) {
            "no heartbeat"
        } else if !self.can_reserve(view, &node.id) {
            "no room"
        } else {
            "another one comes first"
        };
        let probes = match (self.health.is_up(&node.id), self.health.is_down(&node.id)) {
            (true, _) => "up",
            (_, true) => "down",
            _ => "not asked",
        };
        Candidate {
            node: node.id.clone(),
            free_mpx: node.free_mpx,
            cpu: node.load.cpu,
            heartbeat_age_ms: u64::try_from(node.heartbeat.age(self.read_at).as_millis()).unwrap_or(u64::MAX),
            probes: probes.to_owned(),
            verdict: verdict.to_owned(),
        }
    }
}

impl Explains for Balancer {
    fn why(&self, stream: &StreamKey) -> Value {
        let question = Question::of(self, stream);
        let answer = question.answer();
        serde_json::to_value(Why { question, answer, placed: None }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::testing::{node, stream_held_by};

    use super::*;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn question(free: &[(&str, f64)], held_by: Option<&str>) -> Question {
        let node = |(id, free_mpx): &(&str, f64)| NodeRecord { free_mpx: *free_mpx, ..node(id, NOW) };
        Question {
            stream: "live/a".parse().unwrap(),
            cost_mpx: 2.0,
            slow_start_ms: 30_000,
            group: "default".to_owned(),
            read_at: NOW,
            nodes: free.iter().map(node).collect(),
            health: Health::default(),
            record: held_by.map(|origin| stream_held_by("live/a", origin, "", NOW)),
            ams_holder: None,
            ams_origins: Vec::new(),
        }
    }

    #[track_caller]
    fn check(question: &Question, origin: Option<&str>, reason: Reason) {
        let answer = question.answer();
        assert_eq!((answer.origin.as_ref().map(NodeId::as_str), answer.reason), (origin, reason));
        let text = serde_json::to_string(&Why { question: question.clone(), answer, placed: None }).unwrap();
        let why: Why = serde_json::from_str(&text).unwrap();
        assert_eq!(why.question.answer(), why.answer, "replayed from what is printed");
    }

    #[test]
    fn the_answer_is_the_placements() {
        check(&question(&[("o1", 5.0), ("o2", 9.0)], None), Some("o2"), Reason::LeastLoaded);
        let mut small = question(&[("o1", 50.0), ("o2", 40.0)], None);
        small.nodes[1].capacity_mpx = 40.0;
        check(&small, Some("o2"), Reason::LeastLoaded);
        check(&question(&[("o1", 5.0), ("o2", 9.0)], Some("o1")), Some("o1"), Reason::HasTheStream);
        check(&question(&[("o1", 1.0)], None), None, Reason::NoRoom);
        let ams = vec![("ams-1".parse().unwrap(), 40.0), ("ams-2".parse().unwrap(), 10.0)];
        let full = Question { ams_origins: ams, ..question(&[("o1", 1.0)], None) };
        check(&full, Some("ams-2"), Reason::AmsLessLoaded);
        let held = Question { ams_holder: Some("ams-1".parse().unwrap()), ..full };
        check(&held, Some("ams-1"), Reason::AmsHasTheStream);
    }

    #[test]
    fn each_candidate_is_told_what_speaks_against_it() {
        let mut question =
            question(&[("o1", 1.0), ("o2", 9.0), ("o3", 8.0), ("o4", 99.0), ("o5", 99.0)], None);
        question.nodes[3].state = NodeState::Draining;
        let down = [("o5".parse().unwrap(), false)];
        question.health = Health::default().after(down.clone()).after(down);
        let verdicts: Vec<String> = question.answer().candidates.into_iter().map(|c| c.verdict).collect();
        let expect = ["no room", "chosen", "another one comes first", "draining", "does not answer probes"];
        assert_eq!(verdicts, expect);
    }
}
