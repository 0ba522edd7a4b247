//! Both ends in memory, with a time of their own: a shard, a client, and a network between them that takes
//! 10 ms and loses what the test wants lost.
#![allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]

mod bad;
mod flows;
mod sending;
mod sockets;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use sluicegate_media::frame::Track;

use crate::counters::Counters;
use crate::outbox::Outbox;
use crate::peer::{Peer, Sink};
use crate::{
    App, Delivery, Direction, Event, FrameToSend, Limits, Negotiated, SessionId, SessionOptions, Sessions,
    Shard, Wire,
};

const DELAY: Duration = Duration::from_millis(10);

fn server_address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 50_001))
}

fn client_address() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 40_000))
}

/// The application under which tests run: it writes down what happens, and sends what it is told to.
#[derive(Default)]
struct Recorder {
    events: Vec<(SessionId, Event)>,
    opened: Vec<SessionId>,
    repeated: usize,
}

enum Say {
    Frame(SessionId, FrameToSend),
    Packets(SessionId, Vec<crate::PacketToSend>),
    Repeat(SessionId, crate::PacketToSend),
    Keyframe(SessionId),
}

impl App for Recorder {
    type Session = ();
    type Message = Say;

    fn opened(&mut self, session: SessionId, (): (), _: Negotiated, _: &mut Sessions) {
        self.opened.push(session);
    }

    fn event(&mut self, session: SessionId, event: Event, _: &mut Sessions) {
        self.events.push((session, event));
    }

    fn message(&mut self, say: Say, sessions: &mut Sessions) {
        match say {
            Say::Frame(session, frame) => assert!(sessions.send_frame(session, &frame)),
            Say::Packets(session, packets) => assert!(sessions.send_packets(session, &packets)),
            Say::Repeat(session, packet) => {
                self.repeated += usize::from(sessions.repeat_packet(session, &packet));
            }
            Say::Keyframe(session) => assert!(sessions.request_keyframe(session)),
        }
    }
}

struct Line(Sender<(SocketAddr, Vec<u8>)>);

impl Wire for Line {
    fn send(&mut self, _: Option<IpAddr>, to: SocketAddr, bytes: &[u8], segment: usize) {
        for datagram in bytes.chunks(segment) {
            self.0.send((to, datagram.to_vec())).unwrap();
        }
    }
}

/// A client at an address.
struct Caller {
    peer: Peer,
    offer: String,
    outbox: Outbox,
    sent: Receiver<(SocketAddr, Vec<u8>)>,
    events: Vec<Event>,
    due: Instant,
    address: SocketAddr,
    /// Nothing leaves it any more.
    unplugged: bool,
    /// It sends no RTCP any more.
    is_mute: bool,
}

struct World {
    now: Instant,
    shard: Shard<Recorder>,
    counters: Arc<Counters>,
    sent: Receiver<(SocketAddr, Vec<u8>)>,
    callers: Vec<Caller>,
    /// What is under way: when it arrives, from where, to where.
    wire: VecDeque<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
    /// Whether the n-th datagram is lost.
    lost: fn(u64) -> bool,
    carried: u64,
}

impl World {
    fn new(limits: Limits) -> Self {
        let now = Instant::now();
        let (sender, sent) = mpsc::channel();
        let (shard, counters) =
            Shard::alone(Recorder::default(), limits, vec![server_address()], Box::new(Line(sender)), now);
        let wire = VecDeque::new();
        Self { now, shard, counters, sent, callers: Vec::new(), wire, lost: |_| false, carried: 0 }
    }

    /// A client that has made an offer.
    fn caller(&mut self, options: SessionOptions) -> usize {
        let address = self.next_address();
        let (peer, offer) = Peer::offer(options, &[address], self.now).unwrap();
        self.add(address, peer, offer)
    }

    /// A client that answers what the shard offers, and the session.
    fn called(&mut self, options: SessionOptions, clients: SessionOptions) -> (usize, SessionId) {
        let address = self.next_address();
        let offer = self.shard.offer("channel", options, (), self.now).unwrap();
        assert!(!self.shard.app().opened.contains(&offer.session), "it is not agreed on yet");
        let (peer, answer) = Peer::answer_as_client(&offer.sdp, clients, &[address], self.now).unwrap();
        let agreed = self.shard.answer(offer.session, &answer, self.now).unwrap();
        assert!(agreed.video.is_some() && agreed.audio.is_some(), "{agreed:?}");
        assert!(self.shard.app().opened.contains(&offer.session));
        (self.add(address, peer, answer), offer.session)
    }

    fn next_address(&self) -> SocketAddr {
        let mut address = client_address();
        address.set_port(address.port() + u16::try_from(self.callers.len()).unwrap());
        address
    }

    fn add(&mut self, address: SocketAddr, peer: Peer, offer: String) -> usize {
        let (sender, sent) = mpsc::channel();
        let outbox = Outbox::new(Box::new(Line(sender)));
        self.callers.push(Caller {
            peer,
            offer,
            outbox,
            sent,
            events: Vec::new(),
            due: self.now,
            address,
            unplugged: false,
            is_mute: false,
        });
        self.callers.len() - 1
    }

    /// Brings the client's offer to the shard, and the answer back.
    fn call(&mut self, caller: usize, options: SessionOptions) -> SessionId {
        let answer = self.shard.accept(&self.callers[caller].offer, options, (), self.now).unwrap();
        self.callers[caller].peer.accept_answer(&answer.sdp).unwrap();
        answer.session
    }

    /// Lets time pass.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.deliver();
            self.shard.timeout(self.now);
            for caller in &mut self.callers {
                if caller.due <= self.now {
                    caller.change(self.now, Peer::timeout);
                }
            }
            self.collect();
            self.now += Duration::from_millis(1);
        }
    }

    /// Lets time pass until something holds.
    #[track_caller]
    fn until(&mut self, what: &str, within: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let end = self.now + within;
        while !holds(self) {
            assert!(self.now < end, "within {within:?}: {what}");
            self.run(Duration::from_millis(1));
        }
    }

    fn events(&self, session: SessionId) -> impl Iterator<Item = &Event> {
        self.shard.app().events.iter().filter(move |(s, _)| *s == session).map(|(_, event)| event)
    }

    fn deliver(&mut self) {
        while self.wire.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, from, to, bytes) = self.wire.pop_front().unwrap();
            self.carried += 1;
            if (self.lost)(self.carried) {
                continue;
            }
            if to == server_address() {
                self.shard.receive(from, &bytes, self.now);
            } else if let Some(caller) = self.callers.iter_mut().find(|c| c.address == to)
                && caller.peer.accepts(from, &bytes, self.now)
            {
                caller.change(self.now, |peer, now, sink| peer.receive(from, &bytes, now, sink));
            }
        }
    }

    fn collect(&mut self) {
        self.shard.flush();
        let at = self.now + DELAY;
        self.wire.extend(self.sent.try_iter().map(|(to, bytes)| (at, server_address(), to, bytes)));
        for caller in &mut self.callers {
            caller.outbox.flush();
            let from = caller.address;
            // RFC 5761: what the second byte of RTCP is.
            let is_rtcp = |bytes: &[u8]| bytes[0] >> 6 == 2 && (192..=223).contains(&bytes[1]);
            let (unplugged, is_mute) = (caller.unplugged, caller.is_mute);
            let sent = caller.sent.try_iter().filter(|(_, bytes)| !(unplugged || is_mute && is_rtcp(bytes)));
            self.wire.extend(sent.map(|(to, bytes)| (at, from, to, bytes)));
        }
    }
}

impl Caller {
    fn change(&mut self, now: Instant, change: impl FnOnce(&mut Peer, Instant, &mut Sink<'_>) -> Instant) {
        let mut note = |event| self.events.push(event);
        self.due = change(&mut self.peer, now, &mut Sink::of_one_address(&mut self.outbox, &mut note));
    }

    fn has(&self, event: &Event) -> bool {
        self.events.contains(event)
    }
}

fn options(direction: Direction, delivery: Delivery) -> SessionOptions {
    SessionOptions { direction, delivery, estimate_from_bps: None }
}

/// A picture of three packets. The first byte after the start code makes it one that decoding starts at.
fn picture(now: Instant, n: u64) -> FrameToSend {
    let mut payload = vec![0, 0, 0, 1, if n == 0 { 0x65 } else { 0x41 }];
    payload.extend(std::iter::repeat_n(u8::try_from(n % 200).unwrap() + 1, 3_000));
    FrameToSend { track: Track::Video, timestamp: n * 3_000, moment: now, payload: payload.into() }
}
