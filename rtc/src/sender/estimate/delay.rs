//! The queue that stands on the way: how much longer packets take at present than they have to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A packet finds no queue now and then, unless there always is one: the least of this time counts.
const STANDING: Duration = Duration::from_millis(250);
/// Packets that have to agree.
const PACKETS_MIN: usize = 3;
/// What a packet takes without any queue is the least of as much time again, up to twice: ways change.
const WAY_KEPT: Duration = Duration::from_secs(10);
/// Clocks that seem to move so far have been set.
const CLOCK_SET_US: i64 = 5_000_000;

/// What packets take. Clocks differ between the two ends: only differences mean something.
#[derive(Debug, Default)]
pub(super) struct Delay {
    /// Departures are counted from here.
    zero: Option<Instant>,
    recent: VecDeque<(Instant, i64)>,
    /// Since when the least is looked for, it, and the one before.
    since: Option<Instant>,
    least_us: Option<i64>,
    least_before_us: Option<i64>,
}

impl Delay {
    /// A packet that was sent then arrived at that time of the receiver's clock.
    pub(super) fn arrived(&mut self, sent: Instant, at_us: i64) {
        let zero = *self.zero.get_or_insert(sent);
        let took_us = at_us.saturating_sub(micros(sent.saturating_duration_since(zero)));
        if self.least_us.is_some_and(|least| took_us.abs_diff(least) > CLOCK_SET_US.unsigned_abs()) {
            *self = Self { zero: self.zero, ..Self::default() };
        }
        let since = *self.since.get_or_insert(sent);
        if sent.saturating_duration_since(since) >= WAY_KEPT {
            self.since = Some(sent);
            self.least_before_us = self.least_us.take();
        }
        self.least_us = Some(self.least_us.map_or(took_us, |least| least.min(took_us)));
        self.recent.push_back((sent, took_us));
        while self.recent.front().is_some_and(|(at, _)| sent.saturating_duration_since(*at) > STANDING) {
            self.recent.pop_front();
        }
    }

    /// The queue.
    pub(super) fn standing(&self) -> Duration {
        let least = [self.least_us, self.least_before_us].into_iter().flatten().min();
        let recent = self.recent.iter().map(|(_, took)| *took).min();
        let Some((recent, least)) = recent.zip(least).filter(|_| self.recent.len() >= PACKETS_MIN) else {
            return Duration::ZERO;
        };
        Duration::from_micros(u64::try_from(recent.saturating_sub(least)).unwrap_or_default())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
