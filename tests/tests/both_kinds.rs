//! Origins and edges of AMS's beside ours: one WebSocket for streams of both.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_e2e::ams::{AmsServer, Socket};
use sluicegate_e2e::cluster::database_alone;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::until::until_true;

/// For what AMS wrote to be known, and for a socket's end to be noticed.
const KNOWN: Duration = Duration::from_secs(15);
const KEY: &str = "only-for-tests-0123456789";
const SOCKET: &str = "/live/websocket";

fn about(command: &str, stream: &str) -> Value {
    json!({ "command": command, "streamId": stream })
}

/// Asks until the answer is of this command or definition: a stream is known a moment after it began.
#[track_caller]
fn comes_to(socket: &mut Socket, message: &Value, word: &str) {
    until_true(&format!("{message} is answered by {word}"), KNOWN, || {
        let told = socket.ask(message);
        told["command"] == word || told["definition"] == word
    });
}

fn open(lb: &NodeProcess) -> Socket {
    Socket::open(SocketAddr::from((lb.ip(), 5080)), SOCKET).unwrap()
}

#[test]
fn one_socket_plays_and_publishes_streams_of_both() {
    let (mongo, _alone) = database_alone();
    let uri = mongo.uri().to_owned();
    let (theirs, ams_edge) = (AmsServer::start(&uri, "10"), AmsServer::start(&uri, "5"));
    let rules = format!(
        "roles = [{{ match = \"{}\", role = \"origin\" }}, {{ match = \"{}\", role = \"edge\" }}]",
        theirs.ip(),
        ams_edge.ip()
    );
    let mut lb = NodeConfig::role("lb", "lb-1", &uri, KEY).set("lb", &rules).launch();
    let mut origin = NodeConfig::role("origin", "origin-1", &uri, KEY).launch();
    lb.wait_until_ready();
    origin.wait_until_ready();
    let _on_theirs = RtmpClient::publish(theirs.rtmp(), "live", "theirs").unwrap();
    let mut socket = open(&lb);

    // A question of each kind; then both kinds at once.
    comes_to(&mut socket, &about("getStreamInfo", "theirs"), "streamInformation");
    comes_to(&mut socket, &about("publish", "ours"), "start");
    assert_eq!(socket.ask(&about("getBroadcastObject", "theirs"))["command"], "broadcastObject");
    assert_eq!(socket.ask(&about("getBroadcastObject", "ours"))["definition"], "invalid_message");
    let offer = socket.ask(&about("play", "theirs"));
    assert_eq!((&offer["type"], &offer["idMapping"]["0"]), (&json!("offer"), &json!("theirs")), "{offer}");
    let answer =
        json!({"command": "takeConfiguration", "streamId": "theirs", "type": "answer", "sdp": "v=0"});
    assert_eq!(socket.ask(&answer)["definition"], "play_started");
    assert_eq!(socket.ask(&json!({"command": "ping"})), json!({"command": "pong"}));
    assert_eq!((ams_edge.sockets(), theirs.sockets()), (1, 0));

    // Who publishes what is live there is told so there.
    let mut publisher = open(&lb);
    assert_eq!(publisher.ask(&about("publish", "theirs"))["definition"], "streamIdInUse");
    assert_eq!(theirs.sockets(), 1);
    drop(publisher);
    until_true("a client's end ends its lines", KNOWN, || theirs.sockets() == 0);

    let asked = [theirs.asked(SOCKET), ams_edge.asked(SOCKET)].concat();
    assert_eq!(
        asked.iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(),
        ["/live/websocket?target=origin", "/live/websocket?target=edge"]
    );
    let told = format!("{asked:?}").to_lowercase();
    assert!(told.contains("x-forwarded-for") && !told.contains("cluster"), "{told}");

    // A node of theirs that dies takes its streams along, and nothing else.
    ams_edge.stop();
    let over = socket.hear().unwrap();
    assert_eq!((&over["definition"], &over["streamId"]), (&json!("play_finished"), &json!("theirs")));
    assert_eq!(socket.ask(&about("publish", "ours"))["definition"], "already_publishing");
    let again = socket.ask(&about("play", "theirs"));
    assert_eq!(again["definition"], "server_error_check_logs", "no node of theirs takes it: {again}");
}
