//! One viewer: which of its feeds' packets it is sent, and as what.

use sluicegate_cluster::ids::StreamKey;
use sluicegate_media::frame::Track;
use sluicegate_rtc::{Codec, Negotiated, PacketToSend};

use super::continuity::{Continuity, Original};
use super::feed::{FeedId, Seat};
use super::gop::DrawnTogether;
use super::packet::Packet;

/// A viewer of one stream.
pub(crate) struct Viewer {
    /// Its feed.
    seat: Seat,
    /// The feed of the rendition that it goes to, from that one's next keyframe on.
    next: Option<Seat>,
    has_video: bool,
    is_connected: bool,
    /// Whether a keyframe has come that it could not be sent yet.
    has_waited: bool,
    /// What it was shown first.
    drawn: Option<DrawnTogether>,
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
            next: None,
            has_video: agreed.video.is_some(),
            is_connected: false,
            has_waited: false,
            drawn: None,
            source: None,
            video: Continuity::new(Codec::H264.clock_hz()),
            audio: Continuity::new(Codec::Opus.clock_hz()),
        }
    }

    /// The feed that it watches.
    pub(crate) fn feed(&self) -> FeedId {
        self.seat.feed().id
    }

    /// The stream.
    pub(crate) fn stream(&self) -> &StreamKey {
        &self.seat.feed().name.key
    }

    /// Another rendition of its stream is to be sent: from its next keyframe on, or at once, when the one that is
    /// sent is meant. Returns a feed that is not looked at any more.
    pub(crate) fn go_to(&mut self, seat: Seat) -> Option<FeedId> {
        let left = self.next.take().map(|seat| seat.feed().id).filter(|left| *left != seat.feed().id);
        if seat.feed().id != self.feed() {
            seat.feed().begin_at_a_keyframe();
            self.next = Some(seat);
        }
        left
    }

    /// Whether what comes of `feed` is looked at.
    pub(crate) fn looks_at(&self, feed: FeedId) -> bool {
        self.feed() == feed || self.next.as_ref().is_some_and(|next| next.feed().id == feed)
    }

    /// Media can flow. Returns whether a keyframe has come while it could not.
    pub(crate) fn connect(&mut self) -> bool {
        self.is_connected = true;
        std::mem::take(&mut self.has_waited)
    }

    /// A keyframe that has only just come is kept for it.
    pub(crate) fn wait(&mut self) {
        self.has_waited = self.has_video;
    }

    /// Whether a keyframe is kept for it until media can flow.
    pub(crate) fn waits(&self) -> bool {
        self.has_waited
    }

    /// It cannot go on without a keyframe.
    pub(crate) fn want_keyframe(&self) {
        if self.has_video {
            self.seat.feed().keyframe_wanted.notify_one();
        }
    }

    /// It cannot begin without a keyframe.
    pub(crate) fn await_keyframe(&self) {
        if self.has_video {
            self.seat.feed().begin_at_a_keyframe();
        }
    }

    /// What it is sent of `packets`, which are of `feed`. Returns the feed that it has left for this one.
    pub(crate) fn take(
        &mut self,
        feed: FeedId,
        packets: &[Packet],
        out: &mut Vec<PacketToSend>,
    ) -> Option<FeedId> {
        out.clear();
        if !self.is_connected {
            self.has_waited |= self.has_video && packets.iter().any(|packet| packet.begins_keyframe);
            return None;
        }
        let mut left = None;
        for packet in packets {
            left = self.switch(feed, packet).or(left);
            out.extend(self.place(packet));
        }
        left
    }

    /// Goes to the other rendition, when that begins here. Returns the feed that is left.
    fn switch(&mut self, feed: FeedId, packet: &Packet) -> Option<FeedId> {
        if feed != self.feed() {
            self.next.as_ref().filter(|next| packet.begins_keyframe && next.feed().id == feed)?;
            let left = self.feed();
            self.seat = self.next.take()?;
            self.source = Some(packet.source);
            return Some(left);
        }
        if self.begins(packet) {
            self.source = Some(packet.source);
        }
        None
    }

    fn place(&mut self, packet: &Packet) -> Option<PacketToSend> {
        if self.source != Some(packet.source) {
            return None;
        }
        let track = match packet.track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        };
        let (sequence, timestamp) = track.place(packet)?;
        Some(packet.numbered(sequence, timestamp))
    }

    /// What it was shown first was drawn together so.
    pub(crate) fn was_shown(&mut self, drawn: Option<DrawnTogether>) {
        self.drawn = drawn;
    }

    /// The timestamp of a packet before its track's shift, as this viewer was sent it.
    pub(crate) fn timestamp(&self, packet: &Packet) -> u32 {
        let drawn = self.drawn.filter(|_| packet.track == Track::Video);
        drawn.map_or(packet.timestamp, |drawn| drawn.timestamp(packet))
    }

    /// What it was sent under a number.
    pub(crate) fn original(&self, track: Track, sequence: u64) -> Option<Original> {
        match track {
            Track::Video => self.video.original(sequence),
            Track::Audio => self.audio.original(sequence),
        }
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
            viewer.take(FeedId(1), std::slice::from_ref(packet), out);
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
    fn another_rendition_is_sent_from_its_next_keyframe_on() {
        let mut viewer = viewer(true);
        let mut out = Vec::new();
        let mut taken = |viewer: &mut Viewer, feed, packet: Packet| {
            let left = viewer.take(FeedId(feed), &[packet], &mut out);
            (out.len(), left)
        };
        let video = |source, sequence, key| packet(Track::Video, source, sequence, key);
        // The other rendition has been pulled for longer.
        assert_eq!(taken(&mut viewer, 1, video(5, 0, true)), (1, None));
        let name = FeedName { key: "live/a".parse().unwrap(), rendition: Some("360p600kbps".to_owned()) };
        assert_eq!(viewer.go_to(Feed::new(FeedId(2), name).seat()), None);
        assert!(viewer.looks_at(FeedId(1)) && viewer.looks_at(FeedId(2)) && !viewer.looks_at(FeedId(3)));
        assert_eq!(taken(&mut viewer, 2, video(3, 70, false)), (0, None));
        assert_eq!(taken(&mut viewer, 1, video(5, 1, false)), (1, None));
        assert_eq!(taken(&mut viewer, 2, video(3, 71, true)), (1, Some(FeedId(1))));
        assert_eq!(taken(&mut viewer, 1, video(5, 2, true)), (0, None));
        assert_eq!(taken(&mut viewer, 2, video(3, 72, false)), (1, None));
        assert_eq!(viewer.feed(), FeedId(2));
    }

    #[test]
    fn nothing_is_sent_before_the_connection() {
        let mut viewer = viewer(true);
        viewer.is_connected = false;
        assert!(sent(&mut viewer, &[packet(Track::Video, 1, 0, true)]).is_empty());
        assert!(viewer.waits());
        assert!(viewer.connect());
        assert!(!viewer.waits());
        assert!(sent(&mut viewer, &[packet(Track::Video, 1, 1, false)]).is_empty(), "its keyframe is over");
    }
}
