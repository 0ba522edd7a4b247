//! An origin: its heartbeat, its slots and its room are the real ones; its media is that it plays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluicegate_cluster::claims::{self, Claimed, Claims, Confirmed, Taker};
use sluicegate_cluster::ids::{Incarnation, NodeId, PublisherSession, ReservationId, StreamKey};
use sluicegate_cluster::limits;
use sluicegate_cluster::membership::{Membership, Room};
use sluicegate_cluster::node::{Load, NodeRecord, NodeState, Role};
use sluicegate_cluster::store::{ClusterStore, StoreError};
use sluicegate_cluster::stream::{Owner, PublishType, StreamRecord};
use sluicegate_cluster::testing;
use sluicegate_cluster::view::ClusterView;
use sluicegate_origin::room::RoomBook;
use sluicegate_origin::slot::Slot;

use crate::node::{COST_MPX, Cluster, Shared, follow, ms, room_request};
use crate::run::Bug;
use crate::store::Link;

/// For the store to answer a claim.
const CLAIM_WAIT: Duration = Duration::from_secs(2);
/// For a publisher that broke off to come back, ms.
const RECONNECT_MS: u64 = 5_000;
/// From a handover's begin to something that is to be listed, ms.
const LISTS_MS: u64 = 1_500;
/// Between two looks at a connection, ms.
pub(crate) const LOOK_MS: u64 = 200;

/// A publish as a balancer sends it.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(crate) key: StreamKey,
    pub(crate) session: PublisherSession,
    pub(crate) reservation: Option<ReservationId>,
    /// Another origin has the stream, and goes on with it until this one plays.
    pub(crate) handover: bool,
}

/// A connection between a run of a balancer and an origin.
pub(crate) struct Connection {
    pub(crate) balancer: String,
    pub(crate) run: u32,
    pub(crate) ended: Shared<bool>,
    pub(crate) left: Shared<bool>,
    /// The stream plays on another origin.
    pub(crate) handed_over: Shared<bool>,
    /// The origin ended it: what the balancer is told. It is final.
    pub(crate) refused: Shared<bool>,
}

/// A stream that is published here.
pub(crate) struct Playing {
    pub(crate) claim: StreamRecord,
    /// The incarnation under which the store has the claim.
    pub(crate) written_as: Shared<Option<Incarnation>>,
    slot: Arc<Slot>,
    /// When it has something to list: only then is a claim written that was prepared for a handover.
    lists_at_ms: u64,
}

#[derive(Default)]
struct Entry {
    slot: Option<Arc<Slot>>,
    playing: Option<Arc<Playing>>,
    ends_at_ms: Option<u64>,
}

pub(crate) struct Origin {
    pub(crate) id: NodeId,
    pub(crate) capacity_mpx: f64,
    cluster: Arc<Cluster>,
    link: Arc<Link>,
    claims: Claims,
    view: Arc<Shared<ClusterView>>,
    room: RoomBook,
    incarnation: Shared<Incarnation>,
    entries: Shared<BTreeMap<StreamKey, Entry>>,
}

impl Origin {
    /// Starts a run of it.
    pub(crate) fn start(cluster: &Arc<Cluster>, id: &str, capacity_mpx: f64) {
        let run = cluster.turn(id);
        let link = cluster.link(id);
        let origin = Arc::new(Self {
            id: id.parse().unwrap(),
            capacity_mpx,
            cluster: Arc::clone(cluster),
            claims: Claims::new(Arc::clone(&link) as Arc<dyn ClusterStore>),
            view: Arc::new(Shared::new(ClusterView::default())),
            room: RoomBook::new(capacity_mpx, COST_MPX),
            incarnation: Shared::new(format!("{id}-{run}").as_str().into()),
            entries: Shared::new(BTreeMap::new()),
            link,
        });
        cluster.origins.lock().insert(origin.id.clone(), Arc::clone(&origin));
        let world = &cluster.world;
        world.spawn(id, follow(world.clone(), Arc::clone(&origin.link), false, Arc::clone(&origin.view)));
        world.spawn(id, Arc::clone(&origin).live());
        world.spawn(id, origin.keep_records());
    }

    /// The streams that play here.
    pub(crate) fn playing(&self) -> Vec<Arc<Playing>> {
        let entries = self.entries.lock();
        let published = entries.values().filter(|e| e.slot.is_some());
        published.filter_map(|e| e.playing.clone()).collect()
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation.get()
    }

    /// What its heartbeats and its answers to probes tell of its room.
    pub(crate) fn told(&self) -> Room {
        let room = self.room.room();
        match self.cluster.bug {
            Some(Bug::CountsNothing) => Room { running_mpx: 0.0, ..room },
            _ => room,
        }
    }

    async fn live(self: Arc<Self>) {
        let world = &self.cluster.world;
        let number: u16 = self.id.as_str().bytes().map(u16::from).sum();
        let now = world.unix();
        let mut record = NodeRecord {
            incarnation: self.incarnation(),
            roles: vec![Role::Origin],
            state: NodeState::Joining,
            capacity_mpx: 0.0,
            free_mpx: 0.0,
            ..testing::node(self.id.as_str(), now)
        };
        record.addresses.http.set_port(number);
        let store = Arc::clone(&self.link) as Arc<dyn ClusterStore>;
        let mut member = loop {
            match Membership::join(Arc::clone(&store), record.clone()).await {
                Ok(member) => break member,
                Err(_) => world.sleep(ms(limits::HEARTBEAT_EVERY)).await,
            }
        };
        loop {
            let beat = member.beat(NodeState::Serving, &Load::default(), &self.told()).await;
            if let Err(error) = &beat {
                world.note(format!("{}: no heartbeat: {error}", self.id));
            }
            *self.incarnation.lock() = member.record().incarnation.clone();
            world.sleep(ms(limits::HEARTBEAT_EVERY)).await;
        }
    }

    /// Takes a publish, or says no. `Err(true)` is final.
    pub(crate) async fn admit(
        self: Arc<Self>,
        ticket: Ticket,
        connection: Arc<Connection>,
    ) -> Result<(), bool> {
        let (world, key) = (&self.cluster.world, &ticket.key);
        let has = self.entries.lock().get(key).is_some_and(|e| e.slot.is_some());
        let reservation = match &ticket.reservation {
            None if !has => self.reserve(key).await?,
            reserved => reserved.clone(),
        };
        let slot = Arc::new(Slot::new(ticket.session.clone(), world.instant()));
        self.take_slot(key, &slot)?;
        let (claim, written_as) = match self.claim(&ticket).await {
            Ok(claimed) => claimed,
            Err(why) => {
                world.note(format!("{}: {key} is refused: {why}", self.id));
                if let Some(entry) = self.entries.lock().get_mut(key).filter(|e| e.holds(&slot)) {
                    entry.slot = None;
                }
                return Err(true);
            }
        };
        let written = written_as.is_some();
        world.note(format!("{}: {key} begins, epoch {}, written: {written}", self.id, claim.epoch));
        self.room.start(key, claim.epoch, COST_MPX, reservation);
        let lists_at_ms = if ticket.handover { world.ms() + LISTS_MS } else { 0 };
        let (written_as, slot_of) = (Shared::new(written_as), Arc::clone(&slot));
        let playing = Arc::new(Playing { claim, written_as, slot: slot_of, lists_at_ms });
        if let Some(entry) = self.entries.lock().get_mut(key).filter(|e| e.holds(&slot)) {
            entry.playing = Some(Arc::clone(&playing));
        }
        self.cluster.database.changed.store(true, Ordering::Relaxed);
        world.spawn(self.id.as_str(), Arc::clone(&self).feed(playing, connection));
        Ok(())
    }

    /// Takes room for a publish that comes without.
    async fn reserve(&self, key: &StreamKey) -> Result<Option<ReservationId>, bool> {
        if !self.room.fits(COST_MPX) {
            return Err(false);
        }
        if !self.view.lock().store_ok {
            return Ok(None);
        }
        let now = self.link.now().await.map_err(|_| false)?;
        let request = room_request(vec![self.id.clone()], key, now);
        let id = request.reservation.id.clone();
        match self.cluster.world.within(1_000, self.link.take_room(&request)).await {
            Some(Ok(None)) => Err(false),
            Some(Ok(Some(_))) => Ok(Some(id)),
            Some(Err(_)) | None => Ok(None),
        }
    }

    fn take_slot(&self, key: &StreamKey, slot: &Arc<Slot>) -> Result<(), bool> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(key.clone()).or_default();
        let now = self.cluster.world.instant();
        if entry.slot.as_ref().is_some_and(|held| !held.may_be_replaced_by(slot.session(), now)) {
            return Err(true);
        }
        entry.ends_at_ms = None;
        if let Some(earlier) = entry.slot.replace(Arc::clone(slot)) {
            earlier.replaced.cancel();
        }
        Ok(())
    }

    async fn claim(&self, ticket: &Ticket) -> Result<(StreamRecord, Option<Incarnation>), String> {
        let (world, key) = (&self.cluster.world, &ticket.key);
        let taker = Taker {
            node: self.id.clone(),
            incarnation: self.incarnation(),
            session: ticket.session.clone(),
            publish_type: PublishType::Rtmp,
            placed: None,
            reached: None,
        };
        let claiming = async {
            if ticket.handover {
                return self.claims.prepare(key, &taker).await;
            }
            self.ask_for(key, &taker).await
        };
        let claiming = world.within(ms(CLAIM_WAIT), claiming).await;
        match claiming.unwrap_or(Err(StoreError::TimedOut)) {
            Ok(Claimed::Taken(record)) => {
                return Ok((*record, (!ticket.handover).then_some(taker.incarnation)));
            }
            Ok(Claimed::Held(owner)) => return Err(format!("{} has it", owner.node)),
            Err(StoreError::Contended) => return Err("it is contended".to_owned()),
            Err(_) => {}
        }
        let view = self.view.get();
        let known = view.streams.get(key).cloned();
        match claims::decide(key, known.as_deref(), None, &taker, view.now(world.instant())) {
            Claimed::Taken(record) => {
                self.cluster.database.ledger.lock().unwrap().minted(key, record.epoch);
                Ok((*record, None))
            }
            Claimed::Held(owner) => Err(format!("{} has it", owner.node)),
        }
    }

    async fn ask_for(&self, key: &StreamKey, taker: &Taker) -> Result<Claimed, StoreError> {
        if self.cluster.bug != Some(Bug::TakesFromTheLiving) {
            return self.claims.claim(key, taker).await;
        }
        let seen = self.link.stream(key).await?;
        let claimed = claims::decide(key, seen.as_ref(), None, taker, self.link.now().await?);
        if let Claimed::Taken(record) = &claimed {
            self.link.put_stream(record, seen.map(|s| s.version())).await?;
        }
        Ok(claimed)
    }

    /// Feeds a stream until its publisher ends it, breaks off, or another has its place.
    async fn feed(self: Arc<Self>, playing: Arc<Playing>, connection: Arc<Connection>) {
        let (world, key) = (&self.cluster.world, &playing.claim.key);
        loop {
            world.sleep(LOOK_MS).await;
            if playing.slot.replaced.is_cancelled() {
                self.leave(&playing, None);
                *connection.refused.lock() = true;
                world.note(format!("{}: {key} of epoch {} yields", self.id, playing.claim.epoch));
                return;
            }
            let balancer = connection.balancer.as_str();
            if !world.reaches(balancer, self.id.as_str()) || world.is_frozen(balancer) {
                continue;
            }
            if connection.ended.get() {
                return self.end(&playing).await;
            }
            if connection.handed_over.get() {
                self.leave(&playing, Some(world.ms() + RECONNECT_MS));
                return world
                    .note(format!("{}: {key} of epoch {} is handed over", self.id, playing.claim.epoch));
            }
            if self.cluster.run_of(balancer) != Some(connection.run) || connection.left.get() {
                self.leave(&playing, Some(world.ms() + RECONNECT_MS));
                return world.note(format!("{}: {key} broke off", self.id));
            }
            playing.slot.touch(world.instant());
        }
    }

    fn leave(&self, playing: &Arc<Playing>, ends_at_ms: Option<u64>) {
        let key = &playing.claim.key;
        if let Some(entry) = self.entries.lock().get_mut(key).filter(|e| e.is_left_by(playing)) {
            entry.slot = None;
            entry.ends_at_ms = ends_at_ms;
        }
        self.room.end(key, playing.claim.epoch);
    }

    async fn end(&self, playing: &Arc<Playing>) {
        self.leave(playing, None);
        let claim = &playing.claim;
        self.cluster.world.note(format!("{}: {} of epoch {} ends", self.id, claim.key, claim.epoch));
        // What cannot be written is found out by whoever takes the stream next.
        if playing.written_as.get().is_none() {
            let _ = self.claims.confirm(&self.as_now(claim)).await;
        }
        let _ = self.claims.release(&claim.key, claim.epoch, &self.id, claim.sequence + 5).await;
    }

    fn as_now(&self, claim: &StreamRecord) -> StreamRecord {
        let owner = Owner { node: self.id.clone(), incarnation: self.incarnation() };
        StreamRecord { owner, ..claim.clone() }
    }

    fn is_superseded(&self, claim: &StreamRecord) -> bool {
        let (view, incarnation) = (self.view.get(), self.incarnation());
        let others = |s: &StreamRecord| s.owner.node != self.id || s.owner.incarnation != incarnation;
        view.streams.get(&claim.key).is_some_and(|s| s.supersedes(claim.epoch, &self.id) && others(s))
    }

    async fn keep_records(self: Arc<Self>) {
        loop {
            self.cluster.world.sleep(ms(limits::HEARTBEAT_EVERY)).await;
            for playing in self.given_up() {
                if self.is_superseded(&playing.claim) {
                    self.leave(&playing, None);
                } else {
                    self.end(&playing).await;
                }
            }
            for playing in self.playing() {
                self.settle(&playing).await;
            }
        }
    }

    fn given_up(&self) -> Vec<Arc<Playing>> {
        let now_ms = self.cluster.world.ms();
        let mut entries = self.entries.lock();
        let overdue = entries.values_mut().filter(|e| e.ends_at_ms.is_some_and(|at| at <= now_ms));
        overdue.filter_map(|e| e.ends_at_ms.take().and_then(|_| e.playing.clone())).collect()
    }

    async fn settle(&self, playing: &Arc<Playing>) {
        let incarnation = self.incarnation();
        let confirmed = if self.is_superseded(&playing.claim) {
            Ok(Confirmed::Superseded)
        } else if self.cluster.world.ms() < playing.lists_at_ms {
            return;
        } else if playing.written_as.get().as_ref() != Some(&incarnation) && self.view.lock().store_ok {
            self.claims.confirm(&self.as_now(&playing.claim)).await
        } else {
            return;
        };
        match confirmed {
            Ok(Confirmed::Yes) => *playing.written_as.lock() = Some(incarnation),
            Ok(Confirmed::Superseded) if self.cluster.bug != Some(Bug::NeverYields) => {
                playing.slot.replaced.cancel();
            }
            Ok(Confirmed::Superseded) | Err(_) => {}
        }
    }
}

impl Entry {
    fn holds(&self, slot: &Arc<Slot>) -> bool {
        self.slot.as_ref().is_some_and(|held| Arc::ptr_eq(held, slot))
    }

    fn is_left_by(&self, playing: &Arc<Playing>) -> bool {
        let served = self.playing.as_ref().is_some_and(|served| Arc::ptr_eq(served, playing));
        served && (self.slot.is_none() || self.holds(&playing.slot))
    }
}
