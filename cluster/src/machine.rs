//! How loaded this machine is: processors and memory, from `/proc`.

use procfs::{Current, CurrentSI, KernelStats, Meminfo};

use crate::node::MemoryUse;

/// Reads the machine's load; processors are measured between two readings.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    last: Option<CpuTicks>,
}

#[derive(Debug, Clone, Copy)]
struct CpuTicks {
    busy: u64,
    all: u64,
}

impl Machine {
    /// Percent of all processors together that was busy since the last reading; 0 at the first, and where
    /// `/proc` cannot be read.
    pub(crate) fn cpu_percent(&mut self) -> f64 {
        let Some(now) = read_ticks() else { return 0.0 };
        let last = self.last.replace(now);
        let Some(last) = last else { return 0.0 };
        let all = now.all.saturating_sub(last.all);
        if all == 0 {
            return 0.0;
        }
        let percent = 100.0 * now.busy.saturating_sub(last.busy) as f64 / all as f64;
        (percent * 10.0).round() / 10.0
    }

    /// The machine's memory; zeros where `/proc` cannot be read.
    pub(crate) fn memory() -> MemoryUse {
        let Ok(info) = Meminfo::current() else { return MemoryUse::default() };
        let available = info.mem_available.unwrap_or(info.mem_free);
        MemoryUse { used_bytes: info.mem_total.saturating_sub(available), total_bytes: info.mem_total }
    }
}

fn read_ticks() -> Option<CpuTicks> {
    let total = KernelStats::current().ok()?.total;
    let idle = total.idle + total.iowait.unwrap_or(0);
    let busy = total.user
        + total.nice
        + total.system
        + total.irq.unwrap_or(0)
        + total.softirq.unwrap_or(0)
        + total.steal.unwrap_or(0);
    Some(CpuTicks { busy, all: busy + idle })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_a_load() {
        let memory = Machine::memory();
        assert!(memory.used_bytes > 0 && memory.used_bytes < memory.total_bytes, "{memory:?}");
        let mut machine = Machine::default();
        assert!(machine.cpu_percent().abs() < f64::EPSILON);
        assert!((0.0..=100.0).contains(&machine.cpu_percent()));
    }
}
