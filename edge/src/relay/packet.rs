//! A packet as a feed carries it: read once when it comes from the origin, shared by all who are sent it.

use std::sync::Arc;
use std::time::Instant;

use sluicegate_media::frame::Track;
use sluicegate_rtc::PacketToSend;

/// An RTP packet of a feed.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// Its track.
    pub(crate) track: Track,
    /// Which pull brought it. Later pulls have higher numbers; numbers and times of two pulls do not compare.
    pub(crate) source: u64,
    /// The sequence number, continued beyond 16 bits.
    pub(crate) sequence: u64,
    /// The RTP timestamp.
    pub(crate) timestamp: u32,
    /// Video: the last packet of a frame.
    pub(crate) marker: bool,
    /// The moment that the timestamp means.
    pub(crate) moment: Instant,
    /// Video: whether decoding can start with this packet.
    pub(crate) begins_keyframe: bool,
    /// Whether its pull brings no video.
    pub(crate) audio_only: bool,
    /// Without the RTP header.
    pub(crate) payload: Arc<[u8]>,
}

impl Packet {
    /// The packet as it is sent to a viewer.
    pub(crate) fn numbered(&self, sequence: u64, timestamp: u32) -> PacketToSend {
        PacketToSend {
            track: self.track,
            sequence,
            timestamp,
            marker: self.marker,
            moment: self.moment,
            payload: Arc::clone(&self.payload),
        }
    }
}
