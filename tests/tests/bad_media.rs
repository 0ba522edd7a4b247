//! Media that lies, all of it at once: whoever sends it is refused clearly or served worse, and a stream beside it is
//! not disturbed.

use std::fs;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use sluicegate_e2e::film::{Film, Script, Tag, send_evenly};
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::http;
use sluicegate_e2e::ll_hls::validate;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::rtmp_client::{MediaKind, RtmpClient};
use sluicegate_e2e::until::{until, until_true};
use sluicegate_media::limits;
use tempfile::TempDir;

use crate::demo;

/// How long the stream beside is watched.
const WATCHED: Duration = Duration::from_secs(8);
/// For a film, so that a transcoder keeps up.
const SENT: Duration = Duration::from_secs(5);
/// For what was sent to be listed.
const LISTED: Duration = Duration::from_secs(20);
/// What the node may take for all of it together: a dozen transcoders, and windows of small pictures.
const MEMORY_BYTES: u64 = 512 << 20;

const FILM: Script = Script {
    name: "film",
    picture: "testsrc2=size=320x180:rate=25",
    sound: Some("sine=frequency=440:sample_rate=44100"),
    seconds: 5.0,
    gop: 25,
    encoders: &["-preset", "ultrafast", "-bf", "0"],
};

/// A sequence parameter set (ITU-T H.264, 7.3.2.1.1) of the baseline profile for 1,024 × 1,024 macroblocks.
const SPS_16K: [u8; 11] = [0x67, 66, 0, 62, 0xDA, 0, 16, 0, 0, 0x80, 0x19];
/// An AudioSpecificConfig of 96 kHz and six channels, after what FLV puts before it.
const LYING_SOUND: &[u8] = &[0xAF, 0, 0x10, 0x30];

/// What comes of it.
#[derive(Clone, Copy)]
enum Fate {
    /// The publisher is told so.
    Refused(&'static str),
    /// It plays to its end, with so many marks of discontinuity at most; `rung`: its rung as well.
    Plays { marks: usize, rung: bool },
}

struct Liar {
    name: &'static str,
    tags: Vec<Tag>,
    fate: Fate,
}

impl Liar {
    fn new(name: &'static str, fate: Fate, tags: impl IntoIterator<Item = Tag>) -> Self {
        Self { name, tags: tags.into_iter().collect(), fate }
    }
}

const PLAYS: Fate = Fate::Plays { marks: 0, rung: true };

/// Bytes of a xorshift generator, others for each number.
fn noise(length: usize, number: usize) -> Vec<u8> {
    let mut state = (number as u32 + 1).wrapping_mul(0x9E37_79B9);
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(byte).collect()
}

fn changed(film: &Film, change: impl Fn(usize, Tag) -> Tag) -> Vec<Tag> {
    film.tags.iter().cloned().enumerate().map(|(number, tag)| change(number, tag)).collect()
}

/// Media whose bytes are not what they should be.
fn bytes_that_lie(film: &Film) -> Vec<Liar> {
    let all_noise = changed(film, |n, tag| Tag { body: noise(200, n).into(), ..tag });
    let noise_inside = changed(film, |n, tag| {
        let head = &tag.body[..5.min(tag.body.len())];
        if tag.is_header() { tag } else { Tag { body: [head, &noise(400, n)].concat().into(), ..tag } }
    });
    let truncated = changed(film, |n, tag| {
        let cut = tag.is_picture() && n % 3 == 0;
        if cut { Tag { body: tag.body.slice(..tag.body.len() / 2), ..tag } } else { tag }
    });
    let huge_inside = changed(film, |n, tag| {
        let sps = [&[0, 0, 0, 11], &SPS_16K[..]].concat();
        let with_sps = || Bytes::from([&tag.body[..5], &sps, &tag.body[5..]].concat());
        if tag.is_picture() && n % 40 == 39 { Tag { body: with_sps(), ..tag } } else { tag }
    });
    let with_header = |of: MediaKind, header: Bytes| {
        changed(film, move |_, tag| {
            if tag.is_header() && tag.kind == of { Tag { body: header.clone(), ..tag } } else { tag }
        })
    };
    let huge_header = with_header(MediaKind::Video, avc_header(&SPS_16K));
    let sound = with_header(MediaKind::Audio, Bytes::from_static(LYING_SOUND));
    vec![
        Liar::new("noise", Fate::Refused("not supported"), all_noise),
        Liar::new("noise-inside", Fate::Plays { marks: 0, rung: false }, noise_inside),
        Liar::new("truncated", PLAYS, truncated),
        Liar::new("huge-header", Fate::Refused("1048576 macroblocks"), huge_header),
        Liar::new("huge-inside", PLAYS, huge_inside),
        Liar::new("sound", PLAYS, sound),
    ]
}

/// The decoder's record (ISO/IEC 14496-15, 5.3.3.1) with this parameter set, after what FLV puts before it.
fn avc_header(sps: &[u8]) -> Bytes {
    let length = u8::try_from(sps.len()).unwrap();
    let before = [0x17, 0, 0, 0, 0, 1, sps[1], sps[2], sps[3], 0xFF, 0xE1, 0, length];
    [&before, sps, &[1, 0, 4, 0x68, 0xCE, 0x3C, 0x80]].concat().into()
}

/// Media whose times are not what they should be.
fn clocks_that_lie(film: &Film) -> Vec<Liar> {
    let by =
        |clock: fn(u32) -> u32| changed(film, move |_, t| Tag { timestamp_ms: clock(t.timestamp_ms), ..t });
    let pictures = film.tags.iter().filter(|tag| tag.kind == MediaKind::Video).cloned();
    // A thousand frames a second, for three seconds.
    let frames = pictures.clone().filter(|tag| !tag.is_header()).cycle().take(3_000);
    let fast = frames.zip(0..).map(|(tag, timestamp_ms)| Tag { timestamp_ms, ..tag });
    let fast = pictures.clone().take(1).chain(fast);
    // Ten minutes, and one keyframe.
    let header_and_keyframe = pictures.clone().take(2);
    let rest = pictures.clone().skip(2).filter(|tag| tag.body[0] >> 4 != 1).cycle().take(300);
    let long = rest.zip(1..).map(|(tag, n)| Tag { timestamp_ms: n * 2_000, ..tag });
    vec![
        Liar::new("thousand", PLAYS, fast),
        // Nothing but a keyframe lets a transcoder go on that is behind, and time runs a hundred times too fast here.
        Liar::new("long-gop", Fate::Plays { marks: 0, rung: false }, header_and_keyframe.chain(long)),
        Liar::new("zero", Fate::Plays { marks: 0, rung: false }, by(|_| 0)),
        Liar::new(
            "jumps",
            Fate::Plays { marks: 1, rung: true },
            by(|at| if at < 2_500 { at } else { at + 3_600_000 }),
        ),
        Liar::new("wraps", PLAYS, by(|at| at.wrapping_sub(2_500))),
        Liar::new("backwards", Fate::Plays { marks: 8, rung: false }, by(|at| 1_000_000 - at)),
        Liar::new("drifts", PLAYS, by(|at| at * 102 / 100)),
    ]
}

fn lies(node: &NodeProcess, liar: &Liar, mut client: RtmpClient) {
    match liar.fate {
        Fate::Refused(why) => {
            send_evenly(&mut client, &liar.tags[..60], Duration::ZERO);
            let refusal = client.ended();
            assert_eq!(refusal.code, "NetStream.Publish.Rejected", "{}: {refusal:?}", liar.name);
            assert!(refusal.description.contains(why), "{}: {refusal:?}", liar.name);
        }
        Fate::Plays { marks, rung } => {
            send_evenly(&mut client, &liar.tags, SENT);
            client.end();
            plays(node, liar.name, marks);
            if rung {
                plays(node, &format!("{}_90p150kbps", liar.name), marks);
            }
        }
    }
}

/// It is listed to its end, in segments that are no longer and no larger than they may be.
fn plays(node: &NodeProcess, name: &str, marks: usize) {
    let url = node.url(&format!("/live/streams/{name}.m3u8"));
    let playlist = until(&format!("{name} is listed to its end"), LISTED, || {
        MediaPlaylist::fetch(&url).filter(|playlist| playlist.ended)
    });
    let seen = playlist.segments.iter().filter(|segment| segment.discontinuity).count();
    assert!(seen <= marks, "{name}: {playlist:?}");
    let made: Vec<_> = playlist.segments.iter().filter(|segment| !segment.gap).collect();
    assert!(!made.is_empty(), "{name}: {playlist:?}");
    for segment in made {
        assert!(segment.duration_s <= limits::SEGMENT_MS as f64 / 1_000.0 + 0.5, "{name}: {segment:?}");
        let answer = http::get(&playlist.resolve(&segment.uri));
        assert!(answer.status == 200 && answer.body.len() <= limits::SEGMENT_BYTES, "{name}: {segment:?}");
    }
}

/// The most memory that a process ever had.
fn peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
}

#[test]
fn media_that_lies_is_refused_or_served_worse_and_disturbs_nobody() {
    let folder = TempDir::new().unwrap();
    let film = Film::make(folder.path(), &FILM).unwrap();
    let node = NodeConfig::standalone()
        .set("[app]", "name = \"live\"")
        .set("[app]", "ladder = [{ height = 90, kbps = 150 }]")
        .set("[app]", "window = 60")
        .set("origin", "capacity_mpx = 10_000")
        .start();
    let mut steady = publish(node.rtmp(), "live/steady");
    let url = node.url("/live/streams/steady.m3u8");
    let before = until("the stream beside plays", demo::FIRST_SEGMENTS, || {
        MediaPlaylist::fetch(&url).filter(|playlist| playlist.segments.len() >= 3)
    });
    let liars: Vec<Liar> = bytes_that_lie(&film).into_iter().chain(clocks_that_lie(&film)).collect();
    let had = peak_bytes(node.pid());
    let report = thread::scope(|scope| {
        let watched = scope.spawn(|| validate(&url, WATCHED));
        // All have begun before one of them can make the node look full.
        let publish = |liar: &Liar| RtmpClient::publish(node.rtmp(), "live", liar.name).ok().unwrap();
        let clients: Vec<_> = liars.iter().map(publish).collect();
        for (liar, client) in liars.iter().zip(clients) {
            let node = &node;
            scope.spawn(move || lies(node, liar, client));
        }
        watched.join().unwrap()
    });
    assert!(report.faults.is_empty() && report.reloads >= 10, "{report:#?}");
    assert!(steady.is_running(), "{}", steady.last_lines());
    until_true("the stream beside goes on", demo::FIRST_SEGMENTS, || {
        demo::playlist(&node, "steady").last_sequence() > before.last_sequence() + 5
    });
    let after = demo::playlist(&node, "steady");
    assert!(
        after.map == before.map && after.segments.iter().all(|s| !s.discontinuity && !s.gap),
        "{after:?}"
    );
    let took = peak_bytes(node.pid()).saturating_sub(had);
    assert!(took < MEMORY_BYTES, "{} MiB", took >> 20);
    eprintln!("{} MiB for {} publishers that lie", took >> 20, liars.len());
}
