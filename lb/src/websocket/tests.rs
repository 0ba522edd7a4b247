//! A client's messages one by one, and any of them in any order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};
use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_cluster::config::IceServer;
use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::stream::{PictureSize, StreamRecord};
use sluicegate_cluster::testing::stream_held_by;

use super::*;

mod carried;

const PACE: Duration = Duration::from_secs(4);
const SECOND: Duration = Duration::from_secs(1);

/// What the cluster is like.
#[derive(Default)]
struct World {
    live: BTreeSet<&'static str>,
    /// On AMS's own nodes.
    at_ams: BTreeSet<&'static str>,
    draining: BTreeSet<&'static str>,
    is_drained: bool,
    is_stopping: bool,
    ice_servers: Vec<IceServer>,
}

impl World {
    fn with(live: &[&'static str]) -> Self {
        Self { live: live.iter().copied().collect(), ..Self::default() }
    }
}

impl Cluster for World {
    fn admits(&self, _: &StreamKey, _: Way, token: Option<&str>) -> bool {
        token != Some("bad")
    }

    fn live(&self, key: &StreamKey) -> Option<Arc<StreamRecord>> {
        let plain = stream_held_by(&key.to_string(), "o1", "s", UnixMs(0));
        let renditions = ["source", "360p600kbps"].map(str::to_owned).to_vec();
        let size = Some(PictureSize { width: 1_280, height: 720, fps: 25.0 });
        let record = StreamRecord { renditions, size, bitrate_bps: 2_000_000, ..plain };
        self.live.contains(key.stream.as_str()).then(|| Arc::new(record))
    }

    fn is_at_ams(&self, key: &StreamKey) -> bool {
        self.at_ams.contains(key.stream.as_str()) && self.live(key).is_none()
    }

    fn drains(&self, node: &NodeId) -> bool {
        self.draining.contains(node.as_str())
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    fn is_drained(&self) -> bool {
        self.is_drained
    }

    fn ice_servers(&self) -> &[IceServer] {
        &self.ice_servers
    }
}

/// A socket, and what it brought about.
struct Socket {
    session: Session,
    world: World,
    now: Instant,
}

impl Socket {
    fn open(world: World) -> Self {
        let now = clock::now();
        let session = Session::new("live".parse().unwrap(), PACE, now, &world);
        Self { session, world, now }
    }

    fn send(&mut self, message: &Value) -> Vec<Action> {
        self.session.take(&message.to_string(), self.now, &self.world)
    }

    /// Sends it and returns the only thing that is said to it.
    #[track_caller]
    fn told(&mut self, message: &Value) -> Value {
        match self.send(message).as_slice() {
            [Action::Say(told)] => told.clone(),
            other => panic!("{message}: {other:?}"),
        }
    }

    #[track_caller]
    fn refused(&mut self, message: &Value) -> String {
        let told = self.told(message);
        assert_eq!(told["command"], "error", "{told}");
        told["definition"].as_str().unwrap().to_owned()
    }

    /// Sends it and returns the only question that it makes.
    #[track_caller]
    fn asks(&mut self, message: &Value) -> Ask {
        match self.send(message).as_slice() {
            [Action::Ask(ask)] => ask.clone(),
            other => panic!("{message}: {other:?}"),
        }
    }

    fn answered(&mut self, ask: Ask, answered: Answered) -> Vec<Action> {
        self.session.answered(ask, answered, self.now, &self.world)
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.session.tick(self.now, &self.world)
    }

    /// A player that runs on `node`.
    #[track_caller]
    fn plays(&mut self, stream: &str, node: &str) {
        let ask = self.asks(&play(stream));
        assert_eq!(definitions(&self.answered(ask, made(node))), ["takeConfiguration"]);
        let ask = self.asks(&description(stream, "answer"));
        assert_eq!(ask.question, Question::Answer(place(node), "sdp".to_owned()));
        assert_eq!(definitions(&self.answered(ask, Answered::Done)), ["play_started"]);
    }
}

fn about(command: &str, stream: &str) -> Value {
    json!({ "command": command, "streamId": stream })
}

fn play(stream: &str) -> Value {
    about("play", stream)
}

fn description(stream: &str, kind: &str) -> Value {
    json!({ "command": "takeConfiguration", "streamId": stream, "type": kind, "sdp": "sdp" })
}

fn place(node: &str) -> Place {
    Place { node: node.parse().unwrap(), id: format!("{node}~1~x") }
}

fn made(node: &str) -> Answered {
    Answered::Made(place(node), "v=0\r\na=mid:0\r\na=mid:1\r\n".to_owned())
}

/// What is said, by its definition or its command; and of questions to nodes, which.
fn definitions(actions: &[Action]) -> Vec<String> {
    let of = |action: &Action| match action {
        Action::Say(told) => {
            told["definition"].as_str().or_else(|| told["command"].as_str()).unwrap().to_owned()
        }
        Action::Ask(Ask { question: Question::End(place), .. }) => format!("end {}", place.node),
        Action::Ask(ask) => format!("{:?}", ask.question),
        Action::Close(why) => format!("{why:?}"),
        of_theirs => format!("{of_theirs:?}"),
    };
    actions.iter().map(of).collect()
}

#[test]
fn a_publisher_is_told_to_start_and_answered() {
    let mut socket = Socket::open(World::default());
    let begin = json!({"command": "publish", "streamId": "me", "token": "t", "video": true, "mainTrack": ""});
    let start = json!({"command": "start", "streamId": "me", "subscriberId": ""});
    assert_eq!(socket.told(&begin), start);
    assert_eq!(socket.refused(&begin), "already_publishing");
    assert_eq!(socket.refused(&play("me")), "already_publishing");
    assert_eq!(socket.send(&about("takeCandidate", "me")), []);

    let ask = socket.asks(&description("me", "offer"));
    let begin = Question::Begin { token: Some("t".to_owned()), offer: Some("sdp".to_owned()) };
    assert_eq!((ask.way, &ask.question), (Way::Publish, &begin));
    assert_eq!(socket.refused(&description("me", "offer")), "notSetRemoteDescription");
    let told = socket.answered(ask, made("o1"));
    assert_eq!(definitions(&told), ["takeConfiguration", "publish_started"]);
    assert!(matches!(&told[0], Action::Say(told) if told["type"] == "answer" && told["sdp"] != ""));
    let told = socket.send(&about("stop", "me"));
    assert_eq!(definitions(&told), ["end o1", "publish_finished"]);
    assert_eq!(socket.send(&about("stop", "me")), []);
}

#[test]
fn a_player_is_made_an_offer_with_its_mapping() {
    let mut socket = Socket::open(World::with(&["cam"]));
    assert_eq!(socket.refused(&description("cam", "answer")), "not_initialized_yet");
    let ask = socket.asks(&json!({"command": "play", "streamId": "cam", "token": "", "trackList": []}));
    assert_eq!(ask.question, Question::Begin { token: None, offer: None });
    assert_eq!(socket.refused(&description("cam", "answer")), "not_initialized_yet");
    let told = socket.answered(ask, made("e1"));
    let Action::Say(offer) = &told[0] else { panic!("{told:?}") };
    assert_eq!((&offer["type"], &offer["idMapping"]), (&json!("offer"), &json!({"0": "cam", "1": "cam"})));
    assert_eq!(socket.refused(&description("cam", "offer")), "notSetRemoteDescription");
    let ask = socket.asks(&description("cam", "answer"));
    assert_eq!(definitions(&socket.answered(ask, Answered::Done)), ["play_started"]);
    assert_eq!(socket.refused(&play("cam")), "already_playing");
    assert_eq!(definitions(&socket.session.end()), ["end e1"]);
}

#[test]
fn what_is_asked_of_a_stream() {
    let mut socket = Socket::open(World::with(&["cam"]));
    let info = socket.told(&about("getStreamInfo", "cam"));
    let sizes: Vec<_> =
        info["streamInfo"].as_array().unwrap().iter().map(|one| &one["streamWidth"]).collect();
    assert_eq!(sizes, [1_280, 640], "{info}");
    assert_eq!(info["streamInfo"][1]["videoBitrate"], 600_000);
    assert_eq!(socket.told(&about("getTrackList", "cam"))["trackList"], json!(["cam"]));
    let missing = socket.told(&about("getStreamInfo", "nobody"));
    assert_eq!((&missing["definition"], &missing["error_code"]), (&json!("no_stream_exist"), &json!("404")));

    let height = json!({"command": "forceStreamQuality", "streamId": "cam", "streamHeight": 360});
    assert_eq!(socket.refused(&height), "no_stream_exist");
    socket.plays("cam", "e1");
    let ask = socket.asks(&height);
    assert_eq!(ask.question, Question::Height(place("e1"), 360));
    let told = socket.answered(ask, Answered::Done);
    assert!(matches!(&told[..], [Action::Say(told)] if told["streamHeight"] == 360), "{told:?}");
}

#[test]
fn clients_are_told_of_one_ice_server() {
    let ask = json!({"command": "getIceServerConfig"});
    assert_eq!(Socket::open(World::default()).send(&ask), [], "clients have their own default");
    let server = |url: &str, name: Option<&str>| IceServer {
        url: url.to_owned(),
        username: name.map(str::to_owned),
        credential: name.map(str::to_owned),
    };
    let ice_servers = vec![server("stun:a", None), server("turns:b", Some("b")), server("turn:c", Some("c"))];
    let mut socket = Socket::open(World { ice_servers, ..World::default() });
    let told = socket.told(&ask);
    assert_eq!((&told["stunServerUri"], &told["turnServerUsername"]), (&json!("turn:c"), &json!("c")));
    assert_eq!(socket.told(&json!({"command": "ping"})), json!({"command": "pong"}));
}

#[test]
fn bad_messages_have_their_errors() {
    let mut socket = Socket::open(World::with(&["cam"]));
    for (message, definition) in [
        (json!({"command": "play"}), "noStreamNameSpecified"),
        (json!({"command": "play", "streamId": null}), "noStreamNameSpecified"),
        (json!({"command": "publish", "streamId": "a/b"}), "invalidStreamName"),
        (json!({"command": "publish", "streamId": 5}), "invalid_message"),
        (json!({"command": "joinRoom", "room": "r", "streamId": "a"}), "invalid_message"),
        (json!({"command": "takeConfiguration", "streamId": "a", "type": "pranswer"}), "invalid_message"),
        (json!({"command": "takeConfiguration", "streamId": "a", "type": "offer"}), "invalid_message"),
        (json!({"command": "forceStreamQuality", "streamId": "a", "streamHeight": -1}), "invalid_message"),
        (json!({"streamId": "a"}), "invalid_message"),
        (json!(["ping"]), "invalid_message"),
        (json!({"command": "play", "streamId": "cam", "token": "bad"}), "unauthorized_access"),
        (json!({"command": "play", "streamId": "nobody"}), "no_stream_exist"),
        (description("nobody", "offer"), "not_initialized_yet"),
    ] {
        assert_eq!(socket.refused(&message), definition, "{message}");
    }
    let long = json!({"command": "publish", "streamId": "a", "sdp": "x".repeat(MESSAGE_BYTES_MAX)});
    assert_eq!(socket.refused(&long), "invalid_message");
    assert_eq!(socket.session.size(), (0, 0));
    socket.plays("cam", "e1");
}

#[test]
fn a_nodes_refusal_ends_the_stream_by_its_name() {
    let world = World::with(&["cam"]);
    let mut socket = Socket::open(world);
    for (status, publish, play) in [
        (401, "unauthorized_access", "unauthorized_access"),
        (409, "streamIdInUse", "no_stream_exist"),
        (503, "highResourceUsage", "highResourceUsage"),
        (422, "notSetRemoteDescription", "notSetRemoteDescription"),
        (502, "server_error_check_logs", "server_error_check_logs"),
    ] {
        let refused = Answered::Refused(StatusCode::from_u16(status).unwrap());
        assert_eq!(socket.send(&about("publish", "me")).len(), 1);
        let ask = socket.asks(&description("me", "offer"));
        assert_eq!(definitions(&socket.answered(ask, refused.clone())), [publish]);
        let ask = socket.asks(&self::play("cam"));
        assert_eq!(definitions(&socket.answered(ask, refused)), [play]);
        assert_eq!(socket.session.size(), (0, 0), "it may be tried again");
    }
    let ask = socket.asks(&play("cam"));
    let _ = socket.answered(ask, made("e1"));
    let ask = socket.asks(&description("cam", "answer"));
    let told = socket.answered(ask, Answered::Refused(StatusCode::BAD_REQUEST));
    assert_eq!(definitions(&told), ["notSetRemoteDescription", "end e1"]);
}

#[test]
fn a_session_that_nobody_waits_for_any_more_is_ended() {
    let mut socket = Socket::open(World::with(&["cam"]));
    let first = socket.asks(&play("cam"));
    assert_eq!(definitions(&socket.send(&about("stop", "cam"))), ["play_finished"]);
    let second = socket.asks(&play("cam"));
    assert_eq!(definitions(&socket.answered(second, made("e2"))), ["takeConfiguration"]);
    assert_eq!(definitions(&socket.answered(first, made("e1"))), ["end e1"]);
    assert_eq!(definitions(&socket.session.end()), ["end e2"]);
}

#[test]
fn what_does_not_go_on_is_given_up() {
    let mut socket = Socket::open(World::with(&["cam"]));
    let _ = socket.send(&about("publish", "me"));
    let ask = socket.asks(&play("cam"));
    let _ = socket.answered(ask, made("e1"));
    assert_eq!(socket.pass(9 * SECOND), []);
    let mut told = definitions(&socket.pass(SECOND));
    told.sort();
    assert_eq!(told, ["end e1", "notSetRemoteDescription", "publishTimeoutError"]);
    assert_eq!(definitions(&socket.pass(50 * SECOND)), ["Silent"]);
}

#[test]
fn the_end_of_a_stream_is_told() {
    let mut socket = Socket::open(World::with(&["cam"]));
    socket.plays("cam", "e1");
    assert_eq!(socket.pass(SECOND), []);
    socket.world.live.clear();
    assert_eq!(definitions(&socket.pass(SECOND)), ["end e1", "play_finished"]);
    assert_eq!(socket.pass(SECOND), []);
}

#[test]
fn clients_of_a_drained_node_are_told_one_after_another_and_once() {
    let mut socket = Socket::open(World::with(&["cam"]));
    socket.plays("cam", "e1");
    socket.world.draining.insert("e2");
    assert_eq!(socket.pass(SECOND), []);
    socket.world.draining.insert("e1");
    assert_eq!(socket.pass(SECOND), []);
    assert_eq!(socket.pass(PACE - SECOND), []);
    assert_eq!(definitions(&socket.pass(SECOND)), ["server_will_stop"]);
    assert_eq!(socket.pass(SECOND), []);
    assert_eq!(definitions(&socket.pass(5 * SECOND)), ["Moved"]);
}

#[test]
fn who_came_to_a_drained_node_may_have_no_other_but_an_end_is_told() {
    let world = World { draining: ["e1"].into(), is_drained: true, ..World::with(&["cam"]) };
    let mut socket = Socket::open(world);
    socket.plays("cam", "e1");
    assert_eq!(socket.pass(20 * SECOND), []);
    socket.world.is_stopping = true;
    assert_eq!(definitions(&socket.pass(Duration::ZERO)), ["server_will_stop"], "at once");
}

#[test]
fn floods_are_closed_and_pings_are_none() {
    let ping = json!({"command": "ping"});
    let mut socket = Socket::open(World::default());
    for _ in 0..100 {
        socket.now += 3 * SECOND;
        assert_eq!(definitions(&socket.send(&ping)), ["pong"]);
    }
    let told: Vec<_> = (0..1_000).map(|_| definitions(&socket.send(&ping)).remove(0)).collect();
    assert_eq!(told.iter().position(|told| told == "Flood"), Some(299), "a burst of 300 is allowed");
}

/// A message of a client that says anything in any order.
fn any_message() -> impl Strategy<Value = String> {
    let command = prop::sample::select(vec![
        "publish",
        "play",
        "stop",
        "takeConfiguration",
        "takeCandidate",
        "getStreamInfo",
        "forceStreamQuality",
        "getTrackList",
        "ping",
        "getIceServerConfig",
        "nonsense",
    ]);
    let stream = prop::sample::select(vec!["a", "b", "c", "a/b", ""]);
    let kind = prop::sample::select(vec!["offer", "answer", ""]);
    let message = (command, stream, kind).prop_map(|(command, stream, kind)| {
        json!({"command": command, "streamId": stream, "type": kind, "sdp": "s", "streamHeight": 1})
            .to_string()
    });
    prop_oneof![9 => message, 1 => "[ -~]{0,40}"]
}

proptest! {
    #[test]
    fn every_session_that_was_made_is_ended_once(
        steps in prop::collection::vec((any_message(), 0..4_u8, 0..12_u32), 0..120),
    ) {
        let mut socket = Socket::open(World::with(&["a", "b"]));
        let (mut asked, mut running, mut ended) = (Vec::<Ask>::new(), 0_usize, 0_usize);
        let take = |actions: Vec<Action>, asked: &mut Vec<Ask>, ended: &mut usize| {
            for action in actions {
                if let Action::Ask(ask) = action {
                    *ended += usize::from(matches!(ask.question, Question::End(_)));
                    asked.push(ask);
                }
            }
        };
        let answer = |ask: &Ask, outcome: u8| match (&ask.question, outcome) {
            (_, 3) => Answered::Refused(StatusCode::SERVICE_UNAVAILABLE),
            (Question::Begin { .. }, _) => made("n1"),
            _ => Answered::Done,
        };
        for (message, outcome, seconds) in steps {
            let actions = socket.session.take(&message, socket.now, &socket.world);
            take(actions, &mut asked, &mut ended);
            if outcome > 0 && !asked.is_empty() {
                let ask = asked.swap_remove(usize::from(outcome) % asked.len());
                let answered = answer(&ask, outcome);
                running += usize::from(matches!(answered, Answered::Made(..)));
                let actions = socket.answered(ask, answered);
                take(actions, &mut asked, &mut ended);
            }
            let actions = socket.pass(seconds * SECOND / 4);
            take(actions, &mut asked, &mut ended);
            let (streams, asking) = socket.session.size();
            prop_assert!(streams <= 5 && asking == asked.len());
        }
        let actions = socket.session.end();
        take(actions, &mut asked, &mut ended);
        while let Some(ask) = asked.pop() {
            let answered = answer(&ask, 1);
            running += usize::from(matches!(answered, Answered::Made(..)));
            let actions = socket.answered(ask, answered);
            take(actions, &mut asked, &mut ended);
        }
        prop_assert_eq!(ended, running);
        prop_assert_eq!(socket.session.size(), (0, 0));
    }
}
