//! Streams that AMS's own nodes have, on one socket with others.

use super::*;

const OFFER: &str = r#"{"command":"takeConfiguration","streamId":"theirs","type":"offer","sdp":"x"}"#;

fn world() -> World {
    World { at_ams: ["theirs"].into(), ..World::with(&["ours"]) }
}

/// What a message opens, and that it is passed on as it was said.
#[track_caller]
fn opens(socket: &mut Socket, message: &Value) -> Line {
    match socket.send(message).as_slice() {
        [Action::Open(line), Action::Pass(number, text)] => {
            assert_eq!((*number, text), (line.number, &message.to_string()));
            line.clone()
        }
        other => panic!("{message}: {other:?}"),
    }
}

#[track_caller]
fn passes(socket: &mut Socket, line: &Line, message: &Value) {
    assert_eq!(socket.send(message), [Action::Pass(line.number, message.to_string())]);
}

fn said(socket: &mut Socket, line: &Line, text: &str) -> Vec<Action> {
    socket.session.said(line, text.to_owned(), socket.now)
}

fn notified(definition: &str) -> String {
    json!({"command": "notification", "definition": definition, "streamId": "theirs"}).to_string()
}

/// A player of a stream of theirs that runs.
fn playing(socket: &mut Socket) -> Line {
    let line = opens(socket, &play("theirs"));
    assert_eq!(said(socket, &line, OFFER), [Action::Relay(OFFER.to_owned())]);
    passes(socket, &line, &description("theirs", "answer"));
    let _ = said(socket, &line, &notified("play_started"));
    line
}

#[test]
fn what_is_said_of_their_stream_goes_there_and_comes_back_and_ours_stays_here() {
    let mut socket = Socket::open(world());
    let line = playing(&mut socket);
    assert_eq!((line.way, line.key.to_string()), (Way::Play, "live/theirs".to_owned()));
    socket.plays("ours", "e1");
    passes(&mut socket, &line, &about("toggleAudio", "theirs"));
    assert_eq!(socket.refused(&about("toggleAudio", "ours")), "invalid_message");
    let ping = json!({"command": "ping"});
    let answered = socket.send(&ping);
    assert_eq!(answered[1..], [Action::Pass(line.number, ping.to_string())]);
    assert_eq!(definitions(&answered[..1]), ["pong"]);
    assert_eq!(said(&mut socket, &line, r#"{"command":"pong"}"#), []);
    assert_eq!(said(&mut socket, &line, "no JSON"), []);
    assert_eq!(socket.session.size().0, 2);
}

#[test]
fn a_line_ends_with_its_stream_and_its_loss_is_told() {
    let mut socket = Socket::open(world());
    let line = playing(&mut socket);
    passes(&mut socket, &line, &about("stop", "theirs"));
    let finished = notified("play_finished");
    assert_eq!(said(&mut socket, &line, &finished), [Action::Relay(finished)]);
    assert_eq!(socket.pass(9 * SECOND), []);
    assert_eq!(socket.pass(SECOND), [Action::HangUp(line.number)]);
    assert_eq!(socket.session.lost(&line), [], "it is known");

    let line = playing(&mut socket);
    assert_eq!(definitions(&socket.session.lost(&line)), ["play_finished"]);
    let line = opens(&mut socket, &play("theirs"));
    assert_eq!(definitions(&socket.session.lost(&line)), ["server_error_check_logs"]);

    let line = playing(&mut socket);
    passes(&mut socket, &line, &about("stop", "theirs"));
    let over = socket.pass(5 * SECOND);
    assert_eq!(definitions(&over[..1]), ["play_finished"], "a node that says nothing");
    assert_eq!(over[1..], [Action::HangUp(line.number)]);
    assert_eq!(said(&mut socket, &line, OFFER), [], "it is nobody's any more");
}

#[test]
fn a_question_opens_an_edges_line_and_a_publish_its_origins() {
    let mut socket = Socket::open(world());
    let asked = opens(&mut socket, &about("getStreamInfo", "theirs"));
    assert_eq!(asked.way, Way::Play);
    let publish = about("publish", "theirs");
    let actions = socket.send(&publish);
    assert_eq!(actions[0], Action::HangUp(asked.number));
    let Action::Open(line) = &actions[1] else { panic!("{actions:?}") };
    assert_eq!(line.way, Way::Publish);
    let refusal = r#"{"command":"error","definition":"streamIdInUse","streamId":"theirs"}"#;
    assert_eq!(said(&mut socket, line, refusal), [Action::Relay(refusal.to_owned())]);
    assert_eq!(socket.pass(10 * SECOND), [Action::HangUp(line.number)]);
}

#[test]
fn lines_are_opened_for_those_who_may_and_not_without_end() {
    let mut socket = Socket::open(world());
    let mut stranger = play("theirs");
    stranger["token"] = "bad".into();
    assert_eq!(socket.refused(&stranger), "unauthorized_access");
    assert_eq!(socket.send(&about("stop", "theirs")), [], "it was never begun");
    for n in 0..32 {
        assert_eq!(socket.told(&about("publish", &format!("s{n}")))["command"], "start");
    }
    assert_eq!(socket.refused(&play("theirs")), "highResourceUsage");
    assert_eq!(socket.session.size().0, 32);
}
