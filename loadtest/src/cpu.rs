//! The CPU time that a process has used, and its memory (proc(5), `/proc/PID/stat` and `status`), and, for what takes
//! less than a second, its threads' by the scheduler's nanoseconds (`/proc/PID/task/TID/schedstat`).

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// The kernel counts CPU time for user space in hundredths of a second on every architecture we build for.
const TICK: Duration = Duration::from_millis(10);

/// What `pid` has used so far.
///
/// # Errors
/// When it has ended.
pub(crate) fn used(pid: u32) -> anyhow::Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&file).with_context(|| format!("process {pid} has ended"))?;
    let ticks = ticks(&stat).with_context(|| format!("{file} reads {stat:?}"))?;
    Ok(TICK.saturating_mul(ticks))
}

/// What the calling thread has used so far.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn used_by_this_thread() -> anyhow::Result<Duration> {
    let file = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    on_cpu(&text).map(Duration::from_nanos).with_context(|| format!("{file} reads {text:?}"))
}

/// What processes use from a moment on. Of a thread that ends meanwhile, what it used of that is lost.
pub(crate) struct Meter<'a> {
    pids: &'a [u32],
    before_ns: HashMap<u32, u64>,
}

impl<'a> Meter<'a> {
    /// From now on.
    ///
    /// # Errors
    /// When one of `pids` has ended.
    pub(crate) fn start(pids: &'a [u32]) -> anyhow::Result<Self> {
        Ok(Self { pids, before_ns: threads_ns(pids)? })
    }

    /// What they have used since the start.
    ///
    /// # Errors
    /// When one of them has ended.
    pub(crate) fn used(&self) -> anyhow::Result<Duration> {
        let since = |(thread, ns): (u32, u64)| ns.saturating_sub(*self.before_ns.get(&thread).unwrap_or(&0));
        Ok(Duration::from_nanos(threads_ns(self.pids)?.into_iter().map(since).sum()))
    }
}

/// The threads of `pids`, and how long each has run.
fn threads_ns(pids: &[u32]) -> anyhow::Result<HashMap<u32, u64>> {
    let mut threads = HashMap::new();
    for pid in pids {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for thread in tasks.with_context(|| format!("process {pid} has ended"))? {
            let folder = thread?.path();
            let id = folder.file_name().and_then(|name| name.to_str()?.parse().ok());
            // A thread that has just ended has none.
            let ran = fs::read_to_string(folder.join("schedstat")).ok().and_then(|text| on_cpu(&text));
            threads.extend(id.zip(ran));
        }
    }
    Ok(threads)
}

/// The first field: the time on a processor, nanoseconds.
fn on_cpu(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// What the processes that this one started have used that ended and were waited for, with all that they started.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn used_by_ended_children() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    Ok(TICK.saturating_mul(times(&stat, 13).context("/proc/self/stat")?))
}

/// Memory of `pid` that is in use, bytes (proc(5), `VmRSS`).
///
/// # Errors
/// When it has ended.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).with_context(|| format!("process {pid} has ended"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).with_context(|| format!("{file} has no VmRSS"))
}

/// What `start` returned, and the processes that this one has started meanwhile.
///
/// # Errors
/// When this process's children cannot be listed.
pub(crate) fn started_by<T>(start: impl FnOnce() -> T) -> anyhow::Result<(T, Vec<u32>)> {
    let before = children()?;
    let started = start();
    let new = children()?.into_iter().filter(|pid| !before.contains(pid)).collect();
    Ok((started, new))
}

fn children() -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        // A thread that has just ended has none.
        let of_thread = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(of_thread.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(children)
}

/// User and system time: fields 14 and 15.
fn ticks(stat: &str) -> Option<u32> {
    times(stat, 11)
}

/// The sum of two fields, `skipped` fields after the second: that one, a name in parentheses, may hold anything.
fn times(stat: &str, skipped: usize) -> Option<u32> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut times = after_name.split_whitespace().skip(skipped);
    let user: u32 = times.next()?.parse().ok()?;
    let system: u32 = times.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock;

    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_no_field() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194304 100 0 0 0 17 5 0 0 20 0 3 0 99 1 2";
        assert_eq!(ticks(stat), Some(22));
        assert_eq!(times(stat, 13), Some(0));
        assert_eq!(ticks("42 (a) S 1"), None);
    }

    #[test]
    fn a_process_that_is_started_is_seen() {
        let (child, started) = started_by(|| std::process::Command::new("sleep").arg("600").spawn()).unwrap();
        let mut child = child.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(started.contains(&child.id()));
        assert!(!children().unwrap().contains(&child.id()));
    }

    #[test]
    fn a_meter_counts_from_its_start_on() {
        let own = [std::process::id()];
        let start = clock::now();
        let meter = Meter::start(&own).unwrap();
        while meter.used().unwrap() < Duration::from_millis(5) {
            assert!(start.elapsed() < Duration::from_secs(20), "no CPU time was counted");
        }
        let later = Meter::start(&own).unwrap();
        assert!(meter.used().unwrap() > later.used().unwrap());
    }

    #[test]
    fn work_is_seen() {
        let own = std::process::id();
        let (before, start) = (used(own).unwrap(), clock::now());
        while used(own).unwrap() <= before {
            assert!(start.elapsed() < Duration::from_secs(20), "no CPU time was counted");
        }
    }
}
