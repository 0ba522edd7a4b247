//! The sessions of one shard, and what an [`crate::App`] does with them.

mod arrivals;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::counters::Counters;
use crate::error::{Ended, Refused};
use crate::fragment::{self, Fragment, IceChange};
use crate::limits::Limits;
use crate::media::{Event, FrameToSend, Negotiated, PacketToSend};
use crate::outbox::{Outbox, Wire};
use crate::peer::{Certificate, Path, Peer, SessionOptions, Sink};
use crate::routes::{Routes, StunBudget};
use crate::ufrag;

/// From one look at the time to the next, for a session that is due again at once.
const AGAIN_AFTER: Duration = Duration::from_millis(1);

/// Names a session of a mux. Never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// The shard it is on.
    pub(crate) shard: u8,
    slot: usize,
    serial: u64,
}

/// An answered offer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The session.
    pub session: SessionId,
    /// The answer.
    pub sdp: String,
    /// What was agreed on.
    pub negotiated: Negotiated,
    /// The user name of the server's side of its ICE session, which names that.
    pub ufrag: String,
}

/// An offer that waits for its answer.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The session.
    pub session: SessionId,
    /// The offer.
    pub sdp: String,
    /// The user name of the server's side of its ICE session, which names that.
    pub ufrag: String,
}

/// A word from one shard to another.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    /// This datagram is yours; it came to me.
    Datagram { from: Path, bytes: Vec<u8> },
    /// What comes from there is mine.
    Learn { source: SocketAddr, shard: u8 },
    /// And no longer.
    Forget { source: SocketAddr, shard: u8 },
}

/// What a shard shares with the others of its mux, or has from it.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) limits: Limits,
    /// Where sessions are told that they reach this end.
    pub(crate) candidates: Vec<SocketAddr>,
    pub(crate) certificate: Certificate,
    pub(crate) counters: Arc<Counters>,
}

/// The sessions of one shard.
pub struct Sessions {
    shard: u8,
    common: Common,
    now: Instant,
    entries: Slab<Entry>,
    serial: u64,
    routes: Routes,
    budget: StunBudget,
    /// When an entry wants to be told of time. One entry of the heap for each session, never later than that.
    timers: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    outbox: Outbox,
    events: VecDeque<(SessionId, Event)>,
    notes: Vec<(u8, Note)>,
}

struct Entry {
    peer: Peer,
    serial: u64,
    opened: Instant,
    counted_half_open: bool,
    ufrag: String,
    /// Proven addresses.
    paths: VecDeque<Path>,
    due: Instant,
    /// The earliest time at which the heap has it.
    timer: Option<Instant>,
}

impl Sessions {
    /// The time of what is being done.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What was agreed on in a session; `None` when it has ended.
    #[must_use]
    pub fn negotiated(&self, session: SessionId) -> Option<Negotiated> {
        self.entry(session).map(|entry| entry.peer.negotiated())
    }

    /// Sends packets, those of a frame together if possible: they leave in one system call. Whether the
    /// session is there ([`crate::Delivery::Packets`]).
    pub fn send_packets(&mut self, session: SessionId, packets: &[PacketToSend]) -> bool {
        self.change(session, |peer, now, sink| peer.send_packets(packets, now, sink))
    }

    /// Sends a frame. Whether the session is there ([`crate::Delivery::Frames`]).
    pub fn send_frame(&mut self, session: SessionId, frame: &FrameToSend) -> bool {
        self.change(session, |peer, now, sink| peer.send_frame(frame, now, sink))
    }

    /// Asks a publisher for a keyframe, as often as [`crate::limits::KEYFRAME_REQUEST_EVERY`] allows. Whether it
    /// was asked now.
    pub fn request_keyframe(&mut self, session: SessionId) -> bool {
        let mut asked = false;
        self.change(session, |peer, now, sink| {
            asked = peer.request_keyframe(now, sink);
            now
        });
        asked
    }

    /// Sends a packet again that a session lacks ([`Event::PacketLost`]): it has to be the one that was sent under
    /// its number. Whether it did: only a share of what is sent is repeated.
    pub fn repeat_packet(&mut self, session: SessionId, packet: &PacketToSend) -> bool {
        let mut did = false;
        self.change(session, |peer, now, sink| peer.repeat_packet(packet, now, sink, &mut did));
        did
    }

    /// What would be sent to a session if there were room, bits a second, for its estimate.
    pub fn want_bitrate(&mut self, session: SessionId, bps: u64) {
        self.change(session, |peer, _, _| peer.want_bitrate(bps));
    }

    /// Closes a session; [`Event::Ended`] follows.
    pub fn close(&mut self, session: SessionId) {
        self.end(session, Ended::Closed);
    }

    pub(crate) fn new(shard: u8, common: Common, wire: Box<dyn Wire>, now: Instant) -> Self {
        Self {
            shard,
            common,
            now,
            entries: Slab::new(),
            serial: 0,
            routes: Routes::default(),
            budget: StunBudget::default(),
            timers: BinaryHeap::new(),
            outbox: Outbox::new(wire),
            events: VecDeque::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn shard(&self) -> u8 {
        self.shard
    }

    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    pub(crate) fn accept(&mut self, offer: &str, options: SessionOptions) -> Result<Answer, Refused> {
        self.has_room()?;
        let Common { candidates, certificate, .. } = &self.common;
        let credentials = ufrag::credentials(self.shard);
        let (peer, sdp) = Peer::answer(offer, options, &credentials, candidates, certificate, self.now)?;
        let negotiated = peer.negotiated();
        let session = self.add(peer, &credentials.ufrag);
        Ok(Answer { session, sdp, negotiated, ufrag: credentials.ufrag })
    }

    /// Makes an offer, with a data channel of this name. Its session lapses like one that is not connected in time.
    pub(crate) fn offer(&mut self, channel: &str, options: SessionOptions) -> Result<Offer, Refused> {
        self.has_room()?;
        let Common { candidates, certificate, .. } = &self.common;
        let credentials = ufrag::credentials(self.shard);
        let (peer, sdp) =
            Peer::offer_as_server(channel, options, &credentials, candidates, certificate, self.now)?;
        let session = self.add(peer, &credentials.ufrag);
        Ok(Offer { session, sdp, ufrag: credentials.ufrag })
    }

    /// Takes the answer to an offer.
    pub(crate) fn take_answer(&mut self, session: SessionId, answer: &str) -> Result<Negotiated, Refused> {
        let entry = self.entry_mut(session).ok_or(Refused::Gone)?;
        entry.peer.accept_clients_answer(answer)?;
        let negotiated = entry.peer.negotiated();
        self.change(session, Peer::timeout);
        Ok(negotiated)
    }

    fn has_room(&self) -> Result<(), Refused> {
        let Common { limits, counters, .. } = &self.common;
        let is_full = counters.sessions.load(Ordering::Relaxed) >= limits.sessions
            || counters.half_open.load(Ordering::Relaxed) >= limits.half_open;
        if is_full { Err(Refused::Busy) } else { Ok(()) }
    }

    fn add(&mut self, peer: Peer, ufrag: &str) -> SessionId {
        let counters = &self.common.counters;
        counters.sessions.fetch_add(1, Ordering::Relaxed);
        counters.half_open.fetch_add(1, Ordering::Relaxed);
        self.serial += 1;
        let slot = self.entries.insert(Entry {
            peer,
            serial: self.serial,
            opened: self.now,
            counted_half_open: true,
            ufrag: ufrag.to_owned(),
            paths: VecDeque::new(),
            due: self.now,
            timer: None,
        });
        self.routes.add_ufrag(ufrag.to_owned(), slot);
        let session = SessionId { shard: self.shard, slot, serial: self.serial };
        self.change(session, Peer::timeout);
        session
    }

    /// Trickled candidates, or an ICE restart when the fragment names another ICE session of the client's.
    pub(crate) fn change_ice(
        &mut self,
        session: SessionId,
        fragment: &Fragment,
    ) -> Result<IceChange, Refused> {
        let (shard, local) = (self.shard, self.common.candidates.clone());
        let entry = self.entry_mut(session).ok_or(Refused::Gone)?;
        let Some(remote) = fragment.credentials.as_ref().filter(|c| !entry.peer.is_ice_session(c)) else {
            return Ok(IceChange::Trickled);
        };
        let credentials = ufrag::credentials(shard);
        entry.peer.restart_ice(&credentials, remote)?;
        let fragment = fragment::restarted(&credentials, &local, &entry.peer.first_mid());
        let before = std::mem::replace(&mut entry.ufrag, credentials.ufrag.clone());
        self.routes.remove_ufrag(&before);
        self.routes.add_ufrag(credentials.ufrag.clone(), session.slot);
        self.change(session, Peer::timeout);
        Ok(IceChange::Restarted { ufrag: credentials.ufrag, fragment })
    }

    pub(crate) fn take_note(&mut self, note: Note) {
        match note {
            Note::Datagram { from, bytes } => self.receive(from, &bytes),
            Note::Learn { source, shard } => self.routes.learn(source, shard),
            Note::Forget { source, shard } => self.routes.forget(source, shard),
        }
    }

    /// Tells those of time who want to be told by now.
    pub(crate) fn timeout(&mut self) {
        while let Some(&Reverse((at, slot, serial))) = self.timers.peek() {
            if at > self.now {
                return;
            }
            self.timers.pop();
            // An entry that was given an earlier timer meanwhile has left this one behind.
            let armed = |e: &&mut Entry| e.serial == serial && e.timer == Some(at);
            let Some(entry) = self.entries.get_mut(slot).filter(armed) else { continue };
            entry.timer = None;
            let session = SessionId { shard: self.shard, slot, serial };
            if entry.due > self.now {
                self.arm(slot);
            } else if let Some(why) = self.overdue(slot) {
                self.end(session, why);
            } else {
                self.change(session, |peer, now, sink| again(peer.timeout(now, sink), now));
            }
        }
    }

    /// When [`Self::timeout`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next event. A session is gone once its end is taken.
    pub(crate) fn next_event(&mut self) -> Option<(SessionId, Event)> {
        let (session, event) = self.events.pop_front()?;
        match event {
            Event::Connected => self.connected(session),
            Event::Ended(_) => self.remove(session),
            _ => {}
        }
        Some((session, event))
    }

    pub(crate) fn notes(&mut self) -> std::vec::Drain<'_, (u8, Note)> {
        self.notes.drain(..)
    }

    pub(crate) fn flush(&mut self) {
        self.outbox.flush();
    }

    fn entry(&self, session: SessionId) -> Option<&Entry> {
        self.entries.get(session.slot).filter(|e| e.serial == session.serial && self.shard == session.shard)
    }

    fn entry_mut(&mut self, session: SessionId) -> Option<&mut Entry> {
        let shard = self.shard;
        self.entries.get_mut(session.slot).filter(|e| e.serial == session.serial && shard == session.shard)
    }

    /// Changes a session, and takes what that brings about. Whether it is there.
    fn change(
        &mut self,
        session: SessionId,
        change: impl FnOnce(&mut Peer, Instant, &mut Sink<'_>) -> Instant,
    ) -> bool {
        let (now, shard) = (self.now, self.shard);
        let found = self.entries.get_mut(session.slot);
        let Some(entry) = found.filter(|e| e.serial == session.serial && shard == session.shard) else {
            return false;
        };
        if entry.peer.ended().is_some() {
            return false;
        }
        let events = &mut self.events;
        let mut note = |event| events.push_back((session, event));
        let mut sink = Sink { outbox: &mut self.outbox, events: &mut note, paths: &entry.paths };
        let due = change(&mut entry.peer, now, &mut sink);
        entry.due = due.min(entry.lapses(&self.common.limits, now));
        self.arm(session.slot);
        true
    }

    fn arm(&mut self, slot: usize) {
        let Some(entry) = self.entries.get_mut(slot) else { return };
        if entry.timer.is_none_or(|timer| entry.due < timer) {
            entry.timer = Some(entry.due);
            self.timers.push(Reverse((entry.due, slot, entry.serial)));
        }
    }

    fn overdue(&self, slot: usize) -> Option<Ended> {
        let (entry, limits) = (self.entries.get(slot)?, &self.common.limits);
        if !entry.peer.is_connected() && self.now >= entry.opened + limits.handshake {
            return Some(Ended::NotConnected);
        }
        (entry.peer.silent_for(self.now) >= limits.silence).then_some(Ended::Silent)
    }

    fn end(&mut self, session: SessionId, why: Ended) {
        self.change(session, |peer, now, sink| {
            peer.end(why, now, sink);
            now
        });
    }

    fn connected(&mut self, session: SessionId) {
        let counters = Arc::clone(&self.common.counters);
        if let Some(entry) = self.entry_mut(session).filter(|e| e.counted_half_open) {
            entry.counted_half_open = false;
            counters.half_open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn remove(&mut self, session: SessionId) {
        self.connected(session);
        if self.entry(session).is_none() {
            return;
        }
        let entry = self.entries.remove(session.slot);
        self.routes.remove_ufrag(&entry.ufrag);
        for path in entry.paths {
            self.leave(session.slot, path);
        }
        self.common.counters.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When a session that has just been told of `now` is told of time again. The engine may say that it is due already, and
/// does nothing about it before time has gone on: asked in the same moment it would be asked for ever, and the whole
/// shard would stand still.
fn again(due: Instant, now: Instant) -> Instant {
    if due > now { due } else { now + AGAIN_AFTER }
}

impl Entry {
    /// When it is ended unless something happens.
    fn lapses(&self, limits: &Limits, now: Instant) -> Instant {
        if self.peer.is_connected() {
            now + limits.silence.saturating_sub(self.peer.silent_for(now))
        } else {
            self.opened + limits.handshake
        }
    }
}

impl SessionId {
    /// The shard it is on, which messages about it are for.
    #[must_use]
    pub fn shard(self) -> u8 {
        self.shard
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_due_again_at_once_is_not_asked_in_the_same_moment() {
        let now = Instant::now();
        let earlier = now.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!([again(earlier, now), again(now, now)], [now + AGAIN_AFTER; 2]);
        let later = now + Duration::from_micros(1);
        assert_eq!(again(later, now), later);
    }
}
