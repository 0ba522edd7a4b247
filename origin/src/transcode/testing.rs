//! What tests are fed: a real encoder's output.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::process::{Command, Stdio};

use bytes::Bytes;
use sluicegate_media::flv::{self, Packet};
use sluicegate_media::frame::{Frame, Unit};
use sluicegate_media::rtmp::{MediaKind, MediaMessage};

/// Two seconds of what ffmpeg publishes with these options of its H.264 encoder, as units.
pub(crate) fn broadcast(size: &str, options: &[&str]) -> Vec<Unit> {
    let unit = |message: MediaMessage| {
        let packet = match message.kind {
            MediaKind::Audio => flv::parse_audio(&message.payload).unwrap(),
            MediaKind::Video => flv::parse_video(&message.payload).unwrap(),
            MediaKind::Data => Packet::Nothing,
        };
        unit(packet, message.timestamp_ms.into())
    };
    messages(size, 2, options).into_iter().filter_map(unit).collect()
}

/// So many seconds of it, as messages.
pub(crate) fn messages(size: &str, seconds: u32, options: &[&str]) -> Vec<MediaMessage> {
    let picture = format!("testsrc2=size={size}:rate=25:duration={seconds}");
    let tone = format!("sine=frequency=440:sample_rate=44100:duration={seconds}");
    messages_of(&picture, &tone, options)
}

/// What these inputs of ffmpeg's make, as messages.
pub(crate) fn messages_of(picture: &str, sound: &str, options: &[&str]) -> Vec<MediaMessage> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-loglevel", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound]);
    ffmpeg.args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-sc_threshold", "0"]).args(options);
    ffmpeg.args(["-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2", "-f", "flv", "-"]);
    let made = ffmpeg.stdin(Stdio::null()).output().expect("ffmpeg");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    messages_of_flv(&made.stdout)
}

/// The same with B-frames between the pictures of 640 × 360.
pub(crate) fn with_b_frames() -> Vec<Unit> {
    broadcast("640x360", &["-bf", "2", "-x264-params", "b-adapt=0"])
}

fn messages_of_flv(file: &[u8]) -> Vec<MediaMessage> {
    const FILE_HEADER: usize = 9 + 4;
    const TAG_HEADER: usize = 11;
    let mut rest = &file[FILE_HEADER..];
    let mut messages = Vec::new();
    while rest.len() > TAG_HEADER {
        let length = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]);
        let end = TAG_HEADER + usize::try_from(length).unwrap();
        let kind = match rest[0] {
            8 => MediaKind::Audio,
            9 => MediaKind::Video,
            _ => MediaKind::Data,
        };
        messages.push(MediaMessage {
            kind,
            timestamp_ms: u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]),
            payload: Bytes::copy_from_slice(&rest[TAG_HEADER..end]),
        });
        rest = &rest[end + 4..];
    }
    messages
}

fn unit(packet: Packet, dts_ms: i64) -> Option<Unit> {
    match packet {
        Packet::VideoHeader(video) => Some(Unit::Video(video)),
        Packet::AudioHeader(audio) => Some(Unit::Audio(audio)),
        Packet::Frame { track, keyframe, composition_ms, payload } => {
            let pts_ms = dts_ms + i64::from(composition_ms);
            Some(Unit::Frame(Frame { track, dts_ms, pts_ms, keyframe, payload }))
        }
        Packet::EndOfSequence | Packet::Nothing => None,
    }
}
