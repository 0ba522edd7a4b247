//! What a viewer in Chromium sees through a network that loses one datagram in twenty, each way: the longest time
//! without a new picture, and how far sound and picture are apart. The control is the same network losing none.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::process::{command, run};
use sluicegate_e2e::until::until_true;

use super::network::{Conditions, Network};
use super::{Film, KEY, ON_AIR};
use crate::Run;
use crate::figure::Figure;
use crate::stats::percentile;

const LOST_PERCENT: u32 = 5;
const ONE_WAY: Duration = Duration::from_millis(25);
const SEED: u64 = 20_261_124;
const FREEZE_MS: f64 = 200.0;
const APART_MS: f64 = 40.0;
/// For the browser to start, open the page and play, and to end.
const BROWSER: Duration = Duration::from_secs(60);
const FILM: Film = Film { kbps: 1_200, keyframe_every_s: 2, b_frames: false };

/// What the browser reports.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Watched {
    /// From each picture to the next.
    gaps_ms: Vec<f64>,
    /// How far the picture that is shown and the sound that is heard are apart, looked at twice a second.
    apart_ms: Vec<f64>,
    packets_lost: u64,
    retransmitted: u64,
    errors: Vec<String>,
}

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let seconds = if how.quick { 10 } else { 60 };
    let node = NodeConfig::standalone().start();
    let _publisher = FILM.publish(&how.folder, &format!("rtmp://{}/{KEY}", node.rtmp()))?;
    until_true("the film is on air", ON_AIR, || node.stream(KEY).is_some());
    let clean = watch(&node, 0, seconds)?;
    let lossy = watch(&node, LOST_PERCENT, seconds)?;
    ensure!(lossy.packets_lost + lossy.retransmitted > 0, "nothing was lost");
    let longest = |watched: &Watched| percentile(&watched.gaps_ms, 100.0).context("no picture was seen");
    let apart = |watched: &Watched| percentile(&watched.apart_ms, 95.0).context("nothing was heard");
    Ok(vec![
        Figure::new("longest_gap_5_percent_lost_ms", longest(&lossy)?).at_most(FREEZE_MS),
        Figure::new("longest_gap_none_lost_ms", longest(&clean)?),
        Figure::new("sound_and_picture_apart_5_percent_lost_p95_ms", apart(&lossy)?).at_most(APART_MS),
        Figure::new("sound_and_picture_apart_none_lost_p95_ms", apart(&clean)?),
        Figure::new("packets_repeated_5_percent_lost", lossy.retransmitted as f64),
        Figure::new("packets_missed_5_percent_lost", lossy.packets_lost as f64),
    ])
}

/// Watches the film for a while, through a network.
fn watch(node: &NodeProcess, lost_percent: u32, seconds: u32) -> anyhow::Result<Watched> {
    let edge = node.edge_udp();
    let network = Network::before(edge, Conditions { lost_percent, delay: ONE_WAY, seed: SEED })?;
    let deadline = BROWSER + Duration::from_secs(seconds.into());
    let address = |address: std::net::SocketAddr| format!("{} {}", address.ip(), address.port());
    let mut browser = command("node");
    browser.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/watch-webrtc.mjs"));
    for (option, value) in [
        ("--url", node.url("/live/play.html?id=film&playOrder=webrtc")),
        ("--server", address(edge)),
        ("--instead", address(network.address())),
        ("--seconds", seconds.to_string()),
        ("--deadline-ms", deadline.as_millis().to_string()),
    ] {
        browser.args([option, &value]);
    }
    let finished = run("the browser", browser, deadline + BROWSER);
    let watched: Watched = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("the browser says {:?}", finished.stderr))?;
    let enough = seconds as usize * 10;
    let (pictures, errors) = (watched.gaps_ms.len(), &watched.errors);
    ensure!(pictures >= enough, "{pictures} pictures in {seconds} s; the page says {errors:?}");
    Ok(watched)
}
