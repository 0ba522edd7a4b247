//! Bytes that are no RTMP, or that lie: their connection is closed within its limit, nothing else is disturbed.

use std::net::SocketAddr;
use std::time::Duration;

use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::rtmp_client::RawClient;
use sluicegate_e2e::until::{timed, until_true};
use sluicegate_media::rtmp::chunk;
use sluicegate_media::rtmp::limits::{AMF_DEPTH, CHUNK_STREAMS};

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
        chunks_that_do_not_fit_together(address);
        commands_that_lie(address);
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

fn chunks_that_do_not_fit_together(address: SocketAddr) {
    let header = |id: u8, kind| [id, 0, 0, 0, 0, 1, 0, kind, 1, 0, 0, 0];
    // A message of 256 bytes, and another that begins on its chunk stream after the first 128.
    let inside = [&header(4, chunk::VIDEO)[..], &[0; 128], &header(4, chunk::AUDIO)].concat();
    // Chunks of messages that never end, on more chunk streams than are taken.
    let many = (4..).take(CHUNK_STREAMS + 1);
    let unfinished = many.flat_map(|id| [&header(id, chunk::VIDEO)[..], &[0; 128]].concat()).collect();
    // A chunk that goes on with a message that never began, and a chunk size of zero.
    let (headless, no_chunks) = (vec![0xC5; 200], vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    for bytes in [inside, unfinished, headless, no_chunks] {
        let mut client = RawClient::shake_hands(address);
        client.send(&bytes);
        client.is_closed_within(AT_ONCE);
    }
}

fn commands_that_lie(address: SocketAddr) {
    const CONNECT: &[u8] = b"\x02\x00\x07connect\x00\x3F\xF0\x00\x00\x00\x00\x00\x00";
    /// An object whose one property, `a`, is what follows.
    const OBJECT: &[u8] = b"\x03\x00\x01a";
    let nested = OBJECT.repeat(AMF_DEPTH + 1);
    // A text of 4 GiB, a list of 4 billion, a type that commands do not have, no command object.
    let lies: [&[u8]; 5] =
        [&nested, b"\x0C\xFF\xFF\xFF\xFFx", b"\x0A\xFF\xFF\xFF\xFF\x05", b"\x11\x0A", b"\x05"];
    for lie in lies {
        let body = [CONNECT, lie].concat();
        let length = u8::try_from(body.len()).unwrap();
        let mut client = RawClient::shake_hands(address);
        client.send(&[&[3, 0, 0, 0, 0, 0, length, chunk::COMMAND, 0, 0, 0, 0], &body[..]].concat());
        client.is_closed_within(AT_ONCE);
    }
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
        assert!(ended("protocol") >= 13, "{role}: {}", ended("protocol"));
        assert!(ended("stalled") >= 2, "{role}: {}", ended("stalled"));
    }
}
