//! Which origin to ask to take a publish, by whatever protocol it comes: the one that has the stream already,
//! else the one that is least loaded for its size, where room is reserved before it is asked.

use std::net::SocketAddr;
use std::time::Duration;

use sluicegate_cluster::ams::peers::AmsNode;
use sluicegate_cluster::claims::Reached;
use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_cluster::config::stream_cost_mpx;
use sluicegate_cluster::ids::{NodeId, ReservationId, StreamKey};
use sluicegate_cluster::limits;
use sluicegate_cluster::membership;
use sluicegate_cluster::node::{NodeRecord, Reservation, Role};
use sluicegate_cluster::placed::{Because, Placed};
use sluicegate_cluster::store::{RoomRequest, StoreError};
use sluicegate_cluster::view::ClusterView;

use crate::placement::{self, KnownRoom, ams};
use crate::state::Balancer;

mod seen;

/// Origins asked for one publish.
pub(crate) const TRIES: usize = 3;
/// For the store to take room. Then the balancer places by what it knows.
const RESERVE_WAIT: Duration = Duration::from_secs(1);
/// The same while the store is known to be away.
const RESERVE_WAIT_AWAY: Duration = Duration::from_millis(100);

/// An origin to ask.
pub(crate) struct Choice {
    pub(crate) node: NodeId,
    pub(crate) rtmp: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) reservation: Option<ReservationId>,
    /// Whether it is AMS's own, which is told nothing of the cluster.
    pub(crate) is_ams: bool,
    /// What was seen when it was chosen.
    pub(crate) placed: Option<Placed>,
}

impl Choice {
    fn of(origin: &NodeRecord, reservation: Option<ReservationId>) -> Option<Self> {
        let rtmp = origin.addresses.rtmp?;
        let http = origin.addresses.http;
        Some(Self { node: origin.id.clone(), rtmp, http, reservation, is_ams: false, placed: None })
    }

    fn of_ams(node: &AmsNode) -> Self {
        let (node, rtmp, http) = (node.id.clone(), node.rtmp(), node.http());
        Self { node, rtmp, http, reservation: None, is_ams: true, placed: None }
    }
}

/// The origin to ask next for `key`, AMS's own among them: the AMS node that has it, unless it was `tried`, else
/// what [`choose`] says, else the less loaded of two of AMS's origins.
pub(crate) async fn choose_any(balancer: &Balancer, key: &StreamKey, tried: &[NodeId]) -> Option<Choice> {
    let (view, health) = (balancer.view.load_full(), balancer.health());
    if let Some((_, node)) = view.ams.stream(key)
        && !tried.contains(&node.id)
        && !health.is_down(&node.id)
    {
        return Some(Choice::of_ams(node));
    }
    if let Some(choice) = choose(balancer, key, tried).await {
        return Some(choice);
    }
    let mut origins = ams::nodes_of(&view, &health, &balancer.ams_roles, Role::Origin);
    origins.retain(|n| !tried.contains(&n.id));
    let now = clock::now();
    let node = ams::less_loaded(&origins, &balancer.ams_charges, now, &mut rand::rng())?;
    balancer.ams_charges.charge(&node.id, now);
    Some(Choice::of_ams(node))
}

/// The origin of ours to ask next for `key`: the one that has it, unless it was `tried`, else the one that
/// would be least loaded, where room is reserved. `None`: nobody is left.
pub(crate) async fn choose(balancer: &Balancer, key: &StreamKey, tried: &[NodeId]) -> Option<Choice> {
    let view = balancer.view.load_full();
    let cost_mpx = cost_mpx(balancer, &view, key);
    let (choice, because) = choose_in(balancer, &view, key, cost_mpx, tried).await?;
    let placed = seen::seen(&balancer.node, &view, &choice.node, because, cost_mpx);
    Some(Choice { placed: Some(placed), ..choice })
}

async fn choose_in(
    balancer: &Balancer,
    view: &ClusterView,
    key: &StreamKey,
    cost_mpx: f64,
    tried: &[NodeId],
) -> Option<(Choice, Because)> {
    let health = balancer.health();
    if let Some(origin) = placement::live_origin(view, &health, key)
        && !tried.contains(&origin.id)
        && let Some(choice) = Choice::of(origin, None)
    {
        return Some((choice, Because::HasTheStream));
    }
    let all = placement::origins_by_room(view, &health, tried);
    let offered = balancer.slow_start(view).offer(view, &all, &mut rand::rng());
    let spared = offered.len() < all.len();
    let reserved = match reserve(balancer, view, key, offered.clone(), cost_mpx).await {
        // Better a newcomer than nobody.
        Ok(None) if spared => reserve(balancer, view, key, all.clone(), cost_mpx).await,
        reserved => reserved,
    };
    match reserved {
        Ok(choice) => Some((choice?, Because::LeastLoaded)),
        Err(error) => {
            tracing::warn!(%error, stream = %key, "room cannot be reserved; placing by what is known");
            let (told, unreserved) = (balancer.rooms.load(), &balancer.unreserved);
            let known = KnownRoom { told: &told, unreserved };
            let among = |origins: &[NodeId]| {
                placement::fallback_origin(view, &health, origins, cost_mpx, known, &mut rand::rng())
            };
            let origin = among(&offered).or_else(|| among(&all))?;
            unreserved.charge(&origin.id, cost_mpx, view.now(clock::now()));
            Some((Choice::of(origin, None)?, Because::LeastLoadedAsKnown))
        }
    }
}

/// What the stream is expected to cost, by the size it had when it was last seen.
pub(crate) fn cost_mpx(balancer: &Balancer, view: &ClusterView, key: &StreamKey) -> f64 {
    let app = balancer.apps.iter().find(|app| app.name == key.app);
    let ladder = app.map_or(&[][..], |app| &app.ladder);
    let size = view.stream(key).and_then(|stream| stream.size);
    stream_cost_mpx(ladder, size, balancer.limits.stream_floor_mpx)
}

/// What `key` has come to, which an origin may not find in the store.
pub(crate) fn reached(balancer: &Balancer, key: &StreamKey) -> Option<Reached> {
    balancer.view.load().stream(key).map(|known| Reached::from(known.as_ref()))
}

/// Takes room on the origin that would be least loaded. `None`: none has enough.
async fn reserve(
    balancer: &Balancer,
    view: &ClusterView,
    key: &StreamKey,
    candidates: Vec<NodeId>,
    mpx: f64,
) -> Result<Option<Choice>, StoreError> {
    if candidates.is_empty() {
        return Ok(None);
    }
    let id = ReservationId::random();
    let store = balancer.store.clone();
    let (reservation_id, stream) = (id.clone(), key.clone());
    // The store's connections live on the node's runtime.
    let taken = balancer.node_runtime.spawn(async move {
        let now = store.now().await?;
        let reservation =
            Reservation { id: reservation_id, stream, mpx, expires_at: now.plus(limits::RESERVATION) };
        // Candidates are known to answer; a heartbeat may be late without harm, but not absent.
        let late_ms = i64::try_from(limits::HEARTBEAT_LATE.as_millis()).unwrap_or(0);
        let heartbeat_after = UnixMs(now.0.saturating_sub(late_ms));
        store.take_room(&RoomRequest { candidates, reservation, heartbeat_after }).await
    });
    let wait = if view.store_ok { RESERVE_WAIT } else { RESERVE_WAIT_AWAY };
    let taken = tokio::time::timeout(wait, taken).await.map_err(|_| StoreError::TimedOut)?;
    let node = taken.map_err(|e| StoreError::Unavailable(e.to_string()))??;
    Ok(node.and_then(|node| Choice::of(view.nodes.get(&node)?, Some(id))))
}

/// Has the room of an origin given back that refused a publish, or did not answer.
pub(crate) fn give_back(balancer: &Balancer, node: NodeId, reservation: ReservationId) {
    let store = balancer.store.clone();
    balancer.node_runtime.spawn(async move {
        if let Err(error) = membership::give_back(store.as_ref(), &node, &reservation).await {
            tracing::debug!(%error, %node, "a reservation is left to expire");
        }
    });
}
