//! What a late job passes over, so that no rendition's latency grows beyond a bound, however slow it is: a queue
//! bounds what waits, and this bounds how old it is. Decides; reads nothing itself.

/// A frame that is so far behind the newest one is not worked on any more, milliseconds.
const TOO_OLD_MS: u64 = 3_000;
/// It goes on with a keyframe that is no further behind than this, so that it does not fall behind again at once.
const FRESH_MS: u64 = 1_000;

/// What is to be done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is worked on.
    Take,
    /// It is worked on, and continues nothing.
    Resume,
    /// It is passed over. `first`: the one before was not.
    PassOver {
        /// Whether this is where it falls behind.
        first: bool,
    },
}

/// Remembers whether frames are being passed over.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    passing_over: bool,
}

impl Freshness {
    /// What is to be done with a frame that is so far behind the newest. `resumes`: decoding can begin with it.
    pub(super) fn verdict(&mut self, behind_ms: u64, resumes: bool) -> Verdict {
        if self.passing_over && resumes && behind_ms <= FRESH_MS {
            self.passing_over = false;
            return Verdict::Resume;
        }
        if !self.passing_over && behind_ms <= TOO_OLD_MS {
            return Verdict::Take;
        }
        Verdict::PassOver { first: !std::mem::replace(&mut self.passing_over, true) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_late_job_goes_on_with_a_fresh_keyframe() {
        let mut freshness = Freshness::default();
        for (behind_ms, keyframe, expect) in [
            (3_000, false, Verdict::Take),
            (3_001, true, Verdict::PassOver { first: true }),
            (900, false, Verdict::PassOver { first: false }),
            (1_001, true, Verdict::PassOver { first: false }),
            (1_000, true, Verdict::Resume),
            (2_999, false, Verdict::Take),
        ] {
            assert_eq!(freshness.verdict(behind_ms, keyframe), expect, "{behind_ms}");
        }
    }

    proptest! {
        /// Frames of 40 ms, of which a job does one in `slowness` such times, for a minute: what it works on is never
        /// older than the bound, and it goes on working as long as keyframes come.
        #[test]
        fn latency_is_bounded_however_slow_a_job_is(slowness in 1..60_u64, gop in 1..100_u64) {
            let (mut freshness, mut free_at_ms, mut taken) = (Freshness::default(), 0, 0_u64);
            for n in 0..1_500_u64 {
                let (at_ms, now_ms) = (n * 40, free_at_ms.max(n * 40));
                // The newest frame is that of now.
                let behind_ms = now_ms / 40 * 40 - at_ms;
                match freshness.verdict(behind_ms, n % gop == 0) {
                    Verdict::Take | Verdict::Resume => {
                        prop_assert!(behind_ms <= TOO_OLD_MS);
                        free_at_ms = now_ms + 40 * slowness;
                        taken += 1;
                    }
                    Verdict::PassOver { .. } => {}
                }
            }
            prop_assert!(taken >= 1_500 / (slowness + gop + 75), "{} frames", taken);
        }
    }
}
