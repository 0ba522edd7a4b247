//! What origins say of their room when they are probed. While the store is away it is the newer word, and publishes
//! are placed by it and by what this balancer has placed since.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::node::NodeRecord;
use sluicegate_cluster::report::OriginReport;

/// From the choice of an origin to its having booked the publish. What was placed so shortly before an origin spoke
/// may be missing in what it said.
const PLACING: Duration = Duration::from_secs(1);
/// Publishes remembered for each origin, the latest. They are forgotten at its next word.
const CHARGES_MAX: usize = 10_000;

/// An origin's room, as of a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToldRoom {
    /// What it can encode, Mpx/s.
    pub capacity_mpx: f64,
    /// What is left of it, Mpx/s.
    pub free_mpx: f64,
    /// When it was asked, in the database's time.
    pub at: UnixMs,
}

/// What origins said when they were probed last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToldRooms(HashMap<NodeId, ToldRoom>);

impl ToldRooms {
    /// What is said in `reports`, whose senders were asked at `at` (database time).
    #[must_use]
    pub fn of<'a>(reports: impl IntoIterator<Item = (&'a NodeId, &'a OriginReport)>, at: UnixMs) -> Self {
        let told = |(node, report): (&NodeId, &OriginReport)| {
            let free_mpx = (report.capacity_mpx - report.running_mpx).max(0.0);
            (node.clone(), ToldRoom { capacity_mpx: report.capacity_mpx, free_mpx, at })
        };
        Self(reports.into_iter().map(told).collect())
    }

    /// The newest word of `node`: its document's, or what it told.
    pub(super) fn newest(&self, node: &NodeRecord) -> ToldRoom {
        let document =
            ToldRoom { capacity_mpx: node.capacity_mpx, free_mpx: node.free_mpx, at: node.heartbeat };
        self.0.get(&node.id).filter(|told| told.at > node.heartbeat).copied().unwrap_or(document)
    }
}

/// What this balancer has placed without the store, which no origin has said yet.
#[derive(Debug, Default)]
pub struct Unreserved(Mutex<HashMap<NodeId, VecDeque<Charge>>>);

#[derive(Debug, Clone, Copy)]
struct Charge {
    mpx: f64,
    at: UnixMs,
}

impl Unreserved {
    /// Counts a publish that goes to `node` at `now` (database time).
    pub fn charge(&self, node: &NodeId, mpx: f64, now: UnixMs) {
        let mut all = self.lock();
        let charges = all.entry(node.clone()).or_default();
        if charges.len() >= CHARGES_MAX {
            charges.pop_front();
        }
        charges.push_back(Charge { mpx, at: now });
    }

    /// What was placed on `node` that its word of `at` does not say, Mpx/s.
    pub(super) fn mpx_since(&self, node: &NodeId, at: UnixMs) -> f64 {
        let mut all = self.lock();
        let Some(charges) = all.get_mut(node) else { return 0.0 };
        charges.retain(|charge| charge.at.plus(PLACING) > at);
        let mpx = charges.iter().map(|charge| charge.mpx).sum();
        if charges.is_empty() {
            all.remove(node);
        }
        mpx
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, VecDeque<Charge>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_cluster::testing::node;

    const NOW: UnixMs = UnixMs(1_000_000);

    #[test]
    fn the_newer_word_counts() {
        let report = OriginReport { capacity_mpx: 10.0, running_mpx: 12.0, unconfirmed: Vec::new() };
        let (o1, o2) = (node("o1", NOW), node("o2", NOW));
        let told = |at| ToldRooms::of([(&o1.id, &report)], at);
        let later = told(UnixMs(NOW.0 + 1));
        assert_eq!(later.newest(&o1), ToldRoom { capacity_mpx: 10.0, free_mpx: 0.0, at: UnixMs(NOW.0 + 1) });
        let document = ToldRoom { capacity_mpx: 124.0, free_mpx: 124.0, at: NOW };
        assert_eq!(later.newest(&o2), document);
        assert_eq!(told(NOW).newest(&o1), document);
    }

    #[test]
    fn a_charge_counts_until_its_origin_has_surely_said_it() {
        let (unreserved, id) = (Unreserved::default(), "o1".parse().unwrap());
        assert!(unreserved.mpx_since(&id, NOW).abs() < 1e-9);
        unreserved.charge(&id, 2.0, NOW);
        unreserved.charge(&id, 3.0, NOW.plus(PLACING));
        for (at, mpx) in [(NOW, 5.0), (NOW.plus(PLACING), 3.0), (NOW.plus(PLACING * 2), 0.0)] {
            assert!((unreserved.mpx_since(&id, at) - mpx).abs() < 1e-9, "{at:?}");
        }
        assert!(unreserved.lock().is_empty(), "nothing is kept for ever");
        for _ in 0..=CHARGES_MAX {
            unreserved.charge(&id, 1.0, NOW);
        }
        assert_eq!(unreserved.lock()[&id].len(), CHARGES_MAX);
    }
}
