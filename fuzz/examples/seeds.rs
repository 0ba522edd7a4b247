//! Writes what fuzzing begins with into `fuzz/corpus/`: valid inputs, made by our own writers.
//! `cargo run -p sluicegate-fuzz --example seeds`

#![allow(clippy::unwrap_used, reason = "a tool for whoever adds a target: what does not work ends it")]

use std::fs;
use std::path::Path;

use bytes::BytesMut;
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::testing;
use sluicegate_fuzz::records;
use sluicegate_media::rtmp::AmfValue;
use sluicegate_media::rtmp::chunk::{self, ChunkWriter};

/// 1280x720 at 30 frames a second, as x264 writes it: avcC with its SPS and PPS.
const AVCC: &[u8] = &[
    1, 0x64, 0, 0x1F, 0xFF, 0xE1, 0, 0x1A, 0x67, 0x64, 0, 0x1F, 0xAC, 0xD9, 0x40, 0x50, 5, 0xBB, 1, 0x10, 0,
    0, 3, 0, 0x10, 0, 0, 3, 3, 0xC0, 0xF1, 0x83, 0x19, 0x60, 1, 0, 6, 0x68, 0xEB, 0xE3, 0xCB, 0x22, 0xC0,
];
/// AAC-LC, 48 kHz, stereo; HE-AAC, explicit and hidden; an escaped rate.
const ASCS: [&[u8]; 4] =
    [&[0x11, 0x90], &[0x2B, 0x11, 0x88, 0], &[0x13, 0x10, 0x56, 0xE5, 0x98], &[0x17, 0x80, 0x5D, 0xBF, 0x88]];

fn main() {
    let now = UnixMs(1_760_000_000_000);
    let documents = [
        testing::bson(&testing::node("origin-1", now)),
        testing::bson(&testing::stream_held_by("live/cam", "origin-1", "session", now)),
    ];
    save("mongo_documents", &documents);
    save("aac", &ASCS.map(<[u8]>::to_vec));
    save("avc", &[AVCC.to_vec()]);
    save("flv", &messages().map(|(_, body)| body));
    save("fmp4", &[records::write(&publish(false)), records::write(&publish(true))]);
    save("amf", &values().map(|value| encoded(&[value])));
    save("rtmp_chunks", &[chunks(128), chunks(1), chunks(4_096)]);
    save("rtmp_sessions", &[records::write(&session())]);
    let names = ["cam.m3u8", "cam_adaptive.m3u8", "cam_720p2000kbps.m3u8", "live/cam", "a.b-c_d"];
    let files = ["cam_source__7_40.m4s", "cam_720p2000kbps__7_init0.mp4", "cam___7_1.m4s"];
    save("names", &[&names[..], &files].concat().into_iter().map(Vec::from).collect::<Vec<_>>());
    let example = include_str!("../../sluicegate.example.toml");
    let uncommented: String = example.lines().map(|l| l.trim_start_matches("# ").to_owned() + "\n").collect();
    save(
        "configuration",
        &[example.into(), uncommented.into(), b"roles = [\"edge\"]\n[[app]]\nname = \"a\"\n".into()],
    );
    save("proxy_headers", &proxy_headers());
    let token =
        "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJsYi0xIiwiYXVkIjoic2x1aWNlZ2F0ZS1jbHVzdGVyIn0.c2lnbmF0dXJl\nsession";
    save("websocket_sessions", &[socket("publish", "offer"), socket("play", "answer")]);
    save("tickets", &[token.into(), token.replace("HUzI1Ni", "ub25l").into()]);
}

fn save(target: &str, inputs: &[Vec<u8>]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).unwrap();
    for (at, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("seed-{at}")), input).unwrap();
    }
}

/// Of both versions: with a client of either family, without one, with what load balancers add.
fn proxy_headers() -> Vec<Vec<u8>> {
    let text = ["TCP4 192.0.2.7 10.0.0.1 4711 443", "TCP6 2001:db8::7 2001:db8::1 4711 443", "UNKNOWN"];
    let text = text.map(|line| format!("PROXY {line}\r\nGET / HTTP/1.1\r\n").into_bytes());
    let signature: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let v4: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 0xBB];
    let binary = [
        [signature, &[0x21, 0x11, 0, 12], v4].concat(),
        [signature, &[0x20, 0, 0, 0]].concat(),
        [signature, &[0x21, 0x21, 0, 36], &[0x20; 36]].concat(),
        [signature, &[0x21, 0x11, 0, 18], v4, &[0xEA, 0, 3, 1, 2, 3], b"\x03\0\0\0"].concat(),
    ];
    text.into_iter().chain(binary).collect()
}

/// Headers and frames, with the bit that says audio.
fn messages() -> [(u8, Vec<u8>); 6] {
    [
        (0, [&[0x17, 0, 0, 0, 0], AVCC].concat()),
        (1, [&[0xAF, 0], ASCS[0]].concat()),
        (0, vec![0x17, 1, 0, 0, 0x50, 0, 0, 0, 2, 0x65, 1]),
        (0, vec![0x27, 1, 0xFF, 0xFF, 0xF0, 0, 0, 0, 2, 0x41, 1]),
        (1, vec![0xAF, 1, 0x21, 0x10, 5]),
        (0, vec![0x17, 2, 0, 0, 0]),
    ]
}

/// Four seconds at ten frames a second, a keyframe each second; the clock `jumps` once.
fn publish(jumps: bool) -> Vec<(u8, Vec<u8>)> {
    let [video, audio, key, frame, sound, end] = messages();
    let mut sent = vec![video, audio];
    for at in 0..40 {
        let picture = if at % 10 == 0 { &key } else { &frame };
        let jump = if jumps && at == 25 { 2 } else { 0 };
        sent.push((picture.0 | jump | 5 << 2, picture.1.clone()));
        sent.push(sound.clone());
    }
    sent.push(end);
    sent
}

fn object(properties: &[(&str, AmfValue)]) -> AmfValue {
    AmfValue::Object(properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn values() -> [AmfValue; 3] {
    let connect = object(&[("app", "live".into()), ("tcUrl", "rtmp://h/live".into()), ("x", 31.0.into())]);
    let nested =
        AmfValue::StrictArray(vec![AmfValue::EcmaArray(vec![("a".to_owned(), AmfValue::Date(5.0))])]);
    [connect, nested, AmfValue::String("ü".repeat(200))]
}

fn encoded(values: &[AmfValue]) -> Vec<u8> {
    let mut out = BytesMut::new();
    values.iter().for_each(|value| value.encode(&mut out));
    out.into()
}

fn command(name: &str, transaction: f64, arguments: &[AmfValue]) -> (u8, Vec<u8>) {
    (chunk::COMMAND, encoded(&[&[name.into(), transaction.into()], arguments].concat()))
}

/// A whole publish as ffmpeg speaks it, and a server's answers.
fn session() -> Vec<(u8, Vec<u8>)> {
    let status = object(&[("level", "status".into()), ("code", "NetStream.Publish.Start".into())]);
    let mut sent = vec![
        command("connect", 1.0, &[values()[0].clone()]),
        command("releaseStream", 2.0, &[AmfValue::Null, "cam".into()]),
        command("createStream", 4.0, &[AmfValue::Null]),
        command("_result", 1.0, &[AmfValue::Null, status.clone()]),
        command("_result", 4.0, &[AmfValue::Null, 1.0.into()]),
        command("publish", 5.0, &[AmfValue::Null, "cam?token=x".into(), "live".into()]),
        command("onStatus", 0.0, &[AmfValue::Null, status]),
        (
            chunk::DATA,
            encoded(&["@setDataFrame".into(), "onMetaData".into(), object(&[("width", 1.0.into())])]),
        ),
        (chunk::USER_CONTROL, vec![0, 6, 0, 0, 0, 9]),
        (chunk::WINDOW_SIZE, vec![0, 0, 0, 1]),
    ];
    sent.extend(messages().map(|(audio, body)| (if audio == 1 { chunk::AUDIO } else { chunk::VIDEO }, body)));
    sent.push(command("deleteStream", 6.0, &[AmfValue::Null, 1.0.into()]));
    sent
}

/// A stream that a client publishes or plays over AMS's signalling: `begin`, and a description of this kind.
fn socket(begin: &str, kind: &str) -> Vec<u8> {
    let about = |command: &str, more: &str| {
        let text = format!("{{\"command\":\"{command}\",\"streamId\":\"cam\"{more}}}");
        (0, text.into_bytes())
    };
    let (answered, second) = ((1, Vec::new()), (3, vec![1]));
    records::write(&[
        (0, b"{\"command\":\"ping\"}".to_vec()),
        about(begin, ",\"token\":null"),
        answered.clone(),
        about("takeCandidate", ",\"label\":0,\"id\":\"0\",\"candidate\":\"\""),
        about("takeConfiguration", &format!(",\"type\":\"{kind}\",\"sdp\":\"v=0\"")),
        answered.clone(),
        second,
        about("getStreamInfo", ""),
        about("forceStreamQuality", ",\"streamHeight\":360"),
        answered,
        about("stop", ""),
    ])
}

/// The same messages as chunks of this size; the byte before them says how a target cuts them.
fn chunks(size: u32) -> Vec<u8> {
    let (mut writer, mut out) = (ChunkWriter::new(), BytesMut::from(&[5_u8][..]));
    writer.set_chunk_size(size, &mut out).unwrap();
    for (at, (type_id, body)) in (0_u32..).zip(session()) {
        writer.write(type_id, at % 2, at * 0x3F_FFFF, &body, &mut out).unwrap();
    }
    out.into()
}
