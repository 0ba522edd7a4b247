//! What tests are fed: a real encoder's output.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::process::{Command, Stdio};

use bytes::Bytes;
use sluicegate_media::flv::{self, Packet};
use sluicegate_media::frame::{Frame, Unit};

/// Two seconds of what ffmpeg publishes with these options of its H.264 encoder, as units.
pub(crate) fn broadcast(size: &str, options: &[&str]) -> Vec<Unit> {
    let picture = format!("testsrc2=size={size}:rate=25:duration=2");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-loglevel", "error", "-f", "lavfi", "-i", &picture]);
    ffmpeg.args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=2"]);
    ffmpeg.args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-sc_threshold", "0"]).args(options);
    ffmpeg.args(["-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2", "-f", "flv", "-"]);
    let made = ffmpeg.stdin(Stdio::null()).output().expect("ffmpeg");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    units_of_flv(&made.stdout)
}

/// The same with B-frames between the pictures of 640 × 360.
pub(crate) fn with_b_frames() -> Vec<Unit> {
    broadcast("640x360", &["-bf", "2", "-x264-params", "b-adapt=0"])
}

fn units_of_flv(file: &[u8]) -> Vec<Unit> {
    const FILE_HEADER: usize = 9 + 4;
    const TAG_HEADER: usize = 11;
    let mut rest = &file[FILE_HEADER..];
    let mut units = Vec::new();
    while rest.len() > TAG_HEADER {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
        let length = number(&rest[1..4]);
        let ms = i64::try_from(number(&[rest[7], rest[4], rest[5], rest[6]])).unwrap();
        let body = Bytes::copy_from_slice(&rest[TAG_HEADER..TAG_HEADER + length]);
        let packet = match rest[0] {
            8 => flv::parse_audio(&body).unwrap(),
            9 => flv::parse_video(&body).unwrap(),
            _ => Packet::Nothing,
        };
        units.extend(unit(packet, ms));
        rest = &rest[TAG_HEADER + length + 4..];
    }
    units
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
