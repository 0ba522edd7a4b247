//! One track that is sent: what its packets are numbered and headed with, and how much of it is repeated.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::estimate::Estimator;
use super::header::{Extensions, Fields, Header};
use super::once::Once;
use super::reports::Report;
use crate::limits;
use crate::media::PacketToSend;
use crate::outbox::Outbox;
use crate::srtp::Sealer;

/// A repeated packet begins with the number that it had (RFC 4588 section 4).
const ORIGINAL_NUMBER_BYTES: usize = 2;

/// A track.
#[derive(Debug)]
pub(crate) struct Line {
    media: Stream,
    /// Where packets are repeated (RTX). `None`: beside the others, just as they were.
    repeats: Option<Stream>,
    next_repeat: u64,
    clock_hz: u32,
    used: Once,
    newest: Option<Newest>,
    packets: u32,
    octets: u32,
    /// What repeats may still cost: a sent packet brings one, a repeat costs [`limits::PACKETS_FOR_A_REPEAT`].
    credit: u32,
}

/// What is sent with one SSRC.
#[derive(Debug)]
pub(crate) struct Stream {
    ssrc: u32,
    header: Header,
}

/// The newest packet, by its number.
#[derive(Debug, Clone, Copy)]
struct Newest {
    sequence: u64,
    timestamp: u32,
    moment: Instant,
}

/// Where datagrams go.
pub(super) struct Out<'a> {
    pub(super) sealer: &'a Sealer,
    pub(super) estimator: Option<&'a mut Estimator>,
    pub(super) outbox: &'a mut Outbox,
    pub(super) from: Option<IpAddr>,
    pub(super) to: SocketAddr,
    pub(super) now: Instant,
    /// The absolute send time.
    pub(super) send_time: u32,
}

impl Stream {
    pub(crate) fn new(ssrc: u32, payload_type: u8, extensions: &Extensions) -> Self {
        Self { ssrc, header: Header::new(ssrc, payload_type, extensions) }
    }
}

impl Line {
    pub(crate) fn new(media: Stream, repeats: Option<Stream>, clock_hz: u32) -> Self {
        Self {
            media,
            repeats,
            next_repeat: 0,
            clock_hz,
            used: Once::default(),
            newest: None,
            packets: 0,
            octets: 0,
            credit: limits::REPEATS_AT_ONCE * limits::PACKETS_FOR_A_REPEAT,
        }
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.media.ssrc
    }

    /// Whether its receiver tells when packets arrive.
    pub(super) fn has_transport(&self) -> bool {
        self.media.header.has_transport()
    }

    /// Whether packets can be repeated without being asked for, to fill a way.
    pub(super) fn can_fill(&self) -> bool {
        self.repeats.as_ref().is_some_and(|repeats| repeats.header.has_transport())
    }

    /// Sends a packet, unless its number was used.
    pub(super) fn send(&mut self, packet: &PacketToSend, out: &mut Out<'_>) {
        if !self.used.take(packet.sequence) {
            return;
        }
        if !out.write(&self.media, packet.sequence, packet, false) {
            return;
        }
        self.packets = self.packets.wrapping_add(1);
        let octets = u32::try_from(packet.payload.len()).unwrap_or(u32::MAX);
        self.octets = self.octets.wrapping_add(octets);
        let most = limits::REPEATS_AT_ONCE * limits::PACKETS_FOR_A_REPEAT;
        self.credit = (self.credit + 1).min(most);
        if self.newest.is_none_or(|newest| packet.sequence > newest.sequence) {
            let PacketToSend { sequence, timestamp, moment, .. } = *packet;
            self.newest = Some(Newest { sequence, timestamp, moment });
        }
    }

    /// Sends a packet again that a receiver lacks, as far as that may be. Whether it did.
    pub(super) fn repeat(&mut self, packet: &PacketToSend, out: &mut Out<'_>) -> bool {
        let Some(left) = self.credit.checked_sub(limits::PACKETS_FOR_A_REPEAT) else { return false };
        if !self.used.has(packet.sequence) {
            return false;
        }
        self.credit = left;
        match self.repeats {
            Some(_) => self.fill(packet, out),
            None => out.write(&self.media, packet.sequence, packet, false),
        }
    }

    /// Sends a packet once more by the stream of repeats, whoever asks for it or not.
    pub(super) fn fill(&mut self, packet: &PacketToSend, out: &mut Out<'_>) -> bool {
        let Some(repeats) = &self.repeats else { return false };
        let index = self.next_repeat;
        self.next_repeat += 1;
        out.write(repeats, index, packet, true)
    }

    /// How many packets may be repeated now.
    pub(super) fn repeats_left(&self) -> u32 {
        self.credit / limits::PACKETS_FOR_A_REPEAT
    }

    /// The number, continued beyond 16 bits, of a packet that was sent.
    pub(super) fn sent(&self, sequence: u16) -> Option<u64> {
        let newest = self.newest?.sequence;
        let back = u16::try_from(newest & 0xffff).unwrap_or_default().wrapping_sub(sequence);
        newest.checked_sub(back.into()).filter(|sequence| self.used.has(*sequence))
    }

    /// What is reported of it; `None`: nothing was sent.
    pub(super) fn report(&self, now: Instant) -> Option<Report> {
        let newest = self.newest?;
        let steps = |passed: std::time::Duration| (passed.as_secs_f64() * f64::from(self.clock_hz)) as u64;
        let low = |steps: u64| u32::try_from(steps & u64::from(u32::MAX)).unwrap_or_default();
        let timestamp = match now.checked_duration_since(newest.moment) {
            Some(passed) => newest.timestamp.wrapping_add(low(steps(passed))),
            None => newest.timestamp.wrapping_sub(low(steps(newest.moment.saturating_duration_since(now)))),
        };
        Some(Report { ssrc: self.media.ssrc, timestamp, packets: self.packets, octets: self.octets })
    }
}

impl Out<'_> {
    /// Writes a packet under a number of its stream. Whether there was a way to.
    fn write(&mut self, stream: &Stream, index: u64, packet: &PacketToSend, is_repeat: bool) -> bool {
        let header = stream.header.len();
        let prefix = if is_repeat { ORIGINAL_NUMBER_BYTES } else { 0 };
        let clear = header + prefix + packet.payload.len();
        let length = clear + self.sealer.tag_bytes();
        let transport = match &mut self.estimator {
            Some(estimator) if stream.header.has_transport() => estimator.sent(length, self.now),
            _ => 0,
        };
        let low = |number: u64| u16::try_from(number & 0xffff).unwrap_or_default();
        let PacketToSend { timestamp, marker, .. } = *packet;
        let send_time = self.send_time;
        let fields = Fields { sequence: low(index), timestamp, marker, transport, send_time };
        let sealer = self.sealer;
        let written = self.outbox.write(self.from, self.to, length, |bytes| {
            stream.header.write(fields, bytes);
            if is_repeat {
                put(bytes, header, &low(packet.sequence).to_be_bytes());
            }
            put(bytes, header + prefix, &packet.payload);
            sealer.rtp(stream.ssrc, index, bytes, header)
        });
        written.is_ok()
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = out.get_mut(at..at + bytes.len()) {
        to.copy_from_slice(bytes);
    }
}
