//! What media playlists look like, by hand-made windows.

use bytes::Bytes;
use hls_m3u8::MediaPlaylist as Classic;
use proptest::prelude::*;

use super::*;
use crate::names;
use crate::segment::InitSegment;
use crate::segmenter::Cut;
use crate::window::tests::{part, segment, window, with};

fn full(window: &Window) -> String {
    media_playlist(window, &[]).unwrap().full
}

/// A segment of parts of 200 ms.
fn push_parts(window: &mut Window, sequence: u64, parts: u32, complete: bool) {
    for index in 0..parts {
        let ends_segment = complete && index + 1 == parts;
        window.push(Cut { part: Some(part(sequence, index, 200)), ends_segment }).unwrap();
    }
}

#[test]
fn a_live_playlist() {
    let mut window = window(3);
    (40..43).for_each(|sequence| push_parts(&mut window, sequence, 10, true));
    push_parts(&mut window, 43, 2, true);
    push_parts(&mut window, 44, 2, false);
    let reach = Reach { sequence: 43, coming: 1, ..window.reach().unwrap() };
    let reports = [Report { rung: Rung::Encoded { height: 360, kbps: 800 }, reach }];
    let text = media_playlist(&window, &reports).unwrap().full;
    let lines: Vec<_> = text.lines().collect();
    let head = [
        "#EXTM3U",
        "#EXT-X-VERSION:6",
        "#EXT-X-TARGETDURATION:2",
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.600",
        "#EXT-X-PART-INF:PART-TARGET=0.200",
        "#EXT-X-MEDIA-SEQUENCE:41",
        "#EXT-X-DISCONTINUITY-SEQUENCE:3",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        "#EXT-X-MAP:URI=\"cam1_source__7_init0.mp4\"",
        "#EXT-X-PROGRAM-DATE-TIME:2025-10-09T08:54:42.000Z",
        "#EXT-X-PART:DURATION=0.200,URI=\"cam1_source__7_41.0.m4s\",INDEPENDENT=YES",
        "#EXT-X-PART:DURATION=0.200,URI=\"cam1_source__7_41.1.m4s\"",
    ];
    assert_eq!(lines[..head.len()], head);
    let tail = [
        "#EXTINF:0.400,",
        "cam1_source__7_43.m4s",
        "#EXT-X-PROGRAM-DATE-TIME:2025-10-09T08:54:48.000Z",
        "#EXT-X-PART:DURATION=0.200,URI=\"cam1_source__7_44.0.m4s\",INDEPENDENT=YES",
        "#EXT-X-PART:DURATION=0.200,URI=\"cam1_source__7_44.1.m4s\"",
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"cam1_source__7_44.2.m4s\"",
        "#EXT-X-RENDITION-REPORT:URI=\"cam1_360p800kbps.m3u8\",LAST-MSN=44,LAST-PART=0",
    ];
    assert_eq!(lines[lines.len() - tail.len()..], tail);
}

#[test]
fn what_is_lost_is_a_gap() {
    let (mut source, mut rung) = (window(3), window(3));
    (0..3).for_each(|sequence| source.push(segment(sequence, 2000)).unwrap());
    rung.push(segment(0, 2000)).unwrap();
    rung.catch_up(&source, 2);
    rung.push(segment(2, 2000)).unwrap();
    let text = full(&rung);
    let gap = "#EXT-X-PROGRAM-DATE-TIME:2025-10-09T08:53:22.000Z\n#EXT-X-GAP\n#EXTINF:2.000,\ncam1_source__7_1.m4s\n";
    assert!(text.contains(gap), "{text}");
    assert_eq!((text.matches("EXT-X-GAP").count(), text.contains("EXT-X-VERSION:8\n")), (1, true));
    assert!(text.contains("#EXT-X-INDEPENDENT-SEGMENTS"));
}

#[test]
fn parts_are_listed_near_the_end_only() {
    let mut window = window(6);
    (0..6).for_each(|sequence| push_parts(&mut window, sequence, 10, true));
    let text = full(&window);
    let with_parts: Vec<_> = (0..6).map(|n| text.contains(&format!("__7_{n}.0.m4s"))).collect();
    // Six seconds are three target durations: segment 2 ends just there.
    assert_eq!(with_parts, [false, false, true, true, true, true]);
}

#[test]
fn a_change_of_headers_and_the_end() {
    let mut window = window(3);
    window.push(with(segment(0, 2000), |part| part.discontinuity = true)).unwrap();
    let init = InitSegment { index: 1, bytes: Bytes::from_static(b"init1") };
    let change = |part: &mut Part| {
        (part.init, part.begins_independent) = (init.clone(), false);
    };
    window.push(with(with(segment(1, 2000), change), |part| part.discontinuity = true)).unwrap();
    window.push(with(segment(2, 2000), change)).unwrap();
    window.end();
    let text = full(&window);
    let lines: Vec<_> = text.lines().collect();
    let count = |line: &str| lines.iter().filter(|other| **other == line).count();
    assert_eq!(count("#EXT-X-DISCONTINUITY"), 2);
    assert_eq!(count("#EXT-X-MAP:URI=\"cam1_source__7_init0.mp4\""), 1);
    assert_eq!(count("#EXT-X-MAP:URI=\"cam1_source__7_init1.mp4\""), 1);
    assert_eq!(count("#EXT-X-INDEPENDENT-SEGMENTS"), 0);
    assert!(!text.contains("PRELOAD-HINT"));
    assert_eq!(lines.last(), Some(&"#EXT-X-ENDLIST"));
    let read = Classic::try_from(text.as_str()).unwrap();
    let marks: Vec<_> = read.segments.values().map(|segment| segment.has_discontinuity).collect();
    assert_eq!(marks, [true, true, false]);
    assert!(read.has_end_list);
}

#[test]
fn a_delta_update_leaves_out_what_is_old() {
    let mut window = window(10);
    (0..10).for_each(|sequence| push_parts(&mut window, sequence, 10, true));
    push_parts(&mut window, 10, 1, false);
    let MediaPlaylist { full, delta } = media_playlist(&window, &[]).unwrap();
    let delta = delta.unwrap();
    assert!(full.contains(",CAN-SKIP-UNTIL=12.000\n") && delta.contains(",CAN-SKIP-UNTIL=12.000\n"));
    assert!(full.contains("#EXT-X-VERSION:6\n") && delta.contains("#EXT-X-VERSION:9\n"));
    // Of 20 s, what ends 12 s or more before the last segment's end: segments 0 to 3.
    assert!(delta.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n#EXT-X-MAP:"));
    assert!(delta.contains("#EXT-X-MEDIA-SEQUENCE:0\n"));
    assert!(!delta.contains("_3.m4s") && delta.contains("_4.m4s"));
    let rest = full.find("#EXT-X-PROGRAM-DATE-TIME:2025-10-09T08:53:28").unwrap();
    assert!(delta.ends_with(&full[rest..]), "{delta}");
    window.end();
    assert_eq!(
        media_playlist(&window, &[]).unwrap().delta,
        None,
        "a playlist that has ended is always whole"
    );
}

#[test]
fn nothing_to_list() {
    let mut window = window(3);
    assert_eq!(media_playlist(&window, &[]), None);
    push_parts(&mut window, 0, 3, false);
    assert_eq!(media_playlist(&window, &[]), None, "not before there is a segment");
}

/// The segments' durations and the parts' of the one that is coming, all of 1 to 200 ms.
fn shapes() -> impl Strategy<Value = Vec<(Vec<u64>, bool)>> {
    let parts = proptest::collection::vec(1..=200_u64, 1..12);
    proptest::collection::vec((parts, proptest::bool::weighted(0.1)), 1..40)
}

proptest! {
    #[test]
    fn each_playlist_continues_the_one_before(listed in 1..12_usize, shapes in shapes()) {
        let mut window = window(listed);
        let mut before: Option<String> = None;
        for (sequence, (parts, discontinuity)) in shapes.iter().enumerate() {
            for (index, duration_ms) in parts.iter().enumerate() {
                let mut part = part(sequence as u64, u32::try_from(index).unwrap(), *duration_ms);
                part.discontinuity = *discontinuity && index == 0;
                window.push(Cut { part: Some(part), ends_segment: index + 1 == parts.len() }).unwrap();
                let Some(now) = media_playlist(&window, &[]) else { continue };
                check(&window, &now.full)?;
                if let Some(before) = &before {
                    check_appended(before, &now.full)?;
                }
                if let Some(delta) = &now.delta {
                    check_delta(&now.full, delta)?;
                }
                before = Some(now.full);
            }
        }
    }
}

/// Everything that is listed can be asked for, segments by name and by the sum of their parts, and a reader of
/// classic playlists sees what the window holds.
fn check(window: &Window, text: &str) -> Result<(), TestCaseError> {
    // It knows of no segment that is coming.
    let complete =
        text.trim_end().rfind("\ncam1").map_or(0, |at| text[at + 1..].find('\n').unwrap() + at + 1);
    let read =
        Classic::try_from(&text[..complete]).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let numbers: Vec<_> = read.segments.values().map(|segment| segment.number() as u64).collect();
    let held: Vec<_> = window.listed().map(|segment| segment.sequence).collect();
    prop_assert_eq!(numbers, held);
    for line in text.lines() {
        let uri = line.split_once("URI=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(uri, _)| uri);
        let is_hint = line.starts_with("#EXT-X-PRELOAD-HINT");
        if let Some(uri) = uri.or_else(|| (!line.starts_with('#')).then_some(line)) {
            prop_assert_eq!(window.file(&names::parse(uri).unwrap()).is_some(), !is_hint, "{}", line);
        }
    }
    Ok(())
}

/// What is not a header, in order: it only grows at its end and shrinks at its beginning.
fn entries(text: &str) -> Vec<&str> {
    let moves = |line: &&str| {
        line.starts_with("#EXTINF") || line.starts_with("#EXT-X-PART:") || !line.starts_with('#')
    };
    text.lines().filter(moves).collect()
}

fn check_appended(before: &str, now: &str) -> Result<(), TestCaseError> {
    let segments = |text| entries(text).into_iter().filter(|line| !line.starts_with("#EXT-X-PART:"));
    let (old, new): (Vec<_>, Vec<_>) = (segments(before).collect(), segments(now).collect());
    let kept = (0..=old.len()).find(|from| new.starts_with(&old[*from..]));
    prop_assert!(kept.is_some_and(|from| from % 2 == 0), "{before}\n{now}");
    let hint = before.lines().find_map(|line| line.strip_prefix("#EXT-X-PRELOAD-HINT:TYPE=PART,URI="));
    let hint = hint.unwrap();
    prop_assert!(now.lines().any(|l| l.starts_with("#EXT-X-PART:") && l.contains(hint)), "{hint}\n{now}");
    Ok(())
}

fn check_delta(full: &str, delta: &str) -> Result<(), TestCaseError> {
    let skipped = delta.lines().find_map(|line| line.strip_prefix("#EXT-X-SKIP:SKIPPED-SEGMENTS="));
    let skipped: usize = skipped.map_or(0, |number| number.parse().unwrap());
    let (full, delta) = (entries(full), entries(delta));
    prop_assert!(full.ends_with(&delta));
    let left_out = full[..full.len() - delta.len()].iter().filter(|line| !line.starts_with('#')).count();
    prop_assert_eq!(left_out, skipped);
    Ok(())
}
