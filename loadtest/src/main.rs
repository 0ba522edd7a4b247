//! The comparison harness: `bench NAME` measures, prints a line a figure and writes `target/bench/NAME.json`.
//! Peers run beside ours in the same script, interleaved. A figure that misses its aim is a result; the exit
//! status is 1 only when something could not be measured.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, anyhow};
use clap::{Parser, ValueEnum};

mod ams;
mod camera;
mod cluster;
mod cpu;
mod crowd;
mod figure;
mod first;
mod gpu;
mod hls;
mod origin;
mod peer;
mod publishers;
mod site;
mod stats;
mod webrtc;

use figure::{Figure, Report, say};

/// Compares Sluicegate with its aims and its peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to compare.
    name: Comparison,
    /// Fewer samples, to see whether everything can be measured.
    #[arg(long)]
    quick: bool,
    /// Only the measurements whose titles have this in them. Nothing is written to a file.
    #[arg(long)]
    only: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Comparison {
    /// A cluster: nodes that die, a storm of publishes, what it asks of its database.
    Cluster,
    /// A single server: start-up, first picture, camera to player, many viewers at once.
    First,
    /// In front of a large AMS cluster: start to routing, the console.
    Ams,
    /// Graphics cards: how many streams they carry, and what those leave to the processors.
    Gpu,
    /// Viewers by HLS: what requests, handshakes and idle connections cost, beside nginx.
    Hls,
    /// An origin: how soon a part is on the wire, and how far a low-latency player is behind.
    Origin,
    /// The WebRTC relay: what a viewer costs, how late and how soon its picture is, an origin that dies.
    Webrtc,
}

/// How to measure.
struct Run {
    quick: bool,
    /// Where results and logs go.
    folder: PathBuf,
}

/// One measurement: what it is, and what makes its figures.
struct Measurement {
    title: &'static str,
    measure: fn(&Run) -> anyhow::Result<Vec<Figure>>,
}

fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Makes all measurements of one comparison. Whether every one could be made.
fn compare(arguments: &Arguments) -> anyhow::Result<bool> {
    let (name, measurements) = match arguments.name {
        Comparison::Cluster => ("cluster", cluster::MEASUREMENTS),
        Comparison::First => ("first", first::MEASUREMENTS),
        Comparison::Ams => ("ams", ams::MEASUREMENTS),
        Comparison::Gpu => ("gpu", gpu::MEASUREMENTS),
        Comparison::Hls => ("hls", hls::MEASUREMENTS),
        Comparison::Origin => ("origin", origin::MEASUREMENTS),
        Comparison::Webrtc => ("webrtc", webrtc::MEASUREMENTS),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    fs::create_dir_all(&folder)?;
    let run = Run { quick: arguments.quick, folder: folder.canonicalize()? };
    let binary = apart(|| Ok(sluicegate_e2e::node::binary()))?;
    if binary.components().any(|part| part.as_os_str() == "debug") {
        say(format!("{} is a debug build: its figures are no results.", binary.display()))?;
    }
    let (mut report, mut complete) = (Report::default(), true);
    let wanted = |title: &str| arguments.only.as_deref().is_none_or(|only| title.contains(only));
    for Measurement { title, measure } in measurements.iter().filter(|m| wanted(m.title)) {
        say(format!("{title} …"))?;
        match apart(|| measure(&run)) {
            Ok(figures) => report.add(figures)?,
            Err(error) => {
                complain(&error.context(format!("not measured: {title}")));
                complete = false;
            }
        }
    }
    report.sum_up()?;
    if arguments.only.is_none() {
        say(report.save(&run.folder, name)?.display())?;
    }
    Ok(complete)
}

/// Runs `act` in a thread of its own: what end-to-end tests are made of panics where it fails, having said why.
fn apart<T: Send>(act: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let ended = thread::scope(|scope| scope.spawn(act).join());
    ended.map_err(|_| anyhow!("see above")).context("it broke off").flatten()
}

fn complain(error: &anyhow::Error) {
    // There is nowhere left to report that this failed.
    let _ = writeln!(std::io::stderr(), "bench: {error:#}");
}
