//! Nodes, and the room on origins.

use std::sync::Arc;

use super::{NOW, Store};
use crate::clock::UnixMs;
use crate::ids::NodeId;
use crate::node::{Full, Gpu, GpuState, Load, MemoryUse, NodeRecord, NodeState, Reservation};
use crate::store::RoomRequest;
use crate::testing;

fn full_node() -> NodeRecord {
    NodeRecord {
        rev: 7,
        group: "eu-west".to_owned(),
        free_mpx: 61.75,
        reservations: vec![reservation(1.25), reservation(0.5)],
        load: Load {
            cpu: 12.5,
            memory: MemoryUse { used_bytes: 3 << 30, total_bytes: 1 << 40 },
            gpus: vec![Gpu {
                name: "a card".to_owned(),
                uuid: "GPU-1".to_owned(),
                gpu: 40,
                encoder: 50,
                decoder: 60,
                memory_used: 5 << 30,
                memory_total: 80 << 30,
                encoder_sessions: 7,
                state: GpuState::Resting,
            }],
            egress_bps: 9_876_543_210,
            viewers: 4_321,
            publishes: 3,
            clock_ahead_ms: -7,
            full: Some(Full::Encoders),
        },
        ..testing::node("o1", NOW)
    }
}

fn reservation(mpx: f64) -> Reservation {
    Reservation {
        id: crate::ids::ReservationId::random(),
        stream: "live/cam".parse().unwrap(),
        mpx,
        expires_at: UnixMs(NOW.0 + 15_000),
    }
}

fn request(candidates: &[&str], mpx: f64) -> RoomRequest {
    RoomRequest {
        candidates: candidates.iter().map(|c| c.parse().unwrap()).collect(),
        reservation: reservation(mpx),
        heartbeat_after: UnixMs(NOW.0 - 5_000),
    }
}

async fn stored(store: &Store, id: &str) -> NodeRecord {
    store.node(&id.parse().unwrap()).await.unwrap().unwrap()
}

async fn put_all(store: &Store, nodes: &[NodeRecord]) {
    for node in nodes {
        assert!(store.put_node(node, None).await.unwrap());
    }
}

pub(super) async fn a_node_comes_back_as_it_was_written(store: Store) {
    let node = full_node();
    assert_eq!(store.node(&node.id).await.unwrap(), None);
    put_all(&store, &[node.clone(), testing::node("o2", NOW)]).await;
    assert_eq!(stored(&store, "o1").await, node);
    let mut nodes = store.nodes().await.unwrap().into_iter().map(Result::unwrap).collect::<Vec<_>>();
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(nodes, [node, testing::node("o2", NOW)]);
}

pub(super) async fn a_node_is_written_only_over_the_rev_it_was_read_at(store: Store) {
    let first = testing::node("o1", NOW);
    let second = NodeRecord { rev: 2, state: NodeState::Draining, ..first.clone() };
    assert!(!store.put_node(&second, Some(1)).await.unwrap(), "there is none yet");
    assert!(store.put_node(&first, None).await.unwrap());
    assert!(!store.put_node(&second, None).await.unwrap(), "there is one already");
    assert!(!store.put_node(&second, Some(2)).await.unwrap());
    assert_eq!(stored(&store, "o1").await, first);
    assert!(store.put_node(&second, Some(1)).await.unwrap());
    assert!(!store.put_node(&first, Some(1)).await.unwrap(), "the rev has moved");
    assert_eq!(stored(&store, "o1").await, second);
}

pub(super) async fn of_many_first_writes_of_a_node_one_wins(store: Store) {
    let writers: Vec<_> = (0..16)
        .map(|rev| {
            let store = Arc::clone(&store);
            let node = NodeRecord { rev, ..testing::node("o1", NOW) };
            tokio::spawn(async move { store.put_node(&node, None).await.unwrap().then_some(rev) })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        winners.extend(writer.await.unwrap());
    }
    assert_eq!(winners, [stored(&store, "o1").await.rev]);
}

pub(super) async fn of_equal_origins_the_one_with_the_most_room_is_taken(store: Store) {
    let room = |id, free_mpx| NodeRecord { free_mpx, ..testing::node(id, NOW) };
    put_all(&store, &[room("o1", 80.0), room("o2", 100.0), room("o3", 90.0)]).await;
    let request = request(&["o1", "o2", "o3"], 30.0);
    assert_eq!(store.take_room(&request).await.unwrap(), Some("o2".parse().unwrap()));
    assert_eq!(store.take_room(&request).await.unwrap(), Some("o3".parse().unwrap()));
    let taken = stored(&store, "o2").await;
    assert!((taken.free_mpx - 70.0).abs() < 1e-9);
    assert_eq!((taken.rev, taken.reservations), (2, vec![request.reservation.clone()]));
    assert!(!store.put_node(&room("o2", 100.0), Some(1)).await.unwrap(), "the rev has moved");
}

pub(super) async fn a_small_origin_is_spared_as_much_as_a_large_one(store: Store) {
    let room = |id, mpx| NodeRecord { capacity_mpx: mpx, free_mpx: mpx, ..testing::node(id, NOW) };
    put_all(&store, &[room("small", 20.0), room("large", 60.0)]).await;
    let request = request(&["small", "large"], 5.0);
    let mut taken = Vec::new();
    for _ in 0..8 {
        taken.push(store.take_room(&request).await.unwrap().unwrap().to_string());
    }
    assert_eq!(taken.iter().filter(|id| *id == "small").count(), 2, "{taken:?}");
}

pub(super) async fn origins_that_cannot_take_it_are_passed_over(store: Store) {
    let state = |id, state| NodeRecord { state, ..testing::node(id, NOW) };
    let nodes = [
        testing::node("other", NOW),
        state("joining", NodeState::Joining),
        state("draining", NodeState::Draining),
        state("gone", NodeState::Gone),
        testing::node("silent", UnixMs(NOW.0 - 5_001)),
        NodeRecord { free_mpx: 29.9, ..testing::node("full", NOW) },
    ];
    put_all(&store, &nodes).await;
    let mut request = request(&["joining", "draining", "gone", "silent", "full", "unknown"], 30.0);
    assert_eq!(store.take_room(&request).await.unwrap(), None);
    request.candidates.clear();
    assert_eq!(store.take_room(&request).await.unwrap(), None);
    for node in &nodes {
        assert_eq!(&stored(&store, node.id.as_str()).await, node, "untouched");
    }
    let just_fits = NodeRecord { free_mpx: 30.0, ..testing::node("fits", UnixMs(NOW.0 - 5_000)) };
    put_all(&store, &[just_fits]).await;
    request.candidates = vec!["full".parse().unwrap(), "fits".parse().unwrap()];
    assert_eq!(store.take_room(&request).await.unwrap(), Some("fits".parse().unwrap()));
}

pub(super) async fn many_takers_never_oversell_an_origin(store: Store) {
    const MPX: f64 = 10.0;
    let ids = ["o1", "o2", "o3"];
    let room = |id, free_mpx| NodeRecord { free_mpx, ..testing::node(id, NOW) };
    let rooms = [125.0, 99.0, 45.0];
    put_all(&store, &[room("o1", rooms[0]), room("o2", rooms[1]), room("o3", rooms[2])]).await;

    let takers: Vec<_> = (0..50)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.take_room(&request(&ids, MPX)).await.unwrap() })
        })
        .collect();
    let mut taken: Vec<NodeId> = Vec::new();
    for taker in takers {
        taken.extend(taker.await.unwrap());
    }

    assert_eq!(taken.len(), 12 + 9 + 4, "what fits is given, and no more");
    for (id, room) in ids.into_iter().zip(rooms) {
        let node = stored(&store, id).await;
        let won = taken.iter().filter(|t| t.as_str() == id).count();
        assert_eq!(node.reservations.len(), won, "{id}");
        assert!((node.free_mpx - (room - MPX * won as f64)).abs() < 1e-9, "{id}");
        assert!(node.free_mpx >= 0.0, "{id}");
        assert_eq!(node.rev, 1 + i64::try_from(won).unwrap());
    }
}

pub(super) async fn heartbeats_and_room_are_no_change_of_a_node(store: Store) {
    let node = full_node();
    put_all(&store, &[node.clone(), testing::node("o2", NOW)]).await;
    let nobody: NodeId = "nobody".parse().unwrap();
    let changed = async |since, own: &NodeId| -> Vec<String> {
        let mut ids = Vec::new();
        for read in store.nodes_changed(since, own).await.unwrap() {
            ids.push(read.unwrap().id.to_string());
        }
        ids.sort_unstable();
        ids
    };
    assert_eq!(changed(UnixMs(0), &nobody).await, ["o1", "o2"]);
    // Whatever the stores' clocks: by then, all has been.
    let moment = store.now().await.unwrap().plus(std::time::Duration::from_millis(200));
    testing::until_it_is(store.as_ref(), moment).await;

    let beat = NodeRecord {
        rev: 8,
        heartbeat: UnixMs(NOW.0 + 1_000),
        free_mpx: 3.0,
        reservations: Vec::new(),
        load: Load { viewers: 5, ..Load::default() },
        ..node.clone()
    };
    assert!(beat.differs_by_load(&node));
    assert!(!store.put_load(&beat, 6).await.unwrap(), "the rev has moved");
    assert!(store.put_load(&beat, 7).await.unwrap());
    assert_eq!(stored(&store, "o1").await, beat);
    store.take_room(&request(&["o1"], 0.5)).await.unwrap().unwrap();
    assert_eq!(changed(moment, &nobody).await, <[String; 0]>::default());
    assert_eq!(changed(moment, &"o2".parse().unwrap()).await, ["o2"], "one's own is always read");

    let seen = stored(&store, "o1").await;
    let found_dead_by = Some("o2".parse().unwrap());
    let gone = NodeRecord { rev: seen.rev + 1, state: NodeState::Gone, found_dead_by, ..seen.clone() };
    assert!(store.put_node(&gone, Some(seen.rev)).await.unwrap());
    assert_eq!(changed(moment, &nobody).await, ["o1"]);
    let back = NodeRecord { rev: gone.rev + 1, found_dead_by: None, ..gone.clone() };
    assert!(store.put_node(&back, Some(gone.rev)).await.unwrap());
    assert_eq!(stored(&store, "o1").await, back, "nothing is left of its death");
}

pub(super) async fn a_node_is_removed_only_at_the_rev_it_was_read_at(store: Store) {
    let record = testing::node("n", NOW);
    assert!(store.put_node(&record, None).await.unwrap());
    assert!(!store.remove_node(&record.id, record.rev - 1).await.unwrap());
    assert_eq!(store.node(&record.id).await.unwrap(), Some(record.clone()));
    assert!(store.remove_node(&record.id, record.rev).await.unwrap());
    assert_eq!(store.node(&record.id).await.unwrap(), None);
    assert!(!store.remove_node(&record.id, record.rev).await.unwrap());
}
