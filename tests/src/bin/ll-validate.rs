//! `ll-validate URL --seconds N`: plays a live stream's low-latency HLS for so long, and says what is not as RFC
//! 8216bis has it. Exit status 0 when nothing is wrong, 1 when something is, 2 when it is called wrongly.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use sluicegate_e2e::ll_hls::validate;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, seconds) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [url] => (url, Ok(60)),
        [url, "--seconds", seconds] => (url, seconds.parse()),
        _ => return usage(),
    };
    let Ok(seconds) = seconds else { return usage() };
    let report = validate(url, Duration::from_secs(seconds));
    let mut out = std::io::stdout().lock();
    let said = report.faults.iter().try_for_each(|fault| writeln!(out, "{fault}")).and_then(|()| {
        writeln!(
            out,
            "{} faults in {} reloads, {} hinted parts, {} delta updates, {} segments compared",
            report.faults.len(),
            report.reloads,
            report.hinted,
            report.deltas,
            report.compared
        )
    });
    if said.is_ok() && report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    let _ = writeln!(std::io::stderr(), "usage: ll-validate URL [--seconds N]");
    ExitCode::from(2)
}
