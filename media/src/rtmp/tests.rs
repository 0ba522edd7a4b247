//! Sessions against each other in memory, against hand-made bytes, and against rml_rtmp's sessions as
//! peers that know nothing of ours.

use bytes::{Buf, Bytes, BytesMut};
use rml_rtmp::handshake::{Handshake as PeerHandshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions as peer;
use rml_rtmp::time::RtmpTimestamp;

use super::chunk::{self, ChunkReader, ChunkWriter, Message};
use super::handshake::RANDOM_BYTES;
use super::*;

fn target() -> PublishTarget {
    PublishTarget {
        app: "live".to_owned(),
        tc_url: "rtmp://origin:1935/live".to_owned(),
        stream: "cam1?token=t".to_owned(),
        properties: vec![("clusterToken".to_owned(), "jwt".into())],
    }
}

fn media(kind: MediaKind, timestamp_ms: u32, bytes: usize) -> MediaMessage {
    MediaMessage { kind, timestamp_ms, payload: Bytes::from(vec![timestamp_ms as u8; bytes]) }
}

fn metadata() -> MediaMessage {
    let mut payload = BytesMut::new();
    AmfValue::from("@setDataFrame").encode(&mut payload);
    AmfValue::from("onMetaData").encode(&mut payload);
    AmfValue::EcmaArray(vec![("width".to_owned(), 1280.0.into())]).encode(&mut payload);
    MediaMessage { kind: MediaKind::Data, timestamp_ms: 0, payload: payload.freeze() }
}

struct Pair {
    client: ClientSession,
    server: ServerSession,
}

impl Pair {
    fn new() -> Self {
        let client = ClientSession::new(target(), Limits::default(), &[1; RANDOM_BYTES]);
        Self { client, server: ServerSession::new(Limits::default(), &[2; RANDOM_BYTES]) }
    }

    /// Carries bytes both ways until nothing moves; `decide` answers the server's events.
    fn run(
        &mut self,
        mut decide: impl FnMut(&mut ServerSession, &ServerEvent),
    ) -> (Vec<ServerEvent>, Vec<ClientEvent>) {
        let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
        loop {
            let (up, down) = (self.client.take_output(), self.server.take_output());
            if up.is_empty() && down.is_empty() {
                return (at_server, at_client);
            }
            let mut input = &up[..];
            while let Some(event) = self.server.read(&mut input).unwrap() {
                decide(&mut self.server, &event);
                at_server.push(event);
            }
            let mut input = &down[..];
            while let Some(event) = self.client.read(&mut input).unwrap() {
                at_client.push(event);
            }
        }
    }

    fn published() -> Self {
        let mut pair = Self::new();
        let (_, at_client) = pair.run(accept);
        assert_eq!(at_client, [ClientEvent::PublishStarted]);
        pair
    }
}

fn accept(server: &mut ServerSession, event: &ServerEvent) {
    match event {
        ServerEvent::Connect(_) => server.accept_connect().unwrap(),
        ServerEvent::Publish(_) => server.accept_publish().unwrap(),
        _ => {}
    }
}

#[test]
fn a_publish_carries_its_names_and_properties() {
    let mut pair = Pair::new();
    let (events, _) = pair.run(accept);
    let [ServerEvent::Connect(connect), ServerEvent::Publish(publish)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((connect.app_name(), connect.tc_url.as_deref()), ("live", Some("rtmp://origin:1935/live")));
    assert_eq!(connect.text("clusterToken"), Some("jwt"));
    assert_eq!((publish.name.as_str(), publish.query.as_deref()), ("cam1", Some("token=t")));
    assert_eq!(publish.kind, "live");
}

#[test]
fn media_arrives_in_order_with_its_times() {
    let mut pair = Pair::published();
    let mut sent = Vec::new();
    for n in 0..40 {
        // Across the 24-bit bound, then a step back as after a re-publish.
        let timestamp_ms = if n < 30 { 0xFF_FFF0 + n * 3 } else { n };
        sent.push(media(MediaKind::Video, timestamp_ms, 200_000));
        sent.push(media(MediaKind::Audio, timestamp_ms + 1, 300));
    }
    sent.iter().for_each(|message| pair.client.send(message).unwrap());
    let (events, _) = pair.run(accept);
    let sent: Vec<_> = sent.into_iter().map(ServerEvent::Media).collect();
    assert!(events == sent, "what arrives is what was sent");
}

#[test]
fn metadata_arrives_whole() {
    let mut pair = Pair::published();
    pair.client.send(&metadata()).unwrap();
    assert_eq!(pair.run(accept).0, [ServerEvent::Metadata(metadata())]);
}

#[test]
fn a_publish_ends_in_good_order() {
    let mut pair = Pair::published();
    pair.client.unpublish().unwrap();
    assert_eq!(pair.run(accept).0, [ServerEvent::Unpublish], "FCUnpublish and deleteStream end it once");
    assert_eq!(pair.client.send(&metadata()), Err(RtmpError::NotPublishing));
}

#[test]
fn a_stream_that_is_handed_over_arrives_whole_and_has_no_end() {
    let mut pair = Pair::published();
    let last = media(MediaKind::Video, 40, 200_000);
    pair.client.send(&last).unwrap();
    pair.client.hand_over().unwrap();
    assert_eq!(pair.run(accept).0, [ServerEvent::Media(last), ServerEvent::HandedOver]);
    assert_eq!(pair.client.send(&metadata()), Err(RtmpError::NotPublishing));
    assert_eq!(pair.client.hand_over(), Err(RtmpError::NotPublishing));
}

#[test]
fn a_rejected_connect_is_told_with_its_reason() {
    let mut pair = Pair::new();
    let (events, at_client) = pair.run(|server, _| {
        server.reject_connect("NetConnection.Connect.Rejected", "no key").unwrap();
    });
    assert_eq!(events.len(), 1);
    let (code, description) = ("NetConnection.Connect.Rejected".to_owned(), "no key".to_owned());
    assert_eq!(at_client, [ClientEvent::Refused { code, description }]);
}

#[test]
fn a_rejected_publish_is_told_with_its_reason() {
    let mut pair = Pair::new();
    let (_, at_client) = pair.run(|server, event| match event {
        ServerEvent::Publish(_) => server.reject_publish("NetStream.Publish.BadName", "taken").unwrap(),
        event => accept(server, event),
    });
    let (code, description) = ("NetStream.Publish.BadName".to_owned(), "taken".to_owned());
    assert_eq!(at_client, [ClientEvent::Refused { code, description }]);
    assert_eq!(pair.client.send(&metadata()), Err(RtmpError::NotPublishing));
}

#[test]
fn a_running_publish_can_be_ended_by_the_server() {
    let mut pair = Pair::published();
    pair.server.reject_publish("NetStream.Publish.Failed", "replaced").unwrap();
    let (_, at_client) = pair.run(accept);
    let (code, description) = ("NetStream.Publish.Failed".to_owned(), "replaced".to_owned());
    assert_eq!(at_client, [ClientEvent::Ended { code, description }]);
}

#[test]
fn output_that_nobody_takes_is_bounded() {
    let mut pair = Pair::published();
    let big = media(MediaKind::Video, 0, 3 << 20);
    assert_eq!([(); 3].map(|()| pair.client.send(&big).is_ok()), [true, true, false]);
}

/// A server past its handshake, and an encoder's chunks by hand.
struct Raw {
    server: ServerSession,
    writer: ChunkWriter,
    reader: ChunkReader,
}

impl Raw {
    fn new() -> Self {
        let mut server = ServerSession::new(Limits::default(), &[0; RANDOM_BYTES]);
        let mut hello = vec![0; 1 + 2 * 1536];
        hello[0] = 3;
        assert_eq!(server.read(&mut &hello[..]), Ok(None));
        assert_eq!(server.take_output().len(), 1 + 2 * 1536);
        Self { server, writer: ChunkWriter::new(), reader: ChunkReader::new(Limits::default()) }
    }

    fn connected() -> Self {
        let mut raw = Self::new();
        let object = command::object([("app", "live".into())]);
        let event = raw.call("connect", &[object]).unwrap();
        assert!(matches!(event, Some(ServerEvent::Connect(_))));
        raw.server.accept_connect().unwrap();
        raw.answers();
        raw
    }

    fn send(&mut self, type_id: u8, payload: &[u8]) -> Result<Option<ServerEvent>, RtmpError> {
        let mut out = BytesMut::new();
        self.writer.write(type_id, 1, 0, payload, &mut out).unwrap();
        self.server.read(&mut &out[..])
    }

    fn call(&mut self, name: &str, arguments: &[AmfValue]) -> Result<Option<ServerEvent>, RtmpError> {
        self.send(chunk::COMMAND, &command::encode(name, 9.0, arguments))
    }

    fn answers(&mut self) -> Vec<Message> {
        let output = self.server.take_output();
        let mut input = &output[..];
        std::iter::from_fn(|| self.reader.read(&mut input).unwrap()).collect()
    }

    /// The names of the commands the server sent, with their codes where they have one.
    fn answered(&mut self) -> Vec<String> {
        let commands = self.answers().into_iter().filter(|message| message.type_id == chunk::COMMAND);
        commands
            .map(|message| {
                let command = command::Command::decode(&message.payload, 4).unwrap();
                format!("{} {}", command.name, command.status("code")).trim().to_owned()
            })
            .collect()
    }
}

#[test]
fn what_encoders_ask_around_a_publish_is_answered() {
    let mut raw = Raw::connected();
    let name = [AmfValue::Null, "cam1".into()];
    for (ask, answers) in [
        ("releaseStream", &["_result"][..]),
        ("FCPublish", &["_result", "onFCPublish NetStream.Publish.Start"]),
        ("createStream", &["_result"]),
        ("_checkbw", &["_result"]),
        ("getStreamLength", &["_result"]),
        ("play", &["onStatus NetStream.Play.StreamNotFound"]),
        ("FCUnpublish", &["onFCUnpublish NetStream.Unpublish.Success"]),
        ("somethingElse", &[]),
    ] {
        assert_eq!(raw.call(ask, &name), Ok(None));
        assert_eq!(raw.answered(), answers, "{ask}");
    }
    assert!(matches!(raw.call("publish", &name), Ok(Some(ServerEvent::Publish(_)))));
    raw.server.accept_publish().unwrap();
    assert_eq!(raw.answered(), ["onStatus NetStream.Publish.Start"]);
    assert_eq!(raw.call("publish", &name), Err(RtmpError::OutOfOrder));
}

#[test]
fn a_stream_may_be_published_again_on_its_connection() {
    let mut raw = Raw::connected();
    for _ in 0..2 {
        assert!(raw.call("publish", &[AmfValue::Null, "cam1".into()]).unwrap().is_some());
        raw.server.accept_publish().unwrap();
        assert_eq!(raw.call("deleteStream", &[AmfValue::Null, 1.0.into()]), Ok(Some(ServerEvent::Unpublish)));
    }
}

#[test]
fn commands_before_connect_are_refused() {
    assert_eq!(Raw::new().call("createStream", &[AmfValue::Null]), Err(RtmpError::OutOfOrder));
    assert_eq!(Raw::new().call("connect", &[AmfValue::Null]), Err(RtmpError::IncompleteCommand));
    let object = command::object([("app", "live".into())]);
    assert_eq!(Raw::connected().call("connect", &[object]), Err(RtmpError::OutOfOrder));
}

#[test]
fn nested_arguments_are_refused() {
    let deep = (0..200).fold(AmfValue::Null, |inner, _| AmfValue::StrictArray(vec![inner]));
    assert_eq!(Raw::new().call("connect", &[deep]), Err(RtmpError::Amf(AmfError::TooDeep)));
}

#[test]
fn media_outside_a_publish_is_dropped() {
    let mut raw = Raw::connected();
    assert_eq!(raw.send(chunk::AUDIO, b"early"), Ok(None));
    raw.call("publish", &[AmfValue::Null, "cam1".into()]).unwrap();
    raw.server.accept_publish().unwrap();
    assert_eq!(raw.send(chunk::AUDIO, b""), Ok(None), "an empty message carries nothing");
    assert!(matches!(raw.send(chunk::AUDIO, b"now"), Ok(Some(ServerEvent::Media(_)))));
    assert_eq!(raw.send(chunk::AGGREGATE, b"x"), Err(RtmpError::UnsupportedMessage(chunk::AGGREGATE)));
}

#[test]
fn amf3_wrapping_is_taken_off() {
    let mut raw = Raw::connected();
    let mut publish = vec![0];
    publish.extend(command::encode("publish", 9.0, &[AmfValue::Null, "cam1".into()]));
    assert!(matches!(raw.send(chunk::COMMAND_AMF3, &publish), Ok(Some(ServerEvent::Publish(_)))));
    assert!(matches!(raw.send(chunk::COMMAND_AMF3, b""), Err(RtmpError::Amf(AmfError::Truncated))));
}

#[test]
fn pings_are_answered_and_windows_acknowledged() {
    let mut raw = Raw::connected();
    raw.send(chunk::USER_CONTROL, &[0, 6, 1, 2, 3, 4]).unwrap();
    let answers = raw.answers();
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].type_id, &answers[0].payload[..]), (chunk::USER_CONTROL, &[0, 7, 1, 2, 3, 4][..]));

    raw.send(chunk::WINDOW_SIZE, &100_000_u32.to_be_bytes()).unwrap();
    for _ in 0..30 {
        raw.send(chunk::AUDIO, &[0; 10_000]).unwrap();
    }
    let counts: Vec<u32> = raw.answers().iter().map(|message| message.payload.as_ref().get_u32()).collect();
    assert_eq!(counts.len(), 3, "300,000 bytes and their headers fill the window three times or just not");
    assert!(counts.windows(2).all(|pair| pair[1] - pair[0] >= 100_000));
}

#[test]
fn short_control_messages_are_refused() {
    for type_id in [chunk::USER_CONTROL, chunk::WINDOW_SIZE, chunk::PEER_BANDWIDTH] {
        assert_eq!(Raw::connected().send(type_id, &[0]), Err(RtmpError::ControlTooShort(type_id)));
    }
}

/// Feeds `input` to a handshake of `rml_rtmp`: what it answers, and what follows the handshake if it is done.
fn shake(handshake: &mut PeerHandshake, input: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    match handshake.process_bytes(input).unwrap() {
        HandshakeProcessResult::InProgress { response_bytes } => (response_bytes, None),
        HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
            (response_bytes, Some(remaining_bytes))
        }
    }
}

#[test]
fn a_foreign_client_publishes_to_our_server() {
    use peer::{ClientSessionEvent as Event, ClientSessionResult as Out};
    let mut server = ServerSession::new(Limits::default(), &[5; RANDOM_BYTES]);
    let mut handshake = PeerHandshake::new(PeerType::Client);
    let mut to_server = handshake.generate_outbound_p0_and_p1().unwrap();
    assert_eq!(server.read(&mut &to_server[..]), Ok(None));
    let (echo, rest) = shake(&mut handshake, &server.take_output());
    assert_eq!(rest, Some(vec![]));
    let (mut client, first) = peer::ClientSession::new(peer::ClientSessionConfig::new()).unwrap();
    to_server = echo;
    let mut pending = first;
    pending.push(client.request_connection("live".to_owned()).unwrap());
    let mut received = Vec::new();
    for _round_trip in 0..12 {
        for result in std::mem::take(&mut pending) {
            match result {
                Out::OutboundResponse(packet) => to_server.extend(packet.bytes),
                Out::RaisedEvent(Event::ConnectionRequestAccepted) => {
                    let kind = peer::PublishRequestType::Live;
                    pending.push(client.request_publishing("cam1".to_owned(), kind).unwrap());
                }
                Out::RaisedEvent(Event::PublishRequestAccepted) => {
                    let (video, time) = (Bytes::from(vec![7; 90_000]), RtmpTimestamp::new(0x100_0000));
                    pending.push(client.publish_video_data(video, time, false).unwrap());
                    let (audio, time) = (Bytes::from(vec![8; 90]), RtmpTimestamp::new(0x100_0001));
                    pending.push(client.publish_audio_data(audio, time, false).unwrap());
                }
                _ => {}
            }
        }
        let sent = std::mem::take(&mut to_server);
        let mut input = &sent[..];
        while let Some(event) = server.read(&mut input).unwrap() {
            accept(&mut server, &event);
            if let ServerEvent::Media(message) = event {
                received.push((message.kind, message.timestamp_ms, message.payload.len()));
            }
        }
        pending.extend(client.handle_input(&server.take_output()).unwrap());
    }
    assert_eq!(received, [(MediaKind::Video, 0x100_0000, 90_000), (MediaKind::Audio, 0x100_0001, 90)]);
}

#[test]
fn our_client_publishes_to_a_foreign_server() {
    use peer::{ServerSessionEvent as Event, ServerSessionResult as Out};
    let mut client = ClientSession::new(target(), Limits::default(), &[5; RANDOM_BYTES]);
    let mut handshake = PeerHandshake::new(PeerType::Server);
    let mut to_client = handshake.generate_outbound_p0_and_p1().unwrap();
    let (echo, _) = shake(&mut handshake, &client.take_output());
    to_client.extend(echo);
    assert_eq!(client.read(&mut &to_client[..]), Ok(None));
    let (_, rest) = shake(&mut handshake, &client.take_output());
    let (mut server, mut pending) = peer::ServerSession::new(peer::ServerSessionConfig::new()).unwrap();
    pending.extend(server.handle_input(&rest.unwrap()).unwrap());
    let mut received = Vec::new();
    for _round_trip in 0..12 {
        let mut to_client = Vec::new();
        for result in std::mem::take(&mut pending) {
            match result {
                Out::OutboundResponse(packet) => to_client.extend(packet.bytes),
                Out::RaisedEvent(
                    Event::ConnectionRequested { request_id, .. }
                    | Event::PublishStreamRequested { request_id, .. }
                    | Event::ReleaseStreamRequested { request_id, .. },
                ) => pending.extend(server.accept_request(request_id).unwrap()),
                Out::RaisedEvent(Event::VideoDataReceived { data, timestamp, stream_key, .. }) => {
                    assert_eq!(stream_key, "cam1?token=t");
                    received.push((timestamp.value, data.len()));
                }
                Out::RaisedEvent(Event::AudioDataReceived { data, timestamp, .. }) => {
                    received.push((timestamp.value, data.len()));
                }
                _ => {}
            }
        }
        let mut input = &to_client[..];
        while let Some(event) = client.read(&mut input).unwrap() {
            assert_eq!(event, ClientEvent::PublishStarted);
            client.send(&media(MediaKind::Video, 0x100_0000, 90_000)).unwrap();
            client.send(&media(MediaKind::Audio, 0x100_0001, 90)).unwrap();
        }
        pending.extend(server.handle_input(&client.take_output()).unwrap());
    }
    assert_eq!(received, [(0x100_0000, 90_000), (0x100_0001, 90)]);
}
