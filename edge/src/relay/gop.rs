//! The beginning of the present group of pictures, for viewers who come: as long as it is short, they are sent
//! it at once and see a picture without a keyframe being asked for. A longer one would leave them behind for
//! good, for what is sent later is not faster.

use std::time::Duration;

use super::packet::Packet;

/// What is replayed at most: frames, packets, and the media's time from the first to the last.
const FRAMES_MAX: usize = 3;
const PACKETS_MAX: usize = 96;
const SPAN_MAX: Duration = Duration::from_millis(400);

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
        let span = self
            .packets
            .first()
            .map_or(Duration::ZERO, |first| packet.moment.saturating_duration_since(first.moment));
        if self.frames > FRAMES_MAX || self.packets.len() > PACKETS_MAX || span > SPAN_MAX {
            self.clear();
        }
    }

    /// What a viewer who comes now is sent first: from the keyframe on. Nothing, when it has to wait for the
    /// next.
    pub(crate) fn replay(&self) -> &[Packet] {
        &self.packets
    }

    fn clear(&mut self) {
        self.packets.clear();
        self.frames = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

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
                timestamp: 0,
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
        assert_eq!(run(3, 10, 33).0.replay().len(), 30);
        assert!(run(4, 10, 33).0.replay().is_empty(), "too many frames");
        assert_eq!(run(1, 96, 33).0.replay().len(), 96);
        assert!(run(1, 97, 33).0.replay().is_empty(), "too many packets");
        assert!(run(3, 1, 201).0.replay().is_empty(), "too long ago");
    }

    #[test]
    fn nothing_is_replayed_that_cannot_be_decoded() {
        let (mut gop, start) = run(2, 2, 33);
        let other = Packet { source: 2, begins_keyframe: false, moment: start, ..gop.packets[1].clone() };
        gop.push(&other);
        assert!(gop.replay().is_empty(), "another pull has begun, without a keyframe so far");
        gop.push(&other);
        assert!(gop.replay().is_empty());
        gop.push(&Packet { begins_keyframe: true, ..other });
        assert_eq!(gop.replay().len(), 1);
    }
}
