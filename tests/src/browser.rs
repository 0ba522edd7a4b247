//! Headless Chromium.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{command, run};

/// What the browser may take beside what a page is given: its start and its end.
const START_AND_END: Duration = Duration::from_secs(20);

/// Opens a player page and waits until its `data-state` is `state`; `live` wants two seconds played as well.
/// Returns what the page came to, as `browser/play.mjs` reports it. Any certificate is accepted.
///
/// # Panics
/// When the page did not come to that within `deadline`, with what it came to.
#[track_caller]
#[must_use]
pub fn watch(url: &str, state: &str, deadline: Duration) -> Value {
    let mut node = command("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/play.mjs"));
    node.args(["--insecure", "--url", url, "--until", state]);
    node.args(["--deadline-ms", &deadline.as_millis().to_string()]);
    let finished = run("the browser", node, deadline + START_AND_END);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
    assert_eq!(finished.code, Some(0), "{url} was not {state}: {}{}", finished.stdout, finished.stderr);
    report
}

/// The page at `url` as it is after its scripts have run for `time`.
///
/// # Panics
/// When the browser cannot open it.
#[track_caller]
#[must_use]
pub fn dom_after(url: &str, time: Duration) -> String {
    let profile = TempDir::new().expect("a temporary folder");
    let mut chromium = command("chromium");
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]);
    chromium.arg(format!("--user-data-dir={}", profile.path().display()));
    chromium.arg(format!("--timeout={}", time.as_millis())).arg(url);
    let finished = run("the browser", chromium, time + START_AND_END);
    assert_eq!(finished.code, Some(0), "{url}: {}", finished.stderr);
    finished.stdout
}
