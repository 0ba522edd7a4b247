//! A node's life in the cluster: it joins, writes one heartbeat a second, and leaves. The heartbeat is a
//! compare-and-set on `rev`, so that what others wrote meanwhile (room taken, a drain, that it was found dead)
//! is never written over, and is obeyed.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, UnixMs};
use crate::ids::{Incarnation, ReservationId};
use crate::limits;
use crate::machine::Machine;
use crate::node::{Load, NodeRecord, NodeState};
use crate::store::{ClusterStore, StoreError};

mod drain;
mod give_back;
mod gone;
mod life;

pub use drain::{DrainError, set_drain};
pub use give_back::give_back;
pub use gone::{Silence, bury_the_silent, mark_gone};
pub use life::NodeLife;

/// What a node's roles know of its load; asked once a second.
pub trait LoadSource: Send + Sync + 'static {
    /// Adds what they know to `load` (processors and memory are filled in already).
    fn add_to(&self, load: &mut Load);

    /// The room of an origin; nothing on other nodes.
    fn room(&self) -> Room {
        Room::default()
    }
}

/// An origin's room.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Room {
    /// What it can encode, Mpx/s.
    pub capacity_mpx: f64,
    /// What its running streams cost, Mpx/s.
    pub running_mpx: f64,
    /// Reservations whose publish has come: their cost is in `running_mpx` now.
    pub settled: Vec<ReservationId>,
}

/// Why a node cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Its id is taken by a node that lives.
    #[error("node.id {id} is taken: a node of that id lives at {at} (version {version})")]
    Taken {
        /// The id.
        id: String,
        /// Where the other is.
        at: String,
        /// What it runs.
        version: String,
    },
    /// The store cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Another run of this node has taken its place.
#[derive(Debug, thiserror::Error)]
#[error("another run of this node, at {at}, has taken its place")]
pub struct Displaced {
    /// Where it is.
    pub at: String,
}

/// Why a heartbeat was not written.
#[derive(Debug, thiserror::Error)]
pub enum BeatError {
    /// Another run of this node has taken its place: this one must end.
    #[error(transparent)]
    Displaced(#[from] Displaced),
    /// The store cannot be asked, or others kept winning.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BeatError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Displaced(_) => "displaced",
            Self::Store(error) => error.kind(),
        }
    }
}

/// A node that has joined.
pub struct Membership {
    store: Arc<dyn ClusterStore>,
    record: NodeRecord,
}

impl Membership {
    /// Writes the node's document, taking the place of an earlier run of it.
    ///
    /// `record.addresses.http` must be bound already: an earlier run at the same address is then known to be
    /// dead. One at another address is watched for [`limits::HEARTBEAT_GONE`]; if it moves, it lives.
    ///
    /// # Errors
    /// [`JoinError::Taken`] when another node of this id lives; else what the store said.
    pub async fn join(store: Arc<dyn ClusterStore>, record: NodeRecord) -> Result<Self, JoinError> {
        for _ in 0..limits::CAS_TRIES {
            let earlier = store.node(&record.id).await?;
            if let Some(earlier) = &earlier
                && earlier.addresses.http != record.addresses.http
                && lives(store.as_ref(), earlier).await?
            {
                return Err(JoinError::Taken {
                    id: record.id.to_string(),
                    at: earlier.addresses.http.to_string(),
                    version: earlier.version.clone(),
                });
            }
            let expected = earlier.as_ref().map(|e| e.rev);
            let rev = expected.unwrap_or(0).saturating_add(1);
            let mut record = NodeRecord { rev, heartbeat: store.now().await?, ..record.clone() };
            // An earlier try may have been written after all, and its run been found dead since: it stays so.
            let was_this = |e: &NodeRecord| e.incarnation == record.incarnation && e.state == NodeState::Gone;
            if earlier.as_ref().is_some_and(was_this) {
                record.incarnation = Incarnation::random();
            }
            if store.put_node(&record, expected).await? {
                return Ok(Self { store, record });
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Writes heartbeats until cancelled, then marks the node gone. `heartbeats` counts them by result.
    ///
    /// # Errors
    /// [`Displaced`] when another run of this node has taken its place: this one must end.
    pub async fn run(
        mut self,
        life: Arc<NodeLife>,
        source: Arc<dyn LoadSource>,
        heartbeats: IntCounterVec,
        stop: CancellationToken,
    ) -> Result<(), Displaced> {
        let mut machine = Machine::default();
        let mut ticks = tokio::time::interval(limits::HEARTBEAT_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let mut load = Load {
                cpu: machine.cpu_percent(),
                memory: Machine::memory(),
                clock_ahead_ms: clock::ahead_ms(),
                ..Load::default()
            };
            source.add_to(&mut load);
            let beat = self.beat(life.by_itself(), &load, &source.room()).await;
            heartbeats.with_label_values(&[beat.as_ref().map_or_else(BeatError::kind, |()| "ok")]).inc();
            match beat {
                Ok(()) => life.follow(&self.record),
                Err(BeatError::Displaced(displaced)) => return Err(displaced),
                Err(BeatError::Store(error)) => tracing::warn!(%error, "the heartbeat could not be written"),
            }
        }
        if let Err(error) = self.beat(NodeState::Gone, &Load::default(), &Room::default()).await {
            tracing::warn!(%error, "this node could not be marked gone");
        }
        Ok(())
    }

    /// The document as it was last written.
    #[must_use]
    pub fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// Writes one heartbeat.
    ///
    /// # Errors
    /// [`BeatError`] says why it was not written.
    pub async fn beat(&mut self, state: NodeState, load: &Load, room: &Room) -> Result<(), BeatError> {
        for _ in 0..limits::CAS_TRIES {
            let now = self.store.now().await?;
            let next = next_beat(&self.record, state, load, room, now);
            let expected = self.record.rev;
            let written = if next.differs_by_load(&self.record) {
                self.store.put_load(&next, expected).await?
            } else {
                self.store.put_node(&next, Some(expected)).await?
            };
            if written {
                self.record = next;
                return Ok(());
            }
            match self.store.node(&self.record.id).await? {
                Some(other) if other.incarnation != self.record.incarnation => {
                    return Err(Displaced { at: other.addresses.http.to_string() }.into());
                }
                Some(found_dead) if found_dead.state == NodeState::Gone => {
                    let by = found_dead.found_dead_by.as_ref().map(tracing::field::display);
                    tracing::warn!(by, "this node was taken for dead; it comes back as a new incarnation");
                    let incarnation = Incarnation::random();
                    self.record = NodeRecord { incarnation, found_dead_by: None, ..found_dead };
                }
                Some(stored) => self.record = stored,
                None => self.put_back().await?,
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Somebody removed the document: it is written anew.
    async fn put_back(&self) -> Result<(), StoreError> {
        self.store.put_node(&self.record, None).await.map(drop)
    }
}

/// The document of the next heartbeat: expired and settled reservations fall out, and room is what is left. A
/// node that would serve but is drained says so.
#[must_use]
pub fn next_beat(last: &NodeRecord, state: NodeState, load: &Load, room: &Room, now: UnixMs) -> NodeRecord {
    let mut reservations = last.reservations.clone();
    reservations.retain(|r| r.expires_at > now && !room.settled.contains(&r.id));
    let reserved: f64 = reservations.iter().map(|r| r.mpx).sum();
    let state = if last.drain && state == NodeState::Serving { NodeState::Draining } else { state };
    let begins = state == NodeState::Serving && last.state != NodeState::Serving;
    NodeRecord {
        rev: last.rev.saturating_add(1),
        state,
        serving_since: if begins { now } else { last.serving_since },
        heartbeat: now,
        capacity_mpx: room.capacity_mpx,
        free_mpx: (room.capacity_mpx - room.running_mpx - reserved).max(0.0),
        reservations,
        load: load.clone(),
        ..last.clone()
    }
}

/// Whether the node of an existing document lives: its heartbeat moves while it is watched.
async fn lives(store: &dyn ClusterStore, seen: &NodeRecord) -> Result<bool, StoreError> {
    if !seen.is_alive(store.now().await?) {
        return Ok(false);
    }
    let watch_every = Duration::from_millis(250);
    let mut ticks = tokio::time::interval(watch_every);
    let mut watched = Duration::ZERO;
    while watched < limits::HEARTBEAT_GONE {
        ticks.tick().await;
        watched += watch_every;
        match store.node(&seen.id).await? {
            Some(node) if node.state == NodeState::Gone => return Ok(false),
            Some(node) if node.rev != seen.rev => return Ok(true),
            Some(_) => {}
            None => return Ok(false),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
