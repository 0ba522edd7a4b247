//! A shard: some of a mux's sessions, and the application that decides what they are for. No sockets, no
//! clocks: tests run it with a time of their own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use crate::counters::Counters;
use crate::error::Refused;
use crate::fragment::{Fragment, IceChange};
use crate::limits::Limits;
use crate::media::{Event, Negotiated};
use crate::outbox::Wire;
use crate::peer::{Certificate, Path, SessionOptions};
use crate::sessions::{Answer, Common, Note, Offer, SessionId, Sessions};

/// What is done with the sessions of a shard. It runs on the shard's thread, must not wait, and owns what it
/// keeps of its sessions.
pub trait App: Send + 'static {
    /// What the owner of a session says of it as it begins.
    type Session: Send + 'static;
    /// What can be said to it later.
    type Message: Send + 'static;

    /// A session has begun; nothing has happened in it yet.
    fn opened(
        &mut self,
        session: SessionId,
        with: Self::Session,
        agreed: Negotiated,
        sessions: &mut Sessions,
    );

    /// Something happened in a session. Nothing comes after [`Event::Ended`].
    fn event(&mut self, session: SessionId, event: Event, sessions: &mut Sessions);

    /// It is told something ([`crate::Mux::post`]).
    fn message(&mut self, message: Self::Message, sessions: &mut Sessions);

    /// When it wants to be told of time.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Its deadline is over.
    fn timeout(&mut self, _sessions: &mut Sessions) {}
}

/// A shard.
pub struct Shard<A: App> {
    app: A,
    sessions: Sessions,
    /// What is said of sessions whose offers have not been answered yet.
    offered: HashMap<SessionId, A::Session>,
}

impl<A: App> Shard<A> {
    /// The only shard there is, whose sessions are told that they reach it at `candidates`, and which sends
    /// by `wire`. What a test drives; [`crate::Mux`] makes its own.
    pub fn alone(
        app: A,
        limits: Limits,
        candidates: Vec<SocketAddr>,
        wire: Box<dyn Wire>,
        now: Instant,
    ) -> (Self, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let common = Common {
            limits,
            candidates,
            certificate: Certificate::generate(),
            counters: Arc::clone(&counters),
        };
        (Self::new(0, app, common, wire, now), counters)
    }

    pub(crate) fn new(index: u8, app: A, common: Common, wire: Box<dyn Wire>, now: Instant) -> Self {
        Self { app, sessions: Sessions::new(index, common, wire, now), offered: HashMap::new() }
    }

    /// Answers an offer.
    ///
    /// # Errors
    /// [`Refused`] says why there is no answer; nothing is left behind.
    pub fn accept(
        &mut self,
        offer: &str,
        options: SessionOptions,
        with: A::Session,
        now: Instant,
    ) -> Result<Answer, Refused> {
        self.sessions.set_now(now);
        let answer = self.sessions.accept(offer, options)?;
        self.app.opened(answer.session, with, answer.negotiated, &mut self.sessions);
        self.settle();
        Ok(answer)
    }

    /// Makes an offer, with a data channel of this name. The application is told of the session when it is
    /// answered.
    ///
    /// # Errors
    /// [`Refused`] says why there is no offer; nothing is left behind.
    pub fn offer(
        &mut self,
        channel: &str,
        options: SessionOptions,
        with: A::Session,
        now: Instant,
    ) -> Result<Offer, Refused> {
        self.sessions.set_now(now);
        let offer = self.sessions.offer(channel, options)?;
        self.offered.insert(offer.session, with);
        self.settle();
        Ok(offer)
    }

    /// Takes the answer to an offer.
    ///
    /// # Errors
    /// [`Refused::Gone`] when the session has ended or was answered already. A bad answer ends it.
    pub fn answer(&mut self, session: SessionId, answer: &str, now: Instant) -> Result<Negotiated, Refused> {
        self.sessions.set_now(now);
        let with = self.offered.remove(&session).ok_or(Refused::Gone)?;
        let agreed = self.sessions.take_answer(session, answer);
        match &agreed {
            Ok(agreed) => self.app.opened(session, with, *agreed, &mut self.sessions),
            Err(_) => self.sessions.close(session),
        }
        self.settle();
        agreed
    }

    /// Trickled candidates or an ICE restart.
    ///
    /// # Errors
    /// [`Refused::Gone`] when the session has ended.
    pub fn change_ice(
        &mut self,
        session: SessionId,
        fragment: &Fragment,
        now: Instant,
    ) -> Result<IceChange, Refused> {
        self.sessions.set_now(now);
        let changed = self.sessions.change_ice(session, fragment);
        self.settle();
        changed
    }

    /// Takes a datagram from `source`.
    pub fn receive(&mut self, source: SocketAddr, datagram: &[u8], now: Instant) {
        self.receive_on(None, source, datagram, now);
    }

    /// The same on a socket that has several addresses: `local` is the one that was asked, from which the answer
    /// has to leave.
    pub(crate) fn receive_on(
        &mut self,
        local: Option<IpAddr>,
        source: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) {
        self.sessions.set_now(now);
        let way = Path { remote: source, local, arrived_at: self.sessions.shard() };
        self.sessions.receive(way, datagram);
        self.settle();
    }

    /// Tells the application something.
    pub fn message(&mut self, message: A::Message, now: Instant) {
        self.sessions.set_now(now);
        self.app.message(message, &mut self.sessions);
        self.settle();
    }

    /// Closes a session.
    pub fn close(&mut self, session: SessionId, now: Instant) {
        self.sessions.set_now(now);
        self.sessions.close(session);
        self.settle();
    }

    /// When [`Self::timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.sessions.deadline(), self.app.deadline()].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn timeout(&mut self, now: Instant) {
        self.sessions.set_now(now);
        self.sessions.timeout();
        if self.app.deadline().is_some_and(|at| at <= now) {
            self.app.timeout(&mut self.sessions);
        }
        self.settle();
    }

    /// Sends what was gathered. To be called when there is nothing else to do at the moment.
    pub fn flush(&mut self) {
        self.sessions.flush();
    }

    /// Its application.
    pub fn app(&self) -> &A {
        &self.app
    }

    pub(crate) fn take_note(&mut self, note: Note, now: Instant) {
        self.sessions.set_now(now);
        self.sessions.take_note(note);
        self.settle();
    }

    pub(crate) fn notes(&mut self) -> std::vec::Drain<'_, (u8, Note)> {
        self.sessions.notes()
    }

    /// Hands out events, and those that come of them.
    fn settle(&mut self) {
        while let Some((session, event)) = self.sessions.next_event() {
            if let Event::Ended(_) = event {
                self.offered.remove(&session);
            }
            self.app.event(session, event, &mut self.sessions);
        }
    }
}
