//! From ffmpeg to ffprobe and to the browser, in one process.

use std::time::Duration;

use sluicegate_e2e::browser::watch;
use sluicegate_e2e::hls::{MediaPlaylist, attribute, variants};
use sluicegate_e2e::http;
use sluicegate_e2e::probe::probe;
use sluicegate_e2e::process::{command, run};
use sluicegate_e2e::publisher::Broadcast;
use sluicegate_e2e::until::{until, until_true};

use crate::demo;

const PAGE: Duration = Duration::from_secs(30);

#[test]
fn a_published_stream_plays_as_h264_and_aac() {
    let node = demo::node();
    let probed = probe(&node.url("/live/streams/demo.m3u8"));
    assert_eq!(probed.codecs(), ["aac", "h264"]);
    assert_eq!(probed.size(), (320, 180));
    assert!(probed.frames("video") >= 50, "two seconds have 60 frames: {probed:?}");
    assert!(probed.frames("audio") >= 70, "two seconds have 86 frames: {probed:?}");
}

#[test]
fn a_larger_picture_keeps_its_size() {
    let node = demo::node();
    let _publisher = Broadcast::default().size("1280x720").seconds(30).publish(node.rtmp(), "live/large");
    demo::playlist(&node, "large");
    assert_eq!(probe(&node.url("/live/streams/large.m3u8")).size(), (1280, 720));
}

#[test]
fn the_list_of_renditions_tells_size_codecs_and_frame_rate() {
    let node = demo::node();
    let answer = http::get(&node.url("/live/streams/demo_adaptive.m3u8"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/vnd.apple.mpegurl");
    let variants = variants(&answer.text());
    let [(attributes, uri)] = variants.as_slice() else { panic!("one rendition: {}", answer.text()) };
    assert_eq!(uri, "demo.m3u8");
    let told = |name| attribute(attributes, name).unwrap_or_default();
    assert_eq!(told("RESOLUTION"), "320x180");
    let codecs = told("CODECS");
    assert!(codecs.starts_with("avc1.") && codecs.ends_with("mp4a.40.2"), "{codecs}");
    assert!((told("FRAME-RATE").parse::<f64>().unwrap_or(0.0) - 30.0).abs() < 0.5, "{attributes}");
    assert!(told("BANDWIDTH").parse::<u64>().is_ok_and(|bps| bps > 10_000), "{attributes}");
}

#[test]
fn a_playlist_is_dated_and_slides() {
    let node = demo::node();
    let first = demo::playlist(&node, "demo");
    assert!(first.map.is_some() && !first.ended && first.segments.iter().all(|s| s.duration_s > 0.5));
    assert!(first.segments[0].dated, "{first:?}");
    let url = node.url("/live/streams/demo.m3u8");
    let later = until("a new segment", demo::FIRST_SEGMENTS, || {
        MediaPlaylist::fetch(&url).filter(|p| p.last_sequence() > first.last_sequence() + 1)
    });
    for (index, segment) in first.segments.iter().enumerate() {
        let number = first.sequence + index as u64;
        let again =
            number.checked_sub(later.sequence).and_then(|i| later.segments.get(usize::try_from(i).ok()?));
        assert!(again.is_none_or(|s| s.uri == segment.uri), "segment {number} changed its name");
    }
    let media = http::get(&later.resolve(&later.segments[0].uri));
    assert_eq!(media.status, 200);
    assert!(media.header("cache-control").contains("max-age"), "{:?}", media.headers);
}

#[test]
fn the_player_page_plays() {
    let node = demo::node();
    let page = watch(&node.url("/live/play.html?id=demo&playOrder=hls"), "live", PAGE);
    assert_eq!((page["videoWidth"].as_u64(), page["videoHeight"].as_u64()), (Some(320), Some(180)), "{page}");
    assert!(page["currentTime"].as_f64().is_some_and(|s| s > 0.0), "{page}");
    assert!(page["audioBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{page}");
    assert_eq!(page["recoveries"], 0, "{page}");
}

#[test]
fn the_player_page_plays_over_https() {
    let node = demo::node();
    let page = watch(&node.https_url("/live/player.html?id=demo&playOrder=hls"), "live", PAGE);
    assert!(page["frames"].as_u64().is_some_and(|frames| frames > 30), "{page}");
}

#[test]
fn the_player_page_waits_for_a_stream_that_is_not_there() {
    let node = demo::node();
    let page = watch(&node.url("/live/play.html?id=nobody"), "waiting", PAGE);
    assert_eq!(page["playedS"], 0, "{page}");
}

#[test]
fn the_player_page_says_when_a_stream_has_ended() {
    let node = demo::node();
    let _publisher = Broadcast::default().seconds(10).publish(node.rtmp(), "live/short");
    demo::playlist(&node, "short");
    let page = watch(&node.url("/live/play.html?id=short&playOrder=hls"), "ended", PAGE);
    assert!(page["playedS"].as_f64().is_some_and(|s| s > 1.0), "{page}");
}

#[test]
fn https_is_spoken_as_http_1_1_and_as_http_2() {
    let node = demo::node();
    let playlist = demo::playlist(&node, "demo");
    let segment = &playlist.segments.last().unwrap().uri;
    let plain = http::get(&playlist.resolve(segment));
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let mut curl = command("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "10",
            "--noproxy",
            "*",
            flag,
            "--cacert",
        ]);
        curl.arg(node.authority()).args(["--output", "/dev/null", "--write-out"]);
        curl.arg("%{http_version} %{response_code} %{size_download}");
        curl.arg(node.https_url(&format!("/live/streams/{segment}")));
        let finished = run("curl", curl, Duration::from_secs(15));
        let expect = format!("{version} 200 {}", plain.body.len());
        assert_eq!(finished.stdout, expect, "{}", finished.stderr);
    }
}

#[test]
fn a_stream_that_ends_says_so_in_its_playlist() {
    let node = demo::node();
    let _publisher = Broadcast::default().seconds(4).publish(node.rtmp(), "live/brief");
    demo::playlist(&node, "brief");
    let url = node.url("/live/streams/brief.m3u8");
    until("EXT-X-ENDLIST", demo::FIRST_SEGMENTS, || {
        MediaPlaylist::fetch(&url).filter(|playlist| playlist.ended)
    });
    until_true("the stream is not listed", demo::FIRST_SEGMENTS, || node.stream("live/brief").is_none());
}

#[test]
fn playlists_and_pages_go_out_compressed_and_media_does_not() {
    let node = demo::node();
    let list = demo::playlist(&node, "demo");
    let segment = list.segments.last().unwrap().uri.clone();
    let ask =
        |path: &str, coding: &str| http::request("GET", &node.url(path), &[("accept-encoding", coding)], "");
    for (path, coding) in [("/live/streams/demo.m3u8", "gzip"), ("/live/play.html", "br")] {
        let (plain, coded) = (ask(path, "identity"), ask(path, coding));
        assert_eq!(
            (plain.header("content-encoding"), plain.header("vary")),
            ("", "accept-encoding"),
            "{path}"
        );
        assert_eq!((coded.header("content-encoding"), coded.header("vary")), (coding, "accept-encoding"));
        assert!(coded.body.len() < plain.body.len(), "{path}: {} of {}", coded.body.len(), plain.body.len());
        assert_eq!(coded.header("content-length"), coded.body.len().to_string());
        assert_ne!(coded.header("etag"), plain.header("etag"));
    }
    let media = ask(&format!("/live/streams/{segment}"), "gzip, br");
    assert_eq!((media.status, media.header("content-encoding"), media.header("vary")), (200, "", ""));
}
