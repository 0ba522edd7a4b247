//! Audio on its own grid of samples.
//!
//! RTMP's milliseconds are too coarse for AAC, whose frames last 21.33 or 23.22 ms: taken at their word they
//! would leave a gap or an overlap between every two frames. A frame follows the one before without either,
//! as long as its timestamp agrees to within a frame, and those of a second or two agree on average to within
//! [`FOLLOWED`] of one: where a publisher's samples are faster or slower than its clock, sound stays with its pictures.

use crate::frame::AudioConfig;

/// What the average may be off, parts of a frame: 14 ms at 44.1 kHz. More than a half, so that leaving a frame out does
/// not lead as far to the other side.
const FOLLOWED: f64 = 0.6;
/// Frames over which it is taken.
const AVERAGED: u32 = 64;

/// Where the next frame belongs.
#[derive(Debug, Default)]
pub(super) struct AudioGrid {
    next: Option<u64>,
    /// How many samples later frames are wanted than they are placed, on average over so many frames.
    late: f64,
    averaged: u32,
}

impl AudioGrid {
    /// The sample at which a frame of `media_ms` begins. None if it has no place: the frames before it
    /// already reach more than a frame beyond its time, or too far for long.
    pub(super) fn place(&mut self, audio: &AudioConfig, media_ms: i64) -> Option<u64> {
        let frame = u64::from(audio.frame_samples);
        let wanted = audio.samples_at(media_ms);
        let next = self.next.unwrap_or(wanted);
        if next > wanted.saturating_add(frame) {
            return None;
        }
        if wanted > next.saturating_add(frame) {
            return Some(self.take(wanted, frame));
        }
        #[expect(clippy::cast_precision_loss, reason = "within a frame")]
        let (late, frame_len) =
            (wanted.saturating_sub(next) as f64 - next.saturating_sub(wanted) as f64, frame as f64);
        self.averaged = (self.averaged + 1).min(AVERAGED);
        self.late += (late - self.late) / f64::from(self.averaged);
        if self.averaged < AVERAGED || self.late.abs() < FOLLOWED * frame_len {
            self.next = Some(next.saturating_add(frame));
            return Some(next);
        }
        if self.late < 0.0 {
            // The one after it takes its place.
            self.late += frame_len;
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within a frame")]
        let at = next.saturating_add(self.late as u64);
        Some(self.take(at, frame))
    }

    /// Goes on after a gap.
    fn take(&mut self, at: u64, frame: u64) -> u64 {
        *self = Self { next: Some(at.saturating_add(frame)), late: 0.0, averaged: 0 };
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::aac;

    proptest! {
        #[test]
        fn rounded_milliseconds_never_add_up(rate_index in 0..12_u32, frames in 1..3_000_u64) {
            let audio = aac::tests::config(rate_index);
            let mut grid = AudioGrid::default();
            for n in 0..frames {
                let ms = n * 1024 * 1000 / u64::from(audio.sample_rate);
                prop_assert_eq!(grid.place(&audio, i64::try_from(ms).unwrap()), Some(n * 1024));
            }
        }

        #[test]
        fn places_never_overlap_and_keep_to_the_time(
            steps in proptest::collection::vec(0..200_i64, 1..300),
        ) {
            let audio = aac::tests::config_48k();
            let mut grid = AudioGrid::default();
            let (mut ms, mut end) = (0, 0);
            for step in steps {
                ms += step;
                if let Some(at) = grid.place(&audio, ms) {
                    prop_assert!(at >= end && at.abs_diff(audio.samples_at(ms)) <= 1024);
                    end = at + 1024;
                }
            }
        }
    }

    /// Eight hours of a publisher whose samples come faster or slower than its clock.
    #[test]
    fn sound_stays_with_its_pictures_whatever_the_publishers_samples() {
        const FRAMES: u64 = 8 * 3_600_000 * 48 / 1_024;
        for millionths in [0.0, 200.0, -200.0, 5_000.0, -5_000.0_f64] {
            let audio = aac::tests::config_48k();
            let (mut grid, mut furthest, mut placed, mut end) = (AudioGrid::default(), 0.0_f64, 0, 0);
            for n in 0..FRAMES {
                let at_ms = n as f64 * 1_024.0 / 48.0 * (1.0 + millionths / 1e6);
                if let Some(at) = grid.place(&audio, at_ms.round() as i64) {
                    assert!(at >= end, "{millionths}: {at} within the one before");
                    (end, placed) = (at + 1_024, placed + 1);
                    furthest = furthest.max((at as f64 / 48.0 - at_ms).abs());
                }
            }
            assert!(furthest < 20.0, "{millionths} millionths: {furthest} ms");
            let left_out = FRAMES - placed;
            assert!(left_out <= (FRAMES as f64 * (-millionths).max(0.0) / 1e6).ceil() as u64, "{left_out}");
        }
    }

    #[test]
    fn a_pause_leaves_a_gap() {
        let audio = aac::tests::config_48k();
        let mut grid = AudioGrid::default();
        assert_eq!(grid.place(&audio, 0), Some(0));
        assert_eq!(grid.place(&audio, 21), Some(1024));
        assert_eq!(grid.place(&audio, 500), Some(24_000));
    }
}
