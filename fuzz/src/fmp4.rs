//! From a publisher's messages to fragmented MP4 and its playlist: whatever comes in, what goes out is whole.

use bytes::Bytes;
use mp4_atom::{Decode as _, Ftyp, Moof, Moov};
use sluicegate_media::flv::{self, Packet};
use sluicegate_media::frame::Frame;
use sluicegate_media::limits;
use sluicegate_media::names::Rung;
use sluicegate_media::playlist;
use sluicegate_media::segment::Part;
use sluicegate_media::segmenter::{Cut, Segmenter, SegmenterConfig};
use sluicegate_media::timeline::Timeline;
use sluicegate_media::window::{Window, WindowConfig};

const START_UNIX_MS: i64 = 1_760_000_000_000;
const TARGET_MS: i64 = 1_000;
const PART_MS: i64 = 200;
/// A box's length and its type.
const BOX_HEADER_BYTES: usize = 8;

/// Messages as records. A kind's first bit says audio; the second that the publisher's clock jumps; the others,
/// times 20 ms, how much later it comes than the one before.
pub fn fmp4(data: &[u8]) {
    let _segments = package(data);
}

/// The same; how many segments it came to.
#[must_use]
pub fn package(data: &[u8]) -> u64 {
    let mut packager = Packager::new();
    let (mut timestamp, mut arrival) = (0_u32, START_UNIX_MS);
    for record in crate::records::read(data) {
        let later_ms = u32::from(record.kind >> 2) * 20;
        timestamp = timestamp.wrapping_add(later_ms);
        arrival += i64::from(later_ms);
        if record.kind & 2 != 0 {
            timestamp = timestamp.wrapping_mul(2_654_435_761);
        }
        let parsed = match record.kind & 1 {
            0 => flv::parse_video(&record.body),
            _ => flv::parse_audio(&record.body),
        };
        if let Ok(packet) = parsed {
            packager.take(packet, timestamp, arrival);
        }
    }
    packager.end()
}

struct Packager {
    timeline: Timeline,
    segmenter: Segmenter,
    window: Window,
    next_sequence: u64,
    next_part: u32,
}

impl Packager {
    fn new() -> Self {
        let window = WindowConfig {
            stream: "cam".to_owned(),
            rung: Rung::Source,
            epoch: 7,
            listed: 6,
            target_duration_ms: TARGET_MS.unsigned_abs(),
            part_target_ms: PART_MS.unsigned_abs(),
            first_discontinuity_sequence: 0,
        };
        Self {
            timeline: Timeline::new(START_UNIX_MS),
            segmenter: Segmenter::new(SegmenterConfig::new(TARGET_MS, PART_MS, START_UNIX_MS)),
            window: Window::new(window),
            next_sequence: 0,
            next_part: 0,
        }
    }

    fn take(&mut self, packet: Packet, timestamp: u32, arrival_unix_ms: i64) {
        let ended = match packet {
            Packet::VideoHeader(video) => self.segmenter.push_video_config(video),
            Packet::AudioHeader(audio) => self.segmenter.push_audio_config(audio),
            Packet::Frame { track, keyframe, composition_ms, payload } => {
                let stamp = self.timeline.stamp(track, timestamp, composition_ms, arrival_unix_ms);
                if stamp.discontinuity {
                    let ended = self.segmenter.push_discontinuity().expect("what was taken can be written");
                    self.list(ended);
                }
                let frame = Frame { track, dts_ms: stamp.dts_ms, pts_ms: stamp.pts_ms, keyframe, payload };
                self.segmenter.push(frame)
            }
            Packet::EndOfSequence | Packet::Nothing => Ok(Cut::default()),
        };
        self.list(ended.expect("what was taken can be written"));
    }

    fn end(mut self) -> u64 {
        let last = self.segmenter.finish().expect("what was taken can be written");
        self.list(last);
        self.window.end();
        match playlist::media_playlist(&self.window, &[]) {
            Some(playlist) => assert!(playlist.full.contains("#EXT-X-ENDLIST")),
            None => assert_eq!(self.next_sequence, 0, "a playlist of at least one segment"),
        }
        self.next_sequence
    }

    fn list(&mut self, cut: Cut) {
        if let Some(part) = &cut.part {
            self.check(part);
        }
        let ends_segment = cut.ends_segment;
        self.window.push(cut).expect("numbers without a hole");
        if ends_segment {
            (self.next_sequence, self.next_part) = (self.next_sequence + 1, 0);
            let segment = self.window.listed().next_back().expect("the segment that has ended");
            assert!((1..=limits::SEGMENT_MS.unsigned_abs()).contains(&segment.duration_ms), "{segment:?}");
        }
        assert!(self.window.bytes() <= limits::WINDOW_BYTES + limits::SEGMENT_BYTES);
        let playlist = playlist::media_playlist(&self.window, &[]);
        assert_eq!(playlist.is_some(), self.next_sequence > 0, "a playlist of at least one segment");
        assert!(playlist.is_none_or(|playlist| playlist.full.starts_with("#EXTM3U")));
    }

    fn check(&mut self, part: &Part) {
        assert_eq!(
            (part.sequence, part.index),
            (self.next_sequence, self.next_part),
            "no number is left out"
        );
        self.next_part += 1;
        assert!((1..=TARGET_MS.unsigned_abs()).contains(&part.duration_ms), "{part:?}");
        is_whole(&part.bytes);
        let mut init = &part.init.bytes[..];
        Ftyp::decode(&mut init).expect("an init segment's first box");
        let moov = Moov::decode(&mut init).expect("an init segment's second box");
        assert!(init.is_empty() && (1..=2).contains(&moov.trak.len()));
    }
}

/// One `moof`, one `mdat`, and the samples of the one are the bytes of the other.
fn is_whole(part: &Bytes) {
    let mut rest = &part[..];
    let moof = Moof::decode(&mut rest).expect("a part's first box");
    let (header, media) = rest.split_at_checked(BOX_HEADER_BYTES).expect("a second box");
    assert_eq!(&header[4..], b"mdat");
    let samples = moof.traf.iter().flat_map(|traf| &traf.trun).flat_map(|trun| trun.samples.iter());
    let bytes: usize = samples.map(|sample| sample.size.unwrap_or(0) as usize).sum();
    assert_eq!(bytes, media.len(), "the samples are what is there");
}
