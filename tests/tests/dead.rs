//! Nodes that others take for dead: rightly, wrongly, and what becomes of their streams.

use std::time::Duration;

use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::node::NodeProcess;
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::store_relay::StoreRelay;
use sluicegate_e2e::until::{until, until_true};
use sluicegate_e2e::viewer::{Viewer, newest_epoch};

/// For what one node has written to be known to all.
const KNOWN: Duration = Duration::from_secs(5);
/// For a node to be taken for dead by those who read no heartbeat of it.
const DEAD: Duration = Duration::from_secs(15);
/// For a node whose database is back to have written a heartbeat.
const BACK: Duration = Duration::from_secs(12);
/// For a stream to go on for some segments.
const GOES_ON: Duration = Duration::from_secs(10);

fn live_streams(node: &NodeProcess) -> u64 {
    node.count("sluicegate_streams_live", &[])
}

/// The origin's heartbeats stop, but it answers probes: its publisher and its viewers stay, and it comes back in
/// the same process with the stream under the same claim.
#[test]
fn an_origin_that_was_wrongly_taken_for_dead_keeps_its_streams() {
    let cluster = Cluster::start(&[]);
    let relay = StoreRelay::to(cluster.database());
    relay.open();
    let origin = cluster.join_by(&relay.uri(), "origin", "origin-1");
    let mut publisher = publish(cluster.lb.rtmp(), "live/kept");
    let mut viewer = Viewer::watch(&cluster.lb.url("/live/streams/kept.m3u8"));
    let before = until("the stream's record", KNOWN, || cluster.lb.stream("live/kept"));
    let connection = publisher.sockets();

    relay.get_stuck();
    until_true("all say that it is gone", DEAD, || {
        let _ = viewer.reload();
        [&cluster.lb, &cluster.edge].iter().all(|node| {
            node.node("origin-1").is_some_and(|origin| origin["state"] == "gone")
                && node.stream("live/kept").is_some_and(|stream| stream["live"] == false)
                && live_streams(node) == 0
        })
    });
    let enough = viewer.last_sequence() + 3;
    viewer.until("it plays on", GOES_ON, |p| p.last_sequence() >= enough);

    relay.go_on();
    until_true("it is back with its stream", BACK, || {
        let _ = viewer.reload();
        [&cluster.lb, &cluster.edge].iter().all(|node| {
            node.node("origin-1").is_some_and(|origin| origin["state"] == "serving")
                && node.stream("live/kept").is_some_and(|stream| stream["live"] == true)
                && live_streams(node) == 1
        })
    });
    let after = cluster.lb.stream("live/kept").unwrap();
    for same in ["epoch", "claims", "origin"] {
        assert_eq!(after[same], before[same], "{after}");
    }
    let enough = viewer.last_sequence() + 3;
    let playlist = viewer.until("it goes on", GOES_ON, |p| p.last_sequence() >= enough);
    assert_eq!(Some(newest_epoch(&playlist)), before["epoch"].as_i64());
    assert!(!playlist.segments.iter().any(|s| s.discontinuity), "{playlist:?}");
    assert_eq!(publisher.sockets(), connection, "{}", publisher.last_lines());
    assert!(publisher.is_running());
    drop(origin);
}
