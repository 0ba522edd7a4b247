//! The cluster's database goes away: what is known goes on, what is new is placed by what is known, and all of
//! it is told to the operator.

use std::time::Duration;

use sluicegate_e2e::cluster::{Cluster, database_alone};
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::store_relay::StoreRelay;
use sluicegate_e2e::until::{until, until_true};
use sluicegate_e2e::viewer::Viewer;

/// For a node to notice that the database is away, or back.
const NOTICED: Duration = Duration::from_secs(8);
/// For a stream to go on for [`SEGMENTS`].
const GOES_ON: Duration = Duration::from_secs(16);
/// Segments of a second each.
const SEGMENTS: u64 = 8;
/// For a publish to be placed while the database does not answer.
const PLACED: Duration = Duration::from_secs(10);

fn store_is_known_to_be(node: &NodeProcess, up: bool) -> bool {
    node.cluster()["store_ok"] == up && node.count("sluicegate_store_up", &[]) == u64::from(up)
}

#[test]
fn streams_play_and_publishes_are_placed_while_the_database_hangs() {
    let (relay, cluster) = Cluster::start_behind_a_relay(&[100, 100]);
    let playlist = |stream: &str| cluster.lb.url(&format!("/live/streams/{stream}.m3u8"));
    let _first = publish(cluster.lb.rtmp(), "live/before");
    let mut viewer = Viewer::watch(&playlist("before"));
    let before = cluster.lb.stream("live/before").unwrap();

    relay.get_stuck();
    for node in [&cluster.lb, &cluster.edge] {
        until_true(&format!("{} says that the store is away", node.id()), NOTICED, || {
            let _ = viewer.reload();
            store_is_known_to_be(node, false)
        });
    }
    let mut second = publish(cluster.lb.rtmp(), "live/meanwhile");
    let age_ms = || cluster.lb.cluster()["state_age_ms"].as_u64().unwrap();
    let (aged_ms, enough) = (age_ms(), viewer.last_sequence() + SEGMENTS);
    let latest = viewer.until("it goes on", GOES_ON, |p| p.last_sequence() >= enough);
    assert_eq!(http::get(&latest.resolve(&latest.segments.last().unwrap().uri)).status, 200);
    assert!(age_ms() > aged_ms + 5_000, "{aged_ms} ms, then {} ms", age_ms());
    assert!(store_is_known_to_be(&cluster.lb, false) && store_is_known_to_be(&cluster.edge, false));
    until_true("the second publish is placed", PLACED, || {
        cluster.lb.count("sluicegate_rtmp_publishers", &[("role", "lb")]) == 2
    });

    relay.go_on();
    for node in [&cluster.lb, &cluster.edge] {
        until_true(&format!("{} says that the store is back", node.id()), NOTICED, || {
            let _ = viewer.reload();
            store_is_known_to_be(node, true)
        });
    }
    let placed = until("the second stream's record", NOTICED, || cluster.edge.stream("live/meanwhile"));
    assert!(cluster.origins.iter().any(|origin| placed["origin"] == origin.id()), "{placed}");
    let mut second_viewer = Viewer::watch(&playlist("meanwhile"));
    let enough = second_viewer.last_sequence() + 2;
    second_viewer.until("the second stream goes on", GOES_ON, |p| p.last_sequence() >= enough);
    assert!(second.is_running(), "{}", second.last_lines());
    let after = cluster.lb.stream("live/before").unwrap();
    assert_eq!((&after["epoch"], &after["origin"]), (&before["epoch"], &before["origin"]));
    let _ = viewer.reload();
}

#[test]
fn a_node_waits_for_a_database_that_is_not_there_yet() {
    let (mongo, _alone) = database_alone();
    let relay = StoreRelay::to(mongo.uri());
    let mut node = NodeConfig::role("edge", "edge-early", &relay.uri(), "only-for-tests-0123456789").launch();
    let ready = node.admin_url("/readyz");
    // Asked once it answers at all.
    let early = until("the admin plane answers", NOTICED, || http::try_get(&ready).ok());
    assert_eq!(early.status, 503, "{}", early.text());
    until_true("it says that the store is away", NOTICED, || store_is_known_to_be(&node, false));
    assert_eq!(http::get(&ready).status, 503);
    relay.open();
    node.wait_until_ready();
    assert!(store_is_known_to_be(&node, true));
}
