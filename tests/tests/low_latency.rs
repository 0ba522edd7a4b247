//! Low-latency HLS as a strict player sees it, through every door, and what a server without it looks like.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use sluicegate_e2e::address::Host;
use sluicegate_e2e::browser::Page;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::http;
use sluicegate_e2e::ll_hls::{Report, validate};
use sluicegate_e2e::nginx;
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::process::{Process, command};
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::until::until;
use tempfile::TempDir;

use crate::demo;

const WATCHED: Duration = Duration::from_secs(8);
/// For a page to play.
const PAGE: Duration = Duration::from_secs(30);

#[track_caller]
fn is_good(report: &Report) {
    assert!(report.faults.is_empty(), "{report:#?}");
    assert!(report.reloads >= 20 && report.hinted >= 20 && report.compared >= 4, "{report:?}");
}

#[test]
fn a_strict_player_finds_nothing_wrong_in_one_process() {
    let node = NodeConfig::standalone().set("[app]", "name = \"live\"").set("[app]", "window = 12").start();
    let _publisher = publish(node.rtmp(), "live/strict");
    let url = node.url("/live/streams/strict.m3u8");
    // Long enough for a delta update to leave something out.
    let _ = until("a full window", demo::FIRST_SEGMENTS, || {
        MediaPlaylist::fetch(&url).filter(|playlist| playlist.segments.len() >= 10)
    });
    let report = validate(&node.url("/live/streams/strict_adaptive.m3u8"), WATCHED);
    is_good(&report);
    assert!(report.deltas >= 4, "{report:?}");
}

#[test]
fn a_strict_player_finds_nothing_wrong_through_balancer_and_edge() {
    let cluster = Cluster::start(&[100]);
    let _publisher = publish(cluster.lb.rtmp(), "live/strict");
    demo::playlist(&cluster.lb, "strict");
    is_good(&validate(&cluster.lb.url("/live/streams/strict.m3u8"), WATCHED));
}

#[test]
fn the_player_page_is_less_than_two_seconds_behind() {
    let node = demo::node();
    let mut page = Page::open(&node.url("/live/play.html?id=demo&playOrder=hls"), 3 * PAGE);
    // Three target durations, where players without low latency stay, are three seconds.
    let seen = page.until("it plays with low latency", PAGE, |page| {
        let behind_ms = page["latencyMs"].as_f64().unwrap_or(f64::MAX);
        page["state"] == "live" && page["playedS"].as_f64() >= Some(3.0) && behind_ms < 2_000.0
    });
    eprintln!("the player is {} ms behind", seen["latencyMs"]);
}

/// nginx, which serves files from a folder.
struct PlainFiles {
    host: Host,
    folder: TempDir,
    _nginx: Process,
}

impl PlainFiles {
    fn serve() -> Self {
        let (host, folder) = (Host::claim(), TempDir::new().unwrap());
        fs::create_dir(folder.path().join("files")).unwrap();
        let nginx =
            nginx::serve_files(&folder.path().join("nginx"), host.port(8080), &folder.path().join("files"));
        Self { host, folder, _nginx: nginx }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("files").join(file)
    }

    fn url(&self, file: &str) -> String {
        format!("http://{}/{file}", self.host.port(8080))
    }

    /// Takes what a stream's files are at this moment.
    fn keep(&self, url: &str) -> String {
        let listed = http::get(url);
        let playlist = MediaPlaylist::read(url, &listed.text());
        fs::write(self.path("cam.m3u8"), listed.body).unwrap();
        for segment in &playlist.segments {
            fs::write(self.path(&segment.uri), http::get(&playlist.resolve(&segment.uri)).body).unwrap();
        }
        self.url("cam.m3u8")
    }

    /// Has ffmpeg write a live stream's files, as it does for any web server.
    fn write_live(&self) -> (Process, String) {
        let mut ffmpeg = command("ffmpeg");
        ffmpeg.args(["-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30"]);
        ffmpeg.args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-pix_fmt", "yuv420p"]);
        ffmpeg.args(["-f", "hls", "-hls_time", "1", "-hls_segment_type", "fmp4"]);
        ffmpeg.args(["-hls_flags", "program_date_time"]).arg(self.path("live.m3u8"));
        let process = Process::start("ffmpeg", ffmpeg, self.folder.path().join("ffmpeg.log"));
        (process, self.url("live.m3u8"))
    }
}

#[track_caller]
fn finds(report: &Report, faults: &[&str]) {
    for what in faults {
        assert!(report.faults.iter().any(|fault| fault.contains(what)), "not found: {what}; {report:#?}");
    }
    assert_eq!(report.hinted, 0, "{report:#?}");
}

#[test]
fn a_strict_player_finds_our_own_files_wanting_when_nginx_serves_them() {
    let node = demo::node();
    let files = PlainFiles::serve();
    let report = validate(&files.keep(&node.url("/live/streams/demo.m3u8")), WATCHED);
    finds(&report, &["?_HLS_part=0 got 200, not 400", "was answered before the playlist had it"]);
}

#[test]
fn a_strict_player_finds_a_live_stream_of_plain_files_wanting() {
    let files = PlainFiles::serve();
    let (_ffmpeg, url) = files.write_live();
    let _ = until("a few segments", demo::FIRST_SEGMENTS, || {
        MediaPlaylist::fetch(&url).filter(|playlist| playlist.segments.len() >= 3)
    });
    finds(
        &validate(&url, WATCHED),
        &[
            "CAN-BLOCK-RELOAD is not YES",
            "there is no EXT-X-PART-INF with PART-TARGET",
            "there is no EXT-X-PRELOAD-HINT",
            "?_HLS_part=0 got 200, not 400",
            "was answered before the playlist had it",
        ],
    );
}
