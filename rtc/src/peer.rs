//! One session: str0m and what is known of it. No sockets and no clocks. Every change is followed by a
//! drain of what it brought about, which is str0m's one condition.

mod config;
mod events;
mod negotiation;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_media::frame::Track;
use str0m::change::SdpPendingOffer;
use str0m::media::{Frequency, KeyframeRequestKind, MediaTime, Mid, Pt};
use str0m::net::{Protocol, Receive, Transmit};
use str0m::{IceCreds, Input, Output, Rtc, RtcError};

pub(crate) use config::Certificate;

use crate::error::{Ended, Refused};
use crate::keying::Keys;
use crate::limits;
use crate::media::{Codec, Delivery, Direction, Event, FrameToSend, Negotiated, PacketToSend};
use crate::outbox::Outbox;
use crate::sender::{self, Sender};

/// Looks at the time that one change brings about at most: a keyframe's packets.
const LOOKS_AT_ONCE: usize = 128;

/// How a session is to be.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions {
    /// Which way media flows.
    pub direction: Direction,
    /// In what it deals.
    pub delivery: Delivery,
    /// Sending packets: where the estimate of what can be sent begins, bits a second. `None`: nothing is estimated,
    /// and packets leave as they are given.
    pub estimate_from_bps: Option<u64>,
}

/// A session.
pub(crate) struct Peer {
    rtc: Rtc,
    /// The keys that DTLS agrees on.
    keys: Keys,
    /// What sends packets, past the engine.
    sender: Option<Sender>,
    /// When the engine wants to be told of time.
    engine_due: Instant,
    opened: Instant,
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
    /// Where datagrams can go, and from which address of several.
    pub(crate) paths: &'a VecDeque<Path>,
}

/// An address that a session has proven.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub(crate) remote: SocketAddr,
    /// The address that was asked, where the socket has several.
    pub(crate) local: Option<IpAddr>,
    /// The shard at whose socket it arrives.
    pub(crate) arrived_at: u8,
}

impl<'a> Sink<'a> {
    /// One of a socket that is bound to one address.
    pub(crate) fn of_one_address(outbox: &'a mut Outbox, events: &'a mut dyn FnMut(Event)) -> Self {
        const NONE: &VecDeque<Path> = &VecDeque::new();
        Self { outbox, events, paths: NONE }
    }

    pub(crate) fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.outbox.push(self.from(to), to, datagram);
    }

    /// The address that `to` has asked, where there are several.
    pub(crate) fn from(&self, to: SocketAddr) -> Option<IpAddr> {
        self.paths.iter().find(|path| path.remote == to).and_then(|path| path.local)
    }
}

impl Peer {
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
    pub(crate) fn end(&mut self, why: Ended, now: Instant, sink: &mut Sink<'_>) {
        if self.ended.is_some() {
            return;
        }
        if let Some(sender) = &mut self.sender {
            sender.end(now, sink);
        }
        if self.guarded(Rtc::close).is_ok() {
            self.drain_quietly(sink);
        }
        self.ended = Some(why);
        (sink.events)(Event::Ended(why));
    }

    /// ICE restart (RFC 9725 4.3.3): new credentials of both sides; what flows goes on flowing meanwhile.
    pub(crate) fn restart_ice(&mut self, local: &IceCreds, remote: &IceCreds) -> Result<(), Refused> {
        let changed = self.guarded(|rtc| {
            rtc.direct_api().set_local_ice_credentials(local.clone());
            Ok(())
        });
        changed.map_err(Refused::Malformed)?;
        self.drain_negotiation()?;
        let changed = self.guarded(|rtc| {
            rtc.direct_api().set_remote_ice_credentials(remote.clone());
            Ok(())
        });
        changed.map_err(Refused::Malformed)?;
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
        if let Some(sender) = &mut self.sender
            && sender::is_rtcp(datagram)
        {
            sender.receive(datagram, now, sink);
            return self.due();
        }
        let local = self.local_for(source);
        let taken = self.guarded(|rtc| match Receive::new(Protocol::Udp, source, local, datagram) {
            Ok(receive) => rtc.handle_input(Input::Receive(now, receive)),
            // One damaged datagram says nothing of the session.
            Err(_) => Ok(()),
        });
        self.after(taken, now, sink)
    }

    /// The other side has nominated a way, by a check that was proven.
    pub(crate) fn nominate(&mut self, remote: SocketAddr) {
        if let Some(sender) = &mut self.sender {
            sender.nominate(remote);
        }
    }

    /// Time has passed. When it wants to be told again.
    pub(crate) fn timeout(&mut self, now: Instant, sink: &mut Sink<'_>) -> Instant {
        let is_senders = self.sender.as_ref().and_then(Sender::due).is_some_and(|due| due <= now);
        if let Some(sender) = self.sender.as_mut().filter(|_| is_senders) {
            sender.timeout(now, sink);
        }
        if is_senders && self.engine_due > now {
            return self.due();
        }
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
        if let Some(sender) = &mut self.sender {
            sender.send(packets, now, sink);
        }
        self.due()
    }

    /// Sends a packet again. Sets whether it did.
    pub(crate) fn repeat_packet(
        &mut self,
        packet: &PacketToSend,
        now: Instant,
        sink: &mut Sink<'_>,
        did: &mut bool,
    ) -> Instant {
        *did = self.sender.as_mut().is_some_and(|sender| sender.repeat(packet, now, sink));
        self.due()
    }

    /// What would be sent if there were room, for the estimate, bits a second.
    pub(crate) fn want_bitrate(&mut self, bps: u64) -> Instant {
        if let Some(sender) = &mut self.sender {
            sender.want(bps);
        }
        self.due()
    }

    /// Sends a frame ([`Delivery::Frames`]).
    pub(crate) fn send_frame(&mut self, frame: &FrameToSend, now: Instant, sink: &mut Sink<'_>) -> Instant {
        let Some(line) = self.line(frame.track) else { return self.timeout(now, sink) };
        let (mid, pt, clock) = (line.mid, line.pt, clock_of(line.codec));
        let written = self.guarded(|rtc| {
            let Some(writer) = rtc.writer(mid) else { return Ok(()) };
            let time = MediaTime::new(frame.timestamp, clock);
            writer.write(pt, frame.moment, time, Arc::clone(&frame.payload))
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
            let mut api = rtc.direct_api();
            let Some(stream) = api.stream_rx_by_mid(mid, None) else { return Ok(false) };
            stream.request_keyframe(KeyframeRequestKind::Pli);
            Ok(true)
        });
        let did = matches!(requested, Ok(true));
        if did {
            self.keyframe_asked = Some(now);
        }
        self.after(requested.map(|_| ()), now, sink);
        self.timeout(now, sink);
        did
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

    /// Drains after a change; when it wants to be told of time again.
    fn after(&mut self, changed: Result<(), String>, now: Instant, sink: &mut Sink<'_>) -> Instant {
        let drained = changed.and_then(|()| self.drain(now, sink));
        match drained {
            Ok(at) => {
                self.engine_due = at;
                self.due()
            }
            Err(error) => {
                tracing::debug!(%error, "a session failed");
                self.fail(sink);
                now
            }
        }
    }

    fn due(&self) -> Instant {
        let sender = self.sender.as_ref().and_then(Sender::due);
        sender.map_or(self.engine_due, |due| due.min(self.engine_due))
    }

    fn fail(&mut self, sink: &mut Sink<'_>) {
        if self.ended.is_none() {
            self.ended = Some(Ended::Failed);
            (sink.events)(Event::Ended(Ended::Failed));
        }
    }

    /// Drains it until it has nothing more to do now. It hands out one packet for each look at the time: taken
    /// together, a frame's packets leave in one system call.
    fn drain(&mut self, now: Instant, sink: &mut Sink<'_>) -> Result<Instant, String> {
        for _ in 1..LOOKS_AT_ONCE {
            let at = self.drain_once(now, sink)?;
            if at > now || self.ended.is_some() {
                return Ok(at);
            }
            self.guarded(|rtc| rtc.handle_input(Input::Timeout(now)))?;
        }
        self.drain_once(now, sink)
    }

    fn drain_once(&mut self, now: Instant, sink: &mut Sink<'_>) -> Result<Instant, String> {
        loop {
            match self.guarded(Rtc::poll_output)? {
                Output::Timeout(at) => return Ok(at),
                Output::Transmit(transmit) => self.pass(&transmit, sink),
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

    /// Passes on what the engine sends, but for what is sent past it.
    fn pass(&mut self, transmit: &Transmit, sink: &mut Sink<'_>) {
        let to = transmit.destination;
        if self.sender.as_mut().is_none_or(|sender| sender.lets_pass(to, &transmit.contents)) {
            sink.send(to, &transmit.contents);
        }
    }

    fn drain_quietly(&mut self, sink: &mut Sink<'_>) {
        while let Ok(output) = self.guarded(Rtc::poll_output) {
            match output {
                Output::Timeout(_) => return,
                Output::Transmit(transmit) => self.pass(&transmit, sink),
                Output::Event(_) => {}
            }
        }
    }

    /// How long nothing was heard of it.
    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        self.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

fn clock_of(codec: Codec) -> Frequency {
    match codec {
        Codec::H264 | Codec::Vp8 => Frequency::NINETY_KHZ,
        Codec::Opus => Frequency::FORTY_EIGHT_KHZ,
    }
}
