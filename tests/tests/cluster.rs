//! Balancer, edge and origins as separate processes, MongoDB between them.

use std::time::Duration;

use sluicegate_e2e::browser::watch;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::http;
use sluicegate_e2e::node::NodeProcess;
use sluicegate_e2e::probe::probe;
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::until::{until, until_true};

use crate::demo::{self, FIRST_SEGMENTS};

/// For what one node has written to be known to all.
const KNOWN: Duration = Duration::from_secs(5);
/// For a node to be found dead: two probes and three heartbeats that do not come, and what it takes to be known.
const DEAD: Duration = Duration::from_secs(8);
const PAGE: Duration = Duration::from_secs(30);

#[test]
fn a_stream_is_placed_claimed_and_played_through_the_edge() {
    let mut cluster = Cluster::start(&[10, 100]);
    let _publisher = publish(cluster.lb.rtmp(), "live/far");
    demo::playlist(&cluster.lb, "far");

    let seen_by_edge = until("the edge knows the claim", KNOWN, || cluster.edge.stream("live/far"));
    assert_eq!(seen_by_edge["origin"], "origin-2", "the one with the most room: {seen_by_edge}");
    assert!(seen_by_edge["epoch"].as_i64().is_some_and(|epoch| epoch > 0), "{seen_by_edge}");
    assert_eq!(cluster.origin("origin-2").count("sluicegate_origin_streams", &[]), 1);
    assert_eq!(cluster.origin("origin-1").count("sluicegate_origin_streams", &[]), 0);

    let probed = probe(&cluster.lb.url("/live/streams/far.m3u8"));
    assert_eq!((probed.codecs(), probed.size()), (vec!["aac", "h264"], (320, 180)));
    let page = watch(&cluster.lb.url("/live/play.html?id=far&playOrder=hls"), "live", PAGE);
    assert!(page["frames"].as_u64().is_some_and(|frames| frames > 30), "{page}");
    assert!(
        cluster.edge.count("sluicegate_http_requests_total", &[("role", "edge"), ("kind", "segment")]) > 1
    );

    strangers_are_turned_away(&cluster);
    one_fetch_for_many_viewers(&cluster);
    a_node_that_is_told_to_end_is_gone(&mut cluster);
    a_node_that_is_killed_is_found_dead(&mut cluster);
}

fn strangers_are_turned_away(cluster: &Cluster) {
    let of_edge = cluster.edge.node_url("/live/streams/far.m3u8");
    let of_origin = cluster.origin("origin-2").node_url("/origin/live/streams/far.m3u8");
    for url in [of_edge, of_origin] {
        let answer = http::get(&url);
        assert_eq!(answer.status, 401, "{url}");
        assert!(answer.is_problem(), "{url}: {}", answer.text());
    }
    let refusal =
        RtmpClient::publish(cluster.origin("origin-2").origin_rtmp(), "live", "direct").err().unwrap();
    assert_eq!(refusal.code, "NetConnection.Connect.Rejected", "{refusal:?}");
    assert!(cluster.lb.stream("live/direct").is_none());
}

fn one_fetch_for_many_viewers(cluster: &Cluster) {
    let origin = cluster.origin("origin-2");
    let asked = || origin.count("sluicegate_http_requests_total", &[("role", "origin"), ("kind", "segment")]);
    let playlist = demo::playlist(&cluster.lb, "far");
    let segment = playlist.resolve(&playlist.segments.last().unwrap().uri);
    let before = asked();
    let answers = http::get_at_once(&segment, 50);
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    assert!(asked() - before <= 1, "{} requests", asked() - before);
}

fn a_node_that_is_told_to_end_is_gone(cluster: &mut Cluster) {
    let status = cluster.origins[0].terminate();
    assert!(status.success(), "{status}");
    // One that was found dead would still be listed.
    until_true("the balancer has forgotten origin-1", KNOWN, || cluster.lb.node("origin-1").is_none());
    assert_eq!(cluster.lb.count("sluicegate_nodes", &[("role", "origin"), ("state", "gone")]), 0);
}

fn a_node_that_is_killed_is_found_dead(cluster: &mut Cluster) {
    cluster.edge.kill();
    let url = cluster.lb.url("/live/streams/far.m3u8");
    until_true("no edge takes viewers", KNOWN, || http::get(&url).status == 503);
    let state = |of: &NodeProcess| of.node("edge-1").map(|node| node["state"].clone());
    for node in [&cluster.lb, cluster.origin("origin-2")] {
        until_true("edge-1 is gone", DEAD, || state(node).is_some_and(|state| state == "gone"));
        let problem = node.node("edge-1").unwrap()["problem"].clone();
        assert!(problem.as_str().is_some_and(|problem| problem.starts_with("found dead by ")), "{problem}");
    }
    assert_eq!(cluster.lb.count("sluicegate_nodes", &[("role", "edge"), ("state", "gone")]), 1);
}

#[test]
fn publishes_go_where_most_room_is_until_all_is_full() {
    // A stream costs 2 Mpx/s: two fit on the first origin, four on the second.
    let cluster = Cluster::start(&[4, 8]);
    let mut running = Vec::new();
    let mut publish = |stream: &str| {
        let client = RtmpClient::publish(cluster.lb.rtmp(), "live", stream);
        running.push(client.unwrap_or_else(|refusal| panic!("{stream}: {refusal:?}")));
        // The next publish is placed by what the heartbeats say by then.
        until(&format!("{stream} is known"), KNOWN, || cluster.lb.stream(&format!("live/{stream}")))["origin"]
            .clone()
    };
    assert_eq!(publish("room-1"), "origin-2");
    assert_eq!(publish("room-2"), "origin-2");
    let mut both = [publish("room-3"), publish("room-4")];
    both.sort_by_key(ToString::to_string);
    assert_eq!(both, ["origin-1", "origin-2"], "equal by then, so each gets one");
    let mut both = [publish("room-5"), publish("room-6")];
    both.sort_by_key(ToString::to_string);
    assert_eq!(both, ["origin-1", "origin-2"]);

    let refusal = RtmpClient::publish(cluster.lb.rtmp(), "live", "room-7").err().unwrap();
    assert_eq!(refusal.code, "NetStream.Publish.Rejected");
    assert!(refusal.description.contains("room"), "{refusal:?}");
    running.pop().unwrap().end();
    until("room for another", FIRST_SEGMENTS, || {
        RtmpClient::publish(cluster.lb.rtmp(), "live", "room-7").ok()
    });
}
