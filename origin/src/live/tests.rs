//! Renditions beside each other: what a rung that pauses, or loses pictures, says in its playlist.

use sluicegate_cluster::testing::{apps, stream_held_by};
use sluicegate_media::frame::Frame;

use super::*;
use crate::transcode::testing::broadcast;

const RUNG: Rung = Rung::Encoded { height: 180, kbps: 300 };

fn stream() -> Arc<LiveStream> {
    let app = &apps("[[app]]\nname = \"live\"\nsegment_s = 1\npart_s = 0.2\nwindow = 8")[0];
    let record = stream_held_by("live/a", "o1", "s", UnixMs(1));
    LiveStream::new(&record, InStore::No, app, MediaCounters::new().unwrap(), Arc::default())
}

/// Ten seconds with a keyframe each second, from `from` on of the timeline of the stream.
fn ten_seconds() -> Vec<Unit> {
    let two = broadcast("320x180", &["-bf", "0"]);
    let later = |unit: &Unit, ms: i64| match unit {
        Unit::Frame(f) => Unit::Frame(Frame { dts_ms: f.dts_ms + ms, pts_ms: f.pts_ms + ms, ..f.clone() }),
        header => header.clone(),
    };
    (0..5).flat_map(|n| two.iter().map(move |unit| later(unit, n * 2_000)).collect::<Vec<_>>()).collect()
}

fn dts_ms(unit: &Unit) -> i64 {
    if let Unit::Frame(frame) = unit { frame.dts_ms } else { -1 }
}

/// Each listed segment's date, and whether it is a gap, by its number.
pub(super) fn listed(stream: &LiveStream, rung: Rung) -> Vec<(u64, String, bool)> {
    let text = String::from_utf8(stream.media_playlist(rung, false).unwrap().to_vec()).unwrap();
    let first = text.lines().find_map(|l| l.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")).unwrap();
    let (mut date, mut gap, mut segments) = (String::new(), false, Vec::new());
    for line in text.lines() {
        match line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            Some(at) => date = at.to_owned(),
            None if line == "#EXT-X-GAP" => gap = true,
            None if !line.starts_with('#') => segments.push((date.clone(), std::mem::take(&mut gap))),
            None => {}
        }
    }
    (first.parse().unwrap()..).zip(segments).map(|(n, (date, gap))| (n, date, gap)).collect()
}

fn lists_rung(stream: &LiveStream) -> bool {
    stream.multivariant().unwrap().windows(4).any(|word| word == b"180p")
}

#[test]
fn a_rung_that_pauses_lists_gaps_and_comes_back_in_step() {
    let stream = stream();
    stream.keep_renditions(&[RUNG]);
    let mut made = true;
    for unit in ten_seconds() {
        let at_ms = dts_ms(&unit);
        if made && (2_500..7_300).contains(&at_ms) {
            stream.keep_renditions(&[]);
            made = false;
            assert!(!lists_rung(&stream));
        } else if !made && at_ms >= 7_300 {
            stream.keep_renditions(&[RUNG]);
            made = true;
        }
        stream.push(unit.clone()).unwrap();
        if made {
            stream.take_rendition(RUNG, unit);
        }
    }
    assert!(lists_rung(&stream));
    let (source, rung) = (listed(&stream, Rung::Source), listed(&stream, RUNG));
    assert_eq!(source.len(), 8);
    let dates = |of: &[(u64, String, bool)]| of.iter().map(|(n, at, _)| (*n, at.clone())).collect::<Vec<_>>();
    assert_eq!(dates(&source), dates(&rung));
    let gaps: Vec<_> = rung.iter().filter(|(.., gap)| *gap).map(|(n, ..)| *n).collect();
    assert_eq!(gaps, [3, 4, 5, 6, 7], "the second was cut short, the eighth is the first that is whole");
    assert!(source.iter().all(|(.., gap)| !gap));
}

#[test]
fn a_rung_that_loses_pictures_goes_on_where_the_source_is() {
    let stream = stream();
    stream.keep_renditions(&[RUNG]);
    let mut late = false;
    for unit in ten_seconds() {
        stream.push(unit.clone()).unwrap();
        // As a hub does it whose follower has no room.
        let lost = (2_500..4_900).contains(&dts_ms(&unit));
        if late && !lost {
            stream.take_rendition(RUNG, Unit::Discontinuity);
        }
        late = lost;
        if !lost {
            stream.take_rendition(RUNG, unit);
        }
    }
    let (source, rung) = (listed(&stream, Rung::Source), listed(&stream, RUNG));
    assert_eq!(
        source.iter().map(|s| &s.1).collect::<Vec<_>>(),
        rung.iter().map(|s| &s.1).collect::<Vec<_>>()
    );
    let gaps: Vec<_> = rung.iter().filter(|(.., gap)| *gap).map(|(n, ..)| *n).collect();
    assert_eq!(gaps, [3, 4]);
    let text = String::from_utf8(stream.media_playlist(RUNG, false).unwrap().to_vec()).unwrap();
    assert!(!text.contains("EXT-X-DISCONTINUITY\n"), "{text}");
}
