//! What must hold of everything that is ever written, judged as it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::ids::{Epoch, Incarnation, NodeId, StreamKey};
use sluicegate_cluster::limits;
use sluicegate_cluster::node::{NodeRecord, NodeState};
use sluicegate_cluster::stream::StreamRecord;

/// How far nodes' readings of the database's clock may be apart, ms.
pub(crate) const SKEW_MS: i64 = 400;
/// From reading that an owner is dead to the claim's arrival: an origin waits 2 s, the network 6 s.
const CLAIM_UNDER_WAY: Duration = Duration::from_secs(9);
/// From a heartbeat's time to its arrival: the network takes 6 s, and again as long where it delivers twice.
const HEARTBEAT_UNDER_WAY_MS: i64 = 13_000;
/// How long a node that comes back is new, ms, and the part of new work that it gets at most meanwhile; beyond that it is
/// luck, of which this many roots of what was given, and one, are too much.
const NEW_MS: i64 = 2_500;
const NEW_PART: f64 = 0.2;
const TOO_LUCKY: f64 = 2.5;
/// Room is a sum of floats.
const NOTHING: f64 = 1e-6;

/// The history of the store, as far as judging needs it.
#[derive(Default)]
pub(crate) struct Ledger {
    /// The first thing that was wrong.
    pub(crate) broken: Option<String>,
    /// Whether all balancers know of all nodes, so that they can spare the new ones.
    pub(crate) judges_newcomers: bool,
    /// Work that was given while a node was new and another one had room, and what of it the new one got.
    given: (u32, u32),
    highest: BTreeMap<StreamKey, Epoch>,
    /// Claims made without the store: they win by their epoch alone.
    minted: BTreeSet<(StreamKey, Epoch)>,
    /// When a run of a node could last be taken for dead.
    dead: BTreeMap<NodeId, (Incarnation, UnixMs)>,
}

impl Ledger {
    /// A claim was made without the store.
    pub(crate) fn minted(&mut self, key: &StreamKey, epoch: Epoch) {
        self.minted.insert((key.clone(), epoch));
    }

    pub(crate) fn was_minted(&self, key: &StreamKey, epoch: Epoch) -> bool {
        self.minted.contains(&(key.clone(), epoch))
    }

    pub(crate) fn stream_written(
        &mut self,
        before: Option<&StreamRecord>,
        after: &StreamRecord,
        owner: Option<&NodeRecord>,
        now: UnixMs,
    ) {
        let key = &after.key;
        let highest = self.highest.get(key).copied().unwrap_or_default();
        if after.epoch < highest {
            self.breaks(format!("{key}: epoch {} was written after {highest}", after.epoch));
        }
        self.highest.insert(key.clone(), after.epoch.max(highest));
        let Some(before) = before else { return };
        if after.epoch == before.epoch {
            if after.owner.node != before.owner.node || after.session != before.session {
                self.breaks(format!("{key}: epoch {} has two owners: {before:?}, {after:?}", after.epoch));
            }
            if after.is_live() && !before.is_live() {
                self.breaks(format!("{key}: the claim of epoch {} came back after its end", after.epoch));
            }
            if after.sequence < before.sequence || after.claims < before.claims {
                self.breaks(format!(
                    "{key}: numbers went back within epoch {}: {before:?}, {after:?}",
                    after.epoch
                ));
            }
        } else if !self.may_take(before, after, owner, now) {
            self.breaks(format!("{key}: a live incumbent was replaced: {before:?}, {after:?}, {owner:?}"));
        }
    }

    /// Whether `after` may have taken the stream from `before`.
    fn may_take(
        &self,
        before: &StreamRecord,
        after: &StreamRecord,
        owner: Option<&NodeRecord>,
        now: UnixMs,
    ) -> bool {
        let own = before.owner.node == after.owner.node || before.session == after.session;
        let free = !before.is_live() || self.was_minted(&after.key, after.epoch);
        let replaced = owner.is_none_or(|node| node.incarnation != before.owner.incarnation);
        let was_dead = self.dead.get(&before.owner.node).is_some_and(|(incarnation, at)| {
            *incarnation == before.owner.incarnation && at.age(now) <= CLAIM_UNDER_WAY
        });
        own || free || replaced || was_dead || owner.is_some_and(|node| may_be_dead(node, now))
    }

    pub(crate) fn node_written(&mut self, before: Option<&NodeRecord>, after: &NodeRecord, now: UnixMs) {
        let id = &after.id;
        let account =
            |node: &NodeRecord| node.free_mpx + node.reservations.iter().map(|r| r.mpx).sum::<f64>();
        if after.free_mpx < -NOTHING {
            self.breaks(format!("{id} has less than no room: {after:?}"));
        }
        let Some(before) = before else { return };
        self.check_life(before, after, now);
        if may_be_dead(before, now) {
            self.dead.insert(id.clone(), (before.incarnation.clone(), now));
        }
        if after.rev <= before.rev {
            self.breaks(format!("{id}: revision {} was written over {}", after.rev, before.rev));
        }
        let taken =
            after.incarnation == before.incarnation && after.reservations.len() > before.reservations.len();
        if taken && (account(after) - account(before)).abs() > NOTHING {
            self.breaks(format!("{id}: room was taken and not accounted for: {before:?}, {after:?}"));
        }
        if !taken && after.state != NodeState::Gone && account(after) > after.capacity_mpx + NOTHING {
            let reserved = account(after) - after.free_mpx;
            // Reserved room that an outage let others use is more than there is; free it never is.
            if after.free_mpx > NOTHING {
                self.breaks(format!("{id} gives more than it has, {reserved} Mpx/s reserved: {after:?}"));
            }
        }
        let expired =
            |r: &sluicegate_cluster::node::Reservation| r.expires_at.0 + SKEW_MS < after.heartbeat.0;
        if after.heartbeat != before.heartbeat && after.reservations.iter().any(expired) {
            self.breaks(format!("{id} keeps what has expired: {after:?}"));
        }
    }

    /// New work was given to `taker`. `nodes` are all nodes, as they were before.
    pub(crate) fn work_given(&mut self, taker: &NodeId, mpx: f64, nodes: &[NodeRecord], now: UnixMs) {
        let is_new = |node: &&NodeRecord| now.0 - node.serving_since.0 < NEW_MS;
        let serving = nodes.iter().filter(|node| node.state == NodeState::Serving);
        let (new, settled): (Vec<_>, Vec<_>) = serving.partition(is_new);
        let others_have_room = settled.iter().any(|node| node.free_mpx >= mpx);
        if !self.judges_newcomers || new.is_empty() || new.len() > settled.len() || !others_have_room {
            return;
        }
        self.given.0 += 1;
        self.given.1 += u32::from(new.iter().any(|node| node.id == *taker));
        let (all, part) = (f64::from(self.given.0), f64::from(self.given.1));
        if part > NEW_PART * all + TOO_LUCKY * all.sqrt() + 1.0 {
            self.breaks(format!("{taker} has just come back, and got {part} of {all} parts of the new work"));
        }
    }

    /// Deaths, drains and times.
    fn check_life(&mut self, before: &NodeRecord, after: &NodeRecord, now: UnixMs) {
        let (id, same_run) = (&after.id, after.incarnation == before.incarnation);
        let silent_ms = now.0 - before.heartbeat.0;
        let unanswered_ms = i64::try_from(limits::HEARTBEAT_GONE_UNANSWERED.as_millis()).unwrap();
        let found_dead = same_run && after.found_dead_by.is_some() && before.found_dead_by.is_none();
        if found_dead && silent_ms < unanswered_ms - SKEW_MS {
            self.breaks(format!("{id} was taken for dead {silent_ms} ms after its heartbeat: {before:?}"));
        }
        if same_run && before.found_dead_by.is_some() && after.state != NodeState::Gone {
            self.breaks(format!("{id} goes on as the run that was found dead: {before:?}, {after:?}"));
        }
        let given = after.reservations.len() > before.reservations.len();
        if same_run && given && before.state != NodeState::Serving {
            self.breaks(format!("{id} was given work while it takes none: {before:?}, {after:?}"));
        }
        let off_ms = (after.heartbeat.0 - now.0).abs();
        if after.heartbeat != before.heartbeat && off_ms > HEARTBEAT_UNDER_WAY_MS + SKEW_MS {
            self.breaks(format!("{id}: a heartbeat is {off_ms} ms off the database's time: {after:?}"));
        }
    }

    pub(crate) fn breaks(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }
}

/// Whether a reader whose clock is off may take this run of a node for dead.
fn may_be_dead(node: &NodeRecord, now: UnixMs) -> bool {
    let silent = i64::try_from(limits::HEARTBEAT_GONE.as_millis()).unwrap() - 2 * SKEW_MS;
    node.state == NodeState::Gone || now.0 - node.heartbeat.0 >= silent
}
