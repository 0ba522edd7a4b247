//! Published by RTMP and by WHIP, watched over WebRTC, always through the balancer.

use std::time::Duration;

use serde_json::Value;
use sluicegate_e2e::browser::Page;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeConfig, NodeProcess, run_sluicegate};
use sluicegate_e2e::publisher::{Broadcast, publish};
use sluicegate_e2e::rtc_client::{RtcClient, offer, post};
use sluicegate_e2e::until::{timed, until, until_true};
use sluicegate_media::frame::Track;

use crate::demo;

/// For a page to play, or to publish.
const PAGE: Duration = Duration::from_secs(30);
/// For the picture of a stream whose origin was lost to go on.
const CARRIED: Duration = Duration::from_secs(15);
/// For a page's connection, and its claim on the stream, to be known to be dead.
const NOTICED: Duration = Duration::from_secs(25);
/// For one node to do what another has told it.
const KNOWN: Duration = Duration::from_secs(10);
/// For what an origin knows to be in a stream's record.
const RECORDED: Duration = Duration::from_secs(20);
/// Viewers of one stream.
const VIEWERS: usize = 8;

fn number(page: &Value, name: &str) -> f64 {
    page[name].as_f64().unwrap_or(0.0)
}

/// Whether a page has played by WebRTC for a while.
fn plays(page: &Value) -> bool {
    page["state"] == "live" && page["engine"] == "WebRTC" && number(page, "framesDecoded") >= 60.0
}

/// Waits for so many more pictures.
#[track_caller]
fn until_pictures(viewer: &RtcClient, more: usize) {
    let enough = viewer.frames(Track::Video).len() + more;
    until_true("more pictures", CARRIED, || viewer.frames(Track::Video).len() >= enough);
}

/// What AMS's REST says of a stream in `live`.
fn broadcast(node: &NodeProcess, stream: &str) -> Value {
    let answer = http::get(&node.node_url(&format!("/live/rest/v2/broadcasts/{stream}")));
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

fn pulls(edge: &NodeProcess) -> u64 {
    edge.count("sluicegate_edge_pulls_begun_total", &[("result", "agreed")])
}

#[test]
fn an_rtmp_stream_plays_by_webrtc_in_a_browser() {
    let node = demo::node();
    let mut page = Page::open(&node.url("/live/play.html?id=demo"), PAGE);
    let seen = page.until("it plays by WebRTC", PAGE, plays);
    assert_eq!((&seen["videoWidth"], &seen["fallback"]), (&320.into(), &"".into()), "{seen}");
    assert_eq!(seen["recoveries"], 0, "{seen}");
}

#[test]
fn what_obs_sends_by_default_plays_by_webrtc_with_sound() {
    let node = NodeConfig::standalone().start();
    let _publisher = Broadcast::default().b_frames().publish(node.rtmp(), "live/obs");
    demo::playlist(&node, "obs");
    let mut page = Page::open_with_sound(&node.url("/live/play.html?id=obs&playOrder=webrtc"), 2 * PAGE);
    let heard = |page: &Value| plays(page) && number(page, "audioEnergy") > 0.0;
    let seen = page.until("it plays by WebRTC, with sound", PAGE, heard);
    assert_eq!((&seen["recoveries"], &seen["fallback"]), (&0.into(), &"".into()), "{seen}");
}

#[test]
fn many_viewers_cost_one_pull() {
    let node = NodeConfig::standalone().start();
    let _publisher = publish(node.rtmp(), "live/many");
    demo::playlist(&node, "many");
    let url = node.url("/live/whep/many");
    let viewers: Vec<RtcClient> = (0..VIEWERS).map(|_| RtcClient::view(&url, &[])).collect();
    for viewer in &viewers {
        until_pictures(viewer, 30);
        assert!(viewer.frames(Track::Video)[0].keyframe, "it begins with a keyframe");
    }
    assert_eq!(pulls(&node), 1);
    until_true("the viewers are in the node's load", KNOWN, || {
        node.node("standalone").is_some_and(|node| node["viewers"].as_u64() >= Some(VIEWERS as u64))
    });
    until_true("the origin has heard of them", RECORDED, || {
        let told = broadcast(&node, "many");
        (told["webRTCViewerCount"].as_u64(), &told["publishType"]) == (Some(VIEWERS as u64), &"RTMP".into())
    });
    drop(viewers);
    until_true("nobody watches: it is not pulled", KNOWN, || node.count("sluicegate_edge_pulls", &[]) == 0);
}

#[test]
fn a_stream_that_is_not_there_is_not_live() {
    let node = demo::node();
    let answer = post(&node.url("/live/whep/nobody"), &offer(false), &[]);
    assert_eq!((answer.status, answer.header("retry-after"), answer.is_problem()), (409, "2", true));
}

#[test]
fn a_viewers_connection_outlives_its_origin() {
    let mut cluster = Cluster::start(&[10, 100]);
    let _publisher = publish(cluster.lb.rtmp(), "live/kept");
    demo::playlist(&cluster.lb, "kept");
    let mut page = Page::open(&cluster.lb.url("/live/play.html?id=kept&playOrder=webrtc"), 3 * PAGE);
    let viewer = RtcClient::view(&cluster.lb.url("/live/whep/kept"), &[]);
    let before = page.until("it plays", PAGE, plays);
    until_pictures(&viewer, 30);
    assert_eq!(pulls(&cluster.edge), 1);

    let owner = until("the origin", KNOWN, || cluster.lb.stream("live/kept"))["origin"].clone();
    cluster.origin_mut(owner.as_str().unwrap()).kill();
    let (gap, after) = timed(|| {
        let further = number(&before, "framesDecoded") + 90.0;
        page.until("the picture goes on", CARRIED, |p| {
            p["state"] == "live" && number(p, "framesDecoded") > further
        })
    });
    eprintln!("an origin is killed, watched by WebRTC: {} ms to 90 more pictures", gap.as_millis());
    assert_eq!((&after["recoveries"], &after["openedAt"]), (&0.into(), &before["openedAt"]), "{after}");
    assert_eq!(after["engine"], "WebRTC", "{after}");
    until_pictures(&viewer, 30);
    assert!(!viewer.has_ended());
    assert_eq!(pulls(&cluster.edge), 2, "one for each origin");
}

#[test]
fn a_browser_publishes_and_is_watched_by_webrtc_and_by_hls() {
    let node = NodeConfig::standalone().start();
    let mut publisher = Page::publish(&node.url("/live/publish.html?id=me"), 3 * PAGE);
    publisher.until("it is live", PAGE, |p| p["state"] == "live");
    let mut viewer = Page::open(&node.url("/live/play.html?id=me&playOrder=webrtc"), 2 * PAGE);
    let seen = viewer.until("it plays by WebRTC", PAGE, plays);
    assert_eq!((&seen["recoveries"], &seen["fallback"]), (&0.into(), &"".into()), "{seen}");
    assert_eq!(broadcast(&node, "me")["publishType"], "WebRTC");
    drop(viewer);
    demo::playlist(&node, "me");
    let mut hls = Page::open(&node.url("/live/play.html?id=me&playOrder=hls"), 2 * PAGE);
    hls.until("it plays by HLS", PAGE, |p| p["state"] == "live" && number(p, "playedS") >= 2.0);
    let still = publisher.until("it is still live", KNOWN, |p| p["state"] == "live");
    assert_eq!(still["reconnects"], 0, "{still}");
}

/// A page that publishes `live/me` through a cluster of two origins, and a viewer's page.
fn published_by_a_page(cluster: &Cluster) -> (Page, Page) {
    let mut publisher = Page::publish(&cluster.lb.url("/live/publish.html?id=me"), 3 * PAGE);
    publisher.until("it is live", PAGE, |p| p["state"] == "live");
    let mut viewer = Page::open(&cluster.lb.url("/live/play.html?id=me&playOrder=hls"), 3 * PAGE);
    viewer.until("it plays by HLS", PAGE, |p| p["state"] == "live" && number(p, "playedS") >= 2.0);
    (publisher, viewer)
}

fn goes_on(publisher: &mut Page, viewer: &mut Page) {
    let again =
        publisher.until("it is live again", CARRIED, |p| p["state"] == "live" && p["reconnects"] == 1);
    let before = viewer.until("the viewer is there", PAGE, |p| p["playedS"].is_number());
    let further = number(&before, "playedS") + 5.0;
    let after =
        viewer.until("the picture goes on", PAGE, |p| p["state"] == "live" && number(p, "playedS") > further);
    assert_eq!(after["openedAt"], before["openedAt"], "{after}");
    assert_eq!(again["reason"], "", "{again}");
}

fn origin_of_me(cluster: &Cluster) -> String {
    let stream = until("the origin", KNOWN, || cluster.lb.stream("live/me").filter(|s| s["live"] == true));
    stream["origin"].as_str().unwrap().to_owned()
}

#[test]
fn a_page_that_publishes_to_an_origin_that_is_drained_comes_again_elsewhere() {
    let cluster = Cluster::start(&[100, 100]);
    let (mut publisher, mut viewer) = published_by_a_page(&cluster);
    let drained = origin_of_me(&cluster);
    let (gap, ()) = timed(|| {
        let ordered = run_sluicegate(&["drain", &drained, "--admin", &cluster.lb.admin_url("")]);
        assert_eq!(ordered.code, Some(0), "{}", ordered.stderr);
        until_true("the stream is elsewhere", CARRIED, || {
            cluster.lb.stream("live/me").is_some_and(|s| s["live"] == true && s["origin"] != *drained)
        });
    });
    eprintln!("an origin is drained under a page that publishes: {} ms to its next claim", gap.as_millis());
    goes_on(&mut publisher, &mut viewer);
}

#[test]
fn a_page_whose_origin_dies_comes_again_elsewhere() {
    let mut cluster = Cluster::start(&[100, 100]);
    let (mut publisher, mut viewer) = published_by_a_page(&cluster);
    let owner = origin_of_me(&cluster);
    cluster.origin_mut(&owner).kill();
    let (gap, ()) = timed(|| {
        until_true("the stream is elsewhere", NOTICED, || {
            cluster.lb.stream("live/me").is_some_and(|s| s["live"] == true && s["origin"] != *owner)
        });
    });
    eprintln!("an origin dies under a page that publishes: {} ms to its next claim", gap.as_millis());
    goes_on(&mut publisher, &mut viewer);
}
