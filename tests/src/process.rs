//! Child processes that end with the test, however the test ends.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::until::until;

/// Lines of its log that a process shows when its test fails.
const LINES_SHOWN: usize = 40;

/// A program that is killed when this process ends. It has no standard input.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
    command
}

/// Starts `command` from a thread that lives as long as this process: the kernel sends a child its
/// "parent's death signal" when the thread that started it ends, and tests' threads do.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // Whoever ordered it may have given up.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = mpsc::channel();
    let sent = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner).send((command, answer));
    sent.expect("the spawning thread ended");
    child.recv().expect("the spawning thread ended")
}

/// A running program. It is killed when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, made by [`command`]; all it says goes to the file `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Self {
        let out = File::create(&log).expect("a log file");
        command.stdout(out.try_clone().expect("a second handle")).stderr(out);
        let child = spawn(command).unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `TERM`, `STOP`, `CONT`.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: &str) {
        let kill = Command::new("sh")
            .args(["-c", r#"kill -s "$0" "$1""#, signal])
            .arg(self.child.id().to_string())
            .status();
        assert!(kill.is_ok_and(|status| status.success()), "{} cannot be sent {signal}", self.name);
    }

    /// Its exit status, if it has ended.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// At the deadline.
    #[track_caller]
    pub fn exit_within(&mut self, deadline: Duration) -> ExitStatus {
        until(&format!("{} ends", self.name), deadline, || self.child.try_wait().ok().flatten())
    }

    /// Its sockets, by the numbers that the system gives them: a connection that is made anew has a new one.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn sockets(&self) -> BTreeSet<PathBuf> {
        let folder = fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("a running process");
        let files = folder.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        files.filter(|file| file.to_string_lossy().starts_with("socket:")).collect()
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Its last lines.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }

    /// Shows its last lines if the test is failing.
    pub fn explain_failure(&self) {
        if thread::panicking() {
            eprintln!("--- the end of what {} said:\n{}\n---", self.name, self.last_lines());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.explain_failure();
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that ran to its end.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// Runs `command`, made by [`command`], to its end.
///
/// # Panics
/// When it cannot be started, or at the deadline.
#[track_caller]
#[must_use]
pub fn run(name: &str, mut command: Command, deadline: Duration) -> Finished {
    let folder = TempDir::new().expect("a temporary folder");
    let (out, log) = (folder.path().join("out"), folder.path().join("err"));
    command.stdout(File::create(&out).expect("a file")).stderr(File::create(&log).expect("a file"));
    let child = spawn(command).unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
    let mut process = Process { name: name.to_owned(), child, log: log.clone() };
    let status = process.exit_within(deadline);
    Finished { code: status.code(), stdout: read(&out), stderr: read(&log) }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_run_to_its_end() {
        let mut echo = command("sh");
        echo.args(["-c", "echo out; echo err >&2; exit 3"]);
        let finished = run("sh", echo, Duration::from_secs(10));
        assert_eq!(
            (finished.code, finished.stdout.as_str(), finished.stderr.as_str()),
            (Some(3), "out\n", "err\n")
        );
    }

    #[test]
    fn a_process_ends_with_its_handle() {
        let folder = TempDir::new().unwrap();
        let mut sleep = command("sleep");
        sleep.arg("600");
        let process = Process::start("sleep", sleep, folder.path().join("log"));
        let pid = PathBuf::from(format!("/proc/{}", process.child.id()));
        assert!(pid.exists());
        drop(process);
        assert!(!pid.exists());
    }
}
