//! Ant Media Server's own SDK, unchanged, in Chromium: it publishes and plays through our balancer, signalling over
//! the WebSocket that it knows.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_e2e::ams::Socket;
use sluicegate_e2e::browser::Page;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::node::{NodeConfig, NodeProcess, run_sluicegate};
use sluicegate_e2e::publisher::{Broadcast, publish};
use sluicegate_e2e::rtc_client::RtcClient;
use sluicegate_e2e::until::{until, until_true};
use sluicegate_media::frame::Track;

use crate::demo;

/// For a page to do all of its steps.
const PAGE: Duration = Duration::from_secs(40);
/// For one node to do what another has told it.
const KNOWN: Duration = Duration::from_secs(10);

fn socket(page: &str) -> String {
    page.replacen("http", "ws", 1)
}

fn is_done(page: &Value) -> bool {
    page["left"].as_array().is_some_and(Vec::is_empty)
}

/// What the SDK was told, by name.
fn heard<'a>(page: &'a Value, name: &str) -> Vec<&'a Value> {
    page["heard"].as_array().unwrap().iter().filter(|one| one["name"] == name).collect()
}

/// The SDK tries again when a stream is not set up within 3 s.
#[track_caller]
fn was_set_up_in_time(page: &Value) {
    for name in ["reconnection_attempt_for_publisher", "reconnection_attempt_for_player"] {
        assert!(heard(page, name).is_empty(), "{page}");
    }
}

#[test]
fn the_sdk_publishes_and_plays_on_one_socket() {
    let node = NodeConfig::standalone().start();
    let _publisher = publish(node.rtmp(), "live/cam");
    demo::playlist(&node, "cam");
    let steps = [
        "publish:me",
        "heard:publish_started",
        "frames:me:30",
        "play:cam",
        "heard:play_started",
        "frames:cam:30",
        "info:cam",
        "heard:streamInformation",
        "frames:me:30",
    ];
    let mut page = Page::ams_sdk(&socket(&node.url("/live/websocket")), &steps, 3 * PAGE);
    let seen = page.until("both flow", PAGE, is_done);
    was_set_up_in_time(&seen);
    for stream in ["me", "cam"] {
        let now = &seen["streams"][stream];
        assert_eq!((&now["state"], &now["channel"]), (&"connected".into(), &"open".into()), "{seen}");
    }
    assert!(seen["streams"]["cam"]["audioPackets"].as_u64() > Some(0), "{seen}");
    assert_eq!(seen["info"][0]["streamHeight"], seen["streams"]["cam"]["height"], "{seen}");

    let viewer = RtcClient::view(&node.url("/live/whep/me"), &[]);
    until_true("who watches otherwise sees it as well", KNOWN, || viewer.frames(Track::Video).len() > 30);
    drop(page);
    until_true("a closed page publishes nothing", KNOWN, || {
        node.stream("live/me").is_none_or(|stream| stream["live"] == false)
    });
}

#[test]
fn a_player_chooses_its_rendition_over_tls() {
    let ladder = "ladder = [{ height = 120, kbps = 150 }]";
    let node =
        NodeConfig::standalone().with_certificate().set("[app]", "name = \"live\"").set("[app]", ladder);
    let node = node.start();
    let _publisher = Broadcast::default().size("640x360").publish(node.rtmp(), "live/cam");
    until("the rung is listed", demo::FIRST_SEGMENTS, || {
        let stream = node.stream("live/cam")?;
        stream["renditions"].as_array().filter(|all| all.len() == 2).cloned()
    });
    let steps = [
        "play:cam",
        "high:cam:360",
        "frames:cam:30",
        "height:cam:120",
        "heard:resolutionChangeInfo",
        "high:cam:120",
        "frames:cam:30",
        "height:cam:360",
        "high:cam:360",
        "stop:cam",
        "heard:play_finished",
    ];
    let mut page = Page::ams_sdk(&socket(&node.https_url("/live/websocket")), &steps, 3 * PAGE);
    let seen = page.until("it has played both", PAGE, is_done);
    was_set_up_in_time(&seen);
    assert_eq!(heard(&seen, "play_started").len(), 1, "on one connection: {seen}");
    until_true("it is let go", KNOWN, || node.count("sluicegate_edge_webrtc_viewers", &[]) == 0);
}

#[test]
fn players_of_a_drained_edge_are_moved() {
    let cluster = Cluster::start(&[100]);
    let second = cluster.join("edge", "edge-2");
    let _publisher = publish(cluster.lb.rtmp(), "live/cam");
    demo::playlist(&cluster.lb, "cam");
    let steps = ["play:cam", "frames:cam:30", "heard:server_will_stop", "frames:cam:60"];
    let mut page = Page::ams_sdk(&socket(&cluster.lb.url("/live/websocket")), &steps, 3 * PAGE);
    page.until("it plays", PAGE, |page| page["left"].as_array().is_some_and(|left| left.len() <= 2));
    // Not all viewers: who fetched the playlist may have another edge.
    let viewers = |edge: &NodeProcess| edge.count("sluicegate_edge_webrtc_viewers", &[]);
    let edges = [&cluster.edge, &second];
    let at = until("its edge", KNOWN, || edges.iter().position(|edge| viewers(edge) > 0));
    let (drained, other) = (edges[at], edges[1 - at]);
    let order = run_sluicegate(&["drain", drained.id(), "--admin", &cluster.lb.admin_url("")]);
    assert_eq!(order.code, Some(0), "{}", order.stderr);
    let seen = page.until("it plays on", PAGE, is_done);
    assert_eq!(heard(&seen, "server_will_stop").len(), 1, "{seen}");
    until_true("with the other edge", KNOWN, || viewers(drained) == 0 && viewers(other) == 1);
}

#[test]
fn a_balancer_that_ends_says_so_first() {
    let mut node = NodeConfig::standalone().start();
    let mut client = Socket::open((node.ip(), 5080).into(), "/live/websocket").unwrap();
    assert_eq!(client.ask(&json!({"command": "ping"})), json!({"command": "pong"}));
    assert!(node.ask_to_end());
    let told = client.hear().expect("a word before the end");
    assert_eq!(told, json!({"command": "notification", "definition": "server_will_stop"}));
    assert!(node.wait_for_its_end().success());
}
