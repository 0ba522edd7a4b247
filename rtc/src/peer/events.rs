//! What the engine says, in this crate's words.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sluicegate_media::frame::Track;
use str0m::IceConnectionState;
use str0m::media::{MediaData, Mid};
use str0m::rtp::RtpPacket;

use super::{Line, Peer, config};
use crate::error::Ended;
use crate::media::{Codec, Event, ReceivedFrame, ReceivedPacket, SenderReport};
use crate::sender::Sender;

impl Peer {
    pub(super) fn understand(&mut self, event: str0m::Event, now: Instant) -> Option<Event> {
        match event {
            str0m::Event::Connected => {
                self.connected = true;
                let is_ready = self.sender.as_mut().is_none_or(Sender::connect);
                Some(if is_ready { Event::Connected } else { Event::Ended(Ended::Failed) })
            }
            str0m::Event::Closed => self.ended.is_none().then_some(Event::Ended(Ended::ClosedByPeer)),
            str0m::Event::IceConnectionStateChange(state) => {
                self.silent_since = match state {
                    IceConnectionState::Disconnected => self.silent_since.or(Some(now)),
                    _ => None,
                };
                None
            }
            str0m::Event::MediaData(data) => self.frame(&data).map(Event::Frame),
            str0m::Event::RtpPacket(packet) => self.packet(&packet).map(Event::Packet),
            str0m::Event::SenderFeedback(feedback) => {
                let info = feedback.sender_info;
                self.report(feedback.mid, info.ntp_time, info.rtp_time.numer(), feedback.received_at)
            }
            str0m::Event::KeyframeRequest(_) => Some(Event::KeyframeRequested),
            _ => None,
        }
    }

    fn frame(&mut self, data: &MediaData) -> Option<ReceivedFrame> {
        let codec = config::codec(data.params.spec().codec)?;
        let line = self.line_by_mid(data.mid)?;
        line.newest = data.time.numer();
        Some(ReceivedFrame {
            codec,
            timestamp: data.time.numer(),
            keyframe: codec == Codec::Opus || data.is_keyframe(),
            contiguous: data.contiguous,
            payload: Arc::clone(&data.data),
            received: data.network_time,
        })
    }

    fn packet(&mut self, packet: &RtpPacket) -> Option<ReceivedPacket> {
        let params = self.rtc.codec_config().params();
        let spec = params.iter().find(|p| p.pt() == packet.header.payload_type)?.spec();
        let codec = config::codec(spec.codec)?;
        let line = match codec.track() {
            Track::Video => self.video.as_mut(),
            Track::Audio => self.audio.as_mut(),
        }?;
        line.newest = packet.time.numer();
        Some(ReceivedPacket {
            codec,
            sequence: *packet.seq_no,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload: Arc::clone(&packet.payload),
            received: packet.timestamp,
        })
    }

    fn report(&mut self, mid: Mid, wall: SystemTime, timestamp: u64, received: Instant) -> Option<Event> {
        let line = self.line_by_mid(mid)?;
        let wall = wall.duration_since(UNIX_EPOCH).ok()?;
        let timestamp = continued(line.newest, timestamp);
        Some(Event::SenderReport(SenderReport { track: line.codec.track(), wall, timestamp, received }))
    }

    fn line_by_mid(&mut self, mid: Mid) -> Option<&mut Line> {
        [&mut self.video, &mut self.audio].into_iter().flatten().find(|line| line.mid == mid)
    }
}

/// The timestamp nearest to `near` whose low 32 bits are those of `timestamp`.
fn continued(near: u64, timestamp: u64) -> u64 {
    let low = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
    let step = low(timestamp).wrapping_sub(low(near)).cast_signed();
    near.saturating_add_signed(step.into())
}

#[cfg(test)]
mod tests {
    use super::continued;

    #[test]
    fn a_report_lies_near_the_frames_it_is_about() {
        let turn = 1_u64 << 32;
        assert_eq!(continued(turn + 5, 3), turn + 3);
        assert_eq!(continued(turn + 5, turn - 3), turn - 3);
        assert_eq!(continued(turn - 5, 4), turn + 4);
        assert_eq!(continued(2, turn - 1), 0, "before the beginning there is nothing");
    }
}
