//! Where samples lie on a stream's timeline. They are counted, so that rounded milliseconds do not add up. Where a
//! publisher's clock runs faster or slower than its samples, the count follows it by a millisecond now and then, so
//! that sound stays with its pictures, whose times are the publisher's.

/// A frame further than this from where it was expected is no continuation; nearer, it is jitter.
const GAP_MS: i64 = 100;
/// Frames over which the publisher's clock is averaged: a second or two.
const AVERAGED: u32 = 64;
/// The average is followed from so far on. Less is rounding.
const FOLLOWED_MS: f64 = 3.0;

/// Samples by count and by the publisher's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct SampleClock {
    rate_hz: i64,
    begin_ms: i64,
    taken: i64,
    given: i64,
    /// How much later frames come than they are expected, on average.
    late_ms: f64,
    /// What that was in the beginning: what a decoder keeps to itself.
    late_at_first_ms: f64,
    frames: u32,
}

impl SampleClock {
    /// One that begins with a frame at `begin_ms`; `rate_hz` samples a second are counted.
    pub(super) fn new(begin_ms: i64, rate_hz: u32) -> Self {
        let rate_hz = i64::from(rate_hz.max(1));
        Self { rate_hz, begin_ms, taken: 0, given: 0, late_ms: 0.0, late_at_first_ms: 0.0, frames: 0 }
    }

    /// Whether a frame at `dts_ms` continues what came before.
    pub(super) fn continues(&self, dts_ms: i64) -> bool {
        (dts_ms - self.at_ms(self.taken)).abs() <= GAP_MS
    }

    /// A frame at `dts_ms` is about to be taken.
    pub(super) fn follow(&mut self, dts_ms: i64) {
        #[expect(clippy::cast_precision_loss, reason = "within GAP_MS")]
        let late_ms = (dts_ms - self.at_ms(self.taken)) as f64;
        self.frames = (self.frames + 1).min(AVERAGED);
        self.late_ms += (late_ms - self.late_ms) / f64::from(self.frames);
        if self.frames < AVERAGED {
            self.late_at_first_ms = self.late_ms;
            return;
        }
        let off_ms = self.late_ms - self.late_at_first_ms;
        if off_ms.abs() >= FOLLOWED_MS {
            self.begin_ms += if off_ms > 0.0 { 1 } else { -1 };
            self.late_ms -= off_ms.signum();
        }
    }

    /// So many samples came out of the decoder.
    pub(super) fn take(&mut self, samples: usize) {
        self.taken += i64::try_from(samples).unwrap_or(0);
    }

    /// So many go to the encoder: when they begin, heard `lead` samples earlier.
    pub(super) fn give(&mut self, samples: i64, lead: i64) -> i64 {
        let at_ms = self.at_ms(self.given - lead);
        self.given += samples;
        at_ms
    }

    fn at_ms(&self, samples: i64) -> i64 {
        self.begin_ms + (samples * 1_000).div_euclid(self.rate_hz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOURS_8_MS: f64 = 8.0 * 3_600_000.0;
    /// A frame of AAC at 44.1 kHz, and what of it comes out at 48 kHz.
    const FRAME_MS: f64 = 1_024_000.0 / 44_100.0;
    const FRAME_SAMPLES: f64 = 1_024.0 * 48_000.0 / 44_100.0;

    /// The furthest that sound is from its publisher's time in 8 h, where that clock is off by so many millionths and
    /// the decoder keeps `kept` samples; and what it was in the first seconds.
    fn furthest_ms(millionths: f64, kept: f64) -> (f64, f64) {
        let mut clock = SampleClock::new(1_000, 48_000);
        let (mut furthest, mut at_first) = (0.0_f64, 0.0_f64);
        let (mut out, mut frames) = (0.0_f64, 0.0_f64);
        while frames * FRAME_MS < HOURS_8_MS {
            let dts_ms = 1_000.0 + frames * FRAME_MS * (1.0 + millionths / 1e6);
            assert!(clock.continues(dts_ms.round() as i64), "after {frames} frames");
            clock.follow(dts_ms.round() as i64);
            let come = (frames + 1.0).mul_add(FRAME_SAMPLES, -kept).max(0.0).floor();
            clock.take((come - out) as usize);
            out = come;
            let wrong = (clock.at_ms(clock.taken) as f64 - (dts_ms + FRAME_MS)).abs();
            let worst = if frames < 30.0 { &mut at_first } else { &mut furthest };
            *worst = worst.max(wrong);
            frames += 1.0;
        }
        (furthest, at_first)
    }

    #[test]
    fn sound_stays_with_its_pictures_for_eight_hours_whatever_the_publishers_clock() {
        for millionths in [0.0, 50.0, -50.0, 1_000.0, -5_000.0] {
            let (furthest, _) = furthest_ms(millionths, 0.0);
            assert!(furthest < 20.0, "{millionths} millionths: {furthest} ms");
        }
    }

    #[test]
    fn what_a_decoder_keeps_to_itself_is_no_drift() {
        let (furthest, at_first) = furthest_ms(0.0, 480.0);
        assert!((furthest - at_first).abs() < 2.0, "{at_first} then {furthest} ms");
    }

    #[test]
    fn a_gap_is_no_drift() {
        let mut clock = SampleClock::new(0, 48_000);
        clock.take(960);
        assert!(clock.continues(20) && clock.continues(120) && clock.continues(-80));
        assert!(!clock.continues(121) && !clock.continues(-81));
        assert_eq!((clock.give(960, 1_024), clock.give(960, 1_024)), (-22, -2));
    }
}
