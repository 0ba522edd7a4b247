//! Publishes that are refused, and who may take a stream over.

use std::time::Duration;

use sluicegate_cluster::trust::ClusterKey;
use sluicegate_e2e::cluster::KEY;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::probe::probe;
use sluicegate_e2e::publisher::{Broadcast, publish};
use sluicegate_e2e::rtmp_client::{MediaKind, RtmpClient};
use sluicegate_e2e::until::{timed, until, until_true};

use crate::demo::{self, FIRST_SEGMENTS};

/// A publisher that has sent nothing for this long may be replaced.
const DEAD_AFTER: Duration = Duration::from_secs(2);

#[test]
fn a_second_publisher_waits_until_the_first_is_dead() {
    let node = NodeConfig::standalone().start();
    let mut first = publish(node.rtmp(), "live/one");
    let before = demo::playlist(&node, "one");
    let refusal = RtmpClient::publish(node.rtmp(), "live", "one").err().unwrap();
    assert_eq!(refusal.code, "NetStream.Publish.BadName");
    assert!(refusal.description.contains("published already"), "{refusal:?}");
    assert!(first.is_running());

    first.freeze();
    let second = || RtmpClient::publish(node.rtmp(), "live", "one").ok();
    let (waited, taken_over) = timed(|| until("a second publisher takes over", FIRST_SEGMENTS, second));
    assert!(waited > DEAD_AFTER - Duration::from_millis(500), "after {waited:?} only");
    taken_over.end();

    // What viewers see of a third: a new claim, its sequence numbers going on, a discontinuity.
    let _third = publish(node.rtmp(), "live/one");
    let url = node.url("/live/streams/one.m3u8");
    let after = until("segments of another claim", FIRST_SEGMENTS, || {
        MediaPlaylist::fetch(&url).filter(|p| !p.ended && p.map != before.map)
    });
    assert!(after.sequence >= before.sequence, "{} then {}", before.sequence, after.sequence);
    assert!(
        after.discontinuity_sequence > before.discontinuity_sequence || after.segments[0].discontinuity,
        "{after:?}"
    );
    assert_eq!(probe(&url).codecs(), ["aac", "h264"]);
}

#[test]
fn forged_tickets_and_sessions_move_no_stream() {
    /// Of the node `lb-1` in the year 2100: unsigned, and signed with somebody's key.
    const UNSIGNED: &str = "eyJhbGciOiJub25lIn0.\
        eyJpc3MiOiJsYi0xIiwiYXVkIjoic2x1aWNlZ2F0ZS1jbHVzdGVyIiwiZXhwIjo0MTAyNDQ0ODAwfQ.";
    const OTHER_KEY: &str = "eyJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJsYi0xIiwiYXVkIjoic2x1aWNlZ2F0ZS1jbHVzdGVyIiwiZXhwIjo0MTAyNDQ0ODAwfQ.\
        2yPtkaNZlOK50uX5KzobtGsGSUfQkizuU97uHLomXqw";
    let node = NodeConfig::standalone().start();
    let mut publisher = publish(node.rtmp(), "live/mine");
    let before = demo::playlist(&node, "mine");
    for token in [UNSIGNED, OTHER_KEY, "", "a.b.c"] {
        let ticket = [("clusterAuthorization", token), ("sluicegateSession", "0123456789abcdef")];
        let ask = |at| RtmpClient::publish_with(at, "live", "mine", &ticket).err().expect(token);
        // Origins take nobody's word but a balancer's; balancers take nobody's.
        let refusal = ask(node.origin_rtmp());
        assert_eq!(refusal.code, "NetConnection.Connect.Rejected", "{token}: {refusal:?}");
        let refusal = ask(node.rtmp());
        assert_eq!(refusal.code, "NetStream.Publish.BadName", "{token}: {refusal:?}");
    }
    until_true("the stream goes on", FIRST_SEGMENTS, || {
        demo::playlist(&node, "mine").last_sequence() > before.last_sequence() + 1
    });
    let after = demo::playlist(&node, "mine");
    assert!(publisher.is_running(), "{}", publisher.last_lines());
    assert!(after.map == before.map && after.segments.iter().all(|s| !s.discontinuity), "{after:?}");
}

/// A ticket of the cluster's own key, as somebody with a node in his hands could make it.
fn ticket<'a>(token: &'a str, session: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![("clusterAuthorization", token), ("sluicegateSession", session)]
}

#[test]
fn the_wrong_session_under_a_valid_ticket_moves_no_stream() {
    /// The body of an FLV audio tag, so that a publisher is not taken to be dead.
    const SOUND: &[u8] = &[0xAF, 1, 0x21];
    let node = NodeConfig::standalone().set("cluster", &format!("key = {KEY:?}")).start();
    let token = ClusterKey::new(KEY).unwrap().token(&"lb-1".parse().unwrap()).unwrap();
    let at_origin = |stream: &str, session: &str| {
        RtmpClient::publish_with(node.origin_rtmp(), "live", stream, &ticket(&token, session))
    };
    let mut publisher = publish(node.rtmp(), "live/mine");
    let before = demo::playlist(&node, "mine");
    let mut other = at_origin("other", "session-of-other").ok().unwrap();
    let mut refused = |stream: &str, session: &str| {
        other.send(MediaKind::Audio, 0, SOUND);
        let refusal = at_origin(stream, session).err().unwrap_or_else(|| panic!("{session} moved {stream}"));
        assert_eq!(refusal.code, "NetStream.Publish.BadName", "{session}: {refusal:?}");
    };
    for session in ["session-of-other", "session-of-nobody", ""] {
        refused("mine", session);
    }
    refused("other", "session-of-mine");

    // Handed over or not: the first media is what would move it.
    let handover = [ticket(&token, "session-of-other"), vec![("sluicegateHandover", "1")]].concat();
    let mut later = RtmpClient::publish_with(node.origin_rtmp(), "live", "mine", &handover).ok().unwrap();
    later.send(MediaKind::Audio, 0, SOUND);
    assert_eq!(later.ended().code, "NetStream.Publish.BadName");

    // The right one moves it, and is then an old one.
    drop(other);
    let mut first = at_origin("moved", "the-first").ok().unwrap();
    first.send(MediaKind::Audio, 0, SOUND);
    let mut moved = at_origin("moved", "the-first").expect("whoever holds the session moves the stream");
    moved.send(MediaKind::Audio, 0, SOUND);
    moved.end();
    let mut second =
        until("another takes the name", FIRST_SEGMENTS, || at_origin("moved", "the-second").ok());
    second.send(MediaKind::Audio, 0, SOUND);
    let refusal = at_origin("moved", "the-first").err().expect("an old session");
    assert_eq!(refusal.code, "NetStream.Publish.BadName", "{refusal:?}");

    until_true("the stream goes on", FIRST_SEGMENTS, || {
        demo::playlist(&node, "mine").last_sequence() > before.last_sequence() + 1
    });
    let after = demo::playlist(&node, "mine");
    assert!(publisher.is_running(), "{}", publisher.last_lines());
    assert!(after.map == before.map && after.segments.iter().all(|s| !s.discontinuity), "{after:?}");
}

#[test]
fn a_frozen_publisher_is_replaced_by_another_ffmpeg() {
    let node = NodeConfig::standalone().start();
    let first = publish(node.rtmp(), "live/two");
    let before = demo::playlist(&node, "two");
    first.freeze();
    let url = node.url("/live/streams/two.m3u8");
    let mut second = publish(node.rtmp(), "live/two");
    until_true("segments of the second publisher", Duration::from_secs(30), || {
        if !second.is_running() {
            second = publish(node.rtmp(), "live/two");
        }
        MediaPlaylist::fetch(&url).is_some_and(|p| p.map != before.map)
    });
    assert_eq!(
        node.count("sluicegate_rtmp_connections_total", &[("role", "origin"), ("result", "replaced")]),
        1
    );
}

#[test]
fn a_publish_without_room_is_refused_and_works_when_there_is_room() {
    let node = NodeConfig::standalone()
        .set("origin", "capacity_mpx = 4")
        .set("limits", "stream_floor_mpx = 4.0")
        .start();
    let first = RtmpClient::publish(node.rtmp(), "live", "first").ok().unwrap();
    let refusal = RtmpClient::publish(node.rtmp(), "live", "second").err().unwrap();
    assert_eq!(refusal.code, "NetStream.Publish.Rejected");
    assert!(refusal.description.contains("room"), "{refusal:?}");
    first.end();
    until("room for the second", FIRST_SEGMENTS, || RtmpClient::publish(node.rtmp(), "live", "second").ok())
        .end();
}

#[test]
fn a_codec_that_is_not_taken_is_refused_with_a_status() {
    /// The body of an FLV video tag (FLV 10.1, E.4.3.1): a keyframe, Sorenson H.263.
    const H263: &[u8] = &[0x12, 0, 0, 0];
    let node = demo::node();
    let mut client = RtmpClient::publish(node.rtmp(), "live", "old").ok().unwrap();
    client.send(MediaKind::Video, 0, H263);
    let refusal = client.ended();
    assert_eq!(refusal.code, "NetStream.Publish.Rejected");
    assert!(refusal.description.contains("H.263"), "{refusal:?}");
}

#[test]
fn a_codec_that_is_not_taken_is_refused_by_its_name() {
    let node = demo::node();
    let h263 = Broadcast::default().video("flv1");
    let mp3 = Broadcast::default().audio("libmp3lame");
    for (broadcast, stream, codec) in [(h263, "h263", "H.263"), (mp3, "mp3", "MP3")] {
        let mut publisher = broadcast.seconds(20).publish(node.rtmp(), &format!("live/{stream}"));
        let said = publisher.ends_within(FIRST_SEGMENTS);
        assert!(said.contains(codec) && said.contains("publish H.264 video and AAC audio"), "{said}");
        until_true("it is not live", FIRST_SEGMENTS, || node.stream(&format!("live/{stream}")).is_none());
    }
}
