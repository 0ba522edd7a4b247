//! Headless Chromium.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

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
