//! What a job's threads have done, and how long it took them: counted there, read by whoever shows it.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluicegate_cluster::clock;

/// A step on a picture's way through a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// From the source's bytes to a picture.
    Decode,
    /// To a rung's size.
    Scale,
    /// To a rung's bytes.
    Encode,
}

impl Stage {
    /// All there are.
    pub(crate) const ALL: [Self; 3] = [Self::Decode, Self::Scale, Self::Encode];

    /// Its label in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Scale => "scale",
            Self::Encode => "encode",
        }
    }
}

/// Counts what is done.
#[derive(Debug, Default)]
pub(crate) struct Work {
    micros: [AtomicU64; Stage::ALL.len()],
    pictures: [AtomicU64; Stage::ALL.len()],
}

/// What was done by some moment, or between two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Done {
    micros: [u64; Stage::ALL.len()],
    pictures: [u64; Stage::ALL.len()],
}

impl Work {
    /// So many pictures took from `began` until now.
    pub(super) fn add(&self, stage: Stage, pictures: usize, began: Instant) {
        let took = clock::now().saturating_duration_since(began);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros[stage as usize].fetch_add(micros, Ordering::Relaxed);
        self.pictures[stage as usize].fetch_add(pictures as u64, Ordering::Relaxed);
    }

    /// All that was done so far.
    pub(crate) fn done(&self) -> Done {
        let read =
            |counts: &[AtomicU64; Stage::ALL.len()]| counts.each_ref().map(|n| n.load(Ordering::Relaxed));
        Done { micros: read(&self.micros), pictures: read(&self.pictures) }
    }
}

impl Done {
    /// The time that a stage took, of all its threads together.
    pub(crate) fn time(&self, stage: Stage) -> Duration {
        Duration::from_micros(self.micros[stage as usize])
    }

    /// The pictures that came out of it.
    pub(crate) fn pictures(&self, stage: Stage) -> u64 {
        self.pictures[stage as usize]
    }
}

impl Sub for Done {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let less =
            |now: [u64; 3], before: [u64; 3]| std::array::from_fn(|n| now[n].saturating_sub(before[n]));
        Self { micros: less(self.micros, before.micros), pictures: less(self.pictures, before.pictures) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_adds_up() {
        let work = Work::default();
        let began = clock::now() - Duration::from_millis(5);
        work.add(Stage::Encode, 1, began);
        let first = work.done();
        assert!(first.time(Stage::Encode) >= Duration::from_millis(5));
        assert_eq!(first.time(Stage::Scale), Duration::ZERO);
        work.add(Stage::Encode, 2, began);
        let since = work.done() - first;
        assert_eq!((since.pictures(Stage::Encode), since.pictures(Stage::Decode)), (2, 0));
        assert_eq!((work.done() - work.done()), Done::default());
    }
}
