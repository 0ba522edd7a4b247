//! Whether this origin may take more: by the machine's processors and memory, as Ant Media Server limits them,
//! and by whether its encoders keep up ([`crate::overload`]). Decides; reads nothing itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sluicegate_cluster::config::Limits;
use sluicegate_cluster::node::{Full, Load};

use crate::overload::{Ladder, Machine, Order, Overload};

/// How much of a reading, once a second, counts: a peak of a few seconds refuses nobody.
const SMOOTHING: f64 = 0.25;
/// Processors that are busier, percent, are what encoders wait for.
const BUSY_PERCENT: f64 = 60.0;

/// Watches the load.
pub(crate) struct LoadWatch {
    cpu_percent_max: f64,
    memory_percent_max: f64,
    state: Mutex<State>,
}

struct State {
    cpu_percent: Option<f64>,
    memory_percent: f64,
    overload: Overload,
}

impl LoadWatch {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            cpu_percent_max: limits.cpu_percent,
            memory_percent_max: limits.memory_percent,
            state: Mutex::new(State {
                cpu_percent: None,
                memory_percent: 0.0,
                overload: Overload::new(limits.ladder_calm),
            }),
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

    /// Takes what the ladders are like, once a second: what is to be done now.
    pub(crate) fn look(&self, ladders: &[Ladder], now: Instant) -> Option<Order> {
        let mut state = self.lock();
        let machine = Machine {
            is_busy: state.cpu_percent.unwrap_or(0.0) > BUSY_PERCENT,
            has_room: self.over(&state).is_none(),
        };
        state.overload.look(ladders, machine, now)
    }

    /// Why nothing more may be taken; `None` while there is room.
    pub(crate) fn full(&self, now: Instant) -> Option<Full> {
        let state = self.lock();
        if state.overload.is_full(now) { Some(Full::Encoders) } else { self.over(&state) }
    }

    /// What the machine has too much of.
    fn over(&self, state: &State) -> Option<Full> {
        let over = |value: f64, max: f64| max < 100.0 && value > max;
        if over(state.cpu_percent.unwrap_or(0.0), self.cpu_percent_max) {
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
    use sluicegate_cluster::testing;

    use super::*;

    fn watch(cpu_percent: f64) -> LoadWatch {
        LoadWatch::new(&Limits { cpu_percent, memory_percent: 75.0, ..testing::settings("").limits })
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
}
