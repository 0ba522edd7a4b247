//! A store as a node reaches it: the embedded one, behind a network that is slow, loses answers, and delivers
//! late or twice. A request that was sent arrives even if who sent it has given up or died.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::limits;
use sluicegate_cluster::node::NodeRecord;
use sluicegate_cluster::store::{
    ClusterStore, EmbeddedStore, NodeRead, PageEnd, RoomRequest, StoreError, StreamPage, StreamQuery,
};
use sluicegate_cluster::stream::{StreamFigures, StreamProgress, StreamRecord, StreamVersion};

use crate::ledger::Ledger;
use crate::run::Bug;
use crate::world::World;

/// The name of the store in the network.
pub(crate) const STORE: &str = "store";

/// How the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It answers.
    Fine,
    /// Nothing listens.
    Stopped,
    /// It takes connections and never answers.
    Hung,
    /// Two seconds a call.
    Slow,
    /// Requests arrive late or twice, answers are lost.
    Muddled,
}

/// The store itself, and what is known of it.
pub(crate) struct Database {
    pub(crate) inner: EmbeddedStore,
    pub(crate) ledger: Mutex<Ledger>,
    /// Something was written, or began or ended to play: whoever looks takes it back.
    pub(crate) changed: AtomicBool,
    weather: Mutex<Weather>,
    bug: Option<Bug>,
}

impl Database {
    pub(crate) fn new(world: &World, bug: Option<Bug>) -> Arc<Self> {
        let world = world.clone();
        let (ledger, weather) = (Mutex::default(), Mutex::new(Weather::Fine));
        Arc::new(Self {
            inner: EmbeddedStore::with_clock(move || world.unix()),
            ledger,
            changed: AtomicBool::new(true),
            weather,
            bug,
        })
    }

    pub(crate) fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// What the embedded store says, which says it at once.
    pub(crate) fn at_once<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> T {
        call.now_or_never()
            .expect("a store in memory does not wait")
            .expect("a store in memory does not fail")
    }

    pub(crate) fn stream(&self, key: &StreamKey) -> Option<StreamRecord> {
        self.at_once(self.inner.stream(key))
    }

    pub(crate) fn node(&self, id: &NodeId) -> Option<NodeRecord> {
        self.at_once(self.inner.node(id))
    }

    fn put_stream(&self, record: &StreamRecord, expected: Option<StreamVersion>, now: UnixMs) -> bool {
        let before = self.stream(&record.key);
        let expected = match self.bug {
            Some(Bug::NoEpochGuard) => before.as_ref().map(StreamRecord::version),
            _ => expected,
        };
        let put = self.at_once(self.inner.put_stream(record, expected));
        self.saw_stream(before, &record.key, now);
        put
    }

    fn saw_stream(&self, before: Option<StreamRecord>, key: &StreamKey, now: UnixMs) {
        let after = self.stream(key);
        let owner = before.as_ref().and_then(|b| self.node(&b.owner.node));
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(after) = after.filter(|after| before.as_ref() != Some(after)) {
            self.changed.store(true, Ordering::Relaxed);
            ledger.stream_written(before.as_ref(), &after, owner.as_ref(), now);
        }
    }

    fn put_node(&self, record: &NodeRecord, expected: Option<i64>, load_only: bool, now: UnixMs) -> bool {
        let before = self.node(&record.id);
        let found_dead = before.as_ref().filter(|b| b.found_dead_by.is_some());
        let record = &match found_dead.filter(|_| self.bug == Some(Bug::ComesBackAsItWas)) {
            Some(dead) => NodeRecord { incarnation: dead.incarnation.clone(), ..record.clone() },
            None => record.clone(),
        };
        let expected = match self.bug {
            Some(Bug::NoRevGuard) => before.as_ref().map(|b| b.rev),
            _ => expected,
        };
        let put = match expected.filter(|_| load_only) {
            Some(rev) => self.at_once(self.inner.put_load(record, rev)),
            None => self.at_once(self.inner.put_node(record, expected)),
        };
        self.saw_node(before, &record.id, now);
        put
    }

    fn take_room(&self, request: &RoomRequest, now: UnixMs) -> Option<NodeId> {
        let before: Vec<_> = request.candidates.iter().map(|id| (id.clone(), self.node(id))).collect();
        let all: Vec<NodeRecord> =
            self.at_once(self.inner.nodes()).into_iter().filter_map(Result::ok).collect();
        let taken = match self.bug {
            Some(Bug::DrainedGetWork) => self.take_room_anywhere(request),
            _ => self.at_once(self.inner.take_room(request)),
        };
        for (id, before) in before {
            self.saw_node(before, &id, now);
        }
        // An origin that asks for itself has been given its work before.
        if let Some(taker) = taken.as_ref().filter(|_| request.candidates.len() > 1) {
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.work_given(taker, request.reservation.mpx, &all, now);
        }
        taken
    }

    /// Room on the first candidate that has it, whatever it says of its state.
    fn take_room_anywhere(&self, request: &RoomRequest) -> Option<NodeId> {
        let mpx = request.reservation.mpx;
        let seen = request.candidates.iter().filter_map(|id| self.node(id)).find(|n| n.free_mpx >= mpx)?;
        let mut taken = NodeRecord { rev: seen.rev + 1, free_mpx: seen.free_mpx - mpx, ..seen.clone() };
        taken.reservations.push(request.reservation.clone());
        self.at_once(self.inner.put_load(&taken, seen.rev)).then_some(seen.id)
    }

    fn saw_node(&self, before: Option<NodeRecord>, id: &NodeId, now: UnixMs) {
        let after = self.node(id);
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(after) = after.filter(|after| before.as_ref() != Some(after)) {
            ledger.node_written(before.as_ref(), &after, now);
        }
    }
}

/// The store as one node reaches it.
pub(crate) struct Link {
    pub(crate) world: World,
    pub(crate) database: Arc<Database>,
    pub(crate) node: NodeId,
    /// How far this node's reading of the database's clock is off, ms.
    pub(crate) skew_ms: i64,
    /// How far its own clock is off, ms. Nothing goes by it.
    pub(crate) wall_off_ms: i64,
}

impl Link {
    fn time(&self) -> UnixMs {
        let off_ms = match self.database.bug {
            Some(Bug::OwnClock) => self.wall_off_ms,
            _ => self.skew_ms,
        };
        UnixMs(self.world.unix().0 + off_ms)
    }

    /// One round trip.
    async fn call<T: Clone + Send + 'static>(
        &self,
        apply: impl Fn(&Database, UnixMs) -> T + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let world = &self.world;
        let patience = u64::try_from(limits::STORE_CALL.as_millis()).unwrap();
        let weather = self.database.weather();
        if weather == Weather::Stopped {
            world.sleep(1).await;
            return Err(StoreError::Unavailable("connection refused".to_owned()));
        }
        if weather == Weather::Hung || !world.reaches(self.node.as_str(), STORE) {
            world.sleep(patience).await;
            return Err(StoreError::TimedOut);
        }
        let muddled = weather == Weather::Muddled;
        let there = match weather {
            Weather::Slow => world.between(900, 1_100),
            Weather::Muddled if world.chance(10) => world.between(1, 6_000),
            _ => world.between(1, 5),
        };
        let back = if weather == Weather::Slow { world.between(900, 1_100) } else { world.between(1, 5) };
        let again = (muddled && world.chance(10)).then(|| world.between(1, 6_000));
        let answer = Arc::new(Mutex::new(None));
        let delivery = {
            let (world, database, answer) = (world.clone(), Arc::clone(&self.database), Arc::clone(&answer));
            async move {
                world.sleep(there).await;
                let first = apply(&database, world.unix());
                *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
                if let Some(later) = again {
                    world.sleep(later).await;
                    let _ = apply(&database, world.unix());
                }
            }
        };
        world.spawn("", delivery);
        world.sleep((there + back).min(patience)).await;
        let lost = muddled && world.chance(5);
        let answered = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match answered.filter(|_| !lost && there + back < patience) {
            Some(answer) => Ok(answer),
            None => {
                world.sleep(patience.saturating_sub(there + back)).await;
                Err(StoreError::TimedOut)
            }
        }
    }
}

#[async_trait]
impl ClusterStore for Link {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    async fn now(&self) -> Result<UnixMs, StoreError> {
        // Read now and then, and carried on in between.
        Ok(self.time())
    }

    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeRead>, StoreError> {
        let read = |database: &Database, _| -> Vec<NodeRecord> {
            let all = database.at_once(database.inner.nodes());
            all.into_iter().filter_map(Result::ok).collect()
        };
        Ok(self.call(read).await?.into_iter().map(Ok).collect())
    }

    async fn nodes_changed(&self, since: UnixMs, own: &NodeId) -> Result<Vec<NodeRead>, StoreError> {
        let own = own.clone();
        let read = move |database: &Database, _| -> Vec<NodeRecord> {
            let changed = database.at_once(database.inner.nodes_changed(since, &own));
            changed.into_iter().filter_map(Result::ok).collect()
        };
        Ok(self.call(read).await?.into_iter().map(Ok).collect())
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeRecord>, StoreError> {
        let id = id.clone();
        self.call(move |database, _| database.node(&id)).await
    }

    async fn put_node(&self, record: &NodeRecord, expected: Option<i64>) -> Result<bool, StoreError> {
        let record = record.clone();
        self.call(move |database, now| database.put_node(&record, expected, false, now)).await
    }

    async fn put_load(&self, record: &NodeRecord, expected: i64) -> Result<bool, StoreError> {
        let record = record.clone();
        self.call(move |database, now| database.put_node(&record, Some(expected), true, now)).await
    }

    async fn remove_node(&self, id: &NodeId, expected: i64) -> Result<bool, StoreError> {
        let id = id.clone();
        self.call(move |database, _| database.at_once(database.inner.remove_node(&id, expected))).await
    }

    async fn take_room(&self, request: &RoomRequest) -> Result<Option<NodeId>, StoreError> {
        let request = request.clone();
        self.call(move |database, now| database.take_room(&request, now)).await
    }

    async fn stream(&self, key: &StreamKey) -> Result<Option<StreamRecord>, StoreError> {
        let key = key.clone();
        self.call(move |database, _| database.stream(&key)).await
    }

    async fn streams(&self, query: StreamQuery, after: Option<PageEnd>) -> Result<StreamPage, StoreError> {
        let read =
            move |database: &Database, _| database.at_once(database.inner.streams(query, after.clone()));
        self.call(read).await
    }

    async fn stream_figures(&self, since: UnixMs) -> Result<Vec<StreamFigures>, StoreError> {
        self.call(move |database, _| database.at_once(database.inner.stream_figures(since))).await
    }

    async fn put_stream(
        &self,
        record: &StreamRecord,
        expected: Option<StreamVersion>,
    ) -> Result<bool, StoreError> {
        let record = record.clone();
        self.call(move |database, now| database.put_stream(&record, expected, now)).await
    }

    async fn record_progress(&self, progress: &[StreamProgress], now: UnixMs) -> Result<(), StoreError> {
        let progress = progress.to_vec();
        let write = move |database: &Database, at| {
            for step in &progress {
                let before = database.stream(&step.key);
                database.at_once(database.inner.record_progress(std::slice::from_ref(step), now));
                database.saw_stream(before, &step.key, at);
            }
        };
        self.call(write).await
    }
}
