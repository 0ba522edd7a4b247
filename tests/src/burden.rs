//! A machine that is too small for its work: a processor that others keep busy.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Process, command};

/// Processes that never rest, on one processor. They end when this is dropped.
pub struct Burden {
    _processes: Vec<Process>,
    _folder: TempDir,
}

impl Burden {
    /// Starts so many on `processor`.
    ///
    /// # Panics
    /// When they cannot be started.
    #[must_use]
    pub fn on(processor: usize, processes: usize) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let start = |n: usize| {
            let mut busy = command("taskset");
            busy.args(["--cpu-list", &processor.to_string(), "sh", "-c", "while :; do :; done"]);
            Process::start("a burden", busy, folder.path().join(n.to_string()))
        };
        Self { _processes: (0..processes).map(start).collect(), _folder: folder }
    }
}

/// The processors that this process may run on.
///
/// # Panics
/// When the system does not say.
#[must_use]
pub fn processors() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").expect("a process's status");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = allowed.expect("a list of processors").trim().split(',');
    let bounds = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().expect("a processor's number");
        number(first)..=number(last)
    };
    ranges.flat_map(bounds).collect()
}

/// Keeps all threads of the process `id` to one processor.
///
/// # Panics
/// When it has ended.
pub fn confine(id: u32, processor: usize) {
    let taskset = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &processor.to_string(), &id.to_string()])
        .output();
    assert!(taskset.is_ok_and(|done| done.status.success()), "process {id} cannot be confined");
}
