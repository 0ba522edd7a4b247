//! How long it takes from starting `sluicegate standalone`, and a publisher as soon as it is ready, until a
//! player has decoded a picture. The build and its packages come before that: `make demo` times them itself.

use std::time::Duration;

use anyhow::Context as _;
use sluicegate_cluster::clock;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::process::{command, run};
use sluicegate_e2e::publisher::Broadcast;
use sluicegate_e2e::until::until_true;

use crate::Run;
use crate::figure::Figure;
use crate::stats::{median, ms};

/// What it may take.
const AIM_MS: f64 = 5_000.0;
/// Starts; the median counts.
const STARTS: usize = 3;
/// For the playlist to list something, and for a picture after that.
const PATIENCE: Duration = Duration::from_secs(30);
/// For one try to decode a picture.
const DECODE: Duration = Duration::from_secs(10);

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let starts = if how.quick { 1 } else { STARTS };
    let took: Vec<f64> = (0..starts).map(|_| ms(first_picture())).collect();
    let median = median(&took).context("nothing was started")?;
    Ok(vec![Figure::new("start_to_first_picture_ms", median).at_most(AIM_MS)])
}

fn first_picture() -> Duration {
    let began = clock::now();
    let node = NodeConfig::standalone().start();
    let _publisher = Broadcast::default().size("1280x720").publish(node.rtmp(), "live/first");
    let url = node.url("/live/streams/first.m3u8");
    until_true("a playlist lists something", PATIENCE, || MediaPlaylist::fetch(&url).is_some());
    until_true("a player has a picture", PATIENCE, || decodes_a_picture(&url));
    began.elapsed()
}

/// Whether ffmpeg, as a player, gets one picture out of it: it then prints a line with its checksum.
fn decodes_a_picture(url: &str) -> bool {
    let mut player = command("ffmpeg");
    player.args(["-nostdin", "-v", "error", "-i", url, "-an", "-frames:v", "1", "-f", "framecrc", "-"]);
    let played = run("a player", player, DECODE);
    played.code == Some(0) && played.stdout.lines().any(|line| !line.starts_with('#'))
}
