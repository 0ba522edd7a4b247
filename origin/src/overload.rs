//! What is done when encoders do not keep up: rungs are given up, those of the newest streams first, and come back,
//! the last one first, when nothing has been late for a while. Decides; reads nothing itself.
//!
//! A rung that comes back may be too much again, so each try that fails doubles the time before the next one.

use std::time::{Duration, Instant};

use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::ids::{Epoch, StreamKey};

/// A ladder that is so far behind what was published is late, milliseconds. Its queue holds about twice as much.
const LATE_MS: u64 = 1_500;
/// Looks in a row, one a second, at which something is late before a rung is given up: it may be a burst.
const LATE_LOOKS: u32 = 2;
/// Between two rungs that are given up: what the first one saves must be able to show.
const SETTLING: Duration = Duration::from_secs(3);
/// A publisher whose timeline runs so many times as fast as the clock sends more than anybody encodes in time: what its
/// ladder is behind says nothing of the machine.
const RACES: u32 = 2;
/// How long the origin calls itself full after something was late.
const RECOVERY: Duration = Duration::from_secs(10);
/// A rung that came back and stayed so long was not too much.
const TRIAL: Duration = Duration::from_secs(30);
/// A rung comes back after so long at the latest, once nothing is late.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// A ladder, as it is at a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ladder {
    /// Whose.
    pub(crate) key: StreamKey,
    /// Under which claim.
    pub(crate) epoch: Epoch,
    /// Since when it is published.
    pub(crate) began: UnixMs,
    /// Rungs that are made.
    pub(crate) rungs: usize,
    /// How far it is behind, milliseconds.
    pub(crate) lag_ms: u64,
    /// How often it has lost pictures because it had no room for them.
    pub(crate) losses: u64,
    /// The time of the newest frame that it was given, milliseconds of the stream's timeline.
    pub(crate) newest_ms: Option<i64>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// This stream gives up its most expensive rung.
    GiveUp(StreamKey),
    /// This stream gets back the rung that it gave up last.
    TakeBack(StreamKey),
}

/// The machine, as it is at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its processors are so busy that what is late is late because of all streams together.
    pub(crate) is_busy: bool,
    /// It is within the operator's limits.
    pub(crate) has_room: bool,
}

/// Remembers what was late and what was given up.
#[derive(Debug)]
pub(crate) struct Overload {
    /// How long nothing must be late before a rung comes back, as configured.
    calm: Duration,
    /// The same, for now: longer after tries that failed.
    wait: Duration,
    late_looks: u32,
    /// When something was late last, by its own fault or not.
    late_at: Option<Instant>,
    /// When the machine was too small for all last.
    full_at: Option<Instant>,
    gave_up_at: Option<Instant>,
    took_back_at: Option<Instant>,
    /// The rungs given up, the last one at the end.
    given_up: Vec<GivenUp>,
    /// The ladders at the last look, and when that was.
    seen: Vec<Ladder>,
    looked_at: Option<Instant>,
}

#[derive(Debug)]
struct GivenUp {
    key: StreamKey,
    epoch: Epoch,
    /// Whether it was given up for others: then there is no room for more.
    for_all: bool,
}

impl Overload {
    /// Nothing is late. `calm`: how long nothing must be late before a rung comes back.
    pub(crate) fn new(calm: Duration) -> Self {
        Self {
            calm,
            wait: calm,
            late_looks: 0,
            late_at: None,
            full_at: None,
            gave_up_at: None,
            took_back_at: None,
            given_up: Vec::new(),
            seen: Vec::new(),
            looked_at: None,
        }
    }

    /// Takes what the ladders are like, once a second: what is to be done now.
    pub(crate) fn look(&mut self, ladders: &[Ladder], machine: Machine, now: Instant) -> Option<Order> {
        let is = |given: &GivenUp, ladder: &Ladder| (&given.key, given.epoch) == (&ladder.key, ladder.epoch);
        self.given_up.retain(|given| ladders.iter().any(|ladder| is(given, ladder)));
        let late: Vec<&Ladder> = ladders.iter().filter(|ladder| self.is_late(ladder, now)).collect();
        (self.seen, self.looked_at) = (ladders.to_vec(), Some(now));
        if late.is_empty() {
            self.late_looks = 0;
            return self.take_back(machine, now);
        }
        let for_all = machine.is_busy || late.len() > 1;
        self.note_late(for_all, now);
        if self.late_looks < LATE_LOOKS || within(self.gave_up_at, SETTLING, now) {
            return None;
        }
        let candidates = if for_all { ladders.iter().collect() } else { late };
        let newest = candidates.into_iter().filter(|ladder| ladder.rungs > 0).max_by_key(|l| l.began)?;
        self.gave_up_at = Some(now);
        self.given_up.push(GivenUp { key: newest.key.clone(), epoch: newest.epoch, for_all });
        Some(Order::GiveUp(newest.key.clone()))
    }

    /// Whether encoders are why nothing more may be taken.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        within(self.full_at, RECOVERY, now) || self.given_up.iter().any(|given| given.for_all)
    }

    fn is_late(&self, ladder: &Ladder, now: Instant) -> bool {
        let is_it = |seen: &&Ladder| (&seen.key, seen.epoch) == (&ladder.key, ladder.epoch);
        let before = self.seen.iter().find(is_it);
        let loses = before.is_some_and(|before| ladder.losses > before.losses);
        (ladder.lag_ms >= LATE_MS || loses) && !before.is_some_and(|before| self.races(before, ladder, now))
    }

    /// Whether its publisher's time runs faster than the clock since the last look.
    fn races(&self, before: &Ladder, ladder: &Ladder, now: Instant) -> bool {
        let Some((earlier_ms, newest_ms)) = before.newest_ms.zip(ladder.newest_ms) else { return false };
        let sent = Duration::from_millis(u64::try_from(newest_ms.saturating_sub(earlier_ms)).unwrap_or(0));
        self.looked_at.is_some_and(|at| sent > now.saturating_duration_since(at) * RACES)
    }

    fn note_late(&mut self, for_all: bool, now: Instant) {
        self.late_looks = self.late_looks.saturating_add(1);
        self.late_at = Some(now);
        if for_all {
            self.full_at = Some(now);
        }
        if within(self.took_back_at.take(), TRIAL, now) {
            self.wait = (self.wait * 2).min(WAIT_MAX.max(self.calm));
        }
    }

    fn take_back(&mut self, machine: Machine, now: Instant) -> Option<Order> {
        if self.took_back_at.is_some_and(|at| now.saturating_duration_since(at) >= TRIAL) {
            (self.wait, self.took_back_at) = (self.calm, None);
        }
        let changed_at = [self.late_at, self.gave_up_at, self.took_back_at].into_iter().max().flatten();
        if !machine.has_room || within(changed_at, self.wait, now) {
            return None;
        }
        let back = self.given_up.pop()?;
        self.took_back_at = Some(now);
        Some(Order::TakeBack(back.key))
    }
}

fn within(at: Option<Instant>, time: Duration, now: Instant) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(at) < time)
}

#[cfg(test)]
mod tests;
