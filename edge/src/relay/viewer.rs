//! One viewer: which of a feed's packets it is sent, and as what.

use sluicegate_media::frame::Track;
use sluicegate_rtc::{Codec, Negotiated, PacketToSend};

use super::continuity::Continuity;
use super::feed::{FeedId, Seat};
use super::packet::Packet;

/// A viewer of one stream.
pub(crate) struct Viewer {
    /// Holds its feed.
    seat: Seat,
    has_video: bool,
    is_connected: bool,
    /// The pull whose packets it is sent, once there is one.
    source: Option<u64>,
    video: Continuity,
    audio: Continuity,
}

impl Viewer {
    /// One that has not seen anything.
    pub(crate) fn new(seat: Seat, agreed: Negotiated) -> Self {
        Self {
            seat,
            has_video: agreed.video.is_some(),
            is_connected: false,
            source: None,
            video: Continuity::new(Codec::H264.clock_hz()),
            audio: Continuity::new(Codec::Opus.clock_hz()),
        }
    }

    /// The feed that it watches.
    pub(crate) fn feed(&self) -> FeedId {
        self.seat.feed().id
    }

    /// Media can flow.
    pub(crate) fn connect(&mut self) {
        self.is_connected = true;
    }

    /// It cannot go on, or begin, without a keyframe.
    pub(crate) fn want_keyframe(&self) {
        if self.has_video {
            self.seat.feed().keyframe_wanted.notify_one();
        }
    }

    /// What it is sent of `packets`, which are of its feed.
    pub(crate) fn take(&mut self, packets: &[Packet], out: &mut Vec<PacketToSend>) {
        out.clear();
        if self.is_connected {
            out.extend(packets.iter().filter_map(|packet| self.place(packet)));
        }
    }

    fn place(&mut self, packet: &Packet) -> Option<PacketToSend> {
        if self.begins(packet) {
            self.source = Some(packet.source);
        }
        if self.source != Some(packet.source) {
            return None;
        }
        let track = match packet.track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        };
        let (sequence, timestamp) = track.place(packet)?;
        Some(PacketToSend {
            track: packet.track,
            sequence,
            timestamp,
            marker: packet.marker,
            moment: packet.moment,
            payload: std::sync::Arc::clone(&packet.payload),
        })
    }

    /// Whether it is sent this packet's pull from here on: a later one than it had, where a picture can begin.
    /// What still comes of the earlier one is past.
    fn begins(&self, packet: &Packet) -> bool {
        let is_later = self.source.is_none_or(|source| packet.source > source);
        let without_video = !self.has_video || packet.audio_only;
        is_later && (packet.begins_keyframe || without_video)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluicegate_cluster::clock;

    use super::super::feed::{Feed, FeedName};
    use super::*;

    fn viewer(video: bool) -> Viewer {
        let name = FeedName { key: "live/a".parse().unwrap(), rendition: None };
        let agreed = Negotiated { video: video.then_some(Codec::H264), audio: Some(Codec::Opus) };
        let mut viewer = Viewer::new(Feed::new(FeedId(1), name).seat(), agreed);
        viewer.connect();
        viewer
    }

    fn packet(track: Track, source: u64, sequence: u64, begins_keyframe: bool) -> Packet {
        Packet {
            track,
            source,
            sequence,
            timestamp: 0,
            marker: true,
            moment: clock::now(),
            begins_keyframe,
            audio_only: false,
            payload: Arc::from([].as_slice()),
        }
    }

    /// Which of `packets`, by their place among them, are sent.
    fn sent(viewer: &mut Viewer, packets: &[Packet]) -> Vec<usize> {
        let is_sent = |packet: &Packet, out: &mut Vec<PacketToSend>| {
            viewer.take(std::slice::from_ref(packet), out);
            !out.is_empty()
        };
        let mut out = Vec::new();
        let mut is_sent = is_sent;
        packets.iter().enumerate().filter(|(_, packet)| is_sent(packet, &mut out)).map(|(n, _)| n).collect()
    }

    #[test]
    fn a_viewer_begins_at_a_keyframe_and_so_does_another_pull() {
        use Track::{Audio, Video};
        let mut viewer = viewer(true);
        let packets = [
            packet(Audio, 1, 0, false),
            packet(Video, 1, 0, false),
            packet(Video, 1, 1, true),
            packet(Audio, 1, 1, false),
            packet(Video, 2, 0, false),
            packet(Audio, 2, 0, false),
            packet(Video, 1, 2, false),
            packet(Video, 2, 1, true),
            packet(Video, 1, 3, true),
            packet(Audio, 2, 1, false),
        ];
        assert_eq!(sent(&mut viewer, &packets), [2, 3, 6, 7, 9]);
    }

    #[test]
    fn without_a_picture_nothing_is_waited_for() {
        let mut listener = viewer(false);
        assert_eq!(sent(&mut listener, &[packet(Track::Audio, 1, 0, false)]), [0]);
        let radio = Packet { audio_only: true, ..packet(Track::Audio, 1, 0, false) };
        assert_eq!(sent(&mut viewer(true), &[radio]), [0]);
    }

    #[test]
    fn nothing_is_sent_before_the_connection() {
        let mut viewer = viewer(true);
        viewer.is_connected = false;
        assert!(sent(&mut viewer, &[packet(Track::Video, 1, 0, true)]).is_empty());
        viewer.connect();
        assert!(sent(&mut viewer, &[packet(Track::Video, 1, 1, false)]).is_empty(), "its keyframe is over");
    }
}
