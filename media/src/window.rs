//! The segments of one rendition: those that its playlist lists, and those that left it and may still be
//! asked for.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits;
use crate::names::{FileName, Rung};
use crate::segmenter::Segment;

/// How many target durations a segment is kept after it left the list (RFC 8216, 6.2.2).
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
    /// The playlist's first discontinuity sequence number.
    pub first_discontinuity_sequence: u64,
}

/// A segment came out of turn: a playlist numbers its segments without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("segment {got} came where {expected} was due")]
pub struct OutOfTurn {
    /// The number due.
    pub expected: u64,
    /// The number that came.
    pub got: u64,
}

/// The segments of one rendition.
#[derive(Debug)]
pub struct Window {
    config: WindowConfig,
    /// The oldest first.
    segments: VecDeque<Held>,
    /// How many at the front are not listed any more.
    left: usize,
    bytes: usize,
    pushed_ms: u64,
    discontinuity_sequence: u64,
    target_duration_s: u64,
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
            left: 0,
            bytes: 0,
            pushed_ms: 0,
            discontinuity_sequence: config.first_discontinuity_sequence,
            target_duration_s: config.target_duration_ms.div_ceil(1000).max(1),
            peak_bps: 0,
            ended: false,
            config,
        }
    }

    /// Takes the next segment, and lets go of what has become old.
    ///
    /// # Errors
    /// [`OutOfTurn`] if it does not follow the one before; the window is as it was.
    pub fn push(&mut self, segment: Segment) -> Result<(), OutOfTurn> {
        if let Some(last) = self.segments.back() {
            let expected = last.segment.sequence.saturating_add(1);
            if segment.sequence != expected {
                return Err(OutOfTurn { expected, got: segment.sequence });
            }
        }
        self.pushed_ms = self.pushed_ms.saturating_add(segment.duration_ms);
        self.bytes = self.bytes.saturating_add(segment.bytes.len());
        // A listed duration is rounded to whole seconds before it is compared (RFC 8216, 4.3.3.1).
        let rounded_s = segment.duration_ms.saturating_add(500) / 1000;
        self.target_duration_s = self.target_duration_s.max(rounded_s);
        // A short rest says little of the rate (RFC 8216, 4.1: half of the target duration or more).
        if segment.duration_ms.saturating_mul(2) >= self.config.target_duration_ms || self.peak_bps == 0 {
            self.peak_bps = self.peak_bps.max(segment.bitrate_bps());
        }
        self.segments.push_back(Held { segment, left_at_ms: 0 });
        self.trim();
        Ok(())
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

    /// The segment or init segment of that name, if it is held.
    #[must_use]
    pub fn file(&self, name: &FileName) -> Option<Bytes> {
        let ours = |stream: &str, rung: Rung, epoch: u64| {
            stream == self.config.stream && rung == self.config.rung && epoch == self.config.epoch
        };
        match name {
            FileName::Segment { stream, rung, epoch, sequence } if ours(stream, *rung, *epoch) => {
                let first = self.segments.front()?.segment.sequence;
                let at = usize::try_from(sequence.checked_sub(first)?).ok()?;
                self.segments.get(at).map(|held| held.segment.bytes.clone())
            }
            FileName::Init { stream, rung, epoch, index } if ours(stream, *rung, *epoch) => {
                let mut segments = self.segments.iter().map(|held| &held.segment);
                segments
                    .find(|segment| segment.init.index == *index)
                    .map(|segment| segment.init.bytes.clone())
            }
            _ => None,
        }
    }

    /// The discontinuity sequence number of the playlist (RFC 8216, 4.3.3.3).
    #[must_use]
    pub fn discontinuity_sequence(&self) -> u64 {
        self.discontinuity_sequence
    }

    /// The playlist's target duration in seconds. It may grow, never shrink.
    #[must_use]
    pub fn target_duration_s(&self) -> u64 {
        self.target_duration_s
    }

    /// The highest rate of a segment so far, in bits a second.
    #[must_use]
    pub fn peak_bps(&self) -> u64 {
        self.peak_bps
    }

    /// The mean rate of the segments held, in bits a second.
    #[must_use]
    pub fn average_bps(&self) -> u64 {
        let held_ms: u64 = self.segments.iter().map(|held| held.segment.duration_ms).sum();
        (self.bytes as u64).saturating_mul(8000) / held_ms.max(1)
    }

    /// What the segments held take, in bytes.
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
        let kept_ms = self.target_duration_s.saturating_mul(1000 * KEPT_TARGET_DURATIONS);
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
    use crate::segmenter::InitSegment;

    pub(crate) const START: i64 = 1_760_000_000_000;

    pub(crate) fn segment(sequence: u64, duration_ms: u64) -> Segment {
        Segment {
            sequence,
            init: InitSegment { index: 0, bytes: Bytes::from_static(b"init0") },
            discontinuity: false,
            independent: true,
            duration_ms,
            program_date_time_unix_ms: START + i64::try_from(sequence).unwrap() * 2000,
            bytes: Bytes::from(vec![0; usize::try_from(duration_ms).unwrap()]),
        }
    }

    pub(crate) fn window(listed: usize) -> Window {
        Window::new(WindowConfig {
            stream: "cam1".to_owned(),
            rung: Rung::Source,
            epoch: 7,
            listed,
            target_duration_ms: 2000,
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
            window.push(Segment { discontinuity: sequence < 2, ..segment(sequence, 2000) }).unwrap();
        }
        assert_eq!(window.discontinuity_sequence(), 5);
    }

    #[test]
    fn the_target_duration_grows_and_stays() {
        let mut window = window(2);
        assert_eq!(window.target_duration_s(), 2);
        window.push(segment(0, 4499)).unwrap();
        assert_eq!(window.target_duration_s(), 4);
        for sequence in 1..9 {
            window.push(segment(sequence, 2000)).unwrap();
        }
        assert_eq!(window.target_duration_s(), 4);
    }

    #[test]
    fn a_hole_is_refused() {
        let mut window = window(2);
        window.push(segment(4, 2000)).unwrap();
        assert_eq!(window.push(segment(6, 2000)), Err(OutOfTurn { expected: 5, got: 6 }));
        assert_eq!(window.push(segment(4, 2000)), Err(OutOfTurn { expected: 5, got: 4 }));
        assert_eq!(listed(&window), [4]);
    }

    #[test]
    fn rates() {
        let mut window = window(3);
        let burst = Segment { bytes: vec![0; 9000].into(), ..segment(0, 2000) };
        window.push(burst).unwrap();
        window.push(segment(1, 2000)).unwrap();
        let rest = Segment { bytes: vec![0; 9000].into(), ..segment(2, 100) };
        window.push(rest).unwrap();
        assert_eq!(window.peak_bps(), 36_000);
        assert_eq!(window.average_bps(), 20_000 * 8000 / 4100);
    }

    proptest! {
        #[test]
        fn a_window_is_bounded_and_its_list_whole(
            listed in 0..300_usize,
            segments in proptest::collection::vec((1..13_000_u64, any::<bool>()), 1..600),
        ) {
            let mut window = window(listed);
            let mut last_discontinuity = 0;
            for (sequence, (duration_ms, discontinuity)) in segments.into_iter().enumerate() {
                let sequence = sequence as u64;
                let next = Segment { discontinuity, bytes: Bytes::new(), ..segment(sequence, duration_ms) };
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
            window.push(Segment { bytes: big.clone(), ..segment(sequence, 2000) }).unwrap();
        }
        assert!(window.bytes() <= limits::WINDOW_BYTES);
        assert_eq!(listed(&window), [5, 6, 7, 8]);
    }
}
