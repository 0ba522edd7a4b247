//! Bytes that are no RTMP, or that lie: their connection is closed within its limit, nothing else is disturbed.

use std::net::SocketAddr;
use std::time::Duration;

use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::rtmp_client::RawClient;
use sluicegate_e2e::until::{timed, until_true};

use crate::demo;

/// From a connection's first byte to its `publish`, as configured here.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// What is closed at once is closed within this.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A video message (RTMP 1.0, 5.3.1.2.1) on chunk stream 4 whose header announces 16 MiB; 4 MiB are allowed.
const LYING_HEADER: [u8; 12] = [0x04, 0, 0, 0, 0xFF, 0xFF, 0xFF, 9, 1, 0, 0, 0];

#[test]
fn broken_rtmp_is_closed_while_a_stream_plays_on() {
    let handshake = format!("rtmp_handshake_ms = {}", HANDSHAKE.as_millis());
    let node = NodeConfig::standalone().set("limits", &handshake).start();
    let mut publisher = publish(node.rtmp(), "live/steady");
    let before = demo::playlist(&node, "steady");
    for address in [node.rtmp(), node.origin_rtmp()] {
        garbage(address);
        a_message_longer_than_its_limit(address);
        a_handshake_that_stalls(address);
    }
    assert!(publisher.is_running(), "{}", publisher.last_lines());
    until_true("the stream goes on", demo::FIRST_SEGMENTS, || {
        demo::playlist(&node, "steady").last_sequence() > before.last_sequence() + 2
    });
    let after = demo::playlist(&node, "steady");
    assert_eq!(after.map, before.map, "the same claim");
    assert!(after.segments.iter().all(|segment| !segment.discontinuity), "{after:?}");
    is_counted(&node);
}

fn garbage(address: SocketAddr) {
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3], &[0xFF; 5_000]]
    {
        let mut client = RawClient::connect(address);
        client.send(bytes);
        client.is_closed_within(AT_ONCE);
    }
    let mut client = RawClient::shake_hands(address);
    client.send(&[0xFF; 10_000]);
    client.is_closed_within(HANDSHAKE + AT_ONCE);
}

fn a_message_longer_than_its_limit(address: SocketAddr) {
    let mut client = RawClient::shake_hands(address);
    client.send(&LYING_HEADER);
    client.is_closed_within(AT_ONCE);
}

fn a_handshake_that_stalls(address: SocketAddr) {
    let mut client = RawClient::connect(address);
    client.send(&[3, 0, 0, 0]);
    let (waited, ()) = timed(|| client.is_closed_within(HANDSHAKE + AT_ONCE));
    assert!(waited > HANDSHAKE / 2, "given {waited:?} only");
    RawClient::shake_hands(address).is_closed_within(HANDSHAKE + AT_ONCE);
}

fn is_counted(node: &NodeProcess) {
    for role in ["lb", "origin"] {
        let ended =
            |result| node.count("sluicegate_rtmp_connections_total", &[("role", role), ("result", result)]);
        assert!(ended("protocol") >= 4, "{role}: {}", ended("protocol"));
        assert!(ended("stalled") >= 2, "{role}: {}", ended("stalled"));
    }
}
