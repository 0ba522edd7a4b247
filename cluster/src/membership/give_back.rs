//! Room that was taken on an origin and is not wanted: the origin refused the publish, or did not answer.

use crate::ids::{NodeId, ReservationId};
use crate::limits;
use crate::node::NodeRecord;
use crate::store::{ClusterStore, StoreError};

/// Gives the room of a reservation back at once, instead of leaving it to expire. `false`: it is gone already,
/// settled by the origin or expired.
///
/// # Errors
/// What the store said; [`StoreError::Contended`] when others won [`limits::CAS_TRIES`] times.
pub async fn give_back(
    store: &dyn ClusterStore,
    node: &NodeId,
    reservation: &ReservationId,
) -> Result<bool, StoreError> {
    for _ in 0..limits::CAS_TRIES {
        let Some(seen) = store.node(node).await? else { return Ok(false) };
        let Some(taken) = seen.reservations.iter().find(|r| r.id == *reservation) else { return Ok(false) };
        let next = NodeRecord {
            rev: seen.rev.saturating_add(1),
            free_mpx: seen.free_mpx + taken.mpx,
            reservations: seen.reservations.iter().filter(|r| r.id != *reservation).cloned().collect(),
            ..seen.clone()
        };
        if store.put_load(&next, seen.rev).await? {
            return Ok(true);
        }
    }
    Err(StoreError::Contended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMs;
    use crate::node::Reservation;
    use crate::store::{EmbeddedStore, RoomRequest};
    use crate::testing::node;

    #[tokio::test]
    async fn room_is_given_back_once() {
        let store = EmbeddedStore::in_memory();
        let now = UnixMs(1_000_000);
        assert!(store.put_node(&node("o1", now), None).await.unwrap());
        let id: NodeId = "o1".parse().unwrap();
        let take = |reservation: &'static str| RoomRequest {
            candidates: vec!["o1".parse().unwrap()],
            reservation: Reservation {
                id: reservation.into(),
                stream: "live/a".parse().unwrap(),
                mpx: 10.0,
                expires_at: now,
            },
            heartbeat_after: now,
        };
        for reservation in ["kept", "unwanted"] {
            assert!(store.take_room(&take(reservation)).await.unwrap().is_some());
        }
        assert!(give_back(&store, &id, &"unwanted".into()).await.unwrap());
        assert!(!give_back(&store, &id, &"unwanted".into()).await.unwrap());
        let left = store.node(&id).await.unwrap().unwrap();
        assert!((left.free_mpx - 114.0).abs() < 1e-9, "{left:?}");
        assert_eq!(left.reservations.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["kept"]);
        assert!(!give_back(&store, &"o2".parse().unwrap(), &"kept".into()).await.unwrap());
    }
}
