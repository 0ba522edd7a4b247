//! WebRTC at the origin: what is published by WHIP plays by HLS, and what is published by RTMP can be pulled
//! by WHEP. Through a balancer where there is a public way.

use std::time::Duration;

use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_e2e::browser::CameraPage;
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::probe::{mean_volume_db, probe, probe_file};
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::rtc_client::{RtcClient, offer, post};
use sluicegate_e2e::until::{until, until_true};
use sluicegate_media::frame::Track;

use crate::demo;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const FRAMES: Duration = Duration::from_secs(20);
/// A page with a camera is closed after that at the latest.
const CAMERA: Duration = Duration::from_secs(60);
/// No sound at all has −91 dB.
const QUIET_DB: f64 = -60.0;
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// A node whose cluster key the test knows.
fn node() -> NodeProcess {
    NodeConfig::standalone().set("cluster", &format!("key = {KEY:?}")).start()
}

/// A token such as a node of the cluster shows.
fn token() -> String {
    ClusterKey::new(KEY).unwrap().token(&"edge-1".parse().unwrap()).unwrap()
}

#[test]
fn what_is_published_by_whip_plays_by_hls() {
    let node = demo::node();
    let publisher = RtcClient::publish(&node.url("/live/whip/whip"));
    demo::playlist(&node, "whip");
    let probed = probe(&node.url("/live/streams/whip.m3u8"));
    assert_eq!(probed.codecs(), ["aac", "h264"]);
    assert_eq!(probed.size(), (320, 180));
    assert!(probed.frames("audio") >= 60, "two seconds have 86 frames or more: {probed:?}");
    assert!(probed.frames("video") >= 50, "two seconds have 60 frames: {probed:?}");
    let deleted = http::request("DELETE", &publisher.location, &[], "");
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    until_true("its playlist says that it has ended", FRAMES, || {
        http::get(&node.url("/live/streams/whip.m3u8")).text().contains("#EXT-X-ENDLIST")
    });
    until_true("the publisher is told", FRAMES, || publisher.has_ended());
    assert_eq!(http::request("DELETE", &publisher.location, &[], "").status, 404);
}

#[test]
fn a_browsers_camera_plays_by_hls() {
    let node = demo::node();
    let page = node.url("/live/play.html?id=nobody");
    let mut camera = CameraPage::open(&page, &node.url("/live/whip/camera"), "H264", CAMERA);
    let seen = camera.until("frames are sent", FRAMES, |seen| seen["framesSent"].as_u64() > Some(10));
    assert_eq!(seen["codec"], "video/H264", "{seen}");
    demo::playlist(&node, "camera");
    let probed = probe(&node.url("/live/streams/camera.m3u8"));
    assert_eq!(probed.codecs(), ["aac", "h264"]);
    assert!(probed.frames("video") >= 20, "{probed:?}");
    // The microphone that Chromium makes up beeps once a second.
    let volume_db = mean_volume_db(&node.url("/live/streams/camera.m3u8"));
    assert!(volume_db > QUIET_DB, "{volume_db} dB");
    camera.until("it is asked for keyframes", FRAMES, |seen| seen["keyFramesEncoded"].as_u64() > Some(3));
}

#[test]
fn a_camera_in_vp8_plays_by_hls_in_h264() {
    let node = demo::node();
    let page = node.url("/live/play.html?id=nobody");
    let mut camera = CameraPage::open(&page, &node.url("/live/whip/vp8"), "VP8", CAMERA);
    let seen = camera.until("frames are sent", FRAMES, |seen| seen["framesSent"].as_u64() > Some(10));
    assert_eq!(seen["codec"], "video/VP8", "{seen}");
    demo::playlist(&node, "vp8");
    let probed = probe(&node.url("/live/streams/vp8.m3u8"));
    assert_eq!(probed.codecs(), ["aac", "h264"]);
    assert!(probed.frames("video") >= 20 && probed.frames("audio") >= 60, "{probed:?}");
    let still = camera.until("it is still sent", FRAMES, |seen| seen["framesSent"].as_u64() > Some(90));
    assert_eq!(still["state"], "connected", "{still}");
}

#[test]
fn an_edge_pulls_what_is_published_by_rtmp() {
    let node = node();
    let url = node.node_url("/origin/live/whep/pulled");
    let token = token();
    let headers = [(trust::HEADER, token.as_str())];
    let absent = post(&url, &offer(false), &headers);
    assert_eq!((absent.status, absent.is_problem()), (409, true), "{}", absent.text());
    assert!(absent.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(post(&url, &offer(false), &[]).status, 401);

    let _publisher = publish(node.rtmp(), "live/pulled");
    demo::playlist(&node, "pulled");
    assert_eq!(post(&format!("{url}?rendition=9p9kbps"), &offer(false), &headers).status, 404);
    let viewer = RtcClient::view(&url, &headers);
    let frames = until("two seconds of pictures", FRAMES, || {
        let frames = viewer.frames(Track::Video);
        (frames.len() >= 60).then_some(frames)
    });
    assert!(frames[0].keyframe, "it begins with a keyframe");
    assert!(frames.iter().all(|frame| frame.contiguous));
    until_true("a second of sound", FRAMES, || viewer.frames(Track::Audio).len() >= 50);
    let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.payload.iter().copied()).collect();
    let decoded = probe_file(&stream, "h264");
    assert!(decoded.frames("video") >= 58, "of {}: {decoded:?}", frames.len());
    assert_eq!(decoded.size(), (320, 180));
}

#[test]
fn what_is_wrong_with_a_request_is_told_and_disturbs_nobody() {
    let node = demo::node();
    let url = node.url("/live/whip/steady");
    let publisher = RtcClient::publish(&url);
    demo::playlist(&node, "steady");
    let check = |answer: http::Answer, status: u16| {
        assert_eq!((answer.status, answer.is_problem()), (status, true), "{}", answer.text());
    };
    let good = offer(true);
    check(post(&node.url("/live/whip/other"), "v=0\r\nnonsense", &[]), 400);
    check(post(&node.url("/live/whip/other"), &good[..good.len() / 3], &[]), 400);
    check(
        post(&node.url("/live/whip/other"), &good.replace("H264/", "H265/").replace("opus/", "g7/"), &[]),
        422,
    );
    check(http::request("POST", &url, &[("content-type", "text/plain")], &good), 415);
    check(post(&url, &good, &[]), 409);
    check(post(&node.url("/live/whip/other"), &"x".repeat(70_000), &[]), 413);
    check(http::request("GET", &url, &[], ""), 405);

    let patch =
        |headers: &[(&str, &str)], body: &str| http::request("PATCH", &publisher.location, headers, body);
    let of_type = ("content-type", FRAGMENT);
    let restart = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n";
    check(patch(&[of_type], restart), 428);
    check(patch(&[of_type, ("if-match", "\"stale\"")], restart), 412);
    check(patch(&[of_type, ("if-match", &publisher.etag)], "nonsense"), 400);
    check(patch(&[("content-type", "text/plain"), ("if-match", "*")], restart), 415);
    check(http::request("PATCH", &format!("{}x", publisher.location), &[of_type], restart), 404);
    let trickled = patch(&[of_type, ("if-match", &publisher.etag)], "a=end-of-candidates\r\n");
    assert_eq!(trickled.status, 204, "{}", trickled.text());

    let last = demo::playlist(&node, "steady").last_sequence();
    until_true("it goes on", FRAMES, || demo::playlist(&node, "steady").last_sequence() > last + 1);
    assert!(!publisher.has_ended());
}

#[test]
fn an_ice_restart_answers_with_the_new_session() {
    let node = demo::node();
    let publisher = RtcClient::publish(&node.url("/live/whip/restarted"));
    let restart = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n";
    let headers = [("content-type", FRAGMENT), ("if-match", "*")];
    let answer = http::request("PATCH", &publisher.location, &headers, restart);
    assert_eq!((answer.status, answer.header("content-type")), (200, FRAGMENT), "{}", answer.text());
    assert!(answer.header("etag") != publisher.etag && answer.text().contains("a=ice-ufrag:"));
    let stale = [("content-type", FRAGMENT), ("if-match", publisher.etag.as_str())];
    assert_eq!(http::request("PATCH", &publisher.location, &stale, restart).status, 412);
}
