//! How many watch a stream, as the edges tell that have it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sluicegate_cluster::ids::NodeId;

/// An edge's word holds for this long: it is repeated at least every few seconds.
const WORD: Duration = Duration::from_secs(10);
/// Edges whose viewers are counted.
const EDGES_MAX: usize = 1_000;

/// The viewers on each edge.
#[derive(Debug, Default)]
pub(crate) struct Audience(HashMap<NodeId, (u64, Instant)>);

impl Audience {
    /// `edge` says at `now` how many viewers it has.
    pub(crate) fn told(&mut self, edge: &NodeId, viewers: u64, now: Instant) {
        if self.0.len() < EDGES_MAX || self.0.contains_key(edge) {
            self.0.insert(edge.clone(), (viewers, now));
        }
    }

    /// All of them at `now`. Edges that have not said it lately have none any more.
    pub(crate) fn count(&mut self, now: Instant) -> u64 {
        self.0.retain(|_, (_, told)| now.saturating_duration_since(*told) < WORD);
        self.0.values().fold(0, |sum, (viewers, _)| sum.saturating_add(*viewers))
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock;

    use super::*;

    #[test]
    fn an_edges_last_word_counts_for_a_while() {
        let (mut audience, now) = (Audience::default(), clock::now());
        let [a, b]: [NodeId; 2] = ["a", "b"].map(|id| id.parse().unwrap());
        audience.told(&a, 7, now);
        audience.told(&b, u64::MAX, now);
        assert_eq!(audience.count(now), u64::MAX);
        audience.told(&b, 2, now);
        assert_eq!(audience.count(now), 9);
        audience.told(&a, 3, now + WORD / 2);
        assert_eq!(audience.count(now + WORD), 3);
        for n in 0..2 * EDGES_MAX {
            audience.told(&format!("edge-{n}").parse().unwrap(), 1, now + WORD);
        }
        assert_eq!(audience.count(now + WORD), 3 + EDGES_MAX as u64 - 1);
    }
}
