//! Streams that are passed through without a ladder, published straight to an origin by a client that holds the
//! cluster's key, and the same ones published to nginx with its RTMP module; both make HLS of segments of a second,
//! ours with parts of 200 ms. Both are fed and looked at over the same time.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use sluicegate_cluster::clock;
use sluicegate_e2e::address::Host;
use sluicegate_e2e::film::{Film, Script};
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::until::until_true;

use crate::figure::Figure;
use crate::peer::nginx_rtmp::NginxRtmp;
use crate::publishers::{KEY, Publishers, publish_to_origin};
use crate::{Run, cpu};

/// What a stream may cost, by what it costs nginx.
const CPU_BY_PEERS: f64 = 1.0;
/// What it may take of memory.
const RSS_MIB: f64 = 20.0;
/// For all streams to be on air.
const ON_AIR: Duration = Duration::from_secs(30);
/// Until memory and windows are as they stay.
const SETTLE: Duration = Duration::from_secs(8);

pub(super) const FILM: Script = Script {
    name: "through",
    picture: "testsrc2=size=1280x720:rate=30",
    sound: Some("sine=frequency=440:sample_rate=48000"),
    // As many whole pictures as frames of sound: it can begin again.
    seconds: 16.0,
    gop: 30,
    encoders: &[
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-b:v",
        "1500k",
        "-maxrate",
        "1500k",
        "-bufsize",
        "1500k",
    ],
};

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let film = Arc::new(Film::make(&how.folder, &FILM)?);
    let (counts, window) = if how.quick { (&[10][..], 5) } else { (&[50, 100][..], 20) };
    let mut figures = Vec::new();
    for count in counts {
        figures.extend(with_streams(&film, &how.folder, *count, Duration::from_secs(window))?);
    }
    Ok(figures)
}

fn with_streams(
    film: &Arc<Film>,
    folder: &Path,
    count: usize,
    window: Duration,
) -> anyhow::Result<[Figure; 3]> {
    let config = NodeConfig::standalone().set("cluster", &format!("key = {KEY:?}"));
    let (node, our_pids) = cpu::started_by(|| config.set("origin", "capacity_mpx = 10000").start())?;
    let host = Host::claim();
    let (nginx, nginx_pids) =
        cpu::started_by(|| NginxRtmp::start(&folder.join("nginx-rtmp"), host.port(1_935)))?;
    let nginx = nginx?;
    let idle = rss(&our_pids)?;
    let publishers = [
        Publishers::start(film, count, |stream| publish_to_origin(node.origin_rtmp(), KEY, stream))?,
        Publishers::start(film, count, |stream| {
            let taken = RtmpClient::publish(host.port(1_935), "live", stream);
            taken.map_err(|refusal| anyhow!("nginx refused a publish: {refusal:?}"))
        })?,
    ];
    let last = format!("s{}", count - 1);
    let ours = node.url(&format!("/live/streams/{last}.m3u8"));
    until_true("all streams are on air", ON_AIR, || {
        MediaPlaylist::fetch(&ours).is_some() && nginx.segments(&last) > 0
    });
    wait(SETTLE);
    let (before, peer_before, began) = (used(&our_pids)?, used(&nginx_pids)?, clock::now());
    wait(window);
    let seconds = began.elapsed().as_secs_f64() * count as f64;
    let percent = |used: Duration| used.as_secs_f64() / seconds * 100.0;
    let cpu = percent(used(&our_pids)?.saturating_sub(before));
    let peer_cpu = percent(used(&nginx_pids)?.saturating_sub(peer_before));
    let rss_mib = |pids: &[u32], less: u64| {
        anyhow::Ok(rss(pids)?.saturating_sub(less) as f64 / f64::from(1 << 20) / count as f64)
    };
    let (memory, peer_memory) = (rss_mib(&our_pids, 0)?, rss_mib(&nginx_pids, 0)?);
    let grown = rss_mib(&our_pids, idle)?;
    ensure!(nginx.segments(&last) >= 5, "nginx lists {} segments of {last}", nginx.segments(&last));
    publishers.into_iter().try_for_each(Publishers::stop)?;
    Ok([
        Figure::new(format!("through_{count}_cpu_percent_a_stream"), cpu)
            .at_most(CPU_BY_PEERS * peer_cpu)
            .beside(peer_cpu),
        Figure::new(format!("through_{count}_rss_mib_a_stream"), memory).at_most(RSS_MIB).beside(peer_memory),
        Figure::new(format!("through_{count}_rss_mib_a_stream_over_idle"), grown),
    ])
}

fn used(pids: &[u32]) -> anyhow::Result<Duration> {
    pids.iter().map(|pid| cpu::used(*pid)).sum()
}

fn rss(pids: &[u32]) -> anyhow::Result<u64> {
    pids.iter().map(|pid| cpu::resident_bytes(*pid)).sum()
}

fn wait(window: Duration) {
    let began = clock::now();
    while began.elapsed() < window {
        thread::park_timeout(window.saturating_sub(began.elapsed()));
    }
}
