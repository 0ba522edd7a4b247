//! Nodes that join, come back, or are let go after a drain take new work gradually: a tenth of their part at
//! first, all of it when they have taken work for the time that the operator allows them
//! (`limits.slow_start_ms`). A node that fails again right away has harmed few then, and an empty cache fills
//! before the crowd comes.

use std::time::Duration;

use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::node::NodeRecord;
use sluicegate_cluster::view::ClusterView;

/// The part of its work that a newcomer gets at once, and the steps in which it grows: few, so that balancers
/// agree nearly all the time, and viewers move seldom.
const STEP: f64 = 0.1;

/// By when it is and how long newcomers get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// Now, in the database's time.
    pub now: UnixMs,
    /// From a node's first work to all of it.
    pub ramp: Duration,
}

impl SlowStart {
    /// The part of its work that each of `nodes` gets, above 0 and up to 1. Where newcomers outnumber the others,
    /// as when a cluster starts, nobody is there to spare them: all get all of it.
    #[must_use]
    pub fn shares(&self, nodes: &[&NodeRecord]) -> Vec<f64> {
        let shares: Vec<f64> = nodes.iter().map(|node| self.share(node)).collect();
        let newcomers = shares.iter().filter(|share| **share < 1.0).count();
        if newcomers * 2 > nodes.len() { vec![1.0; nodes.len()] } else { shares }
    }

    /// Those of `origins` that one new publish is offered to: newcomers by chance, as often as their share says.
    #[must_use]
    pub fn offer(&self, view: &ClusterView, origins: &[NodeId], rng: &mut impl rand::Rng) -> Vec<NodeId> {
        let nodes: Vec<&NodeRecord> =
            origins.iter().filter_map(|id| view.nodes.get(id)).map(AsRef::as_ref).collect();
        let shares = self.shares(&nodes);
        let offered = nodes.iter().zip(shares).filter(|(_, share)| *share >= 1.0 || rng.random_bool(*share));
        offered.map(|(node, _)| node.id.clone()).collect()
    }

    fn share(&self, node: &NodeRecord) -> f64 {
        let part = node.serving_since.age(self.now).as_secs_f64() / self.ramp.as_secs_f64();
        ((part / STEP).floor() * STEP).clamp(STEP, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_cluster::testing::node;

    const BEGAN: UnixMs = UnixMs(1_000_000);

    fn after(seconds: u64) -> SlowStart {
        SlowStart { now: BEGAN.plus(Duration::from_secs(seconds)), ramp: Duration::from_secs(30) }
    }

    fn newcomer(id: &str) -> NodeRecord {
        NodeRecord { serving_since: BEGAN, ..node(id, BEGAN) }
    }

    #[test]
    fn a_newcomers_share_grows_step_by_step_to_all() {
        let (settled, new) = (node("a", BEGAN), newcomer("b"));
        let mut last = 0.0;
        for seconds in 0..=40 {
            let shares = after(seconds).shares(&[&settled, &new]);
            assert!((shares[0] - 1.0).abs() < f64::EPSILON);
            assert!(shares[1] >= last && shares[1] >= STEP, "{shares:?}");
            last = shares[1];
        }
        for (seconds, share) in [(0, 0.1), (15, 0.5), (29, 0.9), (30, 1.0)] {
            let shares = after(seconds).shares(&[&settled, &new]);
            assert!((shares[1] - share).abs() < 1e-9, "{seconds} s: {shares:?}");
        }
    }

    #[test]
    fn a_cluster_that_starts_spares_nobody() {
        let (a, b, c) = (node("a", BEGAN), newcomer("b"), newcomer("c"));
        assert_eq!(after(1).shares(&[&b, &c]), [1.0, 1.0]);
        assert_eq!(after(1).shares(&[&a, &b, &c]), [1.0, 1.0, 1.0]);
        assert_eq!(after(1).shares(&[]), Vec::<f64>::new());
    }

    #[test]
    fn new_publishes_are_offered_to_a_newcomer_as_often_as_its_share_says() {
        let reads = vec![Ok(node("a", BEGAN)), Ok(newcomer("b"))];
        let view = ClusterView::default().fold(reads, Vec::new(), BEGAN);
        let origins: Vec<NodeId> = ["a", "b", "unknown"].map(|id| id.parse().unwrap()).to_vec();
        let mut rng = rand::rng();
        let mut offered = |seconds| {
            let offers = (0..1_000).map(|_| after(seconds).offer(&view, &origins, &mut rng));
            let all: Vec<Vec<NodeId>> = offers.collect();
            assert!(all.iter().all(|offer| offer[0].as_str() == "a"));
            all.iter().filter(|offer| offer.len() == 2).count()
        };
        assert!((50..200).contains(&offered(1)));
        assert!((400..600).contains(&offered(15)));
        assert_eq!(offered(30), 1_000);
    }
}
