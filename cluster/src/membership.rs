//! A node's life in the cluster: it joins, writes one heartbeat a second, and leaves. The heartbeat is a
//! compare-and-set on `rev`, so that room that balancers took meanwhile is never written over.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio_util::sync::CancellationToken;

use crate::clock::UnixMs;
use crate::ids::ReservationId;
use crate::limits;
use crate::machine::Machine;
use crate::node::{Load, NodeRecord, NodeState};
use crate::store::{ClusterStore, StoreError};

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
            let expected = earlier.map(|e| e.rev);
            let rev = expected.unwrap_or(0).saturating_add(1);
            let record = NodeRecord { rev, heartbeat: store.now().await?, ..record.clone() };
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
        state: Arc<NodeLife>,
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
            let mut load = Load { cpu: machine.cpu_percent(), memory: Machine::memory(), ..Load::default() };
            source.add_to(&mut load);
            let beat = self.beat(state.get(), &load, &source.room()).await;
            heartbeats.with_label_values(&[beat.as_ref().map_or_else(BeatError::kind, |()| "ok")]).inc();
            match beat {
                Ok(()) => {}
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
            if self.store.put_node(&next, Some(self.record.rev)).await? {
                self.record = next;
                return Ok(());
            }
            match self.store.node(&self.record.id).await? {
                Some(stored) if stored.incarnation == self.record.incarnation => self.record = stored,
                Some(other) => return Err(Displaced { at: other.addresses.http.to_string() }.into()),
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

/// The document of the next heartbeat: expired and settled reservations fall out, and room is what is left.
#[must_use]
pub fn next_beat(last: &NodeRecord, state: NodeState, load: &Load, room: &Room, now: UnixMs) -> NodeRecord {
    let mut reservations = last.reservations.clone();
    reservations.retain(|r| r.expires_at > now && !room.settled.contains(&r.id));
    let reserved: f64 = reservations.iter().map(|r| r.mpx).sum();
    NodeRecord {
        rev: last.rev.saturating_add(1),
        state,
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

/// Where this node is in its life: set by whoever starts and stops it, told in every heartbeat and to
/// `/readyz`.
#[derive(Debug)]
pub struct NodeLife(std::sync::Mutex<NodeState>);

impl Default for NodeLife {
    fn default() -> Self {
        Self(std::sync::Mutex::new(NodeState::Joining))
    }
}

impl NodeLife {
    /// The present state.
    #[must_use]
    pub fn get(&self) -> NodeState {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Moves to `state`.
    pub fn set(&self, state: NodeState) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Reservation;
    use crate::store::EmbeddedStore;
    use crate::testing::node;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn reservation(id: &str, mpx: f64, expires_at: UnixMs) -> Reservation {
        Reservation { id: id.into(), stream: "live/a".parse().unwrap(), mpx, expires_at }
    }

    #[test]
    fn a_heartbeat_settles_what_runs_and_what_expired() {
        let later = NOW.plus(Duration::from_secs(60));
        let mut last = node("o1", NOW);
        last.reservations = vec![
            reservation("runs", 10.0, later),
            reservation("old", 20.0, NOW),
            reservation("open", 5.0, later),
        ];
        let room = Room { capacity_mpx: 100.0, running_mpx: 12.0, settled: vec!["runs".into()] };
        let next = next_beat(&last, NodeState::Serving, &Load::default(), &room, NOW);
        assert_eq!(next.reservations, [reservation("open", 5.0, later)]);
        assert!((next.free_mpx - 83.0).abs() < 1e-9);
        assert_eq!(next.rev, last.rev + 1);
    }

    #[tokio::test]
    async fn a_second_node_of_one_id_is_refused_and_an_ended_ones_place_is_taken() {
        let store: Arc<dyn ClusterStore> = Arc::new(EmbeddedStore::in_memory());
        let now = store.now().await.unwrap();
        let mut first = Membership::join(Arc::clone(&store), node("n", now)).await.unwrap();
        let elsewhere = |now| {
            let mut other = node("n", now);
            other.addresses.http = "127.0.0.9:5080".parse().unwrap();
            other.incarnation = "n-2".into();
            other
        };
        let beat = async {
            loop {
                first.beat(NodeState::Serving, &Load::default(), &Room::default()).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let refused = tokio::select! {
            joined = Membership::join(Arc::clone(&store), elsewhere(now)) => joined.err().unwrap(),
            () = beat => unreachable!(),
        };
        assert!(matches!(refused, JoinError::Taken { .. }), "{refused}");

        first.beat(NodeState::Gone, &Load::default(), &Room::default()).await.unwrap();
        Membership::join(store, elsewhere(now)).await.unwrap();
        let beat = first.beat(NodeState::Serving, &Load::default(), &Room::default()).await;
        assert!(matches!(beat, Err(BeatError::Displaced(_))), "{beat:?}");
    }
}
