//! What all nodes do, and who runs: a node that dies and comes back is another run of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::ids::{NodeId, ReservationId, StreamKey};
use sluicegate_cluster::limits;
use sluicegate_cluster::node::Reservation;
use sluicegate_cluster::store::RoomRequest;
use sluicegate_cluster::view::{ClusterView, Reader};

use crate::ledger::SKEW_MS;
use crate::origin::{Connection, Origin};
use crate::run::Bug;
use crate::store::{Database, Link};
use crate::world::World;

/// What a stream costs, Mpx/s.
pub(crate) const COST_MPX: f64 = 2.0;

/// How far a machine's own clock may be off, ms.
const WALL_OFF_MS: u64 = 600_000;

/// A value that tasks share.
pub(crate) struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Shared<T> {
    pub(crate) fn get(&self) -> T {
        self.lock().clone()
    }
}

/// A stream that is being moved.
#[derive(Clone)]
pub(crate) struct Moving {
    pub(crate) balancer: String,
    /// To the origin that it is moved from.
    pub(crate) connection: Arc<Connection>,
}

/// Everything there is.
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) database: Arc<Database>,
    pub(crate) bug: Option<Bug>,
    /// Streams on their way from a drained origin to the next.
    pub(crate) moving: Shared<BTreeMap<StreamKey, Moving>>,
    /// The origins that run.
    pub(crate) origins: Shared<BTreeMap<NodeId, Arc<Origin>>>,
    /// Which run of a process this is; even numbers are of none.
    runs: Shared<BTreeMap<String, u32>>,
}

impl Cluster {
    pub(crate) fn new(world: World, bug: Option<Bug>) -> Arc<Self> {
        let database = Database::new(&world, bug);
        let (moving, origins, runs) =
            (Shared::new(BTreeMap::new()), Shared::new(BTreeMap::new()), Shared::new(BTreeMap::new()));
        Arc::new(Self { world, database, bug, moving, origins, runs })
    }

    /// The run of `process`, if it runs.
    pub(crate) fn run_of(&self, process: &str) -> Option<u32> {
        self.runs.lock().get(process).copied().filter(|run| run % 2 == 1)
    }

    /// A process starts, or ends: its number goes up.
    pub(crate) fn turn(&self, process: &str) -> u32 {
        let mut runs = self.runs.lock();
        let run = runs.entry(process.to_owned()).or_default();
        *run += 1;
        *run
    }

    /// A process dies where it stands.
    pub(crate) fn crash(&self, process: &str) {
        if self.run_of(process).is_some() {
            self.turn(process);
            self.world.kill(process);
            self.origins.lock().retain(|id, _| id.as_str() != process);
            self.moving.lock().retain(|_, moving| moving.balancer != process);
        }
    }

    pub(crate) fn link(&self, node: &str) -> Arc<Link> {
        let spread = u64::try_from(SKEW_MS).unwrap();
        let about = |spread: u64| {
            i64::try_from(self.world.between(0, spread)).unwrap() - i64::try_from(spread / 2).unwrap()
        };
        let (skew_ms, wall_off_ms) = (about(spread), about(2 * WALL_OFF_MS));
        let (world, database) = (self.world.clone(), Arc::clone(&self.database));
        Arc::new(Link { world, database, node: node.parse().unwrap(), skew_ms, wall_off_ms })
    }
}

/// Keeps a node's view, as `cluster::view::follow` does.
pub(crate) async fn follow(world: World, link: Arc<Link>, balances: bool, view: Arc<Shared<ClusterView>>) {
    let mut reader = Reader::new(link.node.clone(), balances);
    loop {
        let seen = view.get();
        let next = match reader.read(link.as_ref(), &seen, false, world.instant()).await {
            Ok(next) => next,
            Err(_) => ClusterView { store_ok: false, ..seen },
        };
        *view.lock() = next;
        world.sleep(ms(limits::VIEW_EVERY)).await;
    }
}

/// A request for room on one of `candidates`, at the store's time `now`.
pub(crate) fn room_request(candidates: Vec<NodeId>, key: &StreamKey, now: UnixMs) -> RoomRequest {
    let late_ms = i64::try_from(limits::HEARTBEAT_LATE.as_millis()).unwrap();
    let (id, expires_at) = (ReservationId::random(), now.plus(limits::RESERVATION));
    RoomRequest {
        candidates,
        reservation: Reservation { id, stream: key.clone(), mpx: COST_MPX, expires_at },
        heartbeat_after: UnixMs(now.0 - late_ms),
    }
}

pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}
