//! What was sent of a feed's picture lately, for viewers who lack a packet of it: one history for all viewers that a
//! shard has of it, however many there are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::packet::Packet;

/// What is kept at most: packets, and for how long. Who asks later has no use for it any more.
const PACKETS_MAX: usize = 1_024;
const KEPT_FOR: Duration = Duration::from_secs(1);

/// The newest packets of a feed's video.
#[derive(Debug, Default)]
pub(crate) struct History {
    packets: VecDeque<(Instant, Packet)>,
}

impl History {
    /// Keeps a packet that is sent now.
    pub(crate) fn push(&mut self, packet: &Packet, now: Instant) {
        let is_old = |(at, _): &(Instant, Packet)| now.saturating_duration_since(*at) > KEPT_FOR;
        while self.packets.len() >= PACKETS_MAX || self.packets.front().is_some_and(is_old) {
            self.packets.pop_front();
        }
        self.packets.push_back((now, packet.clone()));
    }

    /// The packet of that number of a pull.
    pub(crate) fn find(&self, source: u64, sequence: u64) -> Option<&Packet> {
        let found = |packet: &&Packet| packet.source == source && packet.sequence == sequence;
        // Of two with one number the first is the one that was sent.
        self.packets.iter().map(|(_, packet)| packet).find(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluicegate_cluster::clock;
    use sluicegate_media::frame::Track;

    use super::*;

    fn packet(source: u64, sequence: u64) -> Packet {
        Packet {
            track: Track::Video,
            source,
            sequence,
            timestamp: 0,
            marker: false,
            moment: clock::now(),
            begins_keyframe: false,
            audio_only: false,
            payload: Arc::from(sequence.to_be_bytes()),
        }
    }

    #[test]
    fn packets_are_found_by_their_pull_and_number_for_a_while() {
        let (mut history, now) = (History::default(), clock::now());
        for sequence in 0..10 {
            history.push(&packet(1, sequence), now);
        }
        history.push(&packet(2, 5), now + KEPT_FOR);
        let found = |history: &History, source, sequence| {
            history.find(source, sequence).map(|packet| packet.payload.to_vec())
        };
        assert_eq!(found(&history, 1, 5), Some(5_u64.to_be_bytes().to_vec()));
        assert_eq!(found(&history, 2, 5), Some(5_u64.to_be_bytes().to_vec()));
        assert_eq!((found(&history, 2, 6), found(&history, 3, 5)), (None, None));
        history.push(&packet(2, 6), now + KEPT_FOR + Duration::from_millis(1));
        assert_eq!(found(&history, 1, 5), None, "it is over");
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let (mut history, now) = (History::default(), clock::now());
        for sequence in 0..3_000 {
            history.push(&packet(1, sequence), now);
        }
        assert_eq!(history.packets.len(), PACKETS_MAX);
        assert!(history.find(1, 3_000 - PACKETS_MAX as u64).is_some());
    }
}
