//! A strict player of low-latency HLS for minutes: what of all that it gets is not as RFC 8216bis has it.

use std::time::Duration;

use anyhow::ensure;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::ll_hls::validate;
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::until::until_true;

use crate::Run;
use crate::figure::{Figure, say};

/// For the stream to have a whole window, so that delta updates leave something out.
const ON_AIR: Duration = Duration::from_secs(60);
const WINDOW: usize = 12;

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let seconds = if how.quick { 10 } else { 180 };
    let node = NodeConfig::standalone()
        .set("[app]", "name = \"live\"")
        .set("[app]", &format!("window = {WINDOW}"))
        .set("[app]", "ladder = [{ height = 90, kbps = 100 }]")
        .start();
    let _publisher = publish(node.rtmp(), "live/strict");
    let url = node.url("/live/streams/strict.m3u8");
    until_true("a whole window", ON_AIR, || {
        MediaPlaylist::fetch(&url).is_some_and(|playlist| playlist.segments.len() >= WINDOW)
    });
    let report = validate(&node.url("/live/streams/strict_adaptive.m3u8"), Duration::from_secs(seconds));
    for fault in &report.faults {
        say(fault)?;
    }
    ensure!(report.deltas > 0 && report.compared > 0, "little was looked at: {report:?}");
    Ok(vec![
        Figure::new("ll_hls_faults", report.faults.len() as f64).at_most(0.0),
        Figure::new("ll_hls_reloads", report.reloads as f64),
        Figure::new("ll_hls_hinted_parts", report.hinted as f64),
        Figure::new("ll_hls_delta_updates", report.deltas as f64),
        Figure::new("ll_hls_segments_compared", report.compared as f64),
    ])
}
