//! The beginning of the present group of pictures, for viewers who come: as long as it is short, they are sent
//! it at once and see a picture without a keyframe being asked for. A longer one is kept for those only who had asked
//! for the stream before it began and whose connection took that long: its keyframe is the one that they wait for.

use std::time::Duration;

use sluicegate_rtc::Codec;

use super::packet::Packet;

/// How much of a group of pictures is replayed at most.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    frames: usize,
    packets: usize,
    /// The media's time from the first to the last.
    span: Duration,
}

/// To whoever comes.
const FOR_ANYBODY: Bounds = Bounds { frames: 3, packets: 96, span: Duration::from_millis(400) };
/// To who was there when it began: what a slow handshake takes, of a stream of 6 Mbit/s.
const FOR_WAITING: Bounds = Bounds { frames: 128, packets: 1_024, span: Duration::from_secs(2) };
/// What is replayed is shown within this time, however long it took to come: a viewer would stay behind by the rest
/// for good, for what is sent later is not faster.
const SHOWN_WITHIN: Duration = Duration::from_millis(100);

/// How what was replayed was drawn together in time: a packet that is sent again has to be the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrawnTogether {
    source: u64,
    /// Numbers and times up to this packet's.
    newest: u64,
    timestamp: u32,
    /// Of the time before that.
    share: f64,
}

/// The video's packets since the last keyframe began, while they are few.
#[derive(Debug, Default)]
pub(crate) struct Gop {
    packets: Vec<Packet>,
    frames: usize,
}

impl Gop {
    /// Takes a packet of the video.
    pub(crate) fn push(&mut self, packet: &Packet) {
        if packet.begins_keyframe {
            self.clear();
        } else if self.packets.is_empty() {
            return;
        }
        if self.packets.first().is_some_and(|first| first.source != packet.source) {
            return self.clear();
        }
        self.frames += usize::from(packet.marker);
        self.packets.push(packet.clone());
        if !self.is_within(FOR_WAITING) {
            self.clear();
        }
    }

    /// Whether there is a keyframe that has only just come.
    pub(crate) fn has_begun(&self) -> bool {
        !self.packets.is_empty()
    }

    /// Nobody waits for what it has: it is kept for anybody who comes, while it is short.
    pub(crate) fn nobody_waits(&mut self) {
        if !self.is_within(FOR_ANYBODY) {
            self.clear();
        }
    }

    /// What a viewer whose connection is there now is sent first: from the keyframe on. Nothing, when it has to wait for
    /// the next. `has_waited`: it was there already when the keyframe came.
    pub(crate) fn replay(&self, has_waited: bool) -> (Vec<Packet>, Option<DrawnTogether>) {
        if !has_waited && !self.is_within(FOR_ANYBODY) {
            return (Vec::new(), None);
        }
        let drawn = DrawnTogether::of(&self.packets);
        (shown(&self.packets, drawn.as_ref()), drawn)
    }

    fn is_within(&self, bounds: Bounds) -> bool {
        self.frames <= bounds.frames
            && self.packets.len() <= bounds.packets
            && span(&self.packets) <= bounds.span
    }

    fn clear(&mut self) {
        self.packets.clear();
        self.frames = 0;
    }
}

fn span(packets: &[Packet]) -> Duration {
    packets.first().zip(packets.last()).map_or(Duration::ZERO, |(first, last)| passed(steps(first, last)))
}

/// From one packet of the video to another of the same pull, by the clock of their timestamps.
fn steps(from: &Packet, to: &Packet) -> u32 {
    to.timestamp.wrapping_sub(from.timestamp)
}

fn passed(steps: u32) -> Duration {
    Duration::from_secs_f64(f64::from(steps) / f64::from(Codec::H264.clock_hz()))
}

impl DrawnTogether {
    /// How `packets` are, when they lie too far apart.
    fn of(packets: &[Packet]) -> Option<Self> {
        let (last, span) = (packets.last()?, span(packets));
        let share = SHOWN_WITHIN.div_duration_f64(span);
        let drawn = Self { source: last.source, newest: last.sequence, timestamp: last.timestamp, share };
        (span > SHOWN_WITHIN).then_some(drawn)
    }

    /// The timestamp that a packet of the video was replayed with, or its own where it was not.
    pub(crate) fn timestamp(&self, packet: &Packet) -> u32 {
        if packet.source != self.source || packet.sequence > self.newest {
            return packet.timestamp;
        }
        let before = f64::from(self.timestamp.wrapping_sub(packet.timestamp)) * self.share;
        self.timestamp.wrapping_sub(before.round() as u32)
    }
}

/// `packets` at the times that they are shown.
fn shown(packets: &[Packet], drawn: Option<&DrawnTogether>) -> Vec<Packet> {
    let Some((drawn, last)) = drawn.zip(packets.last()) else { return packets.to_vec() };
    let at = |packet: &Packet| {
        let timestamp = drawn.timestamp(packet);
        let earlier = passed(last.timestamp.wrapping_sub(timestamp));
        let moment = last.moment.checked_sub(earlier).unwrap_or(last.moment);
        Packet { timestamp, moment, ..packet.clone() }
    };
    packets.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use proptest::prelude::*;
    use sluicegate_cluster::clock;
    use sluicegate_media::frame::Track;

    use super::*;

    /// Frames of `packets` packets each, one every `every_ms`, the first being a keyframe.
    fn run(frames: u64, packets: u64, every_ms: u64) -> (Gop, Instant) {
        let (mut gop, start) = (Gop::default(), clock::now());
        for n in 0..frames * packets {
            let frame = n / packets;
            gop.push(&Packet {
                track: Track::Video,
                source: 1,
                sequence: n,
                timestamp: u32::MAX.wrapping_add(u32::try_from(frame * every_ms * 90).unwrap()),
                marker: n % packets == packets - 1,
                moment: start + Duration::from_millis(frame * every_ms),
                begins_keyframe: n == 0,
                audio_only: false,
                payload: Arc::from([].as_slice()),
            });
        }
        (gop, start)
    }

    #[test]
    fn a_short_beginning_is_replayed_and_a_long_one_is_not() {
        assert_eq!(run(3, 10, 33).0.replay(false).0.len(), 30);
        assert!(run(4, 10, 33).0.replay(false).0.is_empty(), "too many frames");
        assert_eq!(run(1, 96, 33).0.replay(false).0.len(), 96);
        assert!(run(1, 97, 33).0.replay(false).0.is_empty(), "too many packets");
        assert!(run(3, 1, 201).0.replay(false).0.is_empty(), "too long ago");
    }

    #[test]
    fn a_longer_one_is_kept_for_who_waited_for_it() {
        let (mut gop, _) = run(40, 10, 33);
        assert_eq!(gop.replay(true).0.len(), 400);
        gop.nobody_waits();
        assert!(gop.replay(true).0.is_empty());
        let (mut short, _) = run(3, 10, 33);
        short.nobody_waits();
        assert_eq!(short.replay(true).0.len(), 30);
        assert!(run(1, 1_025, 33).0.replay(true).0.is_empty(), "too many packets");
        assert!(run(129, 1, 1).0.replay(true).0.is_empty(), "too many frames");
        assert!(run(3, 1, 1_001).0.replay(true).0.is_empty(), "too long ago");
    }

    #[test]
    fn nothing_is_replayed_that_cannot_be_decoded() {
        let (mut gop, start) = run(2, 2, 33);
        let other = Packet { source: 2, begins_keyframe: false, moment: start, ..gop.packets[1].clone() };
        gop.push(&other);
        assert!(gop.replay(true).0.is_empty(), "another pull has begun, without a keyframe so far");
        gop.push(&other);
        assert!(gop.replay(true).0.is_empty());
        gop.push(&Packet { begins_keyframe: true, ..other });
        assert_eq!(gop.replay(true).0.len(), 1);
    }

    proptest! {
        #[test]
        fn a_replay_is_shown_at_once_and_in_order(frames in 1..128_u64, every_ms in 1..100_u64) {
            let (gop, _) = run(frames, 2, every_ms);
            let (kept, (replayed, drawn)) = (&gop.packets, gop.replay(true));
            prop_assert_eq!(kept.last().map(|p| (p.timestamp, p.moment)), replayed.last().map(|p| (p.timestamp, p.moment)));
            prop_assert!(span(&replayed) <= SHOWN_WITHIN.max(Duration::from_millis(1)));
            for (kept, replayed) in kept.iter().zip(&replayed) {
                let again = drawn.map_or(kept.timestamp, |drawn| drawn.timestamp(kept));
                prop_assert_eq!(again, replayed.timestamp, "it is the same when it is sent again");
            }
            for (before, after) in kept.windows(2).zip(replayed.windows(2)) {
                let step = |pair: &[Packet]| pair[1].timestamp.wrapping_sub(pair[0].timestamp);
                prop_assert_eq!(step(before) == 0, step(after) == 0, "a frame has one timestamp");
                prop_assert!(step(after) <= step(before));
            }
        }
    }
}
