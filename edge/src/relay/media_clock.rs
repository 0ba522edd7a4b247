//! What moment an RTP timestamp means, so that a viewer is sent sender reports on the media's own time: sound
//! and picture belong together by the publisher's clock, not by when their packets happened to arrive.

use std::time::{Duration, Instant};

use sluicegate_media::frame::Track;
use sluicegate_rtc::{Codec, SenderReport};

/// A moment further than this from a packet's arrival is a report's mistake: senders report before they have sent
/// anything, with a timestamp of zero.
const PLAUSIBLE: Duration = Duration::from_secs(10);

/// The clock of one pull.
#[derive(Debug, Default)]
pub(crate) struct MediaClock {
    /// What the publisher's wall clock said at a moment here. Both tracks go by the same.
    base: Option<(Duration, Instant)>,
    video: Line,
    audio: Line,
}

/// One track.
#[derive(Debug, Default)]
struct Line {
    /// By its last report.
    anchor: Option<Anchor>,
    /// Its last packet: when that came.
    newest: Option<Anchor>,
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
            self.base = Some((report.wall, report.received));
            (self.video.anchor, self.audio.anchor) = (None, None);
            return;
        };
        let timestamp = u32::try_from(report.timestamp & u64::from(u32::MAX)).unwrap_or_default();
        let anchor = Anchor { timestamp, moment };
        let line = self.line(report.track);
        // What it says of the last packet that came.
        let said = line
            .newest
            .and_then(|newest| Some((anchor.moment(newest.timestamp, clock_hz(report.track))?, newest)));
        if said.is_some_and(|(said, newest)| distance(said, newest.moment) <= PLAUSIBLE) {
            line.anchor = Some(anchor);
        }
    }

    /// The moment that `timestamp` means, of a packet that was `received` at its own. Until there is a report,
    /// that.
    pub(crate) fn moment(&mut self, track: Track, timestamp: u32, received: Instant) -> Instant {
        let line = self.line(track);
        line.newest = Some(Anchor { timestamp, moment: received });
        let moment = line.anchor.and_then(|anchor| anchor.moment(timestamp, clock_hz(track)));
        let moment = moment.filter(|moment| distance(*moment, received) <= PLAUSIBLE).unwrap_or(received);
        // Nothing was captured after it came. Reports that were under way for longer than this packet move both tracks.
        let early = moment.saturating_duration_since(received);
        if !early.is_zero() {
            self.move_back(early);
        }
        moment.min(received)
    }

    fn move_back(&mut self, by: Duration) {
        let back = |moment: Instant| moment.checked_sub(by).unwrap_or(moment);
        if let Some((_, moment)) = &mut self.base {
            *moment = back(*moment);
        }
        for anchor in [&mut self.video.anchor, &mut self.audio.anchor].into_iter().flatten() {
            anchor.moment = back(anchor.moment);
        }
    }

    fn line(&mut self, track: Track) -> &mut Line {
        match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        }
    }
}

impl Anchor {
    fn moment(self, timestamp: u32, clock_hz: u32) -> Option<Instant> {
        let steps = timestamp.wrapping_sub(self.timestamp).cast_signed();
        let passed = Duration::from_secs_f64(f64::from(steps.unsigned_abs()) / f64::from(clock_hz));
        if steps >= 0 { self.moment.checked_add(passed) } else { self.moment.checked_sub(passed) }
    }
}

fn clock_hz(track: Track) -> u32 {
    match track {
        Track::Video => Codec::H264.clock_hz(),
        Track::Audio => Codec::Opus.clock_hz(),
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
        assert_eq!(media.moment(Track::Video, 90_000, now), now, "nothing is known yet");
        assert_eq!(media.moment(Track::Audio, 48_000, now + 60 * MS), now + 60 * MS);
        media.report(&report(Track::Video, 10_000, 90_000, now));
        // It was under way for longer: that is no difference between the tracks.
        media.report(&report(Track::Audio, 10_020, (1 << 32) + 48_000, now + 70 * MS));
        let late = now + 200 * MS;
        assert_eq!(media.moment(Track::Video, 90_000 + 9_000, late), now + 100 * MS);
        assert_eq!(media.moment(Track::Audio, 48_000 + 480, late), now + 30 * MS);
        assert_eq!(media.moment(Track::Video, 90_000 - 900, late), now.checked_sub(10 * MS).unwrap());
    }

    #[test]
    fn reports_that_cannot_be_are_not_followed() {
        let (mut media, now) = (MediaClock::default(), clock::now());
        media.report(&report(Track::Video, 9_990, 0, now));
        assert_eq!(media.moment(Track::Video, 90_000, now), now, "it had not sent anything");
        media.report(&report(Track::Video, 10_000, 90_000, now + 10 * MS));
        media.report(&report(Track::Video, 10_100, 4_000_000_000, now + 110 * MS));
        assert_eq!(media.moment(Track::Video, 99_000, now + 150 * MS), now + 110 * MS, "the one before is");
        media.report(&report(Track::Video, 3_600_000, 180_000, now + 1_000 * MS));
        let arrived = now + 1_100 * MS;
        assert_eq!(media.moment(Track::Video, 190_000, arrived), arrived);
        media.report(&report(Track::Video, 3_601_000, 270_000, now + 2_000 * MS));
        assert_eq!(media.moment(Track::Video, 279_000, now + 2_150 * MS), now + 2_100 * MS);
        assert_eq!(media.moment(Track::Video, 3_000_000_000, arrived), arrived, "a timestamp that jumped");
    }

    #[test]
    fn nothing_was_captured_after_it_came() {
        let (mut media, now) = (MediaClock::default(), clock::now());
        media.moment(Track::Video, 0, now);
        media.moment(Track::Audio, 0, now);
        // Reports that were under way for 50 ms longer than what follows.
        media.report(&report(Track::Video, 1_000, 0, now + 50 * MS));
        media.report(&report(Track::Audio, 1_000, 0, now + 50 * MS));
        assert_eq!(media.moment(Track::Video, 9_000, now + 110 * MS), now + 110 * MS);
        assert_eq!(media.moment(Track::Audio, 4_800, now + 130 * MS), now + 110 * MS, "both have moved");
    }
}
