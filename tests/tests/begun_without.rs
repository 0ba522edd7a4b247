//! Streams that begin, and end, while the cluster's database is away: balancers hear of them from their origins, and
//! edges from the balancers.

use std::time::Duration;

use serde_json::json;
use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_e2e::cluster::{Cluster, KEY};
use sluicegate_e2e::http;
use sluicegate_e2e::node::NodeProcess;
use sluicegate_e2e::probe::probe;
use sluicegate_e2e::publisher::{Broadcast, publish};
use sluicegate_e2e::rtc_client::RtcClient;
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::store_relay::StoreRelay;
use sluicegate_e2e::until::{until, until_true};
use sluicegate_e2e::viewer::{Viewer, newest_epoch};
use sluicegate_media::frame::Track;

use crate::outage::{NOTICED, nothing_is_counted_twice, store_is_known_to_be};

/// For a stream to go on for some segments of a second each.
const GOES_ON: Duration = Duration::from_secs(16);
/// For pictures by WebRTC.
const PICTURES: Duration = Duration::from_secs(15);
/// For a short stream to be over.
const OVER: Duration = Duration::from_secs(20);

fn playlist(lb: &NodeProcess, stream: &str) -> String {
    lb.url(&format!("/live/streams/{stream}.m3u8"))
}

#[test]
fn a_stream_that_begins_while_the_database_hangs_plays_at_once_and_goes_on() {
    let (relay, cluster) = Cluster::start_behind_a_relay(&[100, 100]);
    plays_at_once(&relay, &cluster, StoreRelay::get_stuck, StoreRelay::go_on);
}

#[test]
fn a_stream_that_begins_while_the_database_is_stopped_plays_at_once_and_goes_on() {
    let (relay, cluster) = Cluster::start_behind_a_relay(&[100, 100]);
    plays_at_once(&relay, &cluster, StoreRelay::close, StoreRelay::open);
}

#[track_caller]
fn plays_at_once(relay: &StoreRelay, cluster: &Cluster, harm: fn(&StoreRelay), mend: fn(&StoreRelay)) {
    let other = cluster.join("lb", "lb-2");
    let lbs = [&cluster.lb, &other];
    let all = [&cluster.lb, &cluster.edge, &other];
    harm(relay);
    let is_away = || all.into_iter().all(|node| store_is_known_to_be(node, false));
    until_true("it is told that the store is away", NOTICED, is_away);
    let mut publisher = publish(cluster.lb.rtmp(), "live/new");
    let mut brief = Broadcast::default().seconds(4).publish(cluster.lb.rtmp(), "live/brief");

    // By the balancer that placed it, and by one that did not.
    let mut viewers = lbs.map(|lb| Viewer::watch(&playlist(lb, "new")));
    let by_webrtc = RtcClient::view(&other.url("/live/whep/new"), &[]);
    until_true("pictures by WebRTC", PICTURES, || by_webrtc.frames(Track::Video).len() >= 30);
    assert_eq!(probe(&playlist(&other, "new")).codecs(), ["aac", "h264"]);
    let known = other.stream("live/new").expect("it is shown");
    let epoch = newest_epoch(viewers[0].reload());
    assert_eq!((known["live"].as_bool(), known["epoch"].as_i64()), (Some(true), Some(epoch)), "{known}");
    a_second_publisher_is_refused(&other);
    nobody_outside_tells_of_claims(cluster, &known);
    let _ = brief.ends_within(OVER);
    let its_end = || http::get(&playlist(&other, "brief")).text().contains("#EXT-X-ENDLIST");
    until_true("the short one's last playlist", OVER, its_end);
    assert!(is_away(), "all of this was without the store");

    mend(relay);
    until_true("the store is back", NOTICED, || all.into_iter().all(|node| store_is_known_to_be(node, true)));
    until_true("the short one is known to be over", NOTICED, || {
        all.into_iter().all(|node| node.stream("live/brief").is_none())
    });
    for viewer in &mut viewers {
        let enough = viewer.last_sequence() + 4;
        let latest = viewer.until("it goes on", GOES_ON, |p| p.last_sequence() >= enough);
        assert_eq!(
            (newest_epoch(&latest), latest.discontinuity_sequence),
            (epoch, 0),
            "one claim, all along"
        );
        let segment = latest.resolve(&latest.segments.last().unwrap().uri);
        assert_eq!(http::get(&segment).status, 200);
    }
    let pictures = by_webrtc.frames(Track::Video).len();
    until_true("pictures go on", PICTURES, || by_webrtc.frames(Track::Video).len() > pictures + 30);
    assert!(!by_webrtc.has_ended() && publisher.is_running(), "{}", publisher.last_lines());
    let settled = until("the claim is in the store", NOTICED, || cluster.edge.stream("live/new"));
    assert_eq!((&settled["epoch"], &settled["origin"]), (&known["epoch"], &known["origin"]), "{settled}");
    nothing_is_counted_twice(cluster, 1);
}

#[test]
fn a_stream_that_begins_while_the_database_hangs_is_carried_over_and_its_numbers_go_on() {
    let (relay, mut cluster) = Cluster::start_behind_a_relay(&[100, 100, 100]);
    relay.get_stuck();
    until_true("it is told that the store is away", NOTICED, || store_is_known_to_be(&cluster.lb, false));
    let mut publisher = publish(cluster.lb.rtmp(), "live/carried");
    let mut viewer = Viewer::watch(&playlist(&cluster.lb, "carried"));
    let connection = publisher.sockets();
    viewer.until("some segments", GOES_ON, |p| p.last_sequence() >= 3);
    for claims in 2..=3 {
        let known = cluster.lb.stream("live/carried").expect("it is shown");
        let (owner, epoch) = (known["origin"].as_str().unwrap(), known["epoch"].as_i64().unwrap());
        let last = viewer.last_sequence();
        cluster.origin_mut(owner).kill();
        let next = viewer.until("a segment of the next claim", GOES_ON, |p| newest_epoch(p) > epoch);
        assert!(next.sequence > last && next.segments[0].discontinuity, "{last}: {next:?}");
        let shown = until("the next claim", NOTICED, || {
            cluster.lb.stream("live/carried").filter(|stream| stream["epoch"].as_i64() > Some(epoch))
        });
        assert_eq!(shown["claims"], claims, "{shown}");
    }
    relay.go_on();
    let settled = until("the claim is in the store", NOTICED, || {
        cluster.edge.stream("live/carried").filter(|stream| stream["claims"] == 3)
    });
    let enough = viewer.last_sequence() + 3;
    viewer.until("it goes on", GOES_ON, |p| p.last_sequence() >= enough);
    assert_eq!(settled["epoch"].as_i64(), Some(newest_epoch(viewer.reload())), "{settled}");
    assert!(publisher.is_running() && publisher.sockets() == connection, "{}", publisher.last_lines());
}

/// Whoever has the name keeps it, whichever balancer the second one comes to.
#[track_caller]
fn a_second_publisher_is_refused(lb: &NodeProcess) {
    let refusal = RtmpClient::publish(lb.rtmp(), "live", "new").err().expect("the name is taken");
    assert_eq!(refusal.code, "NetStream.Publish.BadName", "{refusal:?}");
}

/// A claim is believed from nodes of the cluster only, for the stream that is asked for, and is only a hint.
#[track_caller]
fn nobody_outside_tells_of_claims(cluster: &Cluster, known: &serde_json::Value) {
    let origin = cluster.lb.node(known["origin"].as_str().unwrap()).unwrap();
    let forged = |stream: &str, epoch: i64| {
        json!({
            "_id": format!("live/{stream}"), "node": origin["id"], "incarnation": "x", "epoch": epoch, "claims": 1,
            "session": "", "renditions": ["source"], "sequence": 0, "sequenceAt": 0, "startedAt": 0,
            "bitrateBps": 0, "viewers": 0, "changed": 0,
        })
        .to_string()
    };
    for (stream, status) in [("forged", 404), ("new", 200)] {
        let headers = [("sluicegate-claim", forged(stream, i64::MAX))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = http::request("GET", &playlist(&cluster.lb, stream), &headers, "");
        assert_eq!(answer.status, status, "{stream}");
        let path = format!("/live/streams/{stream}.m3u8");
        let answer = http::request("GET", &cluster.edge.node_url(&path), &headers, "");
        assert_eq!(answer.status, 401, "{stream}");
    }
    assert!(cluster.edge.stream("live/forged").is_none() && cluster.lb.stream("live/forged").is_none());
    assert_eq!(cluster.edge.stream("live/new").unwrap()["epoch"], known["epoch"]);
    let token = ClusterKey::new(KEY).unwrap().token(&"lb-1".parse().unwrap()).unwrap();
    let claim = forged("elsewhere", i64::MAX);
    let headers = [(trust::HEADER, token.as_str()), ("sluicegate-claim", claim.as_str())];
    let other_stream =
        http::request("GET", &cluster.edge.node_url("/live/streams/forged.m3u8"), &headers, "");
    assert_eq!(other_stream.status, 404);
    assert!(cluster.edge.stream("live/elsewhere").is_none(), "a request tells of its own stream only");
}
