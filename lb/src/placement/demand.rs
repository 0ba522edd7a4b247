//! How much each stream is asked for through this balancer: playlist requests a second, which follow the
//! number of viewers, since a player reloads once per target duration. Of a low-latency player's requests only
//! those for a segment's first part count ([`sluicegate_media::reload::Directives::begins_segment`]): it would
//! weigh as much as five others.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use sluicegate_cluster::ids::StreamKey;

/// Streams counted at once. Beyond it new ones are not counted, which only means that they do not spill.
const STREAMS_MAX: usize = 100_000;

/// Locks, so that threads seldom meet.
const SHARDS: usize = 16;

/// The share of the old rate that stays at each fold: about five seconds' memory.
const KEEP: f64 = 0.8;

/// Counts requests per stream.
pub struct Demand {
    shards: Vec<Mutex<HashMap<StreamKey, Rate>>>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    since_fold: f64,
    per_second: f64,
}

impl Default for Demand {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

impl Demand {
    /// Counts one playlist request.
    pub fn count(&self, key: &StreamKey) {
        let shard = usize::try_from(self.hasher.hash_one(key)).unwrap_or(0) % SHARDS;
        let Some(shard) = self.shards.get(shard) else { return };
        let mut rates = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rate) = rates.get_mut(key) {
            rate.since_fold += 1.0;
        } else if rates.len() < STREAMS_MAX / SHARDS {
            rates.insert(key.clone(), Rate { since_fold: 1.0, per_second: 0.0 });
        }
    }

    /// The requests a second for each stream, `seconds` after the last fold. Idle streams are forgotten.
    pub fn fold(&self, seconds: f64) -> HashMap<StreamKey, f64> {
        let mut all = HashMap::new();
        for shard in &self.shards {
            let mut rates = shard.lock().unwrap_or_else(PoisonError::into_inner);
            rates.retain(|key, rate| {
                let now = rate.since_fold / seconds.max(f64::EPSILON);
                rate.per_second = KEEP * rate.per_second + (1.0 - KEEP) * now;
                rate.since_fold = 0.0;
                let wanted = rate.per_second > 0.01;
                if wanted {
                    all.insert(key.clone(), rate.per_second);
                }
                wanted
            });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_follows_the_rate_and_forgets() {
        let demand = Demand::default();
        let key: StreamKey = "live/a".parse().unwrap();
        for _ in 0..30 {
            (0..50).for_each(|_| demand.count(&key));
            demand.fold(1.0);
        }
        (0..50).for_each(|_| demand.count(&key));
        let rate = demand.fold(1.0)[&key];
        assert!((rate - 50.0).abs() < 1.0, "{rate}");
        for _ in 0..60 {
            demand.fold(1.0);
        }
        assert!(demand.fold(1.0).is_empty());
    }
}
