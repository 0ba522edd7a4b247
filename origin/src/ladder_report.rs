//! What a ladder has done since it was looked at last, for metrics and for the stream's record.

use std::time::{Duration, Instant};

use sluicegate_cluster::stream::LadderState;

use crate::transcode::{Cause, Done, Orders, Stage};

/// What a ladder is like, and what it has done since the last report.
#[derive(Debug, Clone, Default)]
pub(crate) struct LadderReport {
    /// Rungs that are made.
    pub(crate) made: usize,
    /// Rungs that are given up.
    pub(crate) given_up: usize,
    /// How far it is behind its source, milliseconds.
    pub(crate) lag_ms: u64,
    /// Frames that it was too late for.
    pub(crate) frames_lost: u64,
    /// What its threads have done.
    pub(crate) done: Done,
    /// How often it broke down, by cause.
    pub(crate) restarts: [u64; Cause::ALL.len()],
}

/// Remembers what was reported.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    reported: Totals,
    at: Option<Instant>,
    state: LadderState,
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    frames_lost: u64,
    done: Done,
    restarts: [u64; Cause::ALL.len()],
}

impl Totals {
    fn of(orders: &Orders) -> Self {
        Self { frames_lost: orders.intake.lost(), done: orders.work.done(), restarts: orders.restarts() }
    }
}

impl Reporter {
    /// What the job of `orders` has done since the last call; `made` of its rungs are made.
    pub(crate) fn report(&mut self, orders: &Orders, made: usize, now: Instant) -> LadderReport {
        let (now_all, before) = (Totals::of(orders), self.reported);
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (self.reported, self.at) = (now_all, Some(now));
        let report = LadderReport {
            made,
            given_up: orders.given_up(),
            lag_ms: orders.lag_ms(),
            frames_lost: now_all.frames_lost.saturating_sub(before.frames_lost),
            done: now_all.done - before.done,
            restarts: std::array::from_fn(|n| now_all.restarts[n].saturating_sub(before.restarts[n])),
        };
        if !passed.is_zero() {
            let percent = |stage| 100.0 * report.done.time(stage).as_secs_f64() / passed.as_secs_f64();
            self.state = LadderState {
                given_up: Vec::new(),
                lag_ms: report.lag_ms,
                frames_lost: now_all.frames_lost,
                restarts: now_all.restarts.iter().sum(),
                decode_percent: percent(Stage::Decode),
                scale_percent: percent(Stage::Scale),
                encode_percent: percent(Stage::Encode),
            };
        }
        report
    }

    /// How the ladder keeps up, by the last report; the names of the rungs that are given up are not in it.
    pub(crate) fn state(&self) -> LadderState {
        self.state.clone()
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock;

    use super::*;

    #[test]
    fn a_report_tells_what_is_new_and_the_state_what_there_was_in_all() {
        let (orders, mut reporter, now) = (Orders::default(), Reporter::default(), clock::now());
        orders.intake.lose(true);
        orders.broke_down(Cause::Codec);
        let first = reporter.report(&orders, 2, now);
        assert_eq!((first.made, first.frames_lost, first.restarts[Cause::Codec as usize]), (2, 1, 1));
        orders.intake.lose(false);
        let second = reporter.report(&orders, 1, now + Duration::from_secs(1));
        assert_eq!((second.frames_lost, second.restarts[Cause::Codec as usize]), (1, 0));
        let state = reporter.state();
        assert_eq!((state.frames_lost, state.restarts, state.decode_percent.round() as i64), (2, 1, 0));
    }
}
