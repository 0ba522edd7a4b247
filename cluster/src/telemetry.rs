//! Logs: text for people when standard error is a terminal, JSON lines otherwise. `SLUICEGATE_LOG` filters
//! (`info` unless set; `sluicegate_lb=debug,info`).

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

/// The target of the access log: one line a request. Off unless asked for (`SLUICEGATE_LOG=access,info`).
pub const ACCESS: &str = "access";

/// What is logged unless `SLUICEGATE_LOG` says otherwise. Pingora reports every viewer that hangs up as an
/// error, and its own start-up step by step.
const DEFAULT_FILTER: &str = "info,access=off,pingora_core=warn,pingora_proxy=off,mongodb=warn,rustls=warn";

/// Starts logging; once per process.
pub fn start() {
    let filter = EnvFilter::try_from_env("SLUICEGATE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    // A second start would fail; the first one's settings stay.
    let _ =
        if stderr().is_terminal() { lines.try_init() } else { lines.json().flatten_event(true).try_init() };
}
