//! One shard of the fan-out: the viewers that live on it, and what they are sent. It runs on the shard's own
//! thread and shares nothing with the others but the packets' payloads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use sluicegate_media::frame::Track;
use sluicegate_rtc::{
    App, Delivery, Direction, Event, Negotiated, PacketToSend, SessionId, SessionOptions, Sessions,
};
use tokio::sync::mpsc;

use super::doors::Door;
use super::feed::{FeedId, FeedName, Seat};
use super::gop::Gop;
use super::history::History;
use super::layers::{Choice, Layer};
use super::metrics::RelayMetrics;
use super::packet::Packet;
use super::viewer::Viewer;

/// Where the estimate of what can be sent to a viewer begins, bits a second: what most networks carry.
const ESTIMATE_FROM_BPS: u64 = 2_000_000;

/// What a shard is told.
pub(crate) enum Message {
    /// These came of a feed.
    Packets(FeedId, Arc<[Packet]>),
    /// A feed is over: its viewers are told, and let go.
    Over(FeedId),
    /// A viewer's place at the feed of the rendition that it wants.
    Seat(SessionId, Seat),
    /// This many viewers are to be told to go elsewhere, of those whom nobody else tells; at the end all are.
    LetGo(usize),
    /// A viewer wants the rendition of so many lines; 0: whichever its network carries. And which there are.
    Height(SessionId, u32, Arc<[Layer]>),
}

/// A viewer as it begins.
pub(crate) struct Guest {
    /// Its place at the feed.
    pub(crate) seat: Seat,
    /// Its address, which is nobody's when it has gone.
    pub(crate) door: Door,
    /// The renditions that it may be sent.
    pub(crate) layers: Arc<[Layer]>,
    /// Whether a balancer that has its signalling open tells it when this edge drains.
    pub(crate) is_moved_by_balancer: bool,
}

impl Guest {
    /// How its session is to be.
    pub(crate) fn options(&self) -> SessionOptions {
        SessionOptions {
            direction: Direction::Send,
            delivery: Delivery::Packets,
            estimate_from_bps: (self.layers.len() > 1).then_some(ESTIMATE_FROM_BPS),
        }
    }
}

/// A viewer that wants another rendition.
pub(crate) struct SeatWanted {
    pub(crate) session: SessionId,
    pub(crate) feed: FeedName,
}

/// A viewer and what is kept beside it.
struct Place {
    viewer: Viewer,
    layers: Arc<[Layer]>,
    choice: Choice,
    is_moved_by_balancer: bool,
    _door: Door,
}

/// The application of a shard.
pub(crate) struct Fanout {
    feeds: HashMap<FeedId, Audience>,
    viewers: HashMap<SessionId, Place>,
    seats: mpsc::Sender<SeatWanted>,
    metrics: Arc<RelayMetrics>,
    /// What one viewer is sent at a time: kept, so that it is not allocated again and again.
    scratch: Vec<PacketToSend>,
}

/// A feed's viewers on this shard.
#[derive(Default)]
struct Audience {
    sessions: Vec<SessionId>,
    gop: Gop,
    history: History,
}

impl Fanout {
    /// A shard without viewers, which asks for seats at other feeds by `seats`.
    pub(crate) fn new(metrics: Arc<RelayMetrics>, seats: mpsc::Sender<SeatWanted>) -> Self {
        Self { feeds: HashMap::new(), viewers: HashMap::new(), seats, metrics, scratch: Vec::new() }
    }

    fn packets(&mut self, feed: FeedId, packets: &[Packet], sessions: &mut Sessions) {
        let Some(audience) = self.feeds.get_mut(&feed) else { return };
        for packet in packets.iter().filter(|packet| packet.track == Track::Video) {
            audience.gop.push(packet);
            audience.history.push(packet, sessions.now());
        }
        let (mut sent, mut left, mut somebody_waits) = (Sent::default(), Vec::new(), false);
        for session in &audience.sessions {
            let Some(place) = self.viewers.get_mut(session) else { continue };
            left.extend(place.viewer.take(feed, packets, &mut self.scratch).map(|feed| (feed, *session)));
            somebody_waits |= place.viewer.waits();
            sent.send(*session, &self.scratch, sessions);
        }
        if !somebody_waits {
            audience.gop.nobody_waits();
        }
        self.metrics.sent(sent.packets, sent.bytes);
        left.into_iter().for_each(|(feed, session)| self.leave(feed, session));
    }

    /// A viewer's media can flow: it is shown the present group of pictures, or waits for the next.
    fn connected(&mut self, session: SessionId, sessions: &mut Sessions) {
        let Some(place) = self.viewers.get_mut(&session) else { return };
        let viewer = &mut place.viewer;
        let feed = viewer.feed();
        let has_waited = viewer.connect();
        let Some(audience) = self.feeds.get(&feed) else { return };
        let (replay, drawn) = audience.gop.replay(has_waited);
        viewer.was_shown(drawn);
        viewer.take(feed, &replay, &mut self.scratch);
        if self.scratch.is_empty() {
            viewer.await_keyframe();
        }
        if let [.., most] = &place.layers[..] {
            sessions.want_bitrate(session, most.bps);
        }
        let mut sent = Sent::default();
        sent.send(session, &self.scratch, sessions);
        self.metrics.sent(sent.packets, sent.bytes);
    }

    /// A viewer lacks a packet: it is sent again, if it is still there.
    fn lost(&self, session: SessionId, track: Track, sequence: u64, sessions: &mut Sessions) {
        let Some(viewer) = self.viewers.get(&session).map(|place| &place.viewer) else { return };
        let Some(original) = viewer.original(track, sequence) else { return };
        // It may have been another rendition's.
        let mut histories = self.feeds.values().map(|audience| &audience.history);
        if let Some(packet) = histories.find_map(|h| h.find(original.source, original.sequence)) {
            let timestamp = viewer.timestamp(packet).wrapping_add(original.shift);
            let packet = packet.numbered(sequence, timestamp);
            if sessions.repeat_packet(session, &packet) {
                self.metrics.repeated(packet.payload.len() as u64);
            }
        }
    }

    /// What can be sent to a viewer was estimated anew.
    fn estimated(&mut self, session: SessionId, bps: u64, now: Instant) {
        let Some(place) = self.viewers.get_mut(&session) else { return };
        if let Some(layer) = place.choice.by_estimate(&place.layers, bps, now) {
            Self::want_seat(&self.seats, session, &place.viewer, layer);
        }
    }

    /// A viewer has chosen for itself.
    fn height(&mut self, session: SessionId, lines: u32, layers: Arc<[Layer]>, now: Instant) {
        let Some(place) = self.viewers.get_mut(&session) else { return };
        place.choice.among(&place.layers, &layers);
        place.layers = layers;
        if let Some(layer) = place.choice.by_height(&place.layers, lines, now) {
            Self::want_seat(&self.seats, session, &place.viewer, layer);
        }
    }

    fn want_seat(seats: &mpsc::Sender<SeatWanted>, session: SessionId, viewer: &Viewer, layer: &Layer) {
        let feed = FeedName { key: viewer.stream().clone(), rendition: layer.rendition.clone() };
        // One that finds no room stays with what it has until the next change.
        let _ = seats.try_send(SeatWanted { session, feed });
    }

    fn seated(&mut self, session: SessionId, seat: Seat) {
        let Some(place) = self.viewers.get_mut(&session) else { return };
        let (feed, current) = (seat.feed().id, place.viewer.feed());
        let left = place.viewer.go_to(seat).filter(|left| *left != current);
        let audience = self.feeds.entry(feed).or_default();
        if !audience.sessions.contains(&session) {
            audience.sessions.push(session);
        }
        left.into_iter().for_each(|feed| self.leave(feed, session));
    }

    fn ended(&mut self, session: SessionId) {
        let Some(place) = self.viewers.remove(&session) else { return };
        let watched: Vec<FeedId> =
            self.feeds.keys().copied().filter(|feed| place.viewer.looks_at(*feed)).collect();
        watched.into_iter().for_each(|feed| self.leave(feed, session));
    }

    fn leave(&mut self, feed: FeedId, session: SessionId) {
        if let Some(audience) = self.feeds.get_mut(&feed) {
            audience.sessions.retain(|other| *other != session);
            if audience.sessions.is_empty() {
                self.feeds.remove(&feed);
            }
        }
    }
}

impl App for Fanout {
    type Session = Guest;
    type Message = Message;

    fn opened(&mut self, session: SessionId, guest: Guest, agreed: Negotiated, sessions: &mut Sessions) {
        if guest.seat.feed().is_over() {
            return sessions.close(session);
        }
        let mut viewer = Viewer::new(guest.seat, agreed);
        let audience = self.feeds.entry(viewer.feed()).or_default();
        audience.sessions.push(session);
        if audience.gop.has_begun() {
            // It may have asked before that: the request was under way for a while.
            viewer.wait();
        }
        let choice = Choice::new(&guest.layers, sessions.now());
        let Guest { door, layers, is_moved_by_balancer, .. } = guest;
        let place = Place { viewer, choice, layers, is_moved_by_balancer, _door: door };
        self.viewers.insert(session, place);
    }

    fn event(&mut self, session: SessionId, event: Event, sessions: &mut Sessions) {
        match event {
            Event::Connected => self.connected(session, sessions),
            Event::KeyframeRequested => {
                if let Some(place) = self.viewers.get(&session) {
                    place.viewer.want_keyframe();
                }
            }
            Event::Ended(why) => {
                self.metrics.viewer_ended(why);
                self.ended(session);
            }
            Event::PacketLost { track, sequence } => self.lost(session, track, sequence, sessions),
            Event::Bandwidth { bps } => self.estimated(session, bps, sessions.now()),
            // Viewers send no media.
            Event::Frame(_) | Event::Packet(_) | Event::SenderReport(_) => {}
        }
    }

    fn message(&mut self, message: Message, sessions: &mut Sessions) {
        match message {
            Message::Packets(feed, packets) => self.packets(feed, &packets, sessions),
            Message::Seat(session, seat) => self.seated(session, seat),
            Message::Over(feed) => {
                let audience = self.feeds.get(&feed).map(|audience| audience.sessions.clone());
                let watches = |session: &SessionId| {
                    self.viewers.get(session).is_some_and(|place| place.viewer.feed() == feed)
                };
                let watching = audience.into_iter().flatten().filter(watches);
                watching.for_each(|session| sessions.close(session));
            }
            Message::LetGo(viewers) => {
                let goes = |place: &Place| viewers == usize::MAX || !place.is_moved_by_balancer;
                let some = self.viewers.iter().filter(|(_, place)| goes(place)).take(viewers);
                let some: Vec<SessionId> = some.map(|(session, _)| *session).collect();
                some.into_iter().for_each(|session| sessions.close(session));
            }
            Message::Height(session, lines, layers) => self.height(session, lines, layers, sessions.now()),
        }
    }
}

/// What was sent to viewers.
#[derive(Default)]
struct Sent {
    packets: u64,
    bytes: u64,
}

impl Sent {
    fn send(&mut self, session: SessionId, packets: &[PacketToSend], sessions: &mut Sessions) {
        if !packets.is_empty() && sessions.send_packets(session, packets) {
            self.packets += packets.len() as u64;
            self.bytes += packets.iter().map(|packet| packet.payload.len() as u64).sum::<u64>();
        }
    }
}
