//! The segments and parts of one rendition: those that its playlist lists, and those that left it and may still
//! be asked for.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits;
use crate::names::{FileName, Rung};
use crate::reload::Reach;
use crate::segment::{Part, Place, Segment};
use crate::segmenter::{Cut, Promise};

/// How many target durations a segment is kept after it left the list, and its parts with it (RFC 8216bis,
/// 6.2.2).
const KEPT_TARGET_DURATIONS: u64 = 3;

/// Whose segments, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowConfig {
    /// The stream's name.
    pub stream: String,
    /// The rendition.
    pub rung: Rung,
    /// The claim under which they are made.
    pub epoch: u64,
    /// Segments in the playlist, at least 1; three or more for players.
    pub listed: usize,
    /// What segments are to last, in milliseconds.
    pub target_duration_ms: u64,
    /// What parts are to last, in milliseconds.
    pub part_target_ms: u64,
    /// The playlist's first discontinuity sequence number.
    pub first_discontinuity_sequence: u64,
}

/// A part came out of turn: a playlist numbers its segments and their parts without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("part {got:?} came where {expected:?} was due")]
pub struct OutOfTurn {
    /// The segment due, and the part.
    pub expected: (u64, u32),
    /// What came.
    pub got: (u64, u32),
}

/// The segments of one rendition.
#[derive(Debug)]
pub struct Window {
    config: WindowConfig,
    /// The oldest first.
    segments: VecDeque<Held>,
    /// The parts of the segment that is coming.
    coming: Vec<Part>,
    /// How many segments at the front are not listed any more.
    left: usize,
    bytes: usize,
    pushed_ms: u64,
    discontinuity_sequence: u64,
    promise: Promise,
    peak_bps: u64,
    ended: bool,
}

#[derive(Debug)]
struct Held {
    segment: Segment,
    /// Media pushed when it left the list, in milliseconds.
    left_at_ms: u64,
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new(config: WindowConfig) -> Self {
        Self {
            segments: VecDeque::new(),
            coming: Vec::new(),
            left: 0,
            bytes: 0,
            pushed_ms: 0,
            discontinuity_sequence: config.first_discontinuity_sequence,
            promise: Promise {
                target_duration_s: config.target_duration_ms.div_ceil(1000).max(1),
                part_target_ms: config.part_target_ms.max(1),
            },
            peak_bps: 0,
            ended: false,
            config,
        }
    }

    /// Takes what was cut; if that completes a segment, lets go of what has become old.
    ///
    /// # Errors
    /// [`OutOfTurn`] if a part does not follow the one before; the window is as it was.
    pub fn push(&mut self, cut: Cut) -> Result<(), OutOfTurn> {
        if let Some(part) = cut.part {
            self.push_part(part)?;
        }
        if cut.ends_segment {
            self.complete();
        }
        Ok(())
    }

    fn push_part(&mut self, part: Part) -> Result<(), OutOfTurn> {
        let got = (part.sequence, part.index);
        let last = self.segments.back().map(|held| held.segment.sequence);
        let next = last.map_or(part.sequence, |last| last.saturating_add(1));
        let begun = self.coming.first().map_or(next, |first| first.sequence);
        let expected = (begun, u32::try_from(self.coming.len()).unwrap_or(u32::MAX));
        if got != expected {
            return Err(OutOfTurn { expected, got });
        }
        self.bytes = self.bytes.saturating_add(part.bytes.len());
        self.coming.push(part);
        Ok(())
    }

    fn complete(&mut self) {
        let Some(segment) = Segment::of(std::mem::take(&mut self.coming)) else { return };
        // A short rest says little of the rate (RFC 8216, 4.1: half of the target duration or more).
        if segment.duration_ms.saturating_mul(2) >= self.config.target_duration_ms || self.peak_bps == 0 {
            self.peak_bps = self.peak_bps.max(segment.bitrate_bps());
        }
        self.hold(segment);
    }

    fn hold(&mut self, segment: Segment) {
        self.pushed_ms = self.pushed_ms.saturating_add(segment.duration_ms);
        self.segments.push_back(Held { segment, left_at_ms: 0 });
        self.trim();
    }

    /// The segment within which a picture of this time (Unix milliseconds) is shown, if a part of it is here.
    #[must_use]
    pub fn place_of(&self, unix_ms: i64) -> Option<Place> {
        let coming = self.coming.first().map(|part| Place {
            sequence: part.sequence,
            starts_unix_ms: part.program_date_time_unix_ms,
            discontinuity: part.discontinuity,
        });
        let held = self.segments.iter().rev().map(|held| Place {
            sequence: held.segment.sequence,
            starts_unix_ms: held.segment.program_date_time_unix_ms,
            discontinuity: held.segment.discontinuity,
        });
        coming.into_iter().chain(held).find(|place| place.starts_unix_ms <= unix_ms)
    }

    /// Catches up with `other`, another rendition of the stream: its segments up to `sequence`, and without that
    /// one, are listed as gaps where this one has none. A window that has nothing to go on from begins anew
    /// there. How many became gaps.
    pub fn catch_up(&mut self, other: &Self, sequence: u64) -> u64 {
        let last = self.segments.back().map(|held| (held.segment.sequence, held.segment.init.clone()));
        let missed = |from: u64| {
            other.segments.iter().map(|held| &held.segment).skip_while(move |s| s.sequence < from)
        };
        let goes_on = |(last, _): &(u64, _)| {
            *last >= sequence || missed(*last).next().is_some_and(|first| first.sequence <= last + 1)
        };
        let Some((last, init)) = last.filter(goes_on) else {
            self.begin_anew(other.discontinuity_sequence_at(sequence));
            return 0;
        };
        let gaps: Vec<_> = missed(last.saturating_add(1)).take_while(|s| s.sequence < sequence).collect();
        for missed in &gaps {
            self.hold(missed.gap(init.clone()));
        }
        gaps.len() as u64
    }

    fn begin_anew(&mut self, discontinuity_sequence: u64) {
        (self.left, self.bytes) = (0, self.coming.iter().map(|part| part.bytes.len()).sum());
        self.segments.clear();
        self.discontinuity_sequence = discontinuity_sequence;
    }

    /// That of a playlist that begins with this segment.
    fn discontinuity_sequence_at(&self, sequence: u64) -> u64 {
        let before = self.listed().take_while(|segment| segment.sequence < sequence);
        self.discontinuity_sequence + before.filter(|segment| segment.discontinuity).count() as u64
    }

    /// What is promised of the lengths of segments and parts. Not to be changed once there is a playlist.
    pub fn promised(&mut self, promise: Promise) {
        self.promise = promise;
    }

    /// No segment will follow.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whose segments these are.
    #[must_use]
    pub fn config(&self) -> &WindowConfig {
        &self.config
    }

    /// The segments of the playlist, the oldest first.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.iter().skip(self.left).map(|held| &held.segment)
    }

    /// The parts of the segment that is coming, the oldest first.
    #[must_use]
    pub fn coming(&self) -> &[Part] {
        &self.coming
    }

    /// How far its playlist reaches; none before its first segment.
    #[must_use]
    pub fn reach(&self) -> Option<Reach> {
        let last = &self.segments.back()?.segment;
        Some(Reach {
            sequence: last.sequence,
            parts: last.parts.len(),
            coming: self.coming.len(),
            ended: self.ended,
            target_duration_s: self.promise.target_duration_s,
            part_target_ms: self.promise.part_target_ms,
        })
    }

    /// The segment, part or init segment of that name, if it is held.
    #[must_use]
    pub fn file(&self, name: &FileName) -> Option<Bytes> {
        let ours = |stream: &str, rung: Rung, epoch: u64| {
            stream == self.config.stream && rung == self.config.rung && epoch == self.config.epoch
        };
        match name {
            FileName::Segment { stream, rung, epoch, sequence } if ours(stream, *rung, *epoch) => {
                self.segment(*sequence).filter(|segment| !segment.gap).map(|segment| segment.bytes.clone())
            }
            FileName::Part { stream, rung, epoch, sequence, part } if ours(stream, *rung, *epoch) => {
                let of_segment = self.segment(*sequence).map(|segment| &segment.parts[..]);
                let coming = self.coming.first().filter(|first| first.sequence == *sequence);
                let parts = of_segment.or_else(|| coming.map(|_| &self.coming[..]))?;
                parts.get(usize::try_from(*part).ok()?).map(|part| part.bytes.clone())
            }
            FileName::Init { stream, rung, epoch, index } if ours(stream, *rung, *epoch) => {
                let held = self.segments.iter().map(|held| &held.segment.init);
                let mut inits = held.chain(self.coming.iter().map(|part| &part.init));
                inits.find(|init| init.index == *index).map(|init| init.bytes.clone())
            }
            _ => None,
        }
    }

    fn segment(&self, sequence: u64) -> Option<&Segment> {
        let first = self.segments.front()?.segment.sequence;
        let at = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.segments.get(at).map(|held| &held.segment)
    }

    /// The discontinuity sequence number of the playlist (RFC 8216, 4.3.3.3).
    #[must_use]
    pub fn discontinuity_sequence(&self) -> u64 {
        self.discontinuity_sequence
    }

    /// What is promised of the lengths of segments and parts.
    #[must_use]
    pub fn promise(&self) -> Promise {
        self.promise
    }

    /// The highest rate of a segment so far, in bits a second.
    #[must_use]
    pub fn peak_bps(&self) -> u64 {
        self.peak_bps
    }

    /// The mean rate of the segments held, in bits a second.
    #[must_use]
    pub fn average_bps(&self) -> u64 {
        let there = self.segments.iter().map(|held| &held.segment).filter(|segment| !segment.gap);
        let held_ms: u64 = there.map(|segment| segment.duration_ms).sum();
        let coming: usize = self.coming.iter().map(|part| part.bytes.len()).sum();
        (self.bytes.saturating_sub(coming) as u64).saturating_mul(8000) / held_ms.max(1)
    }

    /// What the segments and parts held take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no segment will follow.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    fn trim(&mut self) {
        while self.segments.len() - self.left > self.config.listed.max(1) {
            self.unlist();
        }
        let kept_ms = self.promise.target_duration_s.saturating_mul(1000 * KEPT_TARGET_DURATIONS);
        while let Some(oldest) = self.segments.front() {
            let old = self.left > 0 && self.pushed_ms.saturating_sub(oldest.left_at_ms) >= kept_ms;
            let much = self.segments.len() > limits::WINDOW_SEGMENTS || self.bytes > limits::WINDOW_BYTES;
            if !old && (!much || self.segments.len() == 1) {
                return;
            }
            if self.left == 0 {
                self.unlist();
            }
            if let Some(oldest) = self.segments.pop_front() {
                self.left -= 1;
                self.bytes -= oldest.segment.bytes.len();
            }
        }
    }

    /// Takes the oldest listed segment off the list.
    fn unlist(&mut self) {
        if let Some(held) = self.segments.get_mut(self.left) {
            held.left_at_ms = self.pushed_ms;
            self.left += 1;
            self.discontinuity_sequence += u64::from(held.segment.discontinuity);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::segment::InitSegment;

    pub(crate) const START: i64 = 1_760_000_000_000;

    /// A segment of one part, with a byte for each millisecond.
    pub(crate) fn segment(sequence: u64, duration_ms: u64) -> Cut {
        Cut { part: Some(part(sequence, 0, duration_ms)), ends_segment: true }
    }

    pub(crate) fn part(sequence: u64, index: u32, duration_ms: u64) -> Part {
        Part {
            sequence,
            index,
            init: InitSegment { index: 0, bytes: Bytes::from_static(b"init0") },
            discontinuity: false,
            begins_independent: index == 0,
            independent: index == 0,
            duration_ms,
            program_date_time_unix_ms: START + i64::try_from(sequence).unwrap() * 2000,
            bytes: Bytes::from(vec![u8::try_from(index).unwrap(); usize::try_from(duration_ms).unwrap()]),
        }
    }

    /// The segment with its part changed.
    pub(crate) fn with(mut cut: Cut, change: impl FnOnce(&mut Part)) -> Cut {
        change(cut.part.as_mut().unwrap());
        cut
    }

    pub(crate) fn window(listed: usize) -> Window {
        Window::new(WindowConfig {
            stream: "cam1".to_owned(),
            rung: Rung::Source,
            epoch: 7,
            listed,
            target_duration_ms: 2000,
            part_target_ms: 200,
            first_discontinuity_sequence: 3,
        })
    }

    fn name(sequence: u64) -> FileName {
        FileName::Segment { stream: "cam1".to_owned(), rung: Rung::Source, epoch: 7, sequence }
    }

    fn listed(window: &Window) -> Vec<u64> {
        window.listed().map(|segment| segment.sequence).collect()
    }

    #[test]
    fn segments_stay_for_three_target_durations_after_leaving_the_list() {
        let mut window = window(3);
        for sequence in 10..13 {
            window.push(segment(sequence, 2000)).unwrap();
        }
        for passed in 0..4 {
            assert!(window.file(&name(10)).is_some(), "after {passed} more");
            window.push(segment(13 + passed, 2000)).unwrap();
        }
        assert_eq!(window.file(&name(10)), None);
        assert!(window.file(&name(11)).is_some());
        assert_eq!(listed(&window), [14, 15, 16]);
    }

    #[test]
    fn only_own_files_are_found() {
        let mut window = window(3);
        window.push(segment(5, 2000)).unwrap();
        assert_eq!(window.file(&name(5)).map(|bytes| bytes.len()), Some(2000));
        assert_eq!((window.file(&name(4)), window.file(&name(6))), (None, None));
        let other =
            FileName::Segment { stream: "cam1".to_owned(), rung: Rung::Source, epoch: 6, sequence: 5 };
        assert_eq!(window.file(&other), None);
        let init = |index| FileName::Init { stream: "cam1".to_owned(), rung: Rung::Source, epoch: 7, index };
        assert_eq!(window.file(&init(0)), Some(Bytes::from_static(b"init0")));
        assert_eq!(window.file(&init(1)), None);
    }

    #[test]
    fn the_discontinuity_sequence_rises_as_marks_leave_the_list() {
        let mut window = window(2);
        for sequence in 0..4 {
            window.push(with(segment(sequence, 2000), |part| part.discontinuity = sequence < 2)).unwrap();
        }
        assert_eq!(window.discontinuity_sequence(), 5);
    }

    #[test]
    fn parts_are_files_before_and_after_their_segment_is_complete() {
        let mut window = window(2);
        let file = |sequence, part| FileName::Part {
            stream: "cam1".to_owned(),
            rung: Rung::Source,
            epoch: 7,
            sequence,
            part,
        };
        window.push(Cut { part: Some(part(5, 0, 200)), ends_segment: false }).unwrap();
        window.push(Cut { part: Some(part(5, 1, 100)), ends_segment: false }).unwrap();
        let both = |window: &Window| [0, 1, 2].map(|n| window.file(&file(5, n)));
        let before = both(&window);
        assert_eq!(before[1], Some(Bytes::from(vec![1; 100])));
        assert_eq!((window.bytes(), window.reach(), window.file(&name(5))), (300, None, None));
        window.push(Cut { part: None, ends_segment: true }).unwrap();
        assert_eq!(both(&window), before);
        assert_eq!(window.file(&name(5)).unwrap(), [vec![0; 200], vec![1; 100]].concat());
        assert_eq!(window.file(&file(6, 0)), None);
        assert_eq!(window.bytes(), 300);
        window.push(Cut { part: Some(part(6, 0, 200)), ends_segment: false }).unwrap();
        let reach = window.reach().unwrap();
        assert_eq!((reach.sequence, reach.parts, reach.coming), (5, 2, 1));
    }

    #[test]
    fn a_hole_is_refused() {
        let mut window = window(2);
        window.push(segment(4, 2000)).unwrap();
        assert_eq!(window.push(segment(6, 2000)), Err(OutOfTurn { expected: (5, 0), got: (6, 0) }));
        assert_eq!(window.push(segment(4, 2000)), Err(OutOfTurn { expected: (5, 0), got: (4, 0) }));
        let second = Cut { part: Some(part(5, 1, 200)), ends_segment: false };
        assert_eq!(window.push(second), Err(OutOfTurn { expected: (5, 0), got: (5, 1) }));
        assert_eq!(listed(&window), [4]);
    }

    #[test]
    fn rates() {
        let mut window = window(3);
        let burst = with(segment(0, 2000), |part| part.bytes = vec![0; 9000].into());
        window.push(burst).unwrap();
        window.push(segment(1, 2000)).unwrap();
        let rest = with(segment(2, 100), |part| part.bytes = vec![0; 9000].into());
        window.push(rest).unwrap();
        assert_eq!(window.peak_bps(), 36_000);
        assert_eq!(window.average_bps(), 20_000 * 8000 / 4100);
    }

    #[test]
    fn what_another_rendition_has_is_listed_as_gaps() {
        let (mut source, mut rung) = (window(3), window(3));
        for sequence in 10..16 {
            let marked = with(segment(sequence, 2000), |part| part.discontinuity = sequence == 13);
            source.push(marked).unwrap();
        }
        rung.push(segment(10, 2000)).unwrap();
        rung.push(segment(11, 1000)).unwrap();
        assert_eq!(rung.catch_up(&source, 15), 3);
        let gaps: Vec<_> = rung.listed().map(|s| (s.sequence, s.gap, s.discontinuity)).collect();
        assert_eq!(gaps, [(12, true, false), (13, true, true), (14, true, false)]);
        assert_eq!((rung.file(&name(11)).is_some(), rung.file(&name(12))), (true, None));
        assert_eq!(rung.catch_up(&source, 15), 0, "it has caught up");
        rung.push(segment(15, 2000)).unwrap();
        assert_eq!(listed(&rung), [13, 14, 15]);
        assert_eq!(rung.discontinuity_sequence(), source.discontinuity_sequence());
    }

    #[test]
    fn a_window_with_nothing_to_go_on_from_begins_anew() {
        let (mut source, mut rung, mut fresh) = (window(2), window(2), window(2));
        rung.push(segment(0, 2000)).unwrap();
        for sequence in 0..40 {
            source
                .push(with(segment(sequence, 2000), |part| part.discontinuity = sequence % 2 == 1))
                .unwrap();
        }
        for late in [&mut rung, &mut fresh] {
            assert_eq!(late.catch_up(&source, 39), 0);
            assert_eq!((late.reach(), late.bytes()), (None, 0));
            late.push(segment(39, 2000)).unwrap();
            assert_eq!(late.discontinuity_sequence(), source.discontinuity_sequence());
        }
    }

    proptest! {
        /// However a rendition loses segments and catches up, its list has no hole, and its marks are where the
        /// other's are.
        #[test]
        fn a_window_that_catches_up_is_in_step(
            segments in proptest::collection::vec((any::<bool>(), any::<bool>(), 1..13_000_u64), 1..200),
            size in 1..8_usize,
        ) {
            let (mut source, mut rung) = (window(size), window(size));
            for (sequence, (lost, marked, duration_ms)) in (0..).zip(segments) {
                let next = with(segment(sequence, duration_ms), |part| part.discontinuity = marked);
                source.push(next.clone()).unwrap();
                if lost {
                    continue;
                }
                rung.catch_up(&source, sequence);
                rung.push(next).unwrap();
                let of = |window: &Window| -> Vec<_> {
                    window.listed().map(|s| (s.sequence, s.discontinuity, s.duration_ms)).collect()
                };
                let (all, own) = (of(&source), of(&rung));
                prop_assert!(all.ends_with(&own), "{:?} {:?}", own, all);
                let left_out = &all[..all.len() - own.len()];
                let marks = left_out.iter().filter(|(_, marked, _)| *marked).count() as u64;
                prop_assert_eq!(rung.discontinuity_sequence(), source.discontinuity_sequence() + marks);
            }
        }

        #[test]
        fn a_window_is_bounded_and_its_list_whole(
            listed in 0..300_usize,
            segments in proptest::collection::vec((1..13_000_u64, any::<bool>()), 1..600),
        ) {
            let mut window = window(listed);
            let mut last_discontinuity = 0;
            for (sequence, (duration_ms, discontinuity)) in segments.into_iter().enumerate() {
                let sequence = sequence as u64;
                let next = with(segment(sequence, duration_ms), |part| {
                    (part.discontinuity, part.bytes) = (discontinuity, Bytes::new());
                });
                window.push(next).unwrap();
                let numbers: Vec<_> = window.listed().map(|segment| segment.sequence).collect();
                prop_assert_eq!(numbers.last(), Some(&sequence));
                prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
                prop_assert!(numbers.len() <= listed.max(1));
                prop_assert!(window.segments.len() <= limits::WINDOW_SEGMENTS);
                prop_assert!(window.discontinuity_sequence() >= last_discontinuity);
                last_discontinuity = window.discontinuity_sequence();
            }
        }
    }

    #[test]
    fn bytes_are_bounded() {
        let mut window = window(200);
        let big = Bytes::from(vec![0; 40 << 20]);
        for sequence in 0..9 {
            window.push(with(segment(sequence, 2000), |part| part.bytes = big.clone())).unwrap();
        }
        assert!(window.bytes() <= limits::WINDOW_BYTES);
        assert_eq!(listed(&window), [5, 6, 7, 8]);
    }
}
