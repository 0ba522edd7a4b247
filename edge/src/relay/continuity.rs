//! One track as a viewer gets it: sequence numbers without a gap and timestamps without a jump, whichever pull
//! its packets come from and however often that changes.

use std::time::Instant;

use super::packet::Packet;

/// Where a track begins: below half of 16 bits, for the first number that is sent says where counting starts
/// (RFC 3711 section 3.3.1), and one that arrives late must not be taken for a turn of it.
const FIRST_SEQUENCE: u64 = 0x1000;

/// Renumbers one track for one viewer.
#[derive(Debug)]
pub(crate) struct Continuity {
    clock_hz: u32,
    run: Option<Run>,
    /// The one before it, of which a packet may still be lacking.
    before: Option<Run>,
    newest: Option<Newest>,
}

/// What a packet was before it was renumbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Original {
    /// Its pull, and its number there.
    pub(crate) source: u64,
    pub(crate) sequence: u64,
    /// What was added to its timestamp.
    pub(crate) shift: u32,
}

/// The pull that is followed, and what its numbers become.
#[derive(Debug, Clone, Copy)]
struct Run {
    source: u64,
    first: u64,
    becomes: u64,
    /// Added to its timestamps.
    shift: u32,
}

/// The highest that was given out.
#[derive(Debug, Clone, Copy)]
struct Newest {
    sequence: u64,
    timestamp: u32,
    moment: Instant,
}

impl Continuity {
    /// A track whose RTP clock has `clock_hz` steps a second.
    pub(crate) fn new(clock_hz: u32) -> Self {
        Self { clock_hz, run: None, before: None, newest: None }
    }

    /// The sequence number and the timestamp that `packet` is sent with. `None`: it belongs before what the
    /// viewer has of its pull. A packet of another pull than the last begins that one: the moments tell how
    /// far it is from what was sent.
    pub(crate) fn place(&mut self, packet: &Packet) -> Option<(u64, u32)> {
        let run = match self.run.filter(|run| run.source == packet.source) {
            Some(run) => run,
            None => self.begin(packet),
        };
        let since_first = packet.sequence.checked_sub(run.first)?;
        let sequence = run.becomes.checked_add(since_first)?;
        let timestamp = packet.timestamp.wrapping_add(run.shift);
        if self.newest.is_none_or(|newest| sequence > newest.sequence) {
            self.newest = Some(Newest { sequence, timestamp, moment: packet.moment });
        }
        Some((sequence, timestamp))
    }

    /// What was sent under `sequence`.
    pub(crate) fn original(&self, sequence: u64) -> Option<Original> {
        let of = |run: &Run| {
            let sequence = sequence.checked_sub(run.becomes)?.checked_add(run.first)?;
            Some(Original { source: run.source, sequence, shift: run.shift })
        };
        [&self.run, &self.before].into_iter().flatten().find_map(of)
    }

    fn begin(&mut self, packet: &Packet) -> Run {
        let (becomes, timestamp) = match self.newest {
            None => (FIRST_SEQUENCE, packet.timestamp),
            Some(newest) => {
                let passed = packet.moment.saturating_duration_since(newest.moment).as_secs_f64();
                // Of two frames one is later, whatever their clocks say.
                let steps = ((passed * f64::from(self.clock_hz)).round() as u32).max(1);
                (newest.sequence.saturating_add(1), newest.timestamp.wrapping_add(steps))
            }
        };
        let shift = timestamp.wrapping_sub(packet.timestamp);
        let run = Run { source: packet.source, first: packet.sequence, becomes, shift };
        self.before = self.run.replace(run);
        run
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use sluicegate_cluster::clock;
    use sluicegate_media::frame::Track;

    use super::*;

    fn packet(source: u64, sequence: u64, timestamp: u32, moment: Instant) -> Packet {
        Packet {
            track: Track::Video,
            source,
            sequence,
            timestamp,
            marker: false,
            moment,
            begins_keyframe: false,
            audio_only: false,
            payload: Arc::from([].as_slice()),
        }
    }

    #[test]
    fn a_switch_goes_on_where_the_other_pull_ended() {
        let (mut track, start) = (Continuity::new(90_000), clock::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(track.place(&packet(1, 50_000, 700, at(0))), Some((FIRST_SEQUENCE, 700)));
        assert_eq!(track.place(&packet(1, 50_001, 3_700, at(33))), Some((FIRST_SEQUENCE + 1, 3_700)));
        assert_eq!(track.place(&packet(2, 9, 4_000_000_000, at(133))), Some((FIRST_SEQUENCE + 2, 12_700)));
        assert_eq!(track.place(&packet(2, 11, 4_000_003_000, at(166))), Some((FIRST_SEQUENCE + 4, 15_700)));
        assert_eq!(track.place(&packet(2, 10, 4_000_000_000, at(133))), Some((FIRST_SEQUENCE + 3, 12_700)));
        assert_eq!(track.place(&packet(2, 8, 1, at(100))), None, "what came before the switch is not sent");
    }

    #[test]
    fn what_was_sent_is_found_again_across_a_switch() {
        let (mut track, start) = (Continuity::new(90_000), clock::now());
        track.place(&packet(1, 50_000, 700, start));
        track.place(&packet(1, 50_001, 700, start));
        track.place(&packet(2, 9, 1_000, start));
        let original = |source, sequence, shift| Some(Original { source, sequence, shift });
        assert_eq!(track.original(FIRST_SEQUENCE + 1), original(1, 50_001, 0));
        assert_eq!(track.original(FIRST_SEQUENCE + 2), original(2, 9, 701_u32.wrapping_sub(1_000)));
        assert_eq!(track.original(FIRST_SEQUENCE - 1), None);
    }

    #[test]
    fn time_goes_on_even_when_clocks_go_back() {
        let (mut track, start) = (Continuity::new(48_000), clock::now());
        track.place(&packet(1, 0, 960, start + Duration::from_secs(5)));
        assert_eq!(track.place(&packet(2, 0, 5, start)), Some((FIRST_SEQUENCE + 1, 961)));
    }

    proptest! {
        #[test]
        fn what_is_sent_has_no_gap_of_its_own_and_never_repeats(
            runs in proptest::collection::vec((any::<u32>(), any::<u32>(), 1..30_u64, 0..200_u64), 1..20),
        ) {
            let (mut track, mut moment) = (Continuity::new(90_000), clock::now());
            let mut sent: Vec<(u64, u32)> = Vec::new();
            for (source, (first, timestamp, packets, pause_ms)) in (0_u64..).zip(runs) {
                moment += Duration::from_millis(pause_ms);
                for n in 0..packets {
                    let timestamp = timestamp.wrapping_add(3_000 * u32::try_from(n).unwrap());
                    sent.extend(track.place(&packet(source, u64::from(first) + n, timestamp, moment)));
                    moment += Duration::from_millis(33);
                }
            }
            for pair in sent.windows(2) {
                prop_assert_eq!(pair[1].0, pair[0].0 + 1);
                let step = pair[1].1.wrapping_sub(pair[0].1);
                prop_assert!((1..=90_000).contains(&step), "{}", step);
            }
        }
    }
}
