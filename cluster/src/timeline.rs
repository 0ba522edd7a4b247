//! What happened in the cluster, as this node saw it: nodes that joined, fell silent, ended; streams that were
//! claimed, moved, ended. Read off two views that follow each other, and kept in a bounded ring.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clock::UnixMs;
use crate::limits;
use crate::node::{NodeRecord, NodeState};
use crate::stream::StreamRecord;
use crate::view::{ClusterView, SharedView};

/// Events kept: the oldest fall out.
const EVENTS_KEPT: usize = 500;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A node, or a new run of it, takes work.
    Joined,
    /// A node takes nothing new any more.
    Draining,
    /// A node's heartbeat stopped, or it was found dead.
    Died,
    /// A node's process ended in order, or its document was removed.
    Left,
    /// A stream has an origin.
    Claimed,
    /// A stream went on at another origin.
    Moved,
    /// A stream ended.
    Ended,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was seen, in the database's time.
    pub at: UnixMs,
    /// What it was.
    pub kind: EventKind,
    /// The node or the stream.
    pub subject: String,
    /// With streams: the origin; where it moved, from which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What happened between two views, nodes first. The first view that is read is where history begins.
#[must_use]
pub fn between(before: &ClusterView, after: &ClusterView) -> Vec<Event> {
    if !before.is_ready() {
        return Vec::new();
    }
    let at = after.read_at;
    let event = |kind, subject: String, detail| Event { at, kind, subject, detail };
    let mut events = Vec::new();
    for node in after.nodes.values() {
        let kind =
            node_event(before.nodes.get(&node.id).map(AsRef::as_ref), node, before.loads_at, after.loads_at);
        events.extend(kind.map(|kind| event(kind, node.id.to_string(), None)));
    }
    let removed = before.nodes.keys().filter(|id| !after.nodes.contains_key(*id));
    events.extend(removed.map(|id| event(EventKind::Left, id.to_string(), None)));
    events.sort_by(|a, b| a.subject.cmp(&b.subject));
    let mut streams: Vec<Event> = after
        .streams
        .changed_since(&before.streams)
        .filter_map(|(was, stream)| stream_event(was.map(AsRef::as_ref), stream))
        .map(|(kind, stream, detail)| event(kind, stream.key.to_string(), Some(detail)))
        .collect();
    streams.sort_by(|a, b| a.subject.cmp(&b.subject));
    events.extend(streams);
    events
}

fn node_event(
    before: Option<&NodeRecord>,
    after: &NodeRecord,
    before_at: UnixMs,
    after_at: UnixMs,
) -> Option<EventKind> {
    let same_run = before.filter(|b| b.incarnation == after.incarnation);
    let was = same_run.map(|b| (b.state, b.is_alive(before_at)));
    match ((after.state, after.is_alive(after_at)), was) {
        (now, Some(was)) if now == was => None,
        ((NodeState::Serving, true), Some((NodeState::Serving | NodeState::Draining, true))) => None,
        ((NodeState::Serving, true), _) => Some(EventKind::Joined),
        ((NodeState::Draining, true), Some(_)) => Some(EventKind::Draining),
        ((NodeState::Gone, _), Some((_, true))) if after.heartbeat.age(after_at) < limits::HEARTBEAT_GONE => {
            Some(EventKind::Left)
        }
        ((_, false), Some((_, true))) => Some(EventKind::Died),
        _ => None,
    }
}

fn stream_event<'a>(
    before: Option<&StreamRecord>,
    after: &'a StreamRecord,
) -> Option<(EventKind, &'a StreamRecord, String)> {
    let origin = after.owner.node.to_string();
    match (before, after.is_live()) {
        (Some(b), true) if b.is_live() && b.epoch == after.epoch => None,
        (Some(b), true) if b.is_live() && b.owner.node != after.owner.node => {
            Some((EventKind::Moved, after, format!("{} → {origin}", b.owner.node)))
        }
        (_, true) => Some((EventKind::Claimed, after, origin)),
        (Some(b), false) if b.is_live() => Some((EventKind::Ended, after, origin)),
        (_, false) => None,
    }
}

/// The last events.
#[derive(Debug, Default)]
pub struct Timeline(Mutex<VecDeque<Event>>);

impl Timeline {
    /// Adds what happened.
    pub fn add(&self, events: Vec<Event>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(events);
        let over = kept.len().saturating_sub(EVENTS_KEPT);
        kept.drain(..over);
    }

    /// The newest events that are `wanted`, the newest first, `most` of them.
    #[must_use]
    pub fn newest(&self, most: usize, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().filter(|event| wanted(event)).take(most).cloned().collect()
    }
}

/// Keeps the timeline until cancelled.
pub async fn follow(view: SharedView, timeline: Arc<Timeline>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(limits::VIEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = view.load_full();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let after = view.load_full();
        if !Arc::ptr_eq(&before, &after) {
            timeline.add(between(&before, &after));
            before = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::Epoch;
    use crate::testing::{node, stream_held_by};

    const NOW: UnixMs = UnixMs(1_000_000);

    fn view(nodes: Vec<NodeRecord>, streams: Vec<StreamRecord>, now: UnixMs) -> ClusterView {
        ClusterView::default().fold(nodes.into_iter().map(Ok).collect(), streams, now)
    }

    #[track_caller]
    fn check(before: &ClusterView, after: &ClusterView, expect: &[(EventKind, &str)]) {
        let events = between(before, after);
        let seen: Vec<(EventKind, &str)> = events.iter().map(|e| (e.kind, e.subject.as_str())).collect();
        assert_eq!(seen, expect);
    }

    #[test]
    fn nodes_join_die_and_leave() {
        let both = view(vec![node("a", NOW), node("b", NOW)], Vec::new(), NOW);
        check(&ClusterView::default(), &both, &[]);
        check(&view(vec![node("a", NOW)], Vec::new(), NOW), &both, &[(EventKind::Joined, "b")]);
        let later = NOW.plus(Duration::from_secs(6));
        let silent = view(vec![node("a", later), node("b", NOW)], Vec::new(), later);
        check(&both, &silent, &[(EventKind::Died, "b")]);
        check(&silent, &silent, &[]);
        check(&silent, &view(vec![node("a", later)], Vec::new(), later), &[(EventKind::Left, "b")]);
        let ended = NodeRecord { state: NodeState::Gone, ..node("b", NOW) };
        check(&both, &view(vec![node("a", NOW), ended], Vec::new(), NOW), &[(EventKind::Left, "b")]);
        let again = NodeRecord { incarnation: "b-2".into(), ..node("b", later) };
        check(&silent, &view(vec![node("a", later), again], Vec::new(), later), &[(EventKind::Joined, "b")]);
        let draining = NodeRecord { state: NodeState::Draining, ..node("b", NOW) };
        check(&both, &view(vec![node("a", NOW), draining], Vec::new(), NOW), &[(EventKind::Draining, "b")]);
    }

    #[test]
    fn streams_are_claimed_move_and_end() {
        let stream = |origin: &str, epoch| StreamRecord {
            epoch: Epoch(epoch),
            ..stream_held_by("live/a", origin, "s", NOW)
        };
        let none = view(vec![node("o1", NOW)], Vec::new(), NOW);
        let first = none.fold(vec![Ok(node("o1", NOW))], vec![stream("o1", 1)], NOW);
        check(&none, &first, &[(EventKind::Claimed, "live/a")]);
        let moved = first.fold(vec![Ok(node("o1", NOW))], vec![stream("o2", 2)], NOW);
        check(&first, &moved, &[(EventKind::Moved, "live/a")]);
        assert_eq!(between(&first, &moved)[0].detail.as_deref(), Some("o1 → o2"));
        let ended = StreamRecord { ended_at: Some(NOW), ..stream("o2", 2) };
        let over = moved.fold(vec![Ok(node("o1", NOW))], vec![ended], NOW);
        check(&moved, &over, &[(EventKind::Ended, "live/a")]);
        check(&over, &over.clone(), &[]);
    }

    #[test]
    fn the_ring_is_bounded_and_newest_first() {
        let timeline = Timeline::default();
        let event = |n: usize| Event {
            at: NOW,
            kind: EventKind::Claimed,
            subject: format!("live/{n}"),
            detail: None,
        };
        timeline.add((0..EVENTS_KEPT + 10).map(event).collect());
        let newest = timeline.newest(usize::MAX, |_| true);
        assert_eq!((newest.len(), newest[0].subject.as_str()), (EVENTS_KEPT, "live/509"));
        assert_eq!(timeline.newest(3, |e| e.subject.ends_with('7')).len(), 3);
    }
}
