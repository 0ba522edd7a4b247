//! Offers and answers, and the tracks that come of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use str0m::change::{SdpAnswer, SdpOffer};
use str0m::format::PayloadParams;
use str0m::media::{Direction as MediaDirection, MediaKind, Mid, Pt};
use str0m::rtp::Extension;
use str0m::{Candidate, IceCreds, Output, RtcConfig, RtcError};

use super::{Certificate, Line, Peer, SessionOptions, config};
use crate::error::Refused;
use crate::media::{Codec, Delivery, Direction};
use crate::sender::{self, Extensions, Sender};
use crate::{keying, limits, sdp};

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
        let config = config::server(options, credentials, certificate).enable_vp8(vp8);
        let mut peer = Self::new(config, options, local, now);
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

    /// A client's session, which makes an offer. What it is, and the offer.
    pub(crate) fn offer(
        options: SessionOptions,
        local: &[SocketAddr],
        now: Instant,
    ) -> Result<(Self, String), Refused> {
        Self::new(config::client(options), options, local, now).offering(None)
    }

    /// An ICE-lite server's session that makes the offer, with a data channel of this name. What it is, and the
    /// offer.
    pub(crate) fn offer_as_server(
        channel: &str,
        options: SessionOptions,
        credentials: &IceCreds,
        local: &[SocketAddr],
        certificate: &Certificate,
        now: Instant,
    ) -> Result<(Self, String), Refused> {
        let config = config::server(options, credentials, certificate);
        Self::new(config, options, local, now).offering(Some(channel))
    }

    fn offering(mut self, channel: Option<&str>) -> Result<(Self, String), Refused> {
        self.add_candidates();
        let direction = match self.options.direction {
            Direction::Receive => MediaDirection::RecvOnly,
            Direction::Send => MediaDirection::SendOnly,
        };
        let offered = self.guarded(|rtc| {
            let mut changes = rtc.sdp_api();
            for kind in [MediaKind::Video, MediaKind::Audio] {
                changes.add_media(kind, direction, Some("sluicegate".to_owned()), None, None);
            }
            if let Some(channel) = channel {
                changes.add_channel(channel.to_owned());
            }
            Ok(changes.apply())
        });
        let (sdp, pending) =
            offered.map_err(Refused::Malformed)?.ok_or(Refused::Unsupported("nothing to offer"))?;
        self.pending = Some(pending);
        self.drain_negotiation()?;
        Ok((self, sdp.to_sdp_string()))
    }

    /// Takes the answer to a server's offer. As from offers, candidates are left out.
    pub(crate) fn accept_clients_answer(&mut self, answer: &str) -> Result<(), Refused> {
        let answer = sdp::outline(answer)?;
        self.remote_ufrag = sdp::value(&answer, "a=ice-ufrag:").unwrap_or_default().to_owned();
        self.accept_answer(&answer)
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

    /// A client's session that answers `offer`: what browsers do with a server's. What it is, and the answer.
    #[cfg(test)]
    pub(crate) fn answer_as_client(
        offer: &str,
        options: SessionOptions,
        local: &[SocketAddr],
        now: Instant,
    ) -> Result<(Self, String), Refused> {
        let mut peer = Self::new(config::client(options), options, local, now);
        peer.add_candidates();
        let answered = peer.guarded(|rtc| {
            let offer = SdpOffer::from_sdp_string(offer).map_err(RtcError::Sdp)?;
            rtc.sdp_api().accept_offer(offer)
        });
        let answer = answered.map_err(Refused::Malformed)?.to_sdp_string();
        peer.settle(&answer)?;
        Ok((peer, answer))
    }

    fn new(config: RtcConfig, options: SessionOptions, local: &[SocketAddr], now: Instant) -> Self {
        let (rtc, keys) = keying::heard(|| config.build(now));
        Self {
            rtc,
            keys,
            sender: None,
            engine_due: now,
            opened: now,
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

    /// Drains what a negotiation brought about, which nobody waits for.
    pub(super) fn drain_negotiation(&mut self) -> Result<(), Refused> {
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
        match (self.options.direction, self.options.delivery) {
            (Direction::Receive, _) => {}
            (Direction::Send, Delivery::Frames) => self.bound_repeats()?,
            (Direction::Send, Delivery::Packets) => self.sender = Some(self.new_sender()),
        }
        Ok(())
    }

    /// What sends packets past the engine, with what the engine has negotiated.
    fn new_sender(&mut self) -> Sender {
        let lines = [&self.video, &self.audio].map(|line| line.as_ref().map(|l| (l.mid, l.pt, l.codec)));
        let name =
            lines.iter().flatten().find_map(|(mid, ..)| Some(self.rtc.media(*mid)?.cname().to_owned()));
        let lines = lines.map(|line| line.and_then(|(mid, pt, codec)| self.sender_line(mid, pt, codec)));
        let (keys, estimate) = (Arc::clone(&self.keys), self.options.estimate_from_bps);
        Sender::new(keys, name.unwrap_or_default(), lines, estimate, self.opened)
    }

    fn sender_line(&mut self, mid: Mid, pt: Pt, codec: Codec) -> Option<sender::Line> {
        let params = self.rtc.codec_config().params().iter();
        let resend = params.filter(|params| params.pt() == pt).find_map(PayloadParams::resend);
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(mid, None)?;
        let (ssrc, repeats) = (*stream.ssrc(), stream.rtx().zip(resend));
        let ids = self.rtc.media(mid)?.remote_extmap();
        // Without a stream of its own a packet is repeated as it was, to the byte: nothing in it may tell when.
        let is_estimated = self.options.estimate_from_bps.is_some() && repeats.is_some();
        let id_of = |extension| ids.id_of(extension).filter(|_| is_estimated);
        let transport = id_of(Extension::TransportSequenceNumber);
        let extensions = Extensions {
            mid: ids.id_of(Extension::RtpMid).map(|id| (id, mid.to_string())),
            transport,
            send_time: id_of(Extension::AbsoluteSendTime).filter(|_| transport.is_none()),
        };
        let media = sender::Stream::new(ssrc, *pt, &extensions);
        let repeats = repeats.map(|(ssrc, pt)| sender::Stream::new(*ssrc, *pt, &extensions));
        Some(sender::Line::new(media, repeats, codec.clock_hz()))
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
}
