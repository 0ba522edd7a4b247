//! Headless Chromium.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, command, run};
use crate::until::until;

/// What the browser may take beside what a page is given: its start and its end.
const START_AND_END: Duration = Duration::from_secs(20);

/// What opens a player page.
const PLAY: &str = "browser/play.mjs";
/// The file that says how fast a player page's network is.
const NETWORK: &str = "network";

/// Opens a player page and waits until its `data-state` is `state`; `live` wants two seconds played as well.
/// Returns what the page came to, as `browser/play.mjs` reports it. Any certificate is accepted.
///
/// # Panics
/// When the page did not come to that within `deadline`, with what it came to.
#[track_caller]
#[must_use]
pub fn watch(url: &str, state: &str, deadline: Duration) -> Value {
    let mut node = command("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(PLAY));
    node.args(["--insecure", "--url", url, "--until", state]);
    node.args(["--deadline-ms", &deadline.as_millis().to_string()]);
    let finished = run("the browser", node, deadline + START_AND_END);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
    assert_eq!(finished.code, Some(0), "{url} was not {state}: {}{}", finished.stdout, finished.stderr);
    report
}

/// A page that stays open, and is looked at again and again.
pub struct Page {
    url: String,
    process: Process,
    folder: TempDir,
}

impl Page {
    /// Opens it for `life` at most.
    ///
    /// # Panics
    /// When the browser cannot be started.
    #[must_use]
    pub fn open(url: &str, life: Duration) -> Self {
        Self::open_by(PLAY, url, &[], life)
    }

    /// The same, with its sound on once it plays.
    ///
    /// # Panics
    /// When the browser cannot be started.
    #[must_use]
    pub fn open_with_sound(url: &str, life: Duration) -> Self {
        Self::open_by(PLAY, url, &["--sound"], life)
    }

    /// Opens a publish page for `life` at most, and goes live with the camera that Chromium makes up.
    ///
    /// # Panics
    /// When the browser cannot be started.
    #[must_use]
    pub fn publish(url: &str, life: Duration) -> Self {
        Self::open_by("browser/publish-page.mjs", url, &[], life)
    }

    /// Opens a page with AMS's own SDK, which signals at `socket` and does the `steps` (`browser/ams-sdk.mjs`).
    ///
    /// # Panics
    /// When the browser cannot be started.
    #[must_use]
    pub fn ams_sdk(socket: &str, steps: &[&str], life: Duration) -> Self {
        let steps = steps.iter().flat_map(|step| ["--step", step]);
        let args: Vec<&str> = ["--socket", socket].into_iter().chain(steps).collect();
        Self::start("browser/ams-sdk.mjs", socket, &args, life)
    }

    fn open_by(script: &str, url: &str, more: &[&str], life: Duration) -> Self {
        let args = ["--stay", "--url", url, "--until", "live"].into_iter().chain(more.iter().copied());
        Self::start(script, url, &args.collect::<Vec<_>>(), life)
    }

    fn start(script: &str, url: &str, args: &[&str], life: Duration) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        fs::write(folder.path().join(NETWORK), "").expect("a file");
        let mut node = command("node");
        node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script)).args(args);
        node.args(["--deadline-ms", &life.as_millis().to_string()]);
        if script == PLAY {
            node.arg("--network").arg(folder.path().join(NETWORK));
        }
        let process = Process::start("the browser", node, folder.path().join("log"));
        Self { url: url.to_owned(), process, folder }
    }

    /// Keeps a player page's network to so many kbit/s from now on; none sets no limit.
    ///
    /// # Panics
    /// When its browser cannot be told.
    pub fn throttle(&self, kbps: Option<u32>) {
        let text = kbps.map(|kbps| kbps.to_string()).unwrap_or_default();
        // Whole at any moment: it is read at any moment.
        let (new, file) = (self.folder.path().join("new"), self.folder.path().join(NETWORK));
        fs::write(&new, text).and_then(|()| fs::rename(&new, &file)).expect("a file");
    }

    /// All looks at it so far.
    #[must_use]
    pub fn looks(&self) -> Vec<Value> {
        self.process.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until what its script sees is what is `wanted`, and returns it.
    ///
    /// # Panics
    /// When it is not within `deadline`, with what there is.
    #[track_caller]
    pub fn until(&mut self, what: &str, deadline: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{}: {what}", self.url), deadline, || {
            assert!(self.process.exit_status().is_none(), "the browser ended: {}", self.process.last_lines());
            last_look(&self.process).filter(&wanted)
        })
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        close(&mut self.process);
    }
}

/// A page that publishes a fake camera by WHIP.
pub struct CameraPage {
    url: String,
    process: Process,
    _folder: TempDir,
}

impl CameraPage {
    /// Publishes to `whip` from `page`, a page of the same site, for `life` at most, in this codec: `H264`.
    ///
    /// # Panics
    /// When the browser cannot be started.
    #[must_use]
    pub fn open(page: &str, whip: &str, codec: &str, life: Duration) -> Self {
        let mut node = command("node");
        node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/publish.mjs"));
        node.args(["--page", page, "--whip", whip, "--codec", codec]);
        node.args(["--deadline-ms", &life.as_millis().to_string()]);
        let folder = TempDir::new().expect("a temporary folder");
        let process = Process::start("the browser", node, folder.path().join("log"));
        Self { url: whip.to_owned(), process, _folder: folder }
    }

    /// Waits until what `browser/publish.mjs` sees is what is `wanted`, and returns it.
    ///
    /// # Panics
    /// When it is not within `deadline`, with what there is.
    #[track_caller]
    pub fn until(&mut self, what: &str, deadline: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{}: {what}", self.url), deadline + START_AND_END, || {
            assert!(self.process.exit_status().is_none(), "the browser ended: {}", self.process.last_lines());
            last_look(&self.process).filter(&wanted)
        })
    }
}

impl Drop for CameraPage {
    fn drop(&mut self) {
        close(&mut self.process);
    }
}

/// What was seen last.
fn last_look(process: &Process) -> Option<Value> {
    process.log().lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

/// The browser is closed by whoever opened it: killed, that would leave it behind.
fn close(process: &mut Process) {
    if process.exit_status().is_none() {
        process.signal("TERM");
        let _ = process.exit_within(START_AND_END);
    }
}

/// Opens a page and waits until all of `texts` are to be read on it. Returns its visible text.
///
/// # Panics
/// When they are not within `deadline`, with what is there.
#[track_caller]
#[must_use]
pub fn read(url: &str, texts: &[&str], deadline: Duration) -> String {
    let mut node = command("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/read.mjs"));
    node.args(["--url", url, "--deadline-ms", &deadline.as_millis().to_string()]);
    node.args(texts.iter().flat_map(|text| ["--shows", text]));
    let finished = run("the browser", node, deadline + START_AND_END);
    assert_eq!(
        finished.code,
        Some(0),
        "{url} does not show {texts:?}: {}{}",
        finished.stdout,
        finished.stderr
    );
    finished.stdout
}

/// Opens a page and waits until all of `texts` are to be read on it. Returns how long that took from the
/// navigation's start, milliseconds.
///
/// # Panics
/// When they are not within `deadline`, with what is there.
#[track_caller]
#[must_use]
pub fn read_timed(url: &str, texts: &[&str], deadline: Duration) -> f64 {
    let mut node = command("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/read.mjs"));
    node.args(["--time", "--url", url, "--deadline-ms", &deadline.as_millis().to_string()]);
    node.args(texts.iter().flat_map(|text| ["--shows", text]));
    let finished = run("the browser", node, deadline + START_AND_END);
    let took = finished.stdout.lines().next().and_then(|line| line.strip_suffix(" ms")?.parse().ok());
    took.unwrap_or_else(|| panic!("{url} does not show {texts:?}: {}{}", finished.stdout, finished.stderr))
}

/// Does to a page what a person would: `steps` as `browser/operate.mjs` takes them (`press:Drain`, `sees:draining`).
/// `name` in its address leads to `ip`. Returns the visible text that the page came to.
///
/// # Panics
/// When a step cannot be done within `deadline`, with the step and what is there.
#[track_caller]
pub fn operate(url: &str, (name, ip): (&str, IpAddr), steps: &[&str], deadline: Duration) -> String {
    let mut node = command("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/operate.mjs"));
    node.args(["--url", url, "--map", &format!("{name}={ip}")]);
    node.args(["--deadline-ms", &deadline.as_millis().to_string()]).args(steps);
    let finished = run("the browser", node, deadline + START_AND_END);
    assert_eq!(finished.code, Some(0), "{url}: {}{}", finished.stderr, finished.stdout);
    finished.stdout
}
