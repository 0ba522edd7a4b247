//! Machines whose clocks are ten minutes off, this way and that: the store's clock is the cluster's, all works, and
//! it is told.

use std::time::{Duration, UNIX_EPOCH};

use sluicegate_e2e::cluster::{KEY, database_alone};
use sluicegate_e2e::http;
use sluicegate_e2e::metrics;
use sluicegate_e2e::node::{NodeConfig, NodeProcess, START, run_sluicegate};
use sluicegate_e2e::probe::probe;
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::rtc_client::RtcClient;
use sluicegate_e2e::until::{until, until_true};
use sluicegate_e2e::viewer::Viewer;
use sluicegate_media::frame::Track;

/// For a node to tell of its clock, and others to know.
const TOLD: Duration = Duration::from_secs(10);
const GOES_ON: Duration = Duration::from_secs(20);
/// Ten minutes, less what telling it may take.
const OFF_S: f64 = 595.0;
/// The application's key of publish and play tokens.
const APP_KEY: &str = "token_keys = [{ id = \"k\", key = \"a key for tests only\" }]";
const DAY_S: u64 = 86_400;

#[test]
fn nodes_twenty_minutes_apart_work_together_and_say_so() {
    let (mongo, _alone) = database_alone();
    let config = |role, id, clock| {
        let config = NodeConfig::role(role, id, mongo.uri(), KEY).clock(clock);
        config.set("[app]", "name = \"live\"\nplay = \"token\"").set("[app]", APP_KEY)
    };
    let mut nodes = [("lb", "lb-1", "-600s"), ("edge", "edge-1", "+600s"), ("origin", "origin-1", "-600s")]
        .map(|(role, id, clock)| config(role, id, clock).launch());
    nodes.iter_mut().for_each(NodeProcess::wait_until_ready);
    let [lb, edge, origin] = &nodes;
    until_true("the balancer knows all nodes", START, || {
        ["lb-1", "edge-1", "origin-1"]
            .into_iter()
            .all(|id| lb.node(id).is_some_and(|n| n["state"] == "serving"))
    });
    lb.wait_for_an_edge();

    let mut publisher = publish(lb.rtmp(), "live/cam");
    let token = play_token(lb);
    let url = lb.url(&format!("/live/streams/cam.m3u8?token={token}"));
    let mut viewer = Viewer::watch(&url);
    let enough = viewer.last_sequence() + 3;
    viewer.until("it goes on", GOES_ON, |p| p.last_sequence() >= enough);
    is_dated_now(&http::get(&url).text());
    assert_eq!(probe(&url).codecs(), ["aac", "h264"]);
    let by_webrtc = RtcClient::view(&lb.url(&format!("/live/whep/cam?token={token}")), &[]);
    until_true("pictures by WebRTC", GOES_ON, || by_webrtc.frames(Track::Video).len() >= 30);
    assert!(publisher.is_running(), "{}", publisher.last_lines());

    is_told(lb, edge, "ahead of", 1.0);
    is_told(lb, origin, "behind", -1.0);
    let listed = run_sluicegate(&["nodes", "--admin", &lb.admin_url("")]);
    assert!(listed.stdout.contains("ahead of the cluster's"), "{}", listed.stdout);
    let examined = config("edge", "edge-2", "+600s").run(&["doctor"]);
    assert!(examined.stdout.contains("s ahead of the database's"), "{} {}", examined.stdout, examined.stderr);
    for node in &nodes {
        assert!(!node.log().contains("does not trust"), "{}: {}", node.id(), node.log());
    }
}

/// A play token that is good for a minute by the store's clock, which is this machine's.
#[track_caller]
fn play_token(node: &NodeProcess) -> String {
    let plain = NodeConfig::standalone().set("[app]", "name = \"live\"").set("[app]", APP_KEY);
    let words = ["token", "sign", "--app", "live", "--stream", "cam", "--type", "play", "--ttl", "60s"];
    let signed = plain.run(&words);
    assert_eq!(signed.code, Some(0), "for {}: {}", node.id(), signed.stderr);
    signed.stdout.trim().to_owned()
}

/// Its dates are within a minute of this machine's time.
#[track_caller]
fn is_dated_now(playlist: &str) {
    let date = playlist.lines().filter_map(|line| line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:")).next_back();
    let date = date.unwrap_or_else(|| panic!("no date in {playlist}"));
    let of_day = date.split_once('T').unwrap().1;
    let digits: Vec<u64> = of_day[..8].split(':').map(|part| part.parse().unwrap()).collect();
    let dated_s = digits[0] * 3_600 + digits[1] * 60 + digits[2];
    let now_s = UNIX_EPOCH.elapsed().unwrap().as_secs() % DAY_S;
    let apart_s = (now_s + DAY_S - dated_s) % DAY_S;
    assert!(apart_s.min(DAY_S - apart_s) < 60, "{date}, {apart_s} s ago");
}

/// The node itself and the balancer tell how far its clock is off.
#[track_caller]
fn is_told(lb: &NodeProcess, node: &NodeProcess, which: &str, sign: f64) {
    let told = until(&format!("the clock of {}", node.id()), TOLD, || {
        lb.node(node.id()).filter(|n| n["clock_ahead_ms"].as_f64().unwrap() * sign > OFF_S * 1e3)
    });
    assert!(told["problem"].as_str().is_some_and(|p| p.contains(which)), "{told}");
    let exported = metrics::sum(&node.metrics(), "sluicegate_node_clock_ahead_seconds", &[]);
    assert!(exported * sign > OFF_S, "{}: {exported}", node.id());
}
