//! Balancers and the publishers that connect to them. Who is asked is decided by the real placement, from the real
//! view and the real health.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_cluster::ids::{NodeId, PublisherSession, ReservationId, StreamKey};
use sluicegate_cluster::limits;
use sluicegate_cluster::membership::{Silence, mark_gone};
use sluicegate_cluster::node::{NodeRecord, NodeState, Role};
use sluicegate_cluster::report::OriginReport;
use sluicegate_cluster::store::ClusterStore as _;
use sluicegate_cluster::view::ClusterView;
use sluicegate_lb::health::{Health, dead};
use sluicegate_lb::placement::{self, KnownRoom, SlowStart, ToldRooms, Unreserved};

use crate::node::{COST_MPX, Cluster, Moving, Shared, follow, ms, room_request};
use crate::origin::{Connection, LOOK_MS, Ticket};
use crate::run::Bug;
use crate::store::Link;

const ORIGIN_TRIES: usize = 3;
const RESERVE_WAIT_MS: u64 = 1_000;
const ORIGIN_ANSWER_MS: u64 = 5_000;
const CARRY_OVER_MS: u64 = 15_000;
const PROBE_EVERY_MS: u64 = 1_000;
/// Between tries to move a stream off a drained origin.
const MOVE_PAUSE_MS: u64 = 2_000;
/// How long newcomers are spared.
pub(crate) const RAMP: Duration = Duration::from_secs(10);

pub(crate) struct Balancer {
    id: String,
    run: u32,
    cluster: Arc<Cluster>,
    link: Arc<Link>,
    view: Arc<Shared<ClusterView>>,
    health: Shared<Health>,
    rooms: Shared<ToldRooms>,
    unreserved: Unreserved,
}

/// The balancers that run.
pub(crate) type Balancers = Shared<BTreeMap<String, Arc<Balancer>>>;

/// A publish that was taken.
struct Placed {
    node: NodeId,
    /// The run of its process.
    run: u32,
    connection: Arc<Connection>,
}

/// Why a publish was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// Another origin would say the same.
    Final,
    Lost,
    NoRoom,
}

impl Balancer {
    /// Starts a run of it.
    pub(crate) fn start(cluster: &Arc<Cluster>, id: &str) -> Arc<Self> {
        let balancer = Arc::new(Self {
            id: id.to_owned(),
            run: cluster.turn(id),
            cluster: Arc::clone(cluster),
            link: cluster.link(id),
            view: Arc::new(Shared::new(ClusterView::default())),
            health: Shared::new(Health::default()),
            rooms: Shared::new(ToldRooms::default()),
            unreserved: Unreserved::default(),
        });
        let world = &cluster.world;
        world.spawn(id, follow(world.clone(), Arc::clone(&balancer.link), true, Arc::clone(&balancer.view)));
        world.spawn(id, Arc::clone(&balancer).probe());
        world.spawn(id, Arc::clone(&balancer).bury_the_silent());
        balancer
    }

    /// What it knows.
    pub(crate) fn view(&self) -> ClusterView {
        self.view.get()
    }

    async fn probe(self: Arc<Self>) {
        let world = &self.cluster.world;
        loop {
            let view = self.view();
            let asked = view.nodes.values().filter(|n| n.state != NodeState::Gone && n.has(Role::Origin));
            let answers: Vec<(NodeId, bool)> =
                asked.map(|n| (n.id.clone(), self.answers(n.id.as_str()))).collect();
            let reports: Vec<(NodeId, OriginReport)> =
                answers.iter().filter(|(_, lives)| *lives).filter_map(|(id, _)| self.report(id)).collect();
            let told = reports.iter().map(|(id, report)| (id, report));
            *self.rooms.lock() = ToldRooms::of(told, view.now(world.instant()));
            let after = self.health.lock().after(answers);
            *self.health.lock() = after.clone();
            self.bury_the_dead(&after).await;
            world.sleep(PROBE_EVERY_MS).await;
        }
    }

    async fn bury_the_dead(&self, health: &Health) {
        let view = self.view();
        if self.cluster.bug == Some(Bug::BuriesTheLiving) {
            let down = view.nodes.values().filter(|n| health.is_down(&n.id)).cloned();
            return self.bury(down.collect(), Duration::ZERO).await;
        }
        self.bury(dead(&view, health), limits::HEARTBEAT_GONE_UNANSWERED).await;
    }

    async fn bury_the_silent(self: Arc<Self>) {
        let world = &self.cluster.world;
        let mut silence = Silence::default();
        loop {
            let silent = silence.after(&self.view(), world.instant());
            self.bury(silent, limits::HEARTBEAT_GONE).await;
            world.sleep(ms(limits::VIEW_EVERY)).await;
        }
    }

    async fn bury(&self, mut dead: Vec<Arc<NodeRecord>>, silent_for: Duration) {
        // A map's order is nobody's decision.
        dead.sort_by(|a, b| a.id.cmp(&b.id));
        let own = self.id.parse().unwrap();
        for node in dead {
            let marked = mark_gone(self.link.as_ref(), &node.id, &node.incarnation, &own, silent_for).await;
            if matches!(marked, Ok(true)) {
                self.cluster.world.note(format!("{}: {} is taken for dead", self.id, node.id));
            }
        }
    }

    fn is_drained(&self, node: &NodeId) -> bool {
        self.view.lock().nodes.get(node).is_some_and(|n| n.drain && n.state == NodeState::Draining)
    }

    /// Moves a stream off its drained origin: the next one first.
    async fn move_on(&self, line: &Line, session: &PublisherSession, placed: &mut Placed) {
        let (world, connection) = (&self.cluster.world, Arc::clone(&placed.connection));
        let moving = Moving { balancer: self.id.clone(), connection: Arc::clone(&connection) };
        self.cluster.moving.lock().insert(line.key.clone(), moving);
        if self.cluster.bug == Some(Bug::LeavesFirst) {
            *connection.handed_over.lock() = true;
        }
        let present = placed.node.clone();
        let next = self.place(&line.key, session, vec![present.clone()], true).await;
        if let Ok(next) = next {
            world.note(format!("{}: {} moves from {present} to {}", self.id, line.key, next.node));
            *connection.handed_over.lock() = true;
            *placed = next;
        }
        self.cluster.moving.lock().remove(&line.key);
    }

    /// What an origin that answers says of its room.
    fn report(&self, node: &NodeId) -> Option<(NodeId, OriginReport)> {
        let room = self.cluster.origins.lock().get(node)?.told();
        let (capacity_mpx, running_mpx) = (room.capacity_mpx, room.running_mpx);
        Some((node.clone(), OriginReport { capacity_mpx, running_mpx, unconfirmed: Vec::new() }))
    }

    fn answers(&self, node: &str) -> bool {
        let world = &self.cluster.world;
        self.cluster.run_of(node).is_some() && world.reaches(&self.id, node) && !world.is_frozen(node)
    }

    /// Serves one publisher until its stream ends, here or for good.
    async fn relay(self: Arc<Self>, line: Arc<Line>) {
        let (world, session) = (&self.cluster.world, PublisherSession::random());
        let mut placed = match self.place(&line.key, &session, Vec::new(), false).await {
            Ok(placed) => placed,
            Err(why) => {
                world.note(format!("{}: {} is not placed: {why:?}", self.id, line.key));
                return *line.over.lock() = true;
            }
        };
        let mut moves_from_ms = 0;
        loop {
            world.sleep(LOOK_MS).await;
            if line.ends.get() {
                *placed.connection.ended.lock() = true;
                return *line.over.lock() = true;
            }
            let node = placed.node.as_str();
            let reached = world.reaches(&self.id, node) && !world.is_frozen(node);
            if reached && placed.connection.refused.get() {
                return *line.over.lock() = true;
            }
            let cut_off = reached && self.cluster.run_of(node) != Some(placed.run);
            if !cut_off && !self.health.lock().is_down(&placed.node) {
                if world.ms() >= moves_from_ms && self.is_drained(&placed.node) {
                    self.move_on(&line, &session, &mut placed).await;
                    moves_from_ms = world.ms() + MOVE_PAUSE_MS;
                }
                continue;
            }
            world.note(format!("{}: {} lost {node}", self.id, line.key));
            *placed.connection.left.lock() = true;
            match self.carry_over(&line, &session, placed.node).await {
                Some(next) => placed = next,
                None => return *line.over.lock() = true,
            }
        }
    }

    async fn carry_over(&self, line: &Line, session: &PublisherSession, lost: NodeId) -> Option<Placed> {
        let world = &self.cluster.world;
        let (began_ms, mut passed_over, mut pause_ms) = (world.ms(), vec![lost], 250);
        loop {
            match self.place(&line.key, session, std::mem::take(&mut passed_over), false).await {
                Ok(placed) => return Some(placed),
                Err(Refusal::Final) => return None,
                Err(_) if world.ms() - began_ms >= CARRY_OVER_MS => return None,
                Err(_) => world.sleep(pause_ms).await,
            }
            pause_ms = (pause_ms * 2).min(2_000);
        }
    }

    async fn place(
        &self,
        key: &StreamKey,
        session: &PublisherSession,
        passed_over: Vec<NodeId>,
        handover: bool,
    ) -> Result<Placed, Refusal> {
        let (mut tried, mut last) = (passed_over, Refusal::NoRoom);
        for _ in 0..ORIGIN_TRIES {
            let Some((node, reservation)) = self.choose(key, &tried).await else { break };
            tried.push(node.clone());
            let ticket = Ticket { key: key.clone(), session: session.clone(), reservation, handover };
            match self.ask(node, ticket).await {
                Ok(placed) => return Ok(placed),
                Err(Refusal::Final) => return Err(Refusal::Final),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn choose(&self, key: &StreamKey, tried: &[NodeId]) -> Option<(NodeId, Option<ReservationId>)> {
        let (view, health) = (self.view(), self.health.get());
        if let Some(origin) = placement::live_origin(&view, &health, key).filter(|o| !tried.contains(&o.id)) {
            return Some((origin.id.clone(), None));
        }
        let candidates = placement::origins_by_room(&view, &health, tried);
        if candidates.is_empty() {
            return None;
        }
        let slow_start = SlowStart { now: view.now(self.cluster.world.instant()), ramp: RAMP };
        let offered = match self.cluster.bug {
            Some(Bug::NewcomersGetAll) => candidates.clone(),
            _ => slow_start.offer(&view, &candidates, &mut self.cluster.world.dice()),
        };
        let spared = offered.len() < candidates.len();
        let reserved = match self.reserve(key, offered).await {
            // Better a newcomer than nobody.
            Some((None, _)) if spared => self.reserve(key, candidates).await,
            reserved => reserved,
        };
        match reserved {
            Some((taken, id)) => taken.map(|node| (node, Some(id))),
            None => {
                let mut dice = self.cluster.world.dice();
                let (told, unreserved) = (self.rooms.get(), &self.unreserved);
                let known = KnownRoom { told: &told, unreserved };
                let all = placement::origins_by_room(&view, &health, tried);
                let origin = placement::fallback_origin(&view, &health, &all, COST_MPX, known, &mut dice)?;
                unreserved.charge(&origin.id, COST_MPX, view.now(self.cluster.world.instant()));
                Some((origin.id.clone(), None))
            }
        }
    }

    /// Room on one of `candidates`, if there is; `None` when the store did not say in time.
    async fn reserve(
        &self,
        key: &StreamKey,
        candidates: Vec<NodeId>,
    ) -> Option<(Option<NodeId>, ReservationId)> {
        let (world, link) = (&self.cluster.world, Arc::clone(&self.link));
        let request = room_request(candidates, key, link.now().await.ok()?);
        let id = request.reservation.id.clone();
        let taken = world.within(RESERVE_WAIT_MS, link.take_room(&request)).await?.ok()?;
        Some((taken, id))
    }

    async fn ask(&self, node: NodeId, ticket: Ticket) -> Result<Placed, Refusal> {
        let world = &self.cluster.world;
        world.sleep(world.between(1, 5)).await;
        if !world.reaches(&self.id, node.as_str()) || world.is_frozen(node.as_str()) {
            world.sleep(ORIGIN_ANSWER_MS).await;
            return Err(Refusal::Lost);
        }
        let origin = self.cluster.origins.lock().get(&node).cloned().ok_or(Refusal::Lost)?;
        let run = self.cluster.run_of(node.as_str()).ok_or(Refusal::Lost)?;
        let connection = Arc::new(Connection {
            balancer: self.id.clone(),
            run: self.run,
            ended: Shared::new(false),
            left: Shared::new(false),
            handed_over: Shared::new(false),
            refused: Shared::new(false),
        });
        let answer = Arc::new(Shared::new(None));
        let admitting = {
            let (answer, connection) = (Arc::clone(&answer), Arc::clone(&connection));
            async move { *answer.lock() = Some(origin.admit(ticket, connection).await) }
        };
        world.spawn(node.as_str(), admitting);
        let deadline_ms = world.ms() + ORIGIN_ANSWER_MS;
        while world.ms() < deadline_ms && self.cluster.run_of(node.as_str()) == Some(run) {
            world.sleep(20).await;
            match answer.get() {
                Some(Ok(())) => return Ok(Placed { node, run, connection }),
                Some(Err(is_final)) => return Err(if is_final { Refusal::Final } else { Refusal::NoRoom }),
                None => {}
            }
        }
        *connection.left.lock() = true;
        Err(Refusal::Lost)
    }
}

/// A publisher's connection to a balancer.
struct Line {
    key: StreamKey,
    /// The publisher ends its stream.
    ends: Shared<bool>,
    over: Shared<bool>,
}

/// A publisher: it connects again and again until its stream is to end.
pub(crate) struct Publisher {
    pub(crate) key: StreamKey,
    ends: Shared<bool>,
}

impl Publisher {
    pub(crate) fn start(cluster: &Arc<Cluster>, balancers: &Arc<Balancers>, key: &str) -> Arc<Self> {
        let publisher = Arc::new(Self { key: key.parse().unwrap(), ends: Shared::new(false) });
        let publishing = Arc::clone(&publisher).publish(Arc::clone(cluster), Arc::clone(balancers));
        cluster.world.spawn("", publishing);
        publisher
    }

    /// Its stream is to end.
    pub(crate) fn stop(&self) {
        *self.ends.lock() = true;
    }

    async fn publish(self: Arc<Self>, cluster: Arc<Cluster>, balancers: Arc<Balancers>) {
        let world = &cluster.world;
        while !self.ends.get() {
            let all: Vec<Arc<Balancer>> = balancers.lock().values().cloned().collect();
            if all.is_empty() {
                world.sleep(500).await;
                continue;
            }
            let balancer = world.pick(&all);
            let line =
                Arc::new(Line { key: self.key.clone(), ends: Shared::new(false), over: Shared::new(false) });
            world.spawn(&balancer.id, Arc::clone(&balancer).relay(Arc::clone(&line)));
            while cluster.run_of(&balancer.id) == Some(balancer.run) && !line.over.get() {
                world.sleep(LOOK_MS).await;
                *line.ends.lock() = self.ends.get();
            }
            world.sleep(world.between(300, 1_500)).await;
        }
    }
}
