//! One time for both tracks of a WebRTC publisher. Each track counts in RTP timestamps of its own, from a
//! random start; sender reports (RFC 3550 6.4.1) say which of them mean the same moment. Before the first
//! report a track lies where it arrived. Synchronous.

use sluicegate_media::frame::Track;
use sluicegate_rtc::SenderReport;

/// A report that would move a track by more says that the sender's clock was set, not how its tracks relate.
const CLOCK_STEP_US: i64 = 5_000_000;

/// Where the RTP timestamps of a publisher lie on this node's clock.
#[derive(Debug, Default)]
pub(super) struct SenderClock {
    video: Option<Line>,
    audio: Option<Line>,
    /// From the sender's wall clock to this node's, microseconds.
    offset_us: Option<i64>,
}

/// The line through one point, at the track's rate.
#[derive(Debug, Clone, Copy)]
struct Line {
    timestamp: u64,
    at_us: i64,
    hz: u32,
}

impl Line {
    fn at(&self, timestamp: u64) -> i64 {
        let steps = i128::from(timestamp) - i128::from(self.timestamp);
        let us = steps * 1_000_000 / i128::from(self.hz.max(1));
        self.at_us.saturating_add(i64::try_from(us).unwrap_or(0))
    }
}

impl SenderClock {
    /// When a frame with `timestamp`, in steps of `hz`, was captured, in microseconds of this node's clock, by
    /// which it arrived at `arrival_us`.
    pub(super) fn at(&mut self, track: Track, hz: u32, timestamp: u64, arrival_us: i64) -> i64 {
        let line = self.line(track).get_or_insert(Line { timestamp, at_us: arrival_us, hz });
        line.at(timestamp)
    }

    /// Takes a report. The first one moves nothing: it says where the sender's clock lies; the other track
    /// then moves to where it belongs.
    pub(super) fn report(&mut self, report: &SenderReport) {
        let wall_us = i64::try_from(report.wall.as_micros()).unwrap_or(i64::MAX);
        let offset_us = self.offset_us;
        let Some(line) = self.line(report.track) else { return };
        let before_us = line.at(report.timestamp);
        let at_us = offset_us.map(|offset_us| wall_us.saturating_add(offset_us));
        let plausible = at_us.filter(|at_us| at_us.abs_diff(before_us) < CLOCK_STEP_US.unsigned_abs());
        let at_us = plausible.unwrap_or(before_us);
        (line.timestamp, line.at_us) = (report.timestamp, at_us);
        self.offset_us = Some(at_us.saturating_sub(wall_us));
    }

    fn line(&mut self, track: Track) -> &mut Option<Line> {
        match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn report(track: Track, wall_ms: u64, timestamp: u64) -> SenderReport {
        let received = sluicegate_cluster::clock::now();
        SenderReport { track, wall: Duration::from_millis(wall_ms), timestamp, received }
    }

    #[test]
    fn both_tracks_come_to_lie_on_the_senders_clock() {
        let mut clock = SenderClock::default();
        // Captured at the same moment; the sound arrived 80 ms earlier.
        assert_eq!(clock.at(Track::Audio, 48_000, 7_000, 1_000_000), 1_000_000);
        assert_eq!(clock.at(Track::Video, 90_000, 500_000, 1_080_000), 1_080_000);
        clock.report(&report(Track::Audio, 50_000, 7_000));
        assert_eq!(clock.at(Track::Audio, 48_000, 7_000 + 48_000, 0), 2_000_000, "the first moves nothing");
        clock.report(&report(Track::Video, 50_000, 500_000));
        assert_eq!(clock.at(Track::Video, 90_000, 500_000 + 90_000, 0), 2_000_000);
    }

    #[test]
    fn a_clock_that_was_set_moves_neither_track() {
        let mut clock = SenderClock::default();
        clock.at(Track::Audio, 48_000, 0, 0);
        clock.at(Track::Video, 90_000, 0, 0);
        clock.report(&report(Track::Audio, 1_000, 0));
        clock.report(&report(Track::Video, 1_000, 0));
        clock.report(&report(Track::Audio, 3_600_000, 48_000));
        assert_eq!(clock.at(Track::Audio, 48_000, 48_000, 0), 1_000_000);
        clock.report(&report(Track::Video, 3_600_000, 90_000));
        assert_eq!(clock.at(Track::Video, 90_000, 180_000, 0), 2_000_000);
    }

    proptest! {
        #[test]
        fn any_reports_are_survived(reports in proptest::collection::vec(
            (any::<bool>(), any::<u64>(), any::<u64>(), any::<i64>()), 0..50,
        )) {
            let mut clock = SenderClock::default();
            for (video, wall_ms, timestamp, arrival) in reports {
                let track = if video { Track::Video } else { Track::Audio };
                clock.at(track, 90_000, timestamp, arrival);
                clock.report(&report(track, wall_ms, timestamp));
            }
        }
    }
}
