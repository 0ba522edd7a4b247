//! What moment an RTP timestamp means, so that a viewer is sent sender reports on the media's own time: sound
//! and picture belong together by the publisher's clock, not by when their packets happened to arrive.

use std::time::{Duration, Instant};

use sluicegate_media::frame::Track;
use sluicegate_rtc::{Codec, SenderReport};

/// A moment further than this from a packet's arrival is a report's mistake.
const PLAUSIBLE: Duration = Duration::from_secs(10);

/// The clock of one pull.
#[derive(Debug, Default)]
pub(crate) struct MediaClock {
    /// What the publisher's wall clock said at a moment here. Both tracks go by the same.
    base: Option<(Duration, Instant)>,
    video: Option<Anchor>,
    audio: Option<Anchor>,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    timestamp: u32,
    moment: Instant,
}

impl MediaClock {
    /// A sender report came.
    pub(crate) fn report(&mut self, report: &SenderReport) {
        let (wall, moment) = *self.base.get_or_insert((report.wall, report.received));
        let moment = if report.wall >= wall {
            moment.checked_add(report.wall.saturating_sub(wall))
        } else {
            moment.checked_sub(wall.saturating_sub(report.wall))
        };
        let Some(moment) = moment.filter(|moment| distance(*moment, report.received) <= PLAUSIBLE) else {
            // The publisher's wall clock was set: it counts from here on.
            *self = Self { base: Some((report.wall, report.received)), ..Self::default() };
            return;
        };
        let timestamp = u32::try_from(report.timestamp & u64::from(u32::MAX)).unwrap_or_default();
        *self.anchor(report.track) = Some(Anchor { timestamp, moment });
    }

    /// The moment that `timestamp` means, of a packet that was `received` at its own. Until there is a report,
    /// that.
    pub(crate) fn moment(&self, codec: Codec, timestamp: u32, received: Instant) -> Instant {
        let anchor = match codec.track() {
            Track::Video => self.video,
            Track::Audio => self.audio,
        };
        let moment = anchor.and_then(|anchor| {
            let steps = timestamp.wrapping_sub(anchor.timestamp).cast_signed();
            let passed =
                Duration::from_secs_f64(f64::from(steps.unsigned_abs()) / f64::from(codec.clock_hz()));
            if steps >= 0 { anchor.moment.checked_add(passed) } else { anchor.moment.checked_sub(passed) }
        });
        moment.filter(|moment| distance(*moment, received) <= PLAUSIBLE).unwrap_or(received)
    }

    fn anchor(&mut self, track: Track) -> &mut Option<Anchor> {
        match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        }
    }
}

fn distance(a: Instant, b: Instant) -> Duration {
    a.saturating_duration_since(b).max(b.saturating_duration_since(a))
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn report(track: Track, wall_ms: u32, timestamp: u64, received: Instant) -> SenderReport {
        SenderReport { track, wall: wall_ms * MS, timestamp, received }
    }

    #[test]
    fn both_tracks_go_by_the_publishers_clock() {
        let (mut media, now) = (MediaClock::default(), clock::now());
        assert_eq!(media.moment(Codec::H264, 5, now), now, "nothing is known yet");
        media.report(&report(Track::Video, 10_000, 90_000, now));
        // It was under way for longer: that is no difference between the tracks.
        media.report(&report(Track::Audio, 10_020, (1 << 32) + 48_000, now + 70 * MS));
        let late = now + 200 * MS;
        assert_eq!(media.moment(Codec::H264, 90_000 + 9_000, late), now + 100 * MS);
        assert_eq!(media.moment(Codec::Opus, 48_000 + 480, late), now + 30 * MS);
        assert_eq!(media.moment(Codec::H264, 90_000 - 900, late), now.checked_sub(10 * MS).unwrap());
    }

    #[test]
    fn reports_that_cannot_be_are_not_followed() {
        let (mut media, now) = (MediaClock::default(), clock::now());
        media.report(&report(Track::Video, 10_000, 90_000, now));
        media.report(&report(Track::Video, 3_600_000, 180_000, now + 1_000 * MS));
        let arrived = now + 1_100 * MS;
        assert_eq!(media.moment(Codec::H264, 190_000, arrived), arrived);
        media.report(&report(Track::Video, 3_601_000, 270_000, now + 2_000 * MS));
        assert_eq!(media.moment(Codec::H264, 279_000, now + 2_150 * MS), now + 2_100 * MS);
        assert_eq!(media.moment(Codec::H264, 3_000_000_000, arrived), arrived, "a timestamp that jumped");
    }
}
