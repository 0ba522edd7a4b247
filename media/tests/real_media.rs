//! An encoder's own output, from FLV to HLS, judged by ffmpeg: every packet is there, everything decodes,
//! and sound and picture are equally long.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use sluicegate_media::flv::{self, Packet};
use sluicegate_media::frame::{Frame, Track};
use sluicegate_media::names::{self, Rung};
use sluicegate_media::playlist;
use sluicegate_media::segment::Segment;
use sluicegate_media::segmenter::{Cut, Segmenter, SegmenterConfig};
use sluicegate_media::timeline::Timeline;
use sluicegate_media::window::{Window, WindowConfig};

const START_UNIX_MS: i64 = 1_760_000_000_000;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    assert_eq!(errors, "", "{program} {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Five seconds of H.264 with B-frames and AAC.
fn encode(flv: &Path) {
    let picture = "testsrc=size=320x180:rate=30000/1001:duration=5";
    let sound = "sine=frequency=440:sample_rate=44100:duration=5";
    #[rustfmt::skip]
    let arguments = [
        "-v", "error", "-y", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound,
        "-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "30", "-threads", "1",
        "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "64k", "-f", "flv", flv.to_str().unwrap(),
    ];
    run("ffmpeg", &arguments);
}

/// The tags of an FLV file: type, timestamp, body.
fn tags(file: &Bytes) -> Vec<(u8, u32, Bytes)> {
    let mut tags = Vec::new();
    let mut at = 9 + 4;
    while at + 11 <= file.len() {
        let header = &file[at..at + 11];
        let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        let timestamp = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
        tags.push((header[0], timestamp, file.slice(at + 11..at + 11 + length)));
        at += 11 + length + 4;
    }
    tags
}

struct Published {
    cuts: Vec<Cut>,
    segments: Vec<Segment>,
    pictures: usize,
    sounds: usize,
}

/// As an origin does it, with the publisher's clock `offset` ahead.
fn publish(file: &Bytes, offset: u32) -> Published {
    let mut timeline = Timeline::new(START_UNIX_MS);
    let mut segmenter = Segmenter::new(SegmenterConfig::new(1000, 200, START_UNIX_MS));
    let mut published = Published { cuts: Vec::new(), segments: Vec::new(), pictures: 0, sounds: 0 };
    for (kind, timestamp, body) in tags(file) {
        let (track, packet) = match kind {
            8 => (Track::Audio, flv::parse_audio(&body).unwrap()),
            9 => (Track::Video, flv::parse_video(&body).unwrap()),
            _ => continue,
        };
        let cut = match packet {
            Packet::VideoHeader(config) => segmenter.push_video_config(config),
            Packet::AudioHeader(config) => segmenter.push_audio_config(config),
            Packet::Frame { track, keyframe, composition_ms, payload } => {
                let arrival = START_UNIX_MS + i64::from(timestamp);
                let stamp = timeline.stamp(track, timestamp.wrapping_add(offset), composition_ms, arrival);
                assert!(!stamp.discontinuity);
                match track {
                    Track::Video => published.pictures += 1,
                    Track::Audio => published.sounds += 1,
                }
                segmenter.push(Frame { track, dts_ms: stamp.dts_ms, pts_ms: stamp.pts_ms, keyframe, payload })
            }
            Packet::EndOfSequence | Packet::Nothing => Ok(Cut::default()),
        };
        let cut = cut.unwrap();
        assert!(track == Track::Video || cut == Cut::default(), "the picture leads");
        published.cuts.push(cut);
    }
    published.cuts.push(segmenter.finish().unwrap());
    let mut parts = Vec::new();
    for cut in &published.cuts {
        parts.extend(cut.part.clone());
        if cut.ends_segment {
            published.segments.extend(Segment::of(std::mem::take(&mut parts)));
        }
    }
    published
}

/// Packets of a track, and where it begins and ends in seconds.
fn probe(file: &str, track: &str) -> (usize, f64, f64) {
    let entries = "packet=pts_time,duration_time";
    let output = run(
        "ffprobe",
        &["-v", "error", "-select_streams", track, "-show_entries", entries, "-of", "csv=p=0", file],
    );
    let packets: Vec<(f64, f64)> = output
        .lines()
        .map(|line| {
            let (begin, duration) = line.split_once(',').unwrap();
            // ffprobe does not know how long a track's first AAC packet lasts, in its own files either.
            (begin.parse().unwrap(), duration.parse().unwrap_or(0.0))
        })
        .collect();
    let begin = packets.iter().map(|packet| packet.0).fold(f64::INFINITY, f64::min);
    let end = packets.iter().map(|packet| packet.0 + packet.1).fold(0.0, f64::max);
    (packets.len(), begin, end)
}

fn judge(published: &Published, directory: &Path) {
    let path = directory.join("whole.mp4");
    let mut whole = published.segments[0].init.bytes.to_vec();
    for segment in &published.segments {
        whole.extend_from_slice(&segment.bytes);
    }
    std::fs::write(&path, whole).unwrap();
    let file = path.to_str().unwrap();
    let (pictures, video_begin, video_end) = probe(file, "v:0");
    let (sounds, audio_begin, audio_end) = probe(file, "a:0");
    assert_eq!((pictures, sounds), (published.pictures, published.sounds));
    let (video_s, audio_s) = (video_end - video_begin, audio_end - audio_begin);
    assert!((video_s - audio_s).abs() < 0.05, "video lasts {video_s} s, audio {audio_s} s");
    run("ffmpeg", &["-v", "error", "-xerror", "-i", file, "-f", "null", "-"]);
}

#[test]
fn an_encoders_output_survives_packaging() {
    let directory = tempfile::tempdir().unwrap();
    let flv = directory.path().join("in.flv");
    encode(&flv);
    let file = Bytes::from(std::fs::read(&flv).unwrap());
    // Once from zero, once across the wrap of the publisher's clock.
    for offset in [0, u32::MAX - 2500] {
        let published = publish(&file, offset);
        let durations: Vec<_> = published.segments.iter().map(|segment| segment.duration_ms).collect();
        assert_eq!(durations.len(), 5, "{durations:?}");
        assert!(durations[..4].iter().all(|ms| (1000..=1002).contains(ms)), "{durations:?}");
        assert!(published.segments.iter().all(|segment| segment.independent && !segment.discontinuity));
        let parts = published.segments.iter().flat_map(|segment| &segment.parts);
        assert!(parts.clone().all(|part| part.duration_ms <= 201) && parts.count() >= 25);
        judge(&published, directory.path());
    }
}

#[test]
fn ffmpeg_plays_the_playlist() {
    let directory = tempfile::tempdir().unwrap();
    let flv = directory.path().join("in.flv");
    encode(&flv);
    let published = publish(&Bytes::from(std::fs::read(&flv).unwrap()), 0);
    let mut window = Window::new(WindowConfig {
        stream: "cam1".to_owned(),
        rung: Rung::Source,
        epoch: 7,
        listed: 6,
        target_duration_ms: 1000,
        part_target_ms: 200,
        first_discontinuity_sequence: 0,
    });
    for cut in published.cuts {
        window.push(cut).unwrap();
    }
    window.end();
    let text = playlist::media_playlist(&window, &[]).unwrap().full;
    let path = directory.path().join("cam1.m3u8");
    std::fs::write(&path, &text).unwrap();
    let addresses = text.lines().filter_map(|line| match line.strip_prefix("#EXT-X-MAP:URI=") {
        Some(init) => Some(init.trim_matches('"')),
        None => (!line.starts_with('#')).then_some(line),
    });
    for address in addresses {
        let bytes = window.file(&names::parse(address).unwrap()).unwrap();
        std::fs::write(directory.path().join(address), bytes).unwrap();
    }
    let (pictures, ..) = probe(path.to_str().unwrap(), "v:0");
    assert_eq!(pictures, published.pictures);
    run("ffmpeg", &["-v", "error", "-xerror", "-i", path.to_str().unwrap(), "-f", "null", "-"]);
}
