//! Where datagrams are led: by their source's address once an ICE check from there was proven, by the ICE user name
//! before. Nothing but such a check is taken from an address before that.

use std::net::SocketAddr;
use std::sync::Arc;

use str0m::ice::StunMessage;

use super::{Note, SessionId, Sessions};
use crate::counters::Counters;
use crate::peer::Path;
use crate::routes::Route;
use crate::{limits, ufrag};

impl Sessions {
    /// Leads a datagram to its session.
    pub(crate) fn receive(&mut self, from: Path, datagram: &[u8]) {
        match datagram.first() {
            // RFC 7983: what the first byte says.
            Some(0..=3) => self.receive_stun(from, datagram),
            Some(20..=63 | 128..=191) => match self.routes.by_address(from.remote) {
                Some(Route::Here(slot)) => self.receive_at(slot, from.remote, datagram),
                Some(Route::Neighbour(shard)) => self.pass_on(shard, from, datagram),
                None => Counters::add(&self.common.counters.strangers),
            },
            _ => Counters::add(&self.common.counters.dropped),
        }
    }

    fn receive_at(&mut self, slot: usize, source: SocketAddr, datagram: &[u8]) {
        let Some(serial) = self.entries.get(slot).map(|entry| entry.serial) else { return };
        let session = SessionId { shard: self.shard, slot, serial };
        self.change(session, |peer, now, sink| peer.receive(source, datagram, now, sink));
    }

    /// An ICE check. Only one with a session's password proves its source; what else comes from there is
    /// taken from then on.
    fn receive_stun(&mut self, from: Path, datagram: &[u8]) {
        let source = from.remote;
        let counters = Arc::clone(&self.common.counters);
        let Ok(message) = StunMessage::parse(datagram) else { return Counters::add(&counters.dropped) };
        let Some((name, _)) = message.split_username().filter(|_| message.is_binding_request()) else {
            return Counters::add(&counters.dropped);
        };
        let known = self.routes.by_address(source).is_some();
        if !known && !self.budget.allows(source.ip(), self.common.limits.stun_per_source, self.now) {
            return Counters::add(&counters.stun_limited);
        }
        let Some(slot) = self.routes.by_ufrag(name) else {
            match ufrag::shard_of(name).filter(|shard| *shard != self.shard && from.arrived_at == self.shard)
            {
                Some(shard) => self.pass_on(shard, from, datagram),
                None => Counters::add(&counters.stun_refused),
            }
            return;
        };
        let proven = self.entries.get(slot).is_some_and(|e| e.peer.accepts(source, datagram, self.now));
        if !proven {
            return Counters::add(&counters.stun_refused);
        }
        self.prove(slot, from);
        if let Some(entry) = self.entries.get_mut(slot).filter(|_| message.use_candidate()) {
            entry.peer.nominate(source);
        }
        self.receive_at(slot, source, datagram);
    }

    fn prove(&mut self, slot: usize, path: Path) {
        if path.arrived_at != self.shard {
            self.notes.push((path.arrived_at, Note::Learn { source: path.remote, shard: self.shard }));
        }
        let Some(entry) = self.entries.get_mut(slot) else { return };
        if self.routes.by_address(path.remote) == Some(Route::Here(slot)) {
            let known = entry.paths.iter_mut().find(|known| known.remote == path.remote);
            return known.into_iter().for_each(|known| known.local = path.local);
        }
        entry.paths.push_back(path);
        let oldest = (entry.paths.len() > limits::ADDRESSES_PER_SESSION).then(|| entry.paths.pop_front());
        self.routes.add_address(path.remote, slot);
        if let Some(oldest) = oldest.flatten() {
            self.leave(slot, oldest);
        }
    }

    pub(super) fn leave(&mut self, slot: usize, path: Path) {
        self.routes.remove_address(path.remote, slot);
        if path.arrived_at != self.shard {
            self.notes.push((path.arrived_at, Note::Forget { source: path.remote, shard: self.shard }));
        }
    }

    /// Passes a datagram on, once: one that was passed on already is dropped.
    fn pass_on(&mut self, shard: u8, from: Path, datagram: &[u8]) {
        if from.arrived_at != self.shard {
            return Counters::add(&self.common.counters.strangers);
        }
        Counters::add(&self.common.counters.passed_on);
        self.notes.push((shard, Note::Datagram { from, bytes: datagram.to_vec() }));
    }
}
