//! The only place where clocks are read. Everything that decides takes `now` as an argument, so that it
//! can be tested and simulated.
#![allow(clippy::disallowed_methods, reason = "this module is the one that reads clocks")]

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01 UTC, by a wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// `self` moved forward by `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long ago `self` was at `now`; zero when it lies in the future.
    #[must_use]
    pub fn age(self, now: Self) -> Duration {
        Duration::from_millis(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// What the cluster's clock showed at an instant of this machine's monotonic one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Anchor {
    time: UnixMs,
    at: Instant,
}

/// As far as readings of the store's clock scatter by a network's delays. What is carried on is kept that near to
/// them, and does not jitter with them.
const SCATTER: Duration = Duration::from_millis(100);

/// A process is one node of one cluster.
static CLUSTER: RwLock<Option<Anchor>> = RwLock::new(None);

/// The cluster's time, which is the store's: carried on from its last reading, and this machine's before the first.
/// Whatever one node says to another about time is said by this clock.
#[must_use]
pub fn cluster_ms() -> UnixMs {
    let anchor = *CLUSTER.read().unwrap_or_else(PoisonError::into_inner);
    anchor.map_or_else(unix_ms, |anchor| anchor.carried_on(now()))
}

/// The store's clock showed `time` at the instant `at`.
pub fn follow_cluster(time: UnixMs, at: Instant) {
    let mut anchor = CLUSTER.write().unwrap_or_else(PoisonError::into_inner);
    *anchor = Some(Anchor::after(*anchor, Anchor { time, at }));
}

/// How far this machine's wall clock is ahead of the cluster's time, milliseconds; negative when it is behind.
#[must_use]
pub fn ahead_ms() -> i64 {
    unix_ms().0.saturating_sub(cluster_ms().0)
}

impl Anchor {
    fn carried_on(self, now: Instant) -> UnixMs {
        self.time.plus(now.saturating_duration_since(self.at))
    }

    /// Which of two readings is carried on: the `new` one if it says something else than the one before.
    fn after(before: Option<Self>, new: Self) -> Self {
        let kept = before.map(|before| Self { time: before.carried_on(new.at), at: new.at });
        kept.filter(|kept| kept.time.0.abs_diff(new.time.0) <= SCATTER.as_millis() as u64).unwrap_or(new)
    }
}

/// The monotonic clock.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// This machine's wall clock.
#[must_use]
pub fn unix_ms() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_that_scatter_are_no_news_and_a_clock_that_was_set_is() {
        let began = now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let reading = |ms: i64, seconds: u64| Anchor { time: UnixMs(ms), at: at(seconds) };
        let first = Anchor::after(None, reading(5_000, 0));
        assert_eq!(first.carried_on(at(2)), UnixMs(7_000));
        let second = Anchor::after(Some(first), reading(7_090, 2));
        assert_eq!(second.carried_on(at(3)), UnixMs(8_000), "as before");
        let third = Anchor::after(Some(second), reading(9_101, 4));
        assert_eq!(third.carried_on(at(4)), UnixMs(9_101));
        let set_back = Anchor::after(Some(third), reading(1_000, 5));
        assert_eq!(set_back.carried_on(at(6)), UnixMs(2_000));
    }
}
