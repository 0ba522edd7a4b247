//! Publishers whose clocks, headers and tracks do what real ones do, through segments and through a ladder.

use bytes::Bytes;
use sluicegate_cluster::clock;
use sluicegate_media::rtmp::{MediaKind, MediaMessage};

use super::tests::listed;
use super::*;
use crate::depacketizer::Depacketizer;
use crate::transcode::testing::messages;

const RUNG: Rung = Rung::Encoded { height: 90, kbps: 200 };
const START: UnixMs = UnixMs(1_760_000_000_000);
/// For a ladder to do what it is given.
const DEADLINE: Duration = Duration::from_secs(60);

/// What came of a publish.
struct Outcome {
    source: Vec<(u64, String, bool)>,
    rung: Vec<(u64, String, bool)>,
    /// The marks of discontinuity that were listed, in either.
    marks: [usize; 2],
}

/// Publishes `film`, each message at its time, to an application with a ladder.
fn publish(film: &[(i64, MediaMessage)]) -> Outcome {
    let settings =
        "[[app]]\nname = \"live\"\nsegment_s = 1\nwindow = 30\nladder = [{ height = 90, kbps = 200 }]";
    let app = &sluicegate_cluster::testing::apps(settings)[0];
    let record = sluicegate_cluster::testing::stream_held_by("live/a", "o1", "s", START);
    let stream = LiveStream::new(&record, InStore::No, app, MediaCounters::new().unwrap(), Arc::default());
    let mut depacketizer = Depacketizer::new(START);
    let deadline = clock::now() + DEADLINE;
    for (at_ms, message) in film {
        for unit in depacketizer.push(message, UnixMs(START.0 + at_ms)).unwrap() {
            stream.push(unit).unwrap();
        }
        // As fast as the ladder can, so that it loses nothing.
        while stream.ladder().is_some_and(|ladder| ladder.lag_ms > 1_000) {
            assert!(clock::now() < deadline, "the ladder does not keep up");
            std::thread::yield_now();
        }
    }
    stream.finish(false);
    let text =
        |rung| stream.media_playlist(rung, false).map(|list| String::from_utf8(list.to_vec()).unwrap());
    let has_ended = |rung| text(rung).is_some_and(|list| list.ends_with("#EXT-X-ENDLIST\n"));
    while !(has_ended(Rung::Source) && (stream.ladder().is_none() || has_ended(RUNG))) {
        assert!(clock::now() < deadline, "the stream does not end");
        std::thread::yield_now();
    }
    let of = |rung| text(rung).map(|_| listed(&stream, rung)).unwrap_or_default();
    let marks = |rung| text(rung).unwrap_or_default().matches("#EXT-X-DISCONTINUITY\n").count();
    Outcome { source: of(Rung::Source), rung: of(RUNG), marks: [marks(Rung::Source), marks(RUNG)] }
}

/// Eight seconds of 320 × 180 with a keyframe each second, each message with the time at which it comes.
fn film() -> Vec<(i64, MediaMessage)> {
    messages("320x180", 8, &["-bf", "0"]).into_iter().map(|m| (i64::from(m.timestamp_ms), m)).collect()
}

/// The film with its clock changed: `clock` is given the true time.
fn by_clock(clock: impl Fn(i64) -> i64) -> Vec<(i64, MediaMessage)> {
    let read = |(at_ms, message): (i64, MediaMessage)| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "RTMP's clock wraps")]
        let timestamp_ms = clock(at_ms) as u32;
        (at_ms, MediaMessage { timestamp_ms, ..message })
    };
    film().into_iter().map(read).collect()
}

/// Checks that nearly all of eight seconds is there, in both, cut and marked alike.
#[track_caller]
fn all_is_there(outcome: &Outcome, marks: usize) {
    assert!((7..=10).contains(&outcome.source.len()), "{:?}", outcome.source);
    assert_eq!(outcome.source, outcome.rung);
    assert!(outcome.rung.iter().all(|(.., gap)| !gap), "{:?}", outcome.rung);
    assert_eq!(outcome.marks, [marks; 2]);
}

#[test]
fn clocks_that_wrap_and_drift_are_followed_without_a_mark() {
    all_is_there(&publish(&by_clock(|at_ms| at_ms + (1 << 32) - 4_300)), 0);
    all_is_there(&publish(&by_clock(|at_ms| at_ms * 102 / 100)), 0);
    all_is_there(&publish(&by_clock(|at_ms| at_ms * 98 / 100)), 0);
}

#[test]
fn a_clock_that_jumps_costs_one_mark() {
    all_is_there(&publish(&by_clock(|at_ms| if at_ms < 4_000 { at_ms } else { at_ms + 3_600_000 })), 1);
    all_is_there(
        &publish(&by_clock(|at_ms| if at_ms < 4_000 { at_ms + 7_000_000 } else { at_ms - 4_000 })),
        1,
    );
}

#[test]
fn a_clock_that_runs_backwards_or_stands_still_is_no_end() {
    for clock in [(|_| 0) as fn(i64) -> i64, |at_ms| 1_000_000 - at_ms] {
        let outcome = publish(&by_clock(clock));
        assert!(!outcome.source.is_empty() && !outcome.rung.is_empty(), "{:?}", outcome.source);
        assert!(outcome.source.len() <= 100, "{}", outcome.source.len());
    }
}

#[test]
fn a_stream_may_have_one_track() {
    let of = |kind| film().into_iter().filter(|(_, m)| m.kind == kind).collect::<Vec<_>>();
    all_is_there(&publish(&of(MediaKind::Video)), 0);
    let sound = publish(&of(MediaKind::Audio));
    assert!((7..=9).contains(&sound.source.len()) && sound.rung.is_empty(), "{:?}", sound.source);
}

#[test]
fn other_headers_in_the_middle_cost_one_mark() {
    let other = |size, options: &[&str]| {
        messages(size, 8, options)
            .into_iter()
            .map(|m| {
                let at_ms = i64::from(m.timestamp_ms) + 8_000;
                (at_ms, MediaMessage { timestamp_ms: m.timestamp_ms + 8_000, ..m })
            })
            .collect::<Vec<_>>()
    };
    let smaller = publish(&[film(), other("160x120", &["-bf", "0"])].concat());
    assert_eq!(smaller.source, smaller.rung);
    assert_eq!((smaller.marks, smaller.source.len()), ([1, 1], 16));
    let sound = publish(&[film(), other("320x180", &["-bf", "0", "-ar", "48000"])].concat());
    assert_eq!(sound.source, sound.rung);
    assert_eq!((sound.marks, sound.source.len()), ([1, 1], 16));
}

/// Every fifth picture or sound is something else: they are passed over, and the rest is there.
#[test]
fn noise_among_the_messages_is_passed_over() {
    let noisy: Vec<_> = (0_u32..)
        .zip(film())
        .map(|(n, (at_ms, message))| {
            // The first ones have the headers; what begins like a frame reaches the decoder.
            let (head, body) = message.payload.split_at(message.payload.len().min(5));
            let noise = body.iter().map(|byte| byte.wrapping_mul(197).wrapping_add(7));
            let payload = if n % 5 == 4 {
                [head.to_vec(), noise.collect()].concat().into()
            } else {
                message.payload.clone()
            };
            (at_ms, MediaMessage { payload, ..message })
        })
        .collect();
    let outcome = publish(&noisy);
    assert!(outcome.source.len() >= 7, "{:?}", outcome.source);
    assert!(outcome.rung.len() >= 6, "{:?}", outcome.rung);
}

/// Ten minutes without a keyframe: both are cut inside, nobody waits for more than the longest segment.
#[test]
fn a_group_of_pictures_of_ten_minutes_is_cut_inside() {
    let film = messages("160x120", 600, &["-bf", "0", "-g", "1000000", "-r", "5"]);
    let film: Vec<_> = film.into_iter().map(|m| (i64::from(m.timestamp_ms), m)).collect();
    let bytes: usize = film.iter().map(|(_, message)| message.payload.len()).sum();
    let outcome = publish(&film);
    assert!(bytes < 32 << 20, "{bytes}");
    assert_eq!((outcome.source.len(), outcome.rung.len()), (30, 30), "the window is full");
    assert_eq!(outcome.marks, [0, 0]);
    let rate = |list: &[(u64, String, bool)]| list.last().map_or(0, |(n, ..)| *n);
    assert!((49..=61).contains(&rate(&outcome.source)), "{:?}", outcome.source.last());
    assert!((49..=61).contains(&rate(&outcome.rung)), "{:?}", outcome.rung.last());
}

#[test]
fn sound_whose_header_lies_costs_the_sound() {
    let lying = film().into_iter().map(|(at_ms, message)| {
        // An AudioSpecificConfig of 96 kHz and six channels where there are 44.1 kHz and two.
        let is_header = message.kind == MediaKind::Audio && message.payload.get(1) == Some(&0);
        let payload =
            if is_header { Bytes::from_static(&[0xAF, 0, 0x10, 0x30]) } else { message.payload.clone() };
        (at_ms, MediaMessage { payload, ..message })
    });
    let outcome = publish(&lying.collect::<Vec<_>>());
    assert!(outcome.source.len() >= 7 && outcome.rung.len() >= 7, "{:?}", outcome.source);
    assert_eq!(outcome.source.len(), outcome.rung.len());
}
