//! The sending half of a session that deals in packets: they are encrypted straight into the datagrams that leave,
//! a frame's into one system call. The engine has made the connection; of what it would send itself nothing but ICE
//! and DTLS leaves, for two who encrypt with one key must not both count.

mod estimate;
mod feedback;
mod header;
mod line;
mod once;
mod reports;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluicegate_media::frame::Track;

pub(crate) use header::Extensions;
pub(crate) use line::{Line, Stream};

use self::estimate::{Estimator, TRAIN_PACKETS};
use self::feedback::Feedback;
use self::line::Out;
use crate::keying::Keys;
use crate::limits;
use crate::media::{Event, PacketToSend};
use crate::peer::Sink;
use crate::srtp::{self, Opener, Sealer};

/// The first report, so that sound and picture go together soon, and the others.
const FIRST_REPORT: Duration = Duration::from_millis(100);
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// What a large frame has left over leaves in so many parts, one every so often: before the next frame.
const PARTS: usize = 5;
const PART_EVERY: Duration = Duration::from_millis(5);

/// What a session sends.
pub(crate) struct Sender {
    keys: Keys,
    srtp: Option<(Sealer, Opener)>,
    /// Where the other side is: what it has nominated, and before that where the engine sends to.
    to: Option<SocketAddr>,
    is_nominated: bool,
    name: String,
    video: Option<Line>,
    audio: Option<Line>,
    estimator: Option<Estimator>,
    /// Send times are counted from here.
    opened: Instant,
    report_at: Option<Instant>,
    /// What a large frame has left over, how much of that leaves at a time, and when the next does.
    later: VecDeque<PacketToSend>,
    part: usize,
    part_at: Option<Instant>,
}

impl Sender {
    /// One that has keys once they are agreed on. `name` is what its source is called (CNAME).
    pub(crate) fn new(
        keys: Keys,
        name: String,
        [video, audio]: [Option<Line>; 2],
        estimate_from_bps: Option<u64>,
        now: Instant,
    ) -> Self {
        Self {
            keys,
            srtp: None,
            to: None,
            is_nominated: false,
            name,
            video,
            audio,
            estimator: estimate_from_bps.map(Estimator::new),
            opened: now,
            report_at: None,
            later: VecDeque::new(),
            part: 0,
            part_at: None,
        }
    }

    /// Keys are agreed on. Whether they can be used.
    pub(crate) fn connect(&mut self) -> bool {
        self.srtp = self.keys.get().and_then(srtp::contexts);
        self.srtp.is_some()
    }

    /// Whether a datagram of the engine's leaves, which is on its way to `to`.
    pub(crate) fn lets_pass(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        // RFC 7983: what the first byte says.
        let is_ice = datagram.first().is_some_and(|first| *first <= 3);
        let is_media = datagram.first().is_some_and(|first| (128..=191).contains(first));
        if !is_ice && !self.is_nominated {
            self.to = Some(to);
        }
        !is_media
    }

    /// A check from there was proven that nominates its way. Of several the newest counts (RFC 8445 section 7.3.2):
    /// whoever nominates is sent to there, also after it has moved.
    pub(crate) fn nominate(&mut self, remote: SocketAddr) {
        self.to = Some(remote);
        self.is_nominated = true;
    }

    /// Sends packets, those of one frame at once unless they are very many.
    pub(crate) fn send(&mut self, packets: &[PacketToSend], now: Instant, sink: &mut Sink<'_>) {
        if packets.iter().any(|packet| packet.track == Track::Video) {
            // What the frame before has left over has had its time.
            self.send_later(usize::MAX, now, sink);
        }
        let is_spread = self.estimator.is_some() && packets.len() > limits::PACKETS_AT_ONCE;
        let at_once = if is_spread { limits::PACKETS_AT_ONCE } else { packets.len() };
        let (at_once, later) = packets.split_at_checked(at_once).unwrap_or((packets, &[]));
        self.send_now(at_once, now, sink);
        if !later.is_empty() {
            self.later.extend(later.iter().cloned());
            self.part = later.len().div_ceil(PARTS);
            self.part_at = Some(now + PART_EVERY);
        }
        self.report_at = self.report_at.or(Some(now + FIRST_REPORT));
    }

    /// Sends a packet again that the receiver lacks. Whether it did: only a share of what is sent is repeated.
    pub(crate) fn repeat(&mut self, packet: &PacketToSend, now: Instant, sink: &mut Sink<'_>) -> bool {
        let Some(mut out) = out(&self.srtp, &mut self.estimator, self.to, self.opened, now, sink) else {
            return false;
        };
        let line = line(packet.track, &mut self.video, &mut self.audio);
        line.is_some_and(|line| line.repeat(packet, &mut out))
    }

    /// Takes RTCP.
    pub(crate) fn receive(&mut self, datagram: &[u8], now: Instant, sink: &mut Sink<'_>) {
        let Some((_, opener)) = &self.srtp else { return };
        let mut datagram = datagram.to_vec();
        let Some(compound) = opener.rtcp(&mut datagram) else { return };
        let (video, audio, estimator) = (&self.video, &self.audio, &mut self.estimator);
        let mut repeats_left = [video, audio].map(|line| line.as_ref().map_or(0, Line::repeats_left));
        let mut is_keyframe_wanted = false;
        feedback::read(compound, |said| match said {
            Feedback::KeyframeWanted => is_keyframe_wanted = true,
            Feedback::Lost { ssrc, sequence } => {
                let lines = [(Track::Video, video), (Track::Audio, audio)].into_iter().zip(&mut repeats_left);
                for ((track, line), left) in lines {
                    let sent = line.as_ref().filter(|line| line.ssrc() == ssrc && *left > 0);
                    if let Some(sequence) = sent.and_then(|line| line.sent(sequence)) {
                        *left -= 1;
                        (sink.events)(Event::PacketLost { track, sequence });
                    }
                }
            }
            Feedback::Remb { bps } => {
                let is_needed = !video.as_ref().is_some_and(Line::has_transport);
                if estimator.is_some() && is_needed {
                    (sink.events)(Event::Bandwidth { bps });
                }
            }
            Feedback::Arrivals(arrivals) => {
                let told = estimator.as_mut().and_then(|estimator| estimator.hear(&arrivals, now));
                told.into_iter().for_each(|bps| (sink.events)(Event::Bandwidth { bps }));
            }
        });
        if is_keyframe_wanted {
            (sink.events)(Event::KeyframeRequested);
        }
    }

    /// What would be sent if there were room, bits a second.
    pub(crate) fn want(&mut self, bps: u64) {
        if let Some(estimator) = &mut self.estimator {
            estimator.want(bps);
        }
    }

    /// When [`Self::timeout`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        [self.report_at, self.part_at].into_iter().flatten().min()
    }

    /// Time has passed.
    pub(crate) fn timeout(&mut self, now: Instant, sink: &mut Sink<'_>) {
        if self.part_at.is_some_and(|at| at <= now) {
            self.part_at = Some(now + PART_EVERY);
            self.send_later(self.part, now, sink);
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.report_at = Some(now + REPORT_EVERY);
            let reports = self.reports(now);
            self.send_rtcp(reports, sink);
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn end(&mut self, now: Instant, sink: &mut Sink<'_>) {
        let mut compound = self.reports(now);
        if !compound.is_empty() {
            let lines = [&self.video, &self.audio].into_iter().flatten();
            reports::say_goodbye(&mut compound, lines.map(Line::ssrc));
            self.send_rtcp(compound, sink);
        }
    }

    fn send_now(&mut self, packets: &[PacketToSend], now: Instant, sink: &mut Sink<'_>) {
        let fill = self.filling(packets, now);
        let Some(mut out) = out(&self.srtp, &mut self.estimator, self.to, self.opened, now, sink) else {
            return;
        };
        for packet in packets {
            if let Some(line) = line(packet.track, &mut self.video, &mut self.audio) {
                line.send(packet, &mut out);
            }
        }
        if let Some(((packet, missing), line)) = fill.zip(self.video.as_mut()) {
            (0..missing).for_each(|_| _ = line.fill(packet, &mut out));
        }
    }

    /// A packet, and how often it is to be sent once more so that these make up a train.
    fn filling<'a>(
        &mut self,
        packets: &'a [PacketToSend],
        now: Instant,
    ) -> Option<(&'a PacketToSend, usize)> {
        let packet = packets.iter().rev().find(|packet| packet.track == Track::Video)?;
        let estimator = self.estimator.as_mut().filter(|estimator| estimator.wants_train(now))?;
        self.video.as_ref().filter(|line| line.can_fill())?;
        estimator.train_left(now);
        Some((packet, TRAIN_PACKETS.saturating_sub(packets.len())))
    }

    fn send_later(&mut self, most: usize, now: Instant, sink: &mut Sink<'_>) {
        let part: Vec<PacketToSend> = self.later.drain(..most.min(self.later.len())).collect();
        if self.later.is_empty() {
            self.part_at = None;
        }
        if !part.is_empty() {
            self.send_now(&part, now, sink);
        }
    }

    fn reports(&self, now: Instant) -> Vec<u8> {
        let lines = [&self.video, &self.audio].into_iter().flatten();
        let reports: Vec<_> = lines.filter_map(|line| line.report(now)).collect();
        reports::write(&reports, &self.name, now)
    }

    fn send_rtcp(&mut self, mut compound: Vec<u8>, sink: &mut Sink<'_>) {
        let Some(((sealer, _), to)) = self.srtp.as_mut().zip(self.to) else { return };
        if !compound.is_empty() && sealer.rtcp(&mut compound).is_ok() {
            sink.send(to, &compound);
        }
    }
}

/// Whether a datagram is RTCP (RFC 5761 section 4).
pub(crate) fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, 192..=223, ..])
}

fn line<'a>(track: Track, video: &'a mut Option<Line>, audio: &'a mut Option<Line>) -> Option<&'a mut Line> {
    match track {
        Track::Video => video.as_mut(),
        Track::Audio => audio.as_mut(),
    }
}

/// Where datagrams go, once there are keys and a way.
fn out<'a>(
    srtp: &'a Option<(Sealer, Opener)>,
    estimator: &'a mut Option<Estimator>,
    to: Option<SocketAddr>,
    opened: Instant,
    now: Instant,
    sink: &'a mut Sink<'_>,
) -> Option<Out<'a>> {
    let ((sealer, _), to) = srtp.as_ref().zip(to)?;
    // 24 bits: whole seconds and 18 bits of their fraction.
    let passed = now.saturating_duration_since(opened);
    let fraction = (u64::from(passed.subsec_nanos()) << 18) / 1_000_000_000;
    let send_time = u32::try_from((passed.as_secs() << 18 | fraction) & 0xff_ffff).unwrap_or_default();
    let from = sink.from(to);
    Some(Out { sealer, estimator: estimator.as_mut(), outbox: sink.outbox, from, to, now, send_time })
}
