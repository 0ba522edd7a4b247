//! What the operator is told on the terminal: answers on standard output, the rest on standard error.

use std::io::Write as _;

use anyhow::Context as _;

/// Prints a command's answer.
pub(crate) fn say(answer: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", answer.trim_end()).context("writing to standard output")
}

/// Tells the operator something that belongs in no log.
pub(crate) fn tell(line: &str) {
    // There is nowhere left to report that this failed.
    let _ = writeln!(std::io::stderr(), "sluicegate: {line}");
}

/// Prints why a command failed, in one line.
pub(crate) fn complain(error: &anyhow::Error) {
    tell(&format!("{error:#}").replace('\n', " "));
}
