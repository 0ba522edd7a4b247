//! What is asked of a running job, and what it tells of itself: read and written by several threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use super::Cause;
use super::work::Work;

/// What is asked of a running job, read before each picture, and how it keeps up.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    keyframe: AtomicBool,
    given_up: AtomicUsize,
    /// What it was given.
    pub(crate) intake: Arc<Intake>,
    /// What its threads have done.
    pub(crate) work: Arc<Work>,
    /// The frames that it is done with.
    done: FrameTime,
    restarts: [AtomicU64; Cause::ALL.len()],
}

impl Orders {
    /// Asks for a keyframe, where pictures are encoded.
    pub(crate) fn keyframe(&self) {
        self.keyframe.store(true, Ordering::Relaxed);
    }

    /// Asks that so many rungs be given up, the most expensive ones; they come back when it is less again.
    pub(crate) fn give_up(&self, rungs: usize) {
        self.given_up.store(rungs, Ordering::Relaxed);
    }

    /// How many rungs are to be given up.
    pub(crate) fn given_up(&self) -> usize {
        self.given_up.load(Ordering::Relaxed)
    }

    /// How far the job is behind what waits for it, in milliseconds of the stream's timeline.
    pub(crate) fn lag_ms(&self) -> u64 {
        self.done.get().or_else(|| self.intake.first.get()).map_or(0, |done_ms| self.behind_ms(done_ms))
    }

    /// How far a frame of this time is behind the newest that the job was given. What it began with, the group of
    /// pictures that ran then, is older by nobody's fault: it catches up with that.
    pub(super) fn behind_ms(&self, dts_ms: i64) -> u64 {
        if self.intake.first.get().is_some_and(|first_ms| dts_ms < first_ms) {
            return 0;
        }
        let newest_ms = self.intake.newest.get().unwrap_or(dts_ms);
        u64::try_from(newest_ms.saturating_sub(dts_ms)).unwrap_or(0)
    }

    /// It broke down by this cause.
    pub(crate) fn broke_down(&self, cause: Cause) {
        self.restarts[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it broke down so far, by cause.
    pub(crate) fn restarts(&self) -> [u64; Cause::ALL.len()] {
        self.restarts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// The job is done with the frame of this time.
    #[cfg(any(test, feature = "ffmpeg"))]
    pub(super) fn done(&self, dts_ms: i64) {
        self.done.reached(dts_ms);
    }

    #[cfg(feature = "ffmpeg")]
    pub(super) fn take_keyframe(&self) -> bool {
        self.keyframe.swap(false, Ordering::Relaxed)
    }
}

/// What a follower of a hub was given, and what it lost.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    first: FrameTime,
    newest: FrameTime,
    lost: AtomicU64,
    losses: AtomicU64,
}

impl Intake {
    /// It was given the frame of this time.
    pub(crate) fn gave(&self, dts_ms: i64) {
        self.first.reached_first(dts_ms);
        self.newest.reached(dts_ms);
    }

    /// A frame came that it was not given. `no_room`: the first one, because it had no room.
    pub(crate) fn lose(&self, no_room: bool) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.losses.fetch_add(u64::from(no_room), Ordering::Relaxed);
    }

    /// The time of the newest frame that it was given.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        self.newest.get()
    }

    /// How often it had no room.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// Frames lost so far, up to the keyframes from which it could go on.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

const NONE: i64 = i64::MIN;

/// A frame's time, in milliseconds of a timeline; none before the first.
#[derive(Debug)]
struct FrameTime(AtomicI64);

impl Default for FrameTime {
    fn default() -> Self {
        Self(AtomicI64::new(NONE))
    }
}

impl FrameTime {
    fn reached(&self, dts_ms: i64) {
        self.0.fetch_max(dts_ms, Ordering::Relaxed);
    }

    fn reached_first(&self, dts_ms: i64) {
        // All others come after the first.
        let _ = self.0.compare_exchange(NONE, dts_ms, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ms| *ms != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_late_by_what_it_was_given_and_has_not_done() {
        let orders = Orders::default();
        assert_eq!(orders.lag_ms(), 0);
        orders.intake.gave(-40);
        assert_eq!(orders.lag_ms(), 0);
        orders.intake.gave(1_960);
        assert_eq!(orders.lag_ms(), 2_000, "nothing was done yet");
        orders.done(-40);
        assert_eq!(orders.lag_ms(), 2_000);
        orders.done(1_960);
        orders.done(1_940);
        assert_eq!(orders.lag_ms(), 0);
        assert_eq!(orders.behind_ms(-8_000), 0, "it was there before the first");
    }
}
