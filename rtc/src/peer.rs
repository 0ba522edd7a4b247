//! One session: str0m and what is known of it. No sockets and no clocks. Every change is followed by a
//! drain of what it brought about, which is str0m's one condition.

mod config;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use sluicegate_media::frame::Track;
use str0m::bwe::{Bitrate, BweKind};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{
    Direction as MediaDirection, Frequency, KeyframeRequestKind, MediaData, MediaKind, MediaTime, Mid, Pt,
};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, IceConnectionState, IceCreds, Input, Output, Rtc, RtcError};

pub(crate) use config::Certificate;

use crate::error::{Ended, Refused};
use crate::limits;
use crate::media::{
    Codec, Delivery, Direction, Event, FrameToSend, Negotiated, PacketToSend, ReceivedFrame, ReceivedPacket,
    SenderReport,
};
use crate::outbox::Outbox;
use crate::sdp;

/// How a session is to be.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions {
    /// Which way media flows.
    pub direction: Direction,
    /// In what it deals.
    pub delivery: Delivery,
    /// Sending: where the estimate of what can be sent begins, bits a second. `None`: nothing is estimated,
    /// and packets leave as they are given.
    pub estimate_from_bps: Option<u64>,
}

/// A session.
pub(crate) struct Peer {
    rtc: Rtc,
    options: SessionOptions,
    /// The address that str0m knows this end by, of each family.
    local: Vec<SocketAddr>,
    video: Option<Line>,
    audio: Option<Line>,
    pending: Option<SdpPendingOffer>,
    remote_ufrag: String,
    connected: bool,
    silent_since: Option<Instant>,
    keyframe_asked: Option<Instant>,
    ended: Option<Ended>,
}

/// One track.
struct Line {
    mid: Mid,
    codec: Codec,
    /// The payload type that is sent.
    pt: Pt,
    /// The newest timestamp that came.
    newest: u64,
}

/// Where what a session brings about goes.
pub(crate) struct Sink<'a> {
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) events: &'a mut dyn FnMut(Event),
}

impl Peer {
    /// A session that answers `offer` as an ICE-lite server, reached at `local`. What it is, and the answer.
    pub(crate) fn answer(
        offer: &str,
        options: SessionOptions,
        credentials: &IceCreds,
        local: &[SocketAddr],
        certificate: &Certificate,
        now: Instant,
    ) -> Result<(Self, String), Refused> {
        let offer = sdp::outline(offer)?;
        let preferred = Self::answer_with(false, &offer, options, credentials, local, certificate, now);
        let is_enough = preferred.as_ref().is_ok_and(|(peer, _)| peer.video.is_some());
        // H.264 needs no transcoding: VP8 is taken from who has nothing else.
        if is_enough || options.direction == Direction::Send || !offer.contains("VP8/90000") {
            return preferred;
        }
        Self::answer_with(true, &offer, options, credentials, local, certificate, now)
    }

    fn answer_with(
        vp8: bool,
        offer: &str,
        options: SessionOptions,
        credentials: &IceCreds,
        local: &[SocketAddr],
        certificate: &Certificate,
        now: Instant,
    ) -> Result<(Self, String), Refused> {
        let rtc = config::server(options, credentials, certificate).enable_vp8(vp8).build(now);
        let mut peer = Self::new(rtc, options, local);
        peer.add_candidates();
        peer.remote_ufrag = sdp::value(offer, "a=ice-ufrag:").unwrap_or_default().to_owned();
        let answered = peer.guarded(|rtc| {
            let offer = SdpOffer::from_sdp_string(offer).map_err(RtcError::Sdp)?;
            rtc.sdp_api().accept_offer(offer)
        });
        let answer = answered.map_err(Refused::Malformed)?;
        let answer = answer.to_sdp_string();
        peer.settle(&answer)?;
        Ok((peer, answer))
    }

    /// A session that makes an offer. What it is, and the offer.
    pub(crate) fn offer(
        options: SessionOptions,
        local: &[SocketAddr],
        now: Instant,
    ) -> Result<(Self, String), Refused> {
        let mut peer = Self::new(config::client(options).build(now), options, local);
        peer.add_candidates();
        let direction = match options.direction {
            Direction::Receive => MediaDirection::RecvOnly,
            Direction::Send => MediaDirection::SendOnly,
        };
        let offered = peer.guarded(|rtc| {
            let mut changes = rtc.sdp_api();
            for kind in [MediaKind::Video, MediaKind::Audio] {
                changes.add_media(kind, direction, Some("sluicegate".to_owned()), None, None);
            }
            Ok(changes.apply())
        });
        let (sdp, pending) =
            offered.map_err(Refused::Malformed)?.ok_or(Refused::Unsupported("nothing to offer"))?;
        peer.pending = Some(pending);
        peer.drain_negotiation()?;
        Ok((peer, sdp.to_sdp_string()))
    }

    /// Takes the answer to its offer.
    pub(crate) fn accept_answer(&mut self, answer: &str) -> Result<(), Refused> {
        if answer.len() > limits::SDP_BYTES {
            return Err(Refused::TooLong);
        }
        let pending = self.pending.take().ok_or(Refused::Unsupported("no answer is awaited"))?;
        let accepted = self.guarded(|rtc| {
            let answer = SdpAnswer::from_sdp_string(answer).map_err(RtcError::Sdp)?;
            rtc.sdp_api().accept_answer(pending, answer)
        });
        accepted.map_err(Refused::Malformed)?;
        self.settle(answer)
    }

    /// What was agreed on.
    pub(crate) fn negotiated(&self) -> Negotiated {
        let codec = |line: &Option<Line>| line.as_ref().map(|line| line.codec);
        Negotiated { video: codec(&self.video), audio: codec(&self.audio) }
    }

    /// Whether ICE and DTLS are done.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Why it ended, once it has.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Ends it.
    pub(crate) fn end(&mut self, why: Ended, sink: &mut Sink<'_>) {
        if self.ended.is_some() {
            return;
        }
        if self.guarded(Rtc::close).is_ok() {
            self.drain_quietly(sink.outbox);
        }
        self.ended = Some(why);
        (sink.events)(Event::Ended(why));
    }

    /// ICE restart (RFC 9725 4.3.3): new credentials of both sides; what flows goes on flowing meanwhile.
    pub(crate) fn restart_ice(&mut self, local: &IceCreds, remote: &IceCreds) -> Result<(), Refused> {
        let restarted = self.guarded(|rtc| {
            rtc.direct_api().set_local_ice_credentials(local.clone());
            rtc.direct_api().set_remote_ice_credentials(remote.clone());
            Ok(())
        });
        restarted.map_err(Refused::Malformed)?;
        self.remote_ufrag = remote.ufrag.clone();
        Ok(())
    }

    /// Whether `remote` are the credentials of the ICE session that runs.
    pub(crate) fn is_ice_session(&self, remote: &IceCreds) -> bool {
        self.remote_ufrag == remote.ufrag
    }

    /// The first track's name in the description.
    pub(crate) fn first_mid(&self) -> String {
        [&self.video, &self.audio]
            .into_iter()
            .flatten()
            .map(|line| line.mid.to_string())
            .min()
            .unwrap_or_default()
    }

    /// Whether a datagram is for this session: an ICE check that knows its password, or anything from an
    /// address which such a check came from.
    pub(crate) fn accepts(&self, source: SocketAddr, datagram: &[u8], now: Instant) -> bool {
        self.input(source, datagram, now).is_some_and(|input| self.rtc.accepts(&input))
    }

    /// Takes a datagram.
    pub(crate) fn receive(
        &mut self,
        source: SocketAddr,
        datagram: &[u8],
        now: Instant,
        sink: &mut Sink<'_>,
    ) -> Instant {
        let local = self.local_for(source);
        let taken = self.guarded(|rtc| match Receive::new(Protocol::Udp, source, local, datagram) {
            Ok(receive) => rtc.handle_input(Input::Receive(now, receive)),
            // One damaged datagram says nothing of the session.
            Err(_) => Ok(()),
        });
        self.after(taken, now, sink)
    }

    /// Time has passed. When it wants to be told again.
    pub(crate) fn timeout(&mut self, now: Instant, sink: &mut Sink<'_>) -> Instant {
        let taken = self.guarded(|rtc| rtc.handle_input(Input::Timeout(now)));
        self.after(taken, now, sink)
    }

    /// Sends packets, those of one frame at once if possible ([`Delivery::Packets`]).
    pub(crate) fn send_packets(
        &mut self,
        packets: &[PacketToSend],
        now: Instant,
        sink: &mut Sink<'_>,
    ) -> Instant {
        for packet in packets {
            let Some((mid, pt)) = self.line(packet.track).map(|line| (line.mid, line.pt)) else { continue };
            let write = RtpWrite::new(
                pt,
                packet.sequence.into(),
                packet.timestamp,
                packet.moment,
                std::sync::Arc::clone(&packet.payload),
            );
            let write = write.marker(packet.marker).nackable(packet.track == Track::Video);
            let written = self.guarded(|rtc| {
                if let Some(stream) = rtc.direct_api().stream_tx_by_mid(mid, None) {
                    stream.write_rtp(write);
                }
                Ok(())
            });
            self.after(written, now, sink);
        }
        self.timeout(now, sink)
    }

    /// Sends a frame ([`Delivery::Frames`]).
    pub(crate) fn send_frame(&mut self, frame: &FrameToSend, now: Instant, sink: &mut Sink<'_>) -> Instant {
        let Some(line) = self.line(frame.track) else { return self.timeout(now, sink) };
        let (mid, pt, clock) = (line.mid, line.pt, clock_of(line.codec));
        let written = self.guarded(|rtc| {
            let Some(writer) = rtc.writer(mid) else { return Ok(()) };
            let time = MediaTime::new(frame.timestamp, clock);
            writer.write(pt, frame.moment, time, std::sync::Arc::clone(&frame.payload))
        });
        self.after(written, now, sink);
        self.timeout(now, sink)
    }

    /// Asks the publisher for a keyframe, [`limits::KEYFRAME_REQUEST_EVERY`] at most. Whether it did.
    pub(crate) fn request_keyframe(&mut self, now: Instant, sink: &mut Sink<'_>) -> bool {
        let asked = self.keyframe_asked;
        let too_soon =
            asked.is_some_and(|at| now.saturating_duration_since(at) < limits::KEYFRAME_REQUEST_EVERY);
        let Some(mid) = self.video.as_ref().map(|line| line.mid).filter(|_| self.connected && !too_soon)
        else {
            return false;
        };
        let requested = self.guarded(|rtc| {
            let stream = rtc.direct_api().stream_rx_by_mid(mid, None).is_some();
            if let Some(stream) = rtc.direct_api().stream_rx_by_mid(mid, None) {
                stream.request_keyframe(KeyframeRequestKind::Pli);
            }
            Ok(stream)
        });
        let did = matches!(requested, Ok(true));
        if did {
            self.keyframe_asked = Some(now);
        }
        self.after(requested.map(|_| ()), now, sink);
        self.timeout(now, sink);
        did
    }

    /// What is sent at least and what would be sent if there were room, for the estimate, bits a second.
    pub(crate) fn set_bitrates(
        &mut self,
        least_bps: u64,
        wanted_bps: u64,
        now: Instant,
        sink: &mut Sink<'_>,
    ) {
        let set = self.guarded(|rtc| {
            rtc.bwe().set_bitrate(Bitrate::from(least_bps), Bitrate::from(wanted_bps));
            Ok(())
        });
        self.after(set, now, sink);
    }

    fn new(rtc: Rtc, options: SessionOptions, local: &[SocketAddr]) -> Self {
        Self {
            rtc,
            options,
            local: local.to_vec(),
            video: None,
            audio: None,
            pending: None,
            remote_ufrag: String::new(),
            connected: false,
            silent_since: None,
            keyframe_asked: None,
            ended: None,
        }
    }

    fn add_candidates(&mut self) {
        for address in self.local.clone() {
            if let Ok(candidate) = Candidate::host(address, "udp") {
                self.rtc.add_local_candidate(candidate);
            }
        }
    }

    fn line(&self, track: Track) -> Option<&Line> {
        match track {
            Track::Video => self.video.as_ref(),
            Track::Audio => self.audio.as_ref(),
        }
    }

    fn local_for(&self, remote: SocketAddr) -> SocketAddr {
        let same = |local: &&SocketAddr| local.is_ipv4() == remote.is_ipv4();
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        self.local.iter().find(same).or_else(|| self.local.first()).copied().unwrap_or(any)
    }

    fn input<'a>(&self, source: SocketAddr, datagram: &'a [u8], now: Instant) -> Option<Input<'a>> {
        let receive = Receive::new(Protocol::Udp, source, self.local_for(source), datagram).ok()?;
        Some(Input::Receive(now, receive))
    }

    /// Runs `change`. A panic in the engine is its bug, and costs this session only.
    fn guarded<T>(&mut self, change: impl FnOnce(&mut Rtc) -> Result<T, RtcError>) -> Result<T, String> {
        let rtc = &mut self.rtc;
        match catch_unwind(AssertUnwindSafe(|| change(rtc))) {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err("the engine failed".to_owned()),
        }
    }

    /// Drains what a negotiation brought about, which nobody waits for.
    fn drain_negotiation(&mut self) -> Result<(), Refused> {
        let drained = self.guarded(|rtc| {
            while !matches!(rtc.poll_output()?, Output::Timeout(_)) {}
            Ok(())
        });
        drained.map_err(Refused::Malformed)
    }

    /// Reads what was agreed on in `answer`.
    fn settle(&mut self, answer: &str) -> Result<(), Refused> {
        self.drain_negotiation()?;
        for mid in answer.lines().filter_map(|line| line.trim_end().strip_prefix("a=mid:")) {
            let mid = Mid::from(mid);
            let line = self.line_of(mid);
            match self.rtc.media(mid).map(str0m::media::Media::kind) {
                Some(MediaKind::Video) => self.video = line,
                Some(MediaKind::Audio) => self.audio = line,
                None => {}
            }
        }
        if self.video.is_none() && self.audio.is_none() {
            return Err(Refused::NoCodec);
        }
        if self.options.direction == Direction::Send {
            self.bound_repeats()?;
        }
        Ok(())
    }

    fn line_of(&self, mid: Mid) -> Option<Line> {
        let flows = |way: MediaDirection| match self.options.direction {
            Direction::Receive => way.is_receiving(),
            Direction::Send => way.is_sending(),
        };
        let media = self.rtc.media(mid).filter(|media| flows(media.direction()))?;
        let params = self.rtc.codec_config().params().iter();
        let common = params.filter(|p| media.remote_pts().contains(&p.pt()));
        let usable = common.filter_map(|p| Some((config::rank(p)?, p.pt())));
        let ((_, codec), pt) = usable.max_by_key(|((rank, _), _)| *rank)?;
        Some(Line { mid, codec, pt, newest: 0 })
    }

    fn bound_repeats(&mut self) -> Result<(), Refused> {
        let mids: Vec<_> = [&self.video, &self.audio].into_iter().flatten().map(|line| line.mid).collect();
        let bounded = self.guarded(|rtc| {
            for mid in mids {
                if let Some(stream) = rtc.direct_api().stream_tx_by_mid(mid, None) {
                    let share = Some(limits::REPEATED_SHARE);
                    stream.set_rtx_cache(limits::REPEATABLE_PACKETS, limits::REPEATABLE_FOR, share);
                }
            }
            Ok(())
        });
        bounded.map_err(Refused::Malformed)
    }

    /// Drains after a change; when it wants to be told of time again.
    fn after(&mut self, changed: Result<(), String>, now: Instant, sink: &mut Sink<'_>) -> Instant {
        let drained = changed.and_then(|()| self.drain(now, sink));
        match drained {
            Ok(at) => at,
            Err(error) => {
                tracing::debug!(%error, "a session failed");
                self.fail(sink);
                now
            }
        }
    }

    fn fail(&mut self, sink: &mut Sink<'_>) {
        if self.ended.is_none() {
            self.ended = Some(Ended::Failed);
            (sink.events)(Event::Ended(Ended::Failed));
        }
    }

    fn drain(&mut self, now: Instant, sink: &mut Sink<'_>) -> Result<Instant, String> {
        loop {
            match self.guarded(Rtc::poll_output)? {
                Output::Timeout(at) => return Ok(at),
                Output::Transmit(transmit) => sink.outbox.push(transmit.destination, &transmit.contents),
                Output::Event(event) => {
                    if let Some(event) = self.understand(event, now) {
                        if let Event::Ended(why) = event {
                            self.ended = Some(why);
                        }
                        (sink.events)(event);
                    }
                }
            }
        }
    }

    fn drain_quietly(&mut self, outbox: &mut Outbox) {
        while let Ok(output) = self.guarded(Rtc::poll_output) {
            match output {
                Output::Timeout(_) => return,
                Output::Transmit(transmit) => outbox.push(transmit.destination, &transmit.contents),
                Output::Event(_) => {}
            }
        }
    }

    fn understand(&mut self, event: str0m::Event, now: Instant) -> Option<Event> {
        match event {
            str0m::Event::Connected => {
                self.connected = true;
                Some(Event::Connected)
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
            str0m::Event::EgressBitrateEstimate(BweKind::Twcc { estimate, .. }) => {
                Some(Event::Bandwidth { bps: estimate.as_u64() })
            }
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
            payload: std::sync::Arc::clone(&data.data),
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
            payload: std::sync::Arc::clone(&packet.payload),
            received: packet.timestamp,
        })
    }

    fn report(
        &mut self,
        mid: Mid,
        wall: std::time::SystemTime,
        timestamp: u64,
        received: Instant,
    ) -> Option<Event> {
        let line = self.line_by_mid(mid)?;
        let wall = wall.duration_since(std::time::UNIX_EPOCH).ok()?;
        let timestamp = continued(line.newest, timestamp);
        Some(Event::SenderReport(SenderReport { track: line.codec.track(), wall, timestamp, received }))
    }

    fn line_by_mid(&mut self, mid: Mid) -> Option<&mut Line> {
        [&mut self.video, &mut self.audio].into_iter().flatten().find(|line| line.mid == mid)
    }

    /// Since when nothing is heard of it.
    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        self.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// The timestamp nearest to `near` whose low 32 bits are those of `timestamp`.
fn continued(near: u64, timestamp: u64) -> u64 {
    let low = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
    let step = low(timestamp).wrapping_sub(low(near)).cast_signed();
    near.saturating_add_signed(step.into())
}

fn clock_of(codec: Codec) -> Frequency {
    match codec {
        Codec::H264 | Codec::Vp8 => Frequency::NINETY_KHZ,
        Codec::Opus => Frequency::FORTY_EIGHT_KHZ,
    }
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
