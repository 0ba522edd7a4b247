//! Publishers onto origins. The room itself is taken in the store, in one step; here is decided who may
//! be asked, and what to do when the store is away.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::seq::IndexedRandom as _;
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::node::{NodeRecord, Role};
use sluicegate_cluster::store::LoadAfter;
use sluicegate_cluster::view::ClusterView;

use crate::health::{Health, takes_work};

/// The origins that take publishers, the one with most room first.
#[must_use]
pub fn origins_by_room(view: &ClusterView, health: &Health, without: &[NodeId]) -> Vec<NodeId> {
    let mut origins: Vec<&NodeRecord> = serving_origins(view, health, without).collect();
    origins.sort_by(|a, b| b.free_mpx.total_cmp(&a.free_mpx).then_with(|| a.id.cmp(&b.id)));
    origins.into_iter().map(|n| n.id.clone()).collect()
}

/// The origin that has `key` now, if it lives: a second publisher is sent there, and it decides.
#[must_use]
pub fn live_origin<'a>(view: &'a ClusterView, health: &Health, key: &StreamKey) -> Option<&'a NodeRecord> {
    let stream = view.streams.get(key).filter(|s| s.is_live())?;
    let node = view.nodes.get(&stream.owner.node)?;
    let lives = !health.is_down(&node.id) && (health.is_up(&node.id) || node.is_alive(view.read_at));
    (view.is_live(stream) && lives).then_some(node)
}

/// What this balancer has placed without the store, which no document says yet.
#[derive(Debug, Default)]
pub struct Unreserved(Mutex<HashMap<NodeId, Charge>>);

#[derive(Debug, Default, Clone, Copy)]
struct Charge {
    mpx: f64,
    last: UnixMs,
}

impl Unreserved {
    /// Counts a publish that goes to `node` at `now` (database time).
    pub fn charge(&self, node: &NodeId, mpx: f64, now: UnixMs) {
        let mut charges = self.lock();
        let charge = charges.entry(node.clone()).or_default();
        *charge = Charge { mpx: charge.mpx + mpx, last: now };
    }

    /// What was placed on `node` since its heartbeat, Mpx/s. A heartbeat says it all.
    fn mpx_since_heartbeat(&self, node: &NodeRecord) -> f64 {
        let mut charges = self.lock();
        if charges.get(&node.id).is_some_and(|charge| charge.last < node.heartbeat) {
            charges.remove(&node.id);
        }
        charges.get(&node.id).map_or(0.0, |charge| charge.mpx)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Charge>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Origins that are compared without the store: few enough that balancers do not all choose the same one.
const FALLBACK_CHOICES: usize = 8;

/// An origin without the store: of some at random that have room for `cost_mpx`, by the last state known and
/// what was placed since, the one that would be the least loaded. The other balancers are taken to place as
/// much as this one does, and do not say so either.
pub fn fallback_origin<'a>(
    view: &'a ClusterView,
    health: &'a Health,
    without: &'a [NodeId],
    cost_mpx: f64,
    unreserved: &Unreserved,
    rng: &mut impl rand::Rng,
) -> Option<&'a NodeRecord> {
    let balancers = view.nodes.values().filter(|n| n.has(Role::Lb) && takes_work(n, view, health)).count();
    let placed = |node: &NodeRecord| unreserved.mpx_since_heartbeat(node);
    let fits = |node: &&NodeRecord| node.free_mpx - placed(node) >= cost_mpx;
    let mut origins: Vec<&NodeRecord> = serving_origins(view, health, without).filter(fits).collect();
    // What is known and the dice decide, not the order of a map.
    origins.sort_by(|a, b| a.id.cmp(&b.id));
    let after = |node: &NodeRecord| {
        let by_all = placed(node) * balancers.max(1) as f64;
        LoadAfter::new(node.capacity_mpx, node.free_mpx - by_all, cost_mpx)
    };
    let some = origins.choose_multiple(rng, FALLBACK_CHOICES);
    some.min_by(|a, b| after(a).order(&after(b))).copied()
}

fn serving_origins<'a>(
    view: &'a ClusterView,
    health: &'a Health,
    without: &'a [NodeId],
) -> impl Iterator<Item = &'a NodeRecord> {
    view.nodes
        .values()
        .map(AsRef::as_ref)
        .filter(|n| n.has(Role::Origin) && n.addresses.rtmp.is_some() && takes_work(n, view, health))
        .filter(|n| !without.contains(&n.id))
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock::UnixMs;

    use super::*;
    use sluicegate_cluster::testing::{node, stream_held_by};

    const NOW: UnixMs = UnixMs(1_000_000);

    fn view(free: &[(&str, f64)]) -> ClusterView {
        let reads =
            free.iter().map(|(id, free)| Ok(NodeRecord { free_mpx: *free, ..node(id, NOW) })).collect();
        ClusterView::default().fold(reads, vec![stream_held_by("live/a", "o1", "s", NOW)], NOW)
    }

    #[test]
    fn most_room_first() {
        let view = view(&[("o1", 10.0), ("o2", 30.0), ("o3", 20.0)]);
        let order: Vec<String> =
            origins_by_room(&view, &Health::default(), &[]).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["o2", "o3", "o1"]);
        assert_eq!(origins_by_room(&view, &Health::default(), &["o2".parse().unwrap()])[0].as_str(), "o3");
    }

    #[test]
    fn a_live_stream_keeps_its_origin_while_that_lives() {
        let view = view(&[("o1", 0.0)]);
        let (key, id) = ("live/a".parse().unwrap(), "o1".parse::<NodeId>().unwrap());
        let unknown = Health::default();
        assert!(live_origin(&view, &unknown, &key).is_some());
        assert!(live_origin(&view, &unknown, &"live/b".parse().unwrap()).is_none());
        let down = unknown.after([(id.clone(), false)]).after([(id.clone(), false)]);
        assert!(live_origin(&view, &down, &key).is_none());
        let late = ClusterView { read_at: NOW.plus(std::time::Duration::from_secs(60)), ..view };
        assert!(live_origin(&late, &unknown, &key).is_none());
        assert!(live_origin(&late, &unknown.after([(id, true)]), &key).is_some());
    }

    #[test]
    fn without_the_store_the_less_loaded_is_taken_and_a_full_one_never() {
        let view = view(&[("o1", 1.0), ("o2", 30.0), ("o3", 20.0)]);
        let (health, mut rng) = (Health::default(), rand::rng());
        for _ in 0..50 {
            let taken = fallback_origin(&view, &health, &[], 5.0, &Unreserved::default(), &mut rng).unwrap();
            assert_eq!(taken.id.as_str(), "o2", "two have room");
        }
        assert!(fallback_origin(&view, &health, &[], 50.0, &Unreserved::default(), &mut rng).is_none());
    }

    #[test]
    fn what_was_placed_without_the_store_counts_until_a_heartbeat_says_it() {
        let before = view(&[("o1", 10.0), ("o2", 30.0)]);
        let (health, unreserved, mut rng) = (Health::default(), Unreserved::default(), rand::rng());
        let mut place = |view: &ClusterView| {
            let taken = fallback_origin(view, &health, &[], 10.0, &unreserved, &mut rng)?;
            unreserved.charge(&taken.id, 10.0, NOW);
            Some(taken.id.to_string())
        };
        let placed: Vec<_> = (0..5).map(|_| place(&before)).collect();
        let all = placed.iter().flatten();
        assert_eq!((all.clone().filter(|id| *id == "o1").count(), all.count()), (1, 4), "{placed:?}");
        let later = NodeRecord { free_mpx: 10.0, ..node("o2", NOW.plus(std::time::Duration::from_secs(1))) };
        let after = before.fold(vec![Ok(later)], Vec::new(), NOW);
        assert_eq!(place(&after).as_deref(), Some("o2"));
    }
}
