//! Sound and pictures of a publisher whose clock runs faster or slower than its samples, through the feed for WebRTC. A
//! beep begins with each keyframe, and is heard where that is seen.

use std::time::Duration;

use ffmpeg_next::{Packet, codec};
use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_media::frame::Track;
use sluicegate_media::rtmp::MediaMessage;

use super::tests::stream;
use super::*;
use crate::depacketizer::Depacketizer;
use crate::transcode::testing::messages_of;

/// What sound may be away from its picture.
const OFFSET_MS: f64 = 20.0;
/// A clock that is off by 200 millionths would be off by as much in 25 minutes.
const SECONDS: u32 = 150;
const MILLIONTHS: [i64; 2] = [2_000, -2_000];
/// What a job may be behind what it is given. It passes over what is older than three seconds.
const BEHIND_MS: i64 = 1_000;
const DEADLINE: Duration = Duration::from_secs(120);

fn film() -> Vec<MediaMessage> {
    let picture = format!("testsrc2=size=160x90:rate=10:duration={SECONDS}");
    let beeps = format!(
        "aevalsrc='if(lt(mod(t,1),0.05),0.8*sin(2*PI*1000*t),0)':sample_rate=44100:duration={SECONDS}"
    );
    messages_of(&picture, &beeps, &["-bf", "0", "-g", "10"])
}

/// What the feed for WebRTC has of it, its clock being off.
fn feed(film: &[MediaMessage], millionths: i64) -> Vec<Unit> {
    let stream = stream("");
    let mut fed = stream.subscribe_webrtc(Rung::Source, 500);
    let mut depacketizer = Depacketizer::new(UnixMs(1));
    let (mut units, deadline) = (Vec::new(), clock::now() + DEADLINE);
    let lag_ms = || lock(&stream.feeds.webrtc).get(&Rung::Source).map_or(0, |feed| feed.orders.lag_ms());
    for message in film {
        let true_ms = i64::from(message.timestamp_ms);
        let at_ms = true_ms + true_ms * millionths / 1_000_000;
        let message = MediaMessage { timestamp_ms: u32::try_from(at_ms).unwrap(), ..message.clone() };
        for unit in depacketizer.push(&message, UnixMs(1 + at_ms)).unwrap() {
            stream.push(unit).unwrap();
        }
        units.extend(std::iter::from_fn(|| fed.try_recv()));
        while lag_ms() > BEHIND_MS.unsigned_abs() {
            assert!(clock::now() < deadline, "the feed does not keep up");
            units.extend(std::iter::from_fn(|| fed.try_recv()));
            std::thread::yield_now();
        }
    }
    stream.finish(false);
    units.extend(std::iter::from_fn(|| fed.blocking_recv()));
    units
}

/// When beeps begin in Opus, in milliseconds, as a decoder gives them.
fn beeps_ms(units: &[Unit]) -> Vec<f64> {
    let decoder = codec::decoder::find(codec::Id::OPUS).unwrap();
    let mut context = codec::Context::new_with_codec(decoder);
    let header = units.iter().find_map(|unit| if let Unit::Audio(audio) = unit { Some(audio) } else { None });
    crate::ffi::set_extradata(&mut context, &header.unwrap().asc).unwrap();
    let mut decoder = context.decoder().open_as(decoder).and_then(|opened| opened.audio()).unwrap();
    let (mut beeps, mut loud_ms) = (Vec::new(), f64::NEG_INFINITY);
    let mut decoded = ffmpeg_next::frame::Audio::empty();
    for frame in
        units.iter().filter_map(|unit| if let Unit::Frame(frame) = unit { Some(frame) } else { None })
    {
        if frame.track != Track::Audio {
            continue;
        }
        decoder.send_packet(&Packet::copy(&frame.payload)).unwrap();
        while decoder.receive_frame(&mut decoded).is_ok() {
            let loud = decoded.plane::<f32>(0).iter().enumerate().filter(|(_, sample)| sample.abs() > 0.25);
            for (n, _) in loud {
                let at_ms = frame.dts_ms as f64 + n as f64 / 48.0;
                if at_ms - loud_ms > 500.0 {
                    beeps.push(at_ms);
                }
                loud_ms = at_ms;
            }
        }
    }
    beeps
}

fn keyframes_ms(units: &[Unit]) -> Vec<f64> {
    let time = |unit: &Unit| match unit {
        Unit::Frame(frame) if frame.track == Track::Video && frame.keyframe => Some(frame.pts_ms as f64),
        _ => None,
    };
    units.iter().filter_map(time).collect()
}

#[track_caller]
fn are_together(beeps: &[f64], keyframes: &[f64], at_least: usize, what: &str) {
    assert!(beeps.len() >= at_least, "{what}: {beeps:?}");
    let away = |beep: &f64| keyframes.iter().map(|key| beep - key).min_by(|a, b| a.abs().total_cmp(&b.abs()));
    let offsets: Vec<f64> = beeps.iter().filter_map(away).collect();
    let furthest = offsets.iter().map(|ms| ms.abs()).fold(0.0, f64::max);
    assert!(furthest < OFFSET_MS, "{what}: {offsets:?}");
    println!("{what}: {furthest:.1} ms at most");
}

#[test]
fn sound_stays_with_its_pictures_whatever_the_publishers_clock() {
    let film = film();
    for millionths in MILLIONTHS {
        let units = feed(&film, millionths);
        let whole = SECONDS as usize - 3;
        are_together(&beeps_ms(&units), &keyframes_ms(&units), whole, &format!("at {millionths}"));
    }
}
