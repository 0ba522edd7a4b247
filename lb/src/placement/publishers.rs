//! Publishers onto origins. The room itself is taken in the store, in one step; here is decided who may
//! be asked, and what to do when the store is away.

use rand::seq::IndexedRandom as _;
use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::node::{NodeRecord, Role};
use sluicegate_cluster::store::LoadAfter;
use sluicegate_cluster::view::ClusterView;

use super::told::{ToldRooms, Unreserved};
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
    let stream = view.stream(key).filter(|s| s.is_live())?;
    let node = view.nodes.get(&stream.owner.node)?;
    let lives = !health.is_down(&node.id) && (health.is_up(&node.id) || view.lives(node));
    (view.is_live(stream) && lives).then_some(node)
}

/// Origins that are compared without the store: few enough that balancers do not all choose the same one.
const FALLBACK_CHOICES: usize = 8;

/// What is known of origins' room without the store.
#[derive(Debug, Clone, Copy)]
pub struct KnownRoom<'a> {
    /// What they said when they were probed.
    pub told: &'a ToldRooms,
    /// What was placed since.
    pub unreserved: &'a Unreserved,
}

/// An origin without the store: of some at random of those `offered` that have room for `cost_mpx`, by their last
/// word and what was placed since, the one that would be the least loaded. The other balancers are taken to place
/// as much as this one does, and do not say so either.
pub fn fallback_origin<'a>(
    view: &'a ClusterView,
    health: &Health,
    offered: &[NodeId],
    cost_mpx: f64,
    known: KnownRoom<'_>,
    rng: &mut impl rand::Rng,
) -> Option<&'a NodeRecord> {
    let balancers = view.nodes.values().filter(|n| n.has(Role::Lb) && takes_work(n, view, health)).count();
    let mut origins: Vec<(&NodeRecord, LoadAfter)> = Vec::new();
    for node in offered.iter().filter_map(|id| view.nodes.get(id)) {
        let room = known.told.newest(node);
        let placed = known.unreserved.mpx_since(&node.id, room.at);
        if room.free_mpx - placed >= cost_mpx {
            let by_all = placed * balancers.max(1) as f64;
            origins.push((node, LoadAfter::new(room.capacity_mpx, room.free_mpx - by_all, cost_mpx)));
        }
    }
    // What is known and the dice decide, not the order of a map.
    origins.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    let some = origins.choose_multiple(rng, FALLBACK_CHOICES);
    some.min_by(|(_, a), (_, b)| a.order(b)).map(|(node, _)| *node)
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
    use sluicegate_cluster::report::OriginReport;

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
        let late = ClusterView { loads_at: NOW.plus(std::time::Duration::from_secs(60)), ..view };
        assert!(live_origin(&late, &unknown, &key).is_none());
        assert!(live_origin(&late, &unknown.after([(id, true)]), &key).is_some());
    }

    /// Where a publish goes that costs `mpx`.
    fn fallback(view: &ClusterView, mpx: f64, told: &ToldRooms, unreserved: &Unreserved) -> Option<String> {
        let (health, known) = (Health::default(), KnownRoom { told, unreserved });
        let all = origins_by_room(view, &health, &[]);
        let taken = fallback_origin(view, &health, &all, mpx, known, &mut rand::rng())?;
        Some(taken.id.to_string())
    }

    #[test]
    fn without_the_store_the_less_loaded_is_taken_and_a_full_one_never() {
        let view = view(&[("o1", 1.0), ("o2", 30.0), ("o3", 20.0)]);
        let (told, unreserved) = (ToldRooms::default(), Unreserved::default());
        for _ in 0..50 {
            let taken = fallback(&view, 5.0, &told, &unreserved);
            assert_eq!(taken.as_deref(), Some("o2"), "two have room");
        }
        assert_eq!(fallback(&view, 50.0, &told, &unreserved), None);
    }

    #[test]
    fn only_those_are_taken_that_are_offered() {
        let (view, health) = (view(&[("o1", 30.0), ("o2", 20.0)]), Health::default());
        let (told, unreserved) = (ToldRooms::default(), Unreserved::default());
        let known = KnownRoom { told: &told, unreserved: &unreserved };
        let offered = ["o2".parse().unwrap(), "gone".parse().unwrap()];
        let taken = fallback_origin(&view, &health, &offered, 5.0, known, &mut rand::rng()).unwrap();
        assert_eq!(taken.id.as_str(), "o2");
    }

    #[test]
    fn what_was_placed_without_the_store_counts_until_the_origin_says_it() {
        let before = view(&[("o1", 10.0), ("o2", 30.0)]);
        let unreserved = Unreserved::default();
        let place = |view: &ClusterView, told: &ToldRooms| {
            let taken = fallback(view, 10.0, told, &unreserved)?;
            unreserved.charge(&taken.parse().unwrap(), 10.0, NOW);
            Some(taken)
        };
        let placed: Vec<_> = (0..5).map(|_| place(&before, &ToldRooms::default())).collect();
        let all = placed.iter().flatten();
        assert_eq!((all.clone().filter(|id| *id == "o1").count(), all.count()), (1, 4), "{placed:?}");
        let second = NOW.plus(std::time::Duration::from_secs(1));
        let later = NodeRecord { free_mpx: 10.0, ..node("o2", second) };
        let after = before.fold(vec![Ok(later)], Vec::new(), NOW);
        assert_eq!(place(&after, &ToldRooms::default()).as_deref(), Some("o2"), "its heartbeat says it");
        let report = OriginReport { capacity_mpx: 124.0, running_mpx: 100.0, unconfirmed: Vec::new() };
        let o1 = "o1".parse().unwrap();
        let told = ToldRooms::of([(&o1, &report)], second);
        assert_eq!(place(&before, &told).as_deref(), Some("o1"), "it says so when it is probed");
    }
}
