//! What a balancer saw when it chose an origin: the reason that operators are shown later.

use std::cmp::Ordering;

use sluicegate_cluster::clock;
use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::node::{NodeRecord, NodeState, Role};
use sluicegate_cluster::placed::{Because, Placed, PlacedCandidate};
use sluicegate_cluster::store::LoadAfter;
use sluicegate_cluster::view::ClusterView;

/// The decision for `chosen` by the balancer `by`, for a stream of this cost.
pub(super) fn seen(
    by: &NodeId,
    view: &ClusterView,
    chosen: &NodeId,
    because: Because,
    cost_mpx: f64,
) -> Placed {
    let at = view.now(clock::now());
    let mut origins: Vec<&NodeRecord> = view.nodes.values().map(AsRef::as_ref).collect();
    origins.retain(|n| n.has(Role::Origin) && n.state != NodeState::Gone);
    origins.sort_by(|a, b| order(a, b, chosen, cost_mpx));
    let candidate = |n: &NodeRecord| PlacedCandidate {
        node: n.id.clone(),
        free_mpx: n.free_mpx,
        capacity_mpx: n.capacity_mpx,
        cpu: n.load.cpu,
        heartbeat_age_ms: u64::try_from(n.heartbeat.age(at).as_millis()).unwrap_or(u64::MAX),
    };
    let (of, candidates) = (origins.len(), origins.iter().map(|n| candidate(n)).collect());
    Placed { by: by.clone(), at, because, cost_mpx, of, candidates }.bounded()
}

/// The chosen one, then as the stream would load them.
fn order(a: &NodeRecord, b: &NodeRecord, chosen: &NodeId, cost_mpx: f64) -> Ordering {
    let after = |n: &NodeRecord| LoadAfter::new(n.capacity_mpx, n.free_mpx, cost_mpx);
    let is_other = |n: &NodeRecord| n.id != *chosen;
    is_other(a).cmp(&is_other(b)).then_with(|| after(a).order(&after(b))).then_with(|| a.id.cmp(&b.id))
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock::UnixMs;
    use sluicegate_cluster::testing::node;

    use super::*;

    #[test]
    fn the_chosen_one_is_told_of_first_and_all_are_counted() {
        let now = UnixMs(1_000_000);
        let record = |(id, free_mpx): (&str, f64)| Ok(NodeRecord { free_mpx, ..node(id, now) });
        let nodes = [("o1", 5.0), ("o2", 9.0), ("o3", 60.0)].map(record);
        let view = ClusterView::default().fold(nodes.into(), Vec::new(), now);
        let placed = seen(&"lb-1".parse().unwrap(), &view, &"o2".parse().unwrap(), Because::LeastLoaded, 2.0);
        let names: Vec<&str> = placed.candidates.iter().map(|c| c.node.as_str()).collect();
        assert_eq!((names, placed.of, placed.at), (vec!["o2", "o3", "o1"], 3, now));
    }
}
