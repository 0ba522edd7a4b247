//! Messages of AMS's signalling that are none, or come in the wrong order, and clients that send too much or nothing.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_e2e::ams::Socket;
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::rtc_client::RtcClient;
use sluicegate_e2e::until::until_true;
use sluicegate_media::frame::Track;

use crate::demo;

/// For a node to notice.
const NOTICED: Duration = Duration::from_secs(10);
/// Sockets that only wait.
const IDLE: usize = 300;
/// What one of them may take of the node's memory: its buffers here, at Pingora and at axum.
const IDLE_BYTES: u64 = 150 << 10;

fn open(node: &NodeProcess) -> Socket {
    let lb = SocketAddr::from((node.ip(), 5080));
    Socket::open(lb, "/live/websocket?target=edge").unwrap_or_else(|head| panic!("no socket: {head}"))
}

#[track_caller]
fn refused(socket: &mut Socket, message: &Value) -> String {
    let told = socket.ask(message);
    assert_eq!(told["command"], "error", "{message}: {told}");
    told["definition"].as_str().unwrap().to_owned()
}

fn about(command: &str, stream: &str) -> Value {
    json!({ "command": command, "streamId": stream })
}

fn description(stream: &str, kind: &str, sdp: &str) -> Value {
    json!({ "command": "takeConfiguration", "streamId": stream, "type": kind, "sdp": sdp })
}

#[test]
fn each_has_its_error_and_the_socket_stays() {
    let node = demo::node();
    let mut socket = open(&node);
    for (message, definition) in [
        (json!({"command": "publish"}), "noStreamNameSpecified"),
        (about("publish", "a/b"), "invalidStreamName"),
        (about("play", "nobody"), "no_stream_exist"),
        (about("getStreamInfo", "nobody"), "no_stream_exist"),
        (description("demo", "answer", "v=0"), "not_initialized_yet"),
        (json!({"command": "joinRoom", "room": "r"}), "invalid_message"),
        (json!({"command": ["play"], "streamId": "demo"}), "invalid_message"),
        (json!({"command": "play", "streamId": "demo", "token": "x".repeat(82_000)}), "invalid_message"),
    ] {
        assert_eq!(refused(&mut socket, &message), definition);
    }
    socket.say("not JSON").unwrap();
    assert_eq!(socket.hear().unwrap()["definition"], "invalid_message");

    assert_eq!(socket.ask(&about("publish", "bad"))["command"], "start");
    assert_eq!(refused(&mut socket, &description("bad", "offer", "nonsense")), "notSetRemoteDescription");
    assert_eq!(socket.ask(&about("publish", "bad"))["command"], "start", "it may be tried again");
    let long = description("bad", "offer", &format!("v=0{}", " ".repeat(70_000)));
    assert_eq!(refused(&mut socket, &long), "notSetRemoteDescription");

    let offer = socket.ask(&about("play", "demo"));
    let mapping = offer["idMapping"].as_object().unwrap();
    assert_eq!((&offer["type"], mapping.len()), (&json!("offer"), 3), "{offer}");
    assert!(mapping.values().all(|stream| stream == "demo"), "{offer}");
    assert_eq!(refused(&mut socket, &about("play", "demo")), "already_playing");
    assert_eq!(refused(&mut socket, &description("demo", "answer", "nonsense")), "notSetRemoteDescription");
    assert_eq!(socket.ask(&json!({"command": "ping"})), json!({"command": "pong"}));
}

#[test]
fn who_has_no_token_is_not_admitted() {
    let app = "name = \"live\"\npublish = \"token\"\nplay = \"token\"\ntoken_keys = [{ id = \"a\", key = \"0123456789abcdef\" }]";
    let node = NodeConfig::standalone().set("[app]", app).start();
    let mut socket = open(&node);
    for command in ["publish", "play"] {
        assert_eq!(refused(&mut socket, &about(command, "cam")), "unauthorized_access");
    }
}

#[test]
fn floods_are_closed_and_viewers_undisturbed() {
    let node = demo::node();
    let viewer = RtcClient::view(&node.url("/live/whep/demo"), &[]);
    let mut flood = open(&node);
    let mut told = 0;
    for _ in 0..5_000 {
        if flood.say("{}").is_err() {
            break;
        }
        told += 1;
    }
    while flood.hear().is_some() {}
    assert!(told > 0);
    // The first write to a socket that is closed is still taken; its answer ends the next.
    until_true("the socket is closed", NOTICED, || flood.say("{}").is_err());
    assert!(node.count("sluicegate_websockets_closed_total", &[("reason", "flood")]) > 0);
    let seen = viewer.frames(Track::Video).len();
    until_true("the viewer sees more", NOTICED, || viewer.frames(Track::Video).len() > seen + 30);
}

#[test]
fn many_sockets_that_only_wait_cost_little() {
    let node = NodeConfig::standalone().start();
    let first = open(&node);
    let resident = || node.count("process_resident_memory_bytes", &[]);
    let before = resident();
    let sockets: Vec<Socket> = (0..IDLE).map(|_| open(&node)).collect();
    until_true("all are counted", NOTICED, || {
        node.count("sluicegate_websockets", &[]) == u64::try_from(IDLE).unwrap() + 1
    });
    let each = resident().saturating_sub(before) / IDLE as u64;
    eprintln!("a socket that only waits: {} KiB", each >> 10);
    assert!(each < IDLE_BYTES, "{each} bytes each");
    drop((first, sockets));
    until_true("they are forgotten", NOTICED, || node.count("sluicegate_websockets", &[]) == 0);
    assert_eq!(http::get(&node.url("/live/websocket")).status, 400, "no upgrade");
}
