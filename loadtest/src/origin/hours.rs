//! Hours of a stream in a minute: the publisher's timestamps run faster than the clock. Whether sound and pictures
//! stay where they belong, and memory what it is. As it is passed through, and, slower and shorter, through a ladder.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use sluicegate_e2e::film::{Film, Script};
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::process::{command, run};
use sluicegate_e2e::until::until;

use crate::figure::Figure;
use crate::publishers::{KEY, publish_to_origin};
use crate::stats::{median, slope};
use crate::{Run, cpu};

/// How far sound may have moved from its pictures at the end.
const DRIFT_MS: f64 = 20.0;
/// What memory may grow by, in an hour of the stream.
const GROWTH_MIB_AN_HOUR: f64 = 1.0;
const HOUR_MS: u32 = 3_600_000;
/// Memory is looked at so often, by the stream's time.
const LOOK_EVERY_MS: u32 = HOUR_MS / 4;
/// A keyframe each 1.28 s, where a segment begins.
const GOP_MS: f64 = 1_280.0;
const SAMPLE_RATE: f64 = 44_100.0;
const FRAME_SAMPLES: f64 = 1_024.0;
/// Frames of sound that must be known to say where it is: two seconds.
const SOUNDS_KNOWN: usize = 86;
/// For what was sent last to be in a playlist, and for ffprobe.
const PATIENCE: Duration = Duration::from_secs(30);

/// 256 pictures and 441 frames of sound, no two of which are alike: both have the same length to the sample.
const FILM: Script = Script {
    name: "hours",
    picture: "testsrc2=size=320x180:rate=25",
    sound: Some("anoisesrc=sample_rate=44100:amplitude=0.2:seed=7"),
    seconds: 10.24,
    gop: 32,
    encoders: &[
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-b:v",
        "60k",
        "-maxrate",
        "60k",
        "-bufsize",
        "60k",
        "-b:a",
        "48k",
    ],
};

/// How a stream is fed.
struct Plan {
    name: &'static str,
    ladder: &'static str,
    /// What of it is looked at: the playlist's name after the stream's.
    rung: &'static str,
    hours: f64,
    /// How many times faster than the clock it runs.
    speed: f64,
}

/// As it is passed through, as fast as it is taken.
pub(super) fn passed_through(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let hours = if how.quick { 1.0 } else { 8.0 };
    run_hours(how, &Plan { name: "passed", ladder: "[]", rung: "", hours, speed: f64::INFINITY })
}

/// Through a ladder. A transcoder that is three seconds behind is sent on to a keyframe: at this speed, half a second.
pub(super) fn through_a_ladder(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let hours = if how.quick { 0.05 } else { 0.2 };
    let (ladder, rung) = ("[{ height = 90, kbps = 50 }]", "_90p50kbps");
    run_hours(how, &Plan { name: "encoded", ladder, rung, hours, speed: 6.0 })
}

fn run_hours(how: &Run, plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let film = Film::make(&how.folder, &FILM)?;
    let config = NodeConfig::standalone()
        .set("cluster", &format!("key = {KEY:?}"))
        .set("origin", "capacity_mpx = 10000")
        .set("[app]", &format!("name = \"live\"\nladder = {}", plan.ladder));
    let (node, pids) = cpu::started_by(|| config.start())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "8 hours at most")]
    let end_ms = (plan.hours * f64::from(HOUR_MS)) as u32;
    let sound = sounds(&film.file)?;
    let look = |at_least_ms: u32| {
        let seen = until("the newest segments", PATIENCE, || newest(&node, plan, at_least_ms));
        let file = how.folder.join("hours.mp4");
        fs::write(&file, seen)?;
        offset_ms(&packets(&file)?, &sound)
    };
    let (mut first_ms, mut rss_mib, mut failed) = (None, Vec::new(), None);
    let mut client = publish_to_origin(node.origin_rtmp(), KEY, "hours")?;
    let mut next_look_ms = LOOK_EVERY_MS;
    film.repeat(&mut client, plan.speed, |timestamp_ms| {
        if first_ms.is_none() && timestamp_ms >= 4 * film.length_ms {
            match look(3 * film.length_ms) {
                Ok(ms) => first_ms = Some(ms),
                Err(error) => failed = Some(error),
            }
        }
        if timestamp_ms >= next_look_ms {
            next_look_ms += LOOK_EVERY_MS;
            let resident: u64 = pids.iter().filter_map(|pid| cpu::resident_bytes(*pid).ok()).sum();
            rss_mib
                .push((f64::from(timestamp_ms) / f64::from(HOUR_MS), resident as f64 / f64::from(1 << 20)));
        }
        failed.is_none() && timestamp_ms < end_ms
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let last_ms = look(end_ms - film.length_ms)?;
    client.end();
    let drift_ms = wrapped(last_ms - first_ms.context("the film is too short")?).abs();
    let name = |what: &str| format!("hours_{}_{what}", plan.name);
    let mut figures = vec![
        Figure::new(name("length_h"), plan.hours),
        Figure::new(name("av_drift_ms"), drift_ms).at_most(DRIFT_MS),
    ];
    // Windows, caches and allocators have their size after an hour.
    rss_mib.retain(|(hour, _)| *hour >= 1.0);
    if let Some(growth) = slope(&rss_mib) {
        figures.push(Figure::new(name("rss_mib_an_hour"), growth).at_most(GROWTH_MIB_AN_HOUR));
    }
    Ok(figures)
}

/// The newest segments as a file, once the stream has come so far.
fn newest(node: &NodeProcess, plan: &Plan, at_least_ms: u32) -> Option<Vec<u8>> {
    let playlist = MediaPlaylist::fetch(&node.url(&format!("/live/streams/hours{}.m3u8", plan.rung)))?;
    let reached_ms = playlist.last_sequence() as f64 * GOP_MS;
    (reached_ms >= f64::from(at_least_ms) - 2.0 * GOP_MS).then(|| playlist.whole())
}

/// How far sound lies from where it was filmed beside its pictures, within half a group of pictures: pictures are known
/// by keyframes, which are a group apart, and sound by its bytes.
fn offset_ms(packets: &[PacketSeen], sound: &HashMap<String, f64>) -> anyhow::Result<f64> {
    let keyframes = packets.iter().filter(|packet| packet.kind == "video" && packet.keyframe);
    let pictures: Vec<f64> = keyframes.map(|packet| packet.pts_ms).collect();
    let zero_ms = *pictures.first().context("no keyframe")?;
    let heard = packets.iter().filter(|packet| packet.kind == "audio");
    let known = heard.filter_map(|packet| Some(packet.pts_ms - sound.get(&packet.hash)?));
    let sounds: Vec<f64> = known.map(|ms| wrapped(ms - zero_ms)).collect();
    ensure!(sounds.len() >= SOUNDS_KNOWN, "only {} frames of sound are known", sounds.len());
    // Around the first, so that none of them is wrapped to the other side of it.
    let around = |times: &[f64], first: f64| {
        let near: Vec<f64> = times.iter().map(|ms| wrapped(ms - first)).collect();
        first + median(&near).unwrap_or(0.0)
    };
    Ok(wrapped(around(&sounds, sounds[0]) - around(&pictures, zero_ms) + zero_ms))
}

/// `ms` within half a group of pictures of 0.
fn wrapped(ms: f64) -> f64 {
    (ms + GOP_MS / 2.0).rem_euclid(GOP_MS) - GOP_MS / 2.0
}

/// Of each frame of the film's sound, by its bytes, when it is heard.
fn sounds(film: &Path) -> anyhow::Result<HashMap<String, f64>> {
    let sounds = packets(film)?.into_iter().filter(|packet| packet.kind == "audio");
    let at_ms = |number: usize| number as f64 * FRAME_SAMPLES / SAMPLE_RATE * 1_000.0;
    Ok(sounds.enumerate().map(|(number, packet)| (packet.hash, at_ms(number))).collect())
}

/// A packet as ffprobe shows it.
struct PacketSeen {
    kind: String,
    pts_ms: f64,
    keyframe: bool,
    hash: String,
}

fn packets(file: &Path) -> anyhow::Result<Vec<PacketSeen>> {
    let mut ffprobe = command("ffprobe");
    ffprobe.args(["-v", "error", "-show_data_hash", "md5", "-of", "json", "-show_packets"]);
    ffprobe.args(["-show_entries", "packet=codec_type,pts_time,flags,data_hash"]).arg(file);
    let finished = run("ffprobe", ffprobe, PATIENCE);
    let seen: serde_json::Value = serde_json::from_str(&finished.stdout)?;
    let packets = seen["packets"].as_array().ok_or_else(|| anyhow!("ffprobe says {}", finished.stderr))?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let read = |packet: &serde_json::Value| PacketSeen {
        kind: text(&packet["codec_type"]),
        pts_ms: text(&packet["pts_time"]).parse::<f64>().unwrap_or(f64::NAN) * 1_000.0,
        keyframe: text(&packet["flags"]).starts_with('K'),
        hash: text(&packet["data_hash"]),
    };
    Ok(packets.iter().map(read).filter(|packet| packet.pts_ms.is_finite()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: &str, pts_ms: f64, hash: usize) -> PacketSeen {
        PacketSeen { kind: kind.to_owned(), pts_ms, keyframe: kind == "video", hash: hash.to_string() }
    }

    /// Segments whose sound lies `later_ms` later than it was filmed.
    fn seen(later_ms: f64) -> f64 {
        let at_ms = |number: usize| number as f64 * 23.22;
        let sound = (0..441).map(|number| (number.to_string(), at_ms(number))).collect();
        let began_ms = 28_672_000.0;
        let pictures = (0..8).map(|number| packet("video", began_ms + f64::from(number) * GOP_MS, 0));
        let sounds = (0..441).map(|number| packet("audio", began_ms + at_ms(number) + later_ms, number));
        offset_ms(&pictures.chain(sounds).collect::<Vec<_>>(), &sound).unwrap()
    }

    #[test]
    fn sound_that_moved_is_seen_to_have_moved() {
        for later_ms in [0.0, 21.0, -35.0, 300.0] {
            assert!((seen(later_ms) - later_ms).abs() < 1e-6, "{later_ms}: {}", seen(later_ms));
        }
    }

    #[test]
    fn a_time_is_near_its_group_of_pictures() {
        for (ms, expect) in [(0.0, 0.0), (1_281.0, 1.0), (-3.0, -3.0), (12_799.0, -1.0)] {
            assert!((wrapped(ms) - expect).abs() < 1e-9, "{ms}");
        }
    }
}
