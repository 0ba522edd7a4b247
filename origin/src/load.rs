//! Whether this origin may take more: by the machine's processors and memory, as Ant Media Server limits them,
//! and by whether its encoders keep up. Decides; reads nothing itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluicegate_cluster::config::Limits;
use sluicegate_cluster::node::Load;

/// How much of a reading, once a second, counts: a peak of a few seconds refuses nobody.
const SMOOTHING: f64 = 0.25;
/// Units that wait for a transcoder that is late: half of its queue, a second and a half.
const LATE_UNITS: usize = 128;
/// Looks in a row, one a second, at which one is late before something is given up.
const LATE_LOOKS: u32 = 2;
/// How long nothing is taken after encoders were late.
const RECOVERY: Duration = Duration::from_secs(10);

/// Why nothing more is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Processors are busier than `limits.cpu_percent`.
    Cpu,
    /// More memory is in use than `limits.memory_percent`.
    Memory,
    /// Encoders fall behind.
    Encoders,
}

/// Watches the load.
pub(crate) struct LoadWatch {
    cpu_percent_max: f64,
    memory_percent_max: f64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cpu_percent: Option<f64>,
    memory_percent: f64,
    late_looks: u32,
    late_at: Option<Instant>,
}

impl LoadWatch {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            cpu_percent_max: limits.cpu_percent,
            memory_percent_max: limits.memory_percent,
            state: Mutex::default(),
        }
    }

    /// Takes a reading of the machine, once a second.
    pub(crate) fn note(&self, load: &Load) {
        let mut state = self.lock();
        let last = state.cpu_percent.unwrap_or(load.cpu);
        state.cpu_percent = Some(last + (load.cpu - last) * SMOOTHING);
        let total = load.memory.total_bytes.max(1);
        state.memory_percent = 100.0 * load.memory.used_bytes as f64 / total as f64;
    }

    /// Takes how many units wait for the transcoder that is furthest behind, once a second: whether a rung
    /// must be given up now.
    pub(crate) fn look(&self, waiting: usize, now: Instant) -> bool {
        let mut state = self.lock();
        if waiting < LATE_UNITS {
            state.late_looks = 0;
            return false;
        }
        state.late_looks += 1;
        state.late_at = Some(now);
        state.late_looks >= LATE_LOOKS
    }

    /// Why nothing more may be taken; `None` while there is room.
    pub(crate) fn full(&self, now: Instant) -> Option<Full> {
        let state = self.lock();
        let over = |value: f64, max: f64| max < 100.0 && value > max;
        if state.late_at.is_some_and(|at| now.saturating_duration_since(at) < RECOVERY) {
            Some(Full::Encoders)
        } else if over(state.cpu_percent.unwrap_or(0.0), self.cpu_percent_max) {
            Some(Full::Cpu)
        } else if over(state.memory_percent, self.memory_percent_max) {
            Some(Full::Memory)
        } else {
            None
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock;
    use sluicegate_cluster::node::MemoryUse;

    use super::*;

    fn watch(cpu_percent: f64) -> LoadWatch {
        LoadWatch { cpu_percent_max: cpu_percent, memory_percent_max: 75.0, state: Mutex::default() }
    }

    fn load(cpu: f64, used_bytes: u64) -> Load {
        Load { cpu, memory: MemoryUse { used_bytes, total_bytes: 100 }, ..Load::default() }
    }

    #[test]
    fn a_peak_refuses_nobody_and_a_lasting_load_does() {
        let (unlimited, watch, now) = (watch(100.0), watch(75.0), clock::now());
        watch.note(&load(10.0, 10));
        watch.note(&load(100.0, 10));
        assert_eq!(watch.full(now), None);
        (0..10).for_each(|_| watch.note(&load(100.0, 10)));
        assert_eq!(watch.full(now), Some(Full::Cpu));
        (0..10).for_each(|_| watch.note(&load(0.0, 76)));
        assert_eq!(watch.full(now), Some(Full::Memory));
        (0..10).for_each(|_| unlimited.note(&load(100.0, 10)));
        assert_eq!(unlimited.full(now), None);
    }

    #[test]
    fn late_encoders_refuse_for_a_while_and_give_rungs_up_once_they_stay_late() {
        let (watch, now) = (watch(75.0), clock::now());
        assert!(!watch.look(LATE_UNITS, now), "it may be a burst");
        assert_eq!(watch.full(now), Some(Full::Encoders));
        assert!(watch.look(LATE_UNITS, now));
        assert!(!watch.look(0, now));
        assert_eq!(watch.full(now + RECOVERY / 2), Some(Full::Encoders));
        assert_eq!(watch.full(now + RECOVERY), None);
        assert!(!watch.look(LATE_UNITS, now));
    }
}
