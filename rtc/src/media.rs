//! What sessions carry: whole frames, or RTP packets as they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_media::frame::Track;

use crate::error::Ended;

/// Which way media flows, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The other side publishes (WHIP), or is pulled from.
    Receive,
    /// The other side views (WHEP), or is published to.
    Send,
}

/// In what a session deals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Whole frames: packets are put in order, losses repaired, payloads taken apart and put together.
    Frames,
    /// RTP packets as they come, in the order they come, their payloads shared. Numbers and times are the caller's
    /// to keep continuous, and packets to keep for who lacks one ([`Event::PacketLost`]).
    Packets,
}

/// A codec that can be negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264, packetization-mode 1 (RFC 6184).
    H264,
    /// VP8 (RFC 7741). Received only.
    Vp8,
    /// Opus (RFC 7587).
    Opus,
}

impl Codec {
    /// Its track.
    #[must_use]
    pub fn track(self) -> Track {
        match self {
            Self::H264 | Self::Vp8 => Track::Video,
            Self::Opus => Track::Audio,
        }
    }

    /// Steps of its RTP clock in a second.
    #[must_use]
    pub fn clock_hz(self) -> u32 {
        match self {
            Self::H264 | Self::Vp8 => 90_000,
            Self::Opus => 48_000,
        }
    }
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Negotiated {
    /// The video's codec, if there is video.
    pub video: Option<Codec>,
    /// The audio's codec, if there is audio.
    pub audio: Option<Codec>,
}

impl Negotiated {
    /// The codec of a track.
    #[must_use]
    pub fn codec(&self, track: Track) -> Option<Codec> {
        match track {
            Track::Video => self.video,
            Track::Audio => self.audio,
        }
    }
}

/// What happens in a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// ICE and DTLS are done: media can flow.
    Connected,
    /// A frame came ([`Delivery::Frames`]).
    Frame(ReceivedFrame),
    /// A packet came ([`Delivery::Packets`]).
    Packet(ReceivedPacket),
    /// How the publisher's clocks relate.
    SenderReport(SenderReport),
    /// The other side cannot go on decoding without a keyframe (PLI or FIR).
    KeyframeRequested,
    /// The other side lacks a packet that it was sent ([`Delivery::Packets`]). It is sent again by
    /// [`crate::Sessions::repeat_packet`].
    PacketLost {
        /// Its track.
        track: Track,
        /// Its sequence number.
        sequence: u64,
    },
    /// What can be sent, by transport-wide feedback, or by what the other side says where it has none.
    Bandwidth {
        /// Bits a second.
        bps: u64,
    },
    /// The session is over. Nothing follows.
    Ended(Ended),
}

/// A frame that was put together.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedFrame {
    /// Its codec.
    pub codec: Codec,
    /// The RTP timestamp, continued beyond 32 bits, in the codec's clock.
    pub timestamp: u64,
    /// Whether decoding can start here; always so for audio.
    pub keyframe: bool,
    /// Whether nothing was lost before it.
    pub contiguous: bool,
    /// H.264: NAL units after start codes (Annex B). VP8 and Opus: as they are.
    pub payload: Arc<[u8]>,
    /// When its first packet came.
    pub received: Instant,
}

/// An RTP packet that came.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedPacket {
    /// Its codec.
    pub codec: Codec,
    /// The sequence number, continued beyond 16 bits.
    pub sequence: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// Video: the last packet of a frame.
    pub marker: bool,
    /// Without the RTP header.
    pub payload: Arc<[u8]>,
    /// When it came.
    pub received: Instant,
}

/// RTCP's sender report (RFC 3550 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// Whose clock.
    pub track: Track,
    /// The sender's wall clock, since 1970.
    pub wall: Duration,
    /// The RTP timestamp of that moment, continued beyond 32 bits, in the codec's clock.
    pub timestamp: u64,
    /// When it came.
    pub received: Instant,
}

/// A frame to send.
#[derive(Debug, Clone)]
pub struct FrameToSend {
    /// Its track.
    pub track: Track,
    /// The RTP timestamp, in the codec's clock; may run beyond 32 bits.
    pub timestamp: u64,
    /// The moment that the timestamp means, for sender reports.
    pub moment: Instant,
    /// H.264: NAL units after start codes (Annex B). Opus: a packet.
    pub payload: Arc<[u8]>,
}

/// An RTP packet to send.
#[derive(Debug, Clone)]
pub struct PacketToSend {
    /// Its track.
    pub track: Track,
    /// The sequence number, continued beyond 16 bits: the first one below 65,536. One that was sent already, or
    /// lies more than 1,024 back, is not sent.
    pub sequence: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// Video: the last packet of a frame.
    pub marker: bool,
    /// The moment that the timestamp means, for sender reports.
    pub moment: Instant,
    /// Without the RTP header. Shared between all who are sent it.
    pub payload: Arc<[u8]>,
}
