//! From the publisher's 32-bit timestamps to one timeline in milliseconds that only goes forward.
//!
//! RTMP's timestamps wrap every 49.7 days and jump where an encoder restarts its clock or a file loops.
//! Each track follows its publisher's clock; after a jump it goes on where the wall clock says, and the
//! other track follows it there, so that the two stay in step.

use crate::frame::Track;
use crate::limits;

/// Where a message lies on the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When it is decoded, in milliseconds. Rises strictly within a track.
    pub dts_ms: i64,
    /// When it is shown, in milliseconds.
    pub pts_ms: i64,
    /// The publisher's clock jumped here: what follows is no continuation of what came before.
    pub discontinuity: bool,
}

/// The timeline of one stream. Its zero is the moment at which it was made.
#[derive(Debug, Clone)]
pub struct Timeline {
    start_unix_ms: i64,
    video: Option<Clock>,
    audio: Option<Clock>,
    last: Option<Last>,
}

/// The newest message of either track.
#[derive(Debug, Clone, Copy)]
struct Last {
    dts_ms: i64,
    arrival_unix_ms: i64,
}

/// One track's clock: the line through (`timestamp`, `at_ms`), which is its furthest message.
#[derive(Debug, Clone, Copy)]
struct Clock {
    timestamp: u32,
    at_ms: i64,
    last_dts_ms: i64,
}

impl Clock {
    /// How far `timestamp` is from the furthest message, taking the shorter way round 2^32.
    fn step_ms(&self, timestamp: u32) -> i64 {
        i64::from(timestamp.wrapping_sub(self.timestamp).cast_signed())
    }

    fn at(&self, timestamp: u32) -> i64 {
        self.at_ms.saturating_add(self.step_ms(timestamp))
    }

    fn continues(&self, timestamp: u32) -> bool {
        (-limits::BACKWARD_STEP_MS..=limits::FORWARD_STEP_MS).contains(&self.step_ms(timestamp))
    }
}

impl Timeline {
    /// A timeline whose zero is `start_unix_ms`.
    #[must_use]
    pub fn new(start_unix_ms: i64) -> Self {
        Self { start_unix_ms, video: None, audio: None, last: None }
    }

    /// The wall clock's time at a moment of the timeline, in Unix milliseconds.
    #[must_use]
    pub fn unix_ms(&self, ms: i64) -> i64 {
        self.start_unix_ms.saturating_add(ms)
    }

    /// Places a message with the publisher's `timestamp` that arrived at `arrival_unix_ms`.
    pub fn stamp(
        &mut self,
        track: Track,
        timestamp: u32,
        composition_ms: i32,
        arrival_unix_ms: i64,
    ) -> Stamp {
        let (own, other) = match track {
            Track::Video => (self.video, self.audio),
            Track::Audio => (self.audio, self.video),
        };
        let (at_ms, discontinuity) = match own {
            Some(clock) if clock.continues(timestamp) => (clock.at(timestamp), false),
            _ => match other.and_then(|other| follow(own, other, timestamp)) {
                Some(at_ms) => (at_ms, false),
                None => (self.wall_ms(arrival_unix_ms), own.is_some()),
            },
        };
        let dts_ms = own.map_or(at_ms, |own| at_ms.max(own.last_dts_ms.saturating_add(1)));
        let clock = match own {
            // A small step back: the line stays where it is, or many of them would add up unseen.
            Some(own) if own.continues(timestamp) && own.step_ms(timestamp) < 0 => {
                Clock { last_dts_ms: dts_ms, ..own }
            }
            _ => Clock { timestamp, at_ms, last_dts_ms: dts_ms },
        };
        match track {
            Track::Video => self.video = Some(clock),
            Track::Audio => self.audio = Some(clock),
        }
        let furthest_ms = self.last.map_or(dts_ms, |last| last.dts_ms.max(dts_ms));
        self.last = Some(Last { dts_ms: furthest_ms, arrival_unix_ms });
        Stamp { dts_ms, pts_ms: at_ms.saturating_add(composition_ms.into()), discontinuity }
    }

    /// Where the timeline would be now if it had run with the wall clock since the last message.
    fn wall_ms(&self, arrival_unix_ms: i64) -> i64 {
        match self.last {
            Some(last) => {
                let passed_ms = arrival_unix_ms.saturating_sub(last.arrival_unix_ms).max(1);
                last.dts_ms.saturating_add(passed_ms)
            }
            None => arrival_unix_ms.saturating_sub(self.start_unix_ms).max(0),
        }
    }
}

/// Where `timestamp` lies by the other track's clock, if that one is near: both begin together, and after a
/// jump the second track lands where the first went. Not if that would lead back.
fn follow(own: Option<Clock>, other: Clock, timestamp: u32) -> Option<i64> {
    let near = other.step_ms(timestamp).abs() <= limits::FORWARD_STEP_MS;
    let at_ms = other.at(timestamp);
    let leads_back = own.is_some_and(|own| at_ms < own.last_dts_ms - limits::BACKWARD_STEP_MS);
    (near && !leads_back).then_some(at_ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_760_000_000_000;

    /// Video timestamps with their arrival in ms after the start; dts and marks.
    fn run(messages: &[(Track, u32, i64)]) -> Vec<(i64, bool)> {
        let mut timeline = Timeline::new(START);
        let stamp = |&(track, timestamp, arrival): &(Track, u32, i64)| {
            let stamp = timeline.stamp(track, timestamp, 0, START + arrival);
            (stamp.dts_ms, stamp.discontinuity)
        };
        messages.iter().map(stamp).collect()
    }

    use Track::{Audio, Video};

    #[test]
    fn the_first_message_lies_at_its_arrival() {
        assert_eq!(run(&[(Video, 77_000, 120), (Audio, 77_010, 121)]), [(120, false), (130, false)]);
    }

    #[test]
    fn timestamps_wrap() {
        let stamps = run(&[(Video, u32::MAX - 9, 0), (Video, 10, 20), (Audio, u32::MAX, 21)]);
        assert_eq!(stamps, [(0, false), (20, false), (9, false)]);
    }

    #[test]
    fn composition_may_be_before_decoding() {
        let mut timeline = Timeline::new(START);
        assert_eq!(timeline.stamp(Video, 0, -40, START + 100).pts_ms, 60);
        assert_eq!(timeline.unix_ms(60), START + 60);
    }

    #[test]
    fn equal_timestamps_are_spread() {
        let stamps = run(&[(Audio, 0, 0), (Audio, 0, 0), (Audio, 0, 0), (Audio, 23, 0)]);
        assert_eq!(stamps, [(0, false), (1, false), (2, false), (23, false)]);
    }

    #[test]
    fn a_restarted_clock_goes_on_by_the_wall_clock_for_both_tracks() {
        let stamps = run(&[
            (Video, 50_000, 0),
            (Audio, 50_010, 0),
            (Video, 50_040, 40),
            (Video, 0, 340),
            (Audio, 10, 340),
            (Video, 40, 380),
        ]);
        let expect = [(0, false), (10, false), (40, false), (340, true), (350, false), (380, false)];
        assert_eq!(stamps, expect);
    }

    #[test]
    fn a_straggler_of_the_other_track_keeps_its_clock() {
        let stamps = run(&[
            (Video, 50_000, 0),
            (Audio, 49_990, 0),
            (Video, 0, 40),
            (Audio, 50_020, 41),
            (Audio, 20, 60),
        ]);
        assert_eq!(stamps, [(0, false), (-10, false), (40, true), (20, false), (60, false)]);
    }

    #[test]
    fn a_long_jump_forward_is_cut_to_the_wall_clock() {
        let stamps = run(&[(Video, 0, 0), (Video, 10_000, 100), (Video, 90_000, 140)]);
        assert_eq!(stamps, [(0, false), (10_000, false), (10_040, true)]);
    }

    #[test]
    fn a_track_that_pauses_comes_back_in_step() {
        let mut messages: Vec<_> = (0..40).map(|n| (Video, n * 500, i64::from(n) * 500)).collect();
        messages.insert(0, (Audio, 0, 0));
        messages.push((Audio, 19_520, 19_520));
        assert_eq!(run(&messages).last(), Some(&(19_520, false)));
    }

    #[test]
    fn tracks_with_clocks_of_their_own_stay_apart_without_marks() {
        let messages: Vec<_> = (0..100)
            .flat_map(|n| {
                [(Video, n * 40, i64::from(n) * 40), (Audio, 3_000_000 + n * 40, i64::from(n) * 40)]
            })
            .collect();
        let stamps = run(&messages);
        assert!(stamps.iter().all(|stamp| !stamp.1));
        assert_eq!(stamps[198].0, 99 * 40);
        assert_eq!(stamps[199].0, 1 + 99 * 40);
    }

    #[test]
    fn many_small_steps_back_are_a_jump() {
        let messages: Vec<_> = (0..20).map(|n| (Video, 10_000 - n * 100, i64::from(n))).collect();
        assert_eq!(run(&messages).iter().filter(|stamp| stamp.1).count(), 1);
    }

    fn message() -> impl Strategy<Value = (bool, u32, i32, i64)> {
        let timestamp = prop_oneof![any::<u32>(), 0..60_000_u32, (u32::MAX - 60_000)..u32::MAX];
        (any::<bool>(), timestamp, -8_388_608..8_388_607_i32, any::<i64>())
    }

    proptest! {
        #[test]
        fn dts_rises_strictly_within_a_track(messages in proptest::collection::vec(message(), 1..200)) {
            let mut timeline = Timeline::new(0);
            let mut last = [None::<i64>; 2];
            for (video, timestamp, composition, arrival) in messages {
                let track = if video { Video } else { Audio };
                // Milliseconds since 1970 fit 44 bits for the next five centuries.
                let stamp = timeline.stamp(track, timestamp, composition, arrival >> 20);
                let last = &mut last[usize::from(video)];
                prop_assert!(last.is_none_or(|last| stamp.dts_ms > last));
                *last = Some(stamp.dts_ms);
            }
        }

        #[test]
        fn a_smooth_clock_is_kept_exactly(
            first in any::<u32>(),
            steps in proptest::collection::vec(1..5_000_u32, 1..200),
            jitter in 0..2_000_i64,
        ) {
            let mut timeline = Timeline::new(START);
            let zero = timeline.stamp(Video, first, 0, START).dts_ms;
            let mut passed = 0;
            for step in steps {
                passed += step;
                let arrival = START + i64::from(passed) + jitter;
                let stamp = timeline.stamp(Video, first.wrapping_add(passed), 0, arrival);
                prop_assert_eq!(stamp.dts_ms - zero, i64::from(passed));
                prop_assert!(!stamp.discontinuity);
            }
        }

        #[test]
        fn a_jump_is_marked_once_and_costs_what_the_wall_clock_says(
            to in any::<u32>(),
            pause in 1..60_000_i64,
        ) {
            let from = 1_000_000_u32;
            let step = i64::from(to.wrapping_sub(from).cast_signed());
            prop_assume!(!(-limits::BACKWARD_STEP_MS..=limits::FORWARD_STEP_MS).contains(&step));
            let mut timeline = Timeline::new(START);
            timeline.stamp(Video, from, 0, START);
            let jumped = timeline.stamp(Video, to, 0, START + pause);
            prop_assert_eq!((jumped.dts_ms, jumped.discontinuity), (pause, true));
            let next = timeline.stamp(Video, to.wrapping_add(40), 0, START + pause + 40);
            prop_assert_eq!((next.dts_ms, next.discontinuity), (pause + 40, false));
        }
    }
}
