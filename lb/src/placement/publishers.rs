//! Publishers onto origins. The room itself is taken in the store, in one step; here is decided who may
//! be asked, and what to do when the store is away.

use rand::seq::IndexedRandom as _;
use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::node::{NodeRecord, Role};
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
    (node.incarnation == stream.owner.incarnation && lives).then_some(node)
}

/// An origin without the store: of two at random that have room for `cost_mpx`, by the last state known,
/// the one with more.
pub fn fallback_origin<'a>(
    view: &'a ClusterView,
    health: &'a Health,
    without: &'a [NodeId],
    cost_mpx: f64,
    rng: &mut impl rand::Rng,
) -> Option<&'a NodeRecord> {
    let origins: Vec<&NodeRecord> =
        serving_origins(view, health, without).filter(|n| n.free_mpx >= cost_mpx).collect();
    let two = origins.choose_multiple(rng, 2);
    two.max_by(|a, b| a.free_mpx.total_cmp(&b.free_mpx)).copied()
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
    fn without_the_store_the_roomier_of_two_is_taken_and_a_full_one_never() {
        let view = view(&[("o1", 1.0), ("o2", 30.0), ("o3", 20.0)]);
        let (health, mut rng) = (Health::default(), rand::rng());
        for _ in 0..50 {
            let taken = fallback_origin(&view, &health, &[], 5.0, &mut rng).unwrap();
            assert_eq!(taken.id.as_str(), "o2", "two have room: the roomier");
        }
        assert!(fallback_origin(&view, &health, &[], 50.0, &mut rng).is_none());
    }
}
