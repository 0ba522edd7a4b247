//! What a heartbeat says, who may join, and what a node obeys.

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

#[test]
fn a_node_says_when_it_began_to_take_work() {
    let joining = NodeRecord { state: NodeState::Joining, ..node("n", NOW) };
    let beat =
        |last: &NodeRecord, state, now| next_beat(last, state, &Load::default(), &Room::default(), now);
    let first = beat(&joining, NodeState::Serving, NOW);
    let later = NOW.plus(Duration::from_secs(1));
    let second = beat(&first, NodeState::Serving, later);
    assert_eq!((first.serving_since, second.serving_since), (NOW, NOW));
    let drained = beat(&NodeRecord { drain: true, ..second }, NodeState::Serving, later);
    assert_eq!(drained.state, NodeState::Draining);
    let back = beat(&NodeRecord { drain: false, ..drained }, NodeState::Serving, later);
    assert_eq!((back.state, back.serving_since), (NodeState::Serving, later));
}

/// A member and its heartbeat, as [`Membership::run`] does it.
async fn beat(member: &mut Membership, life: &NodeLife) {
    member.beat(life.by_itself(), &Load::default(), &Room::default()).await.unwrap();
    life.follow(&member.record);
}

async fn joined() -> (Arc<dyn ClusterStore>, Membership, NodeLife) {
    let store: Arc<dyn ClusterStore> = Arc::new(EmbeddedStore::in_memory());
    let now = store.now().await.unwrap();
    let mut member = Membership::join(Arc::clone(&store), node("n", now)).await.unwrap();
    let life = NodeLife::new(member.record.incarnation.clone());
    life.joined();
    beat(&mut member, &life).await;
    (store, member, life)
}

#[tokio::test]
async fn a_drain_is_not_written_over_and_is_obeyed_until_it_is_taken_back() {
    let (store, mut member, life) = joined().await;
    let id = member.record.id.clone();
    let drained = set_drain(store.as_ref(), &id, true).await.unwrap();
    assert_eq!(drained.state, NodeState::Draining, "others know before the node does");
    for _ in 0..2 {
        beat(&mut member, &life).await;
        let stored = store.node(&id).await.unwrap().unwrap();
        assert_eq!((stored.state, life.state()), (NodeState::Draining, NodeState::Draining));
    }
    assert!(!life.is_stopping());
    set_drain(store.as_ref(), &id, false).await.unwrap();
    beat(&mut member, &life).await;
    assert_eq!(store.node(&id).await.unwrap().unwrap().state, NodeState::Serving);
    assert_eq!(life.state(), NodeState::Serving);
    let nobody = set_drain(store.as_ref(), &"x".parse().unwrap(), true).await;
    assert!(matches!(nobody, Err(DrainError::Unknown(_))), "{nobody:?}");
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_comes_back_as_a_new_incarnation_still_drained() {
    let (store, mut member, life) = joined().await;
    let (id, first) = (member.record.id.clone(), life.incarnation());
    set_drain(store.as_ref(), &id, true).await.unwrap();
    let seen = store.node(&id).await.unwrap().unwrap();
    let gone = NodeRecord { state: NodeState::Gone, rev: seen.rev + 1, ..seen.clone() };
    assert!(store.put_node(&gone, Some(seen.rev)).await.unwrap());
    let ended = set_drain(store.as_ref(), &id, false).await;
    assert!(matches!(ended, Err(DrainError::Gone(_))), "{ended:?}");
    beat(&mut member, &life).await;
    let stored = store.node(&id).await.unwrap().unwrap();
    assert_ne!(stored.incarnation, first);
    assert_eq!((stored.state, &stored.incarnation), (NodeState::Draining, &life.incarnation()));
}

#[tokio::test]
async fn a_run_that_was_found_dead_before_it_knew_that_it_had_joined_joins_as_another() {
    let store: Arc<dyn ClusterStore> = Arc::new(EmbeddedStore::in_memory());
    let joining = node("n", store.now().await.unwrap());
    let first = Membership::join(Arc::clone(&store), joining.clone()).await.unwrap().record;
    let again = Membership::join(Arc::clone(&store), joining.clone()).await.unwrap().record;
    assert_eq!(again.incarnation, first.incarnation, "it may try twice");
    let found_dead = NodeRecord { rev: again.rev + 1, state: NodeState::Gone, ..again.clone() };
    assert!(store.put_node(&found_dead, Some(again.rev)).await.unwrap());
    let back = Membership::join(store, joining).await.unwrap().record;
    assert_ne!(back.incarnation, first.incarnation);
}
