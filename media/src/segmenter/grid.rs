//! Audio on its own grid of samples.
//!
//! RTMP's milliseconds are too coarse for AAC, whose frames last 21.33 or 23.22 ms: taken at their word they
//! would leave a gap or an overlap between every two frames. A frame follows the one before without either,
//! as long as its timestamp agrees to within a frame.

use crate::frame::AudioConfig;

/// Where the next frame belongs.
#[derive(Debug, Default)]
pub(super) struct AudioGrid {
    next: Option<u64>,
}

impl AudioGrid {
    /// The sample at which a frame of `media_ms` begins. None if it has no place: the frames before it
    /// already reach more than a frame beyond its time.
    pub(super) fn place(&mut self, audio: &AudioConfig, media_ms: i64) -> Option<u64> {
        let frame = u64::from(audio.frame_samples);
        let wanted = audio.samples_at(media_ms);
        let next = self.next.unwrap_or(wanted);
        if next > wanted.saturating_add(frame) {
            return None;
        }
        let at = if wanted > next.saturating_add(frame) { wanted } else { next };
        self.next = Some(at.saturating_add(frame));
        Some(at)
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

    #[test]
    fn a_pause_leaves_a_gap() {
        let audio = aac::tests::config_48k();
        let mut grid = AudioGrid::default();
        assert_eq!(grid.place(&audio, 0), Some(0));
        assert_eq!(grid.place(&audio, 21), Some(1024));
        assert_eq!(grid.place(&audio, 500), Some(24_000));
    }
}
