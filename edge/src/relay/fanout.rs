//! One shard of the fan-out: the viewers that live on it, and what they are sent. It runs on the shard's own
//! thread and shares nothing with the others but the packets' payloads.

use std::collections::HashMap;
use std::sync::Arc;

use sluicegate_media::frame::Track;
use sluicegate_rtc::{App, Event, Negotiated, PacketToSend, SessionId, Sessions};

use super::doors::Door;
use super::feed::{FeedId, Seat};
use super::gop::Gop;
use super::metrics::RelayMetrics;
use super::packet::Packet;
use super::viewer::Viewer;

/// What a shard is told.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// These came of a feed.
    Packets(FeedId, Arc<[Packet]>),
    /// A feed is over: its viewers are told, and let go.
    Over(FeedId),
    /// This many viewers are to be told to go elsewhere.
    LetGo(usize),
}

/// A viewer as it begins.
pub(crate) struct Guest {
    /// Its place at the feed.
    pub(crate) seat: Seat,
    /// Its address, which is nobody's when it has gone.
    pub(crate) door: Door,
}

/// The application of a shard.
pub(crate) struct Fanout {
    feeds: HashMap<FeedId, Audience>,
    viewers: HashMap<SessionId, (Viewer, Door)>,
    metrics: Arc<RelayMetrics>,
    /// What one viewer is sent at a time: kept, so that it is not allocated again and again.
    scratch: Vec<PacketToSend>,
}

/// A feed's viewers on this shard.
#[derive(Default)]
struct Audience {
    sessions: Vec<SessionId>,
    gop: Gop,
}

impl Fanout {
    pub(crate) fn new(metrics: Arc<RelayMetrics>) -> Self {
        Self { feeds: HashMap::new(), viewers: HashMap::new(), metrics, scratch: Vec::new() }
    }

    fn packets(&mut self, feed: FeedId, packets: &[Packet], sessions: &mut Sessions) {
        let Some(audience) = self.feeds.get_mut(&feed) else { return };
        packets.iter().filter(|packet| packet.track == Track::Video).for_each(|p| audience.gop.push(p));
        let mut sent = Sent::default();
        for session in &audience.sessions {
            let Some((viewer, _)) = self.viewers.get_mut(session) else { continue };
            viewer.take(packets, &mut self.scratch);
            sent.send(*session, &self.scratch, sessions);
        }
        self.metrics.sent(sent.packets, sent.bytes);
    }

    /// A viewer's media can flow: it is shown the present group of pictures, or waits for the next.
    fn connected(&mut self, session: SessionId, sessions: &mut Sessions) {
        let Some((viewer, _)) = self.viewers.get_mut(&session) else { return };
        viewer.connect();
        let Some(audience) = self.feeds.get(&viewer.feed()) else { return };
        viewer.take(audience.gop.replay(), &mut self.scratch);
        if self.scratch.is_empty() {
            viewer.want_keyframe();
        }
        let mut sent = Sent::default();
        sent.send(session, &self.scratch, sessions);
        self.metrics.sent(sent.packets, sent.bytes);
    }

    fn ended(&mut self, session: SessionId) {
        let Some((viewer, _)) = self.viewers.remove(&session) else { return };
        let feed = viewer.feed();
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

    fn opened(&mut self, session: SessionId, guest: Guest, agreed: Negotiated, _: &mut Sessions) {
        let viewer = Viewer::new(guest.seat, agreed);
        self.feeds.entry(viewer.feed()).or_default().sessions.push(session);
        self.viewers.insert(session, (viewer, guest.door));
    }

    fn event(&mut self, session: SessionId, event: Event, sessions: &mut Sessions) {
        match event {
            Event::Connected => self.connected(session, sessions),
            Event::KeyframeRequested => {
                if let Some((viewer, _)) = self.viewers.get(&session) {
                    viewer.want_keyframe();
                }
            }
            Event::Ended(why) => {
                self.metrics.viewer_ended(why);
                self.ended(session);
            }
            // Viewers send no media, and what could be sent to them is nobody's decision yet.
            Event::Frame(_) | Event::Packet(_) | Event::SenderReport(_) | Event::Bandwidth { .. } => {}
        }
    }

    fn message(&mut self, message: Message, sessions: &mut Sessions) {
        match message {
            Message::Packets(feed, packets) => self.packets(feed, &packets, sessions),
            Message::Over(feed) => {
                let audience = self.feeds.get(&feed).map(|audience| audience.sessions.clone());
                audience.into_iter().flatten().for_each(|session| sessions.close(session));
            }
            Message::LetGo(viewers) => {
                let some: Vec<SessionId> = self.viewers.keys().take(viewers).copied().collect();
                some.into_iter().for_each(|session| sessions.close(session));
            }
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
