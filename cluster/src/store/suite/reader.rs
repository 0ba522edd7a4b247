//! What a node's reader asks of a store: what changed, however much there is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::{NOW, Store};
use crate::clock::{self, UnixMs};
use crate::ids::{NodeId, StreamKey};
use crate::limits;
use crate::node::{NodeRecord, NodeState};
use crate::store::{ClusterStore, NodeRead, PageEnd, RoomRequest, StoreError, StreamPage, StreamQuery};
use crate::stream::{StreamFigures, StreamProgress, StreamRecord, StreamVersion};
use crate::testing;
use crate::view::{ClusterView, Reader};

const NODES: usize = 20;
const STREAMS: usize = 50;

/// Counts the documents that are read.
struct Spy {
    store: Store,
    read: AtomicUsize,
}

impl Spy {
    fn saw<T>(&self, documents: Vec<T>) -> Vec<T> {
        self.read.fetch_add(documents.len(), Ordering::Relaxed);
        documents
    }

    fn taken(&self) -> usize {
        self.read.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl ClusterStore for Spy {
    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    async fn now(&self) -> Result<UnixMs, StoreError> {
        self.store.now().await
    }

    async fn prepare(&self) -> Result<(), StoreError> {
        self.store.prepare().await
    }

    async fn nodes(&self) -> Result<Vec<NodeRead>, StoreError> {
        self.store.nodes().await.map(|read| self.saw(read))
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeRecord>, StoreError> {
        self.store.node(id).await
    }

    async fn nodes_changed(&self, since: UnixMs, own: &NodeId) -> Result<Vec<NodeRead>, StoreError> {
        self.store.nodes_changed(since, own).await.map(|read| self.saw(read))
    }

    async fn put_node(&self, record: &NodeRecord, expected: Option<i64>) -> Result<bool, StoreError> {
        self.store.put_node(record, expected).await
    }

    async fn put_load(&self, record: &NodeRecord, expected: i64) -> Result<bool, StoreError> {
        self.store.put_load(record, expected).await
    }

    async fn remove_node(&self, id: &NodeId, expected: i64) -> Result<bool, StoreError> {
        self.store.remove_node(id, expected).await
    }

    async fn take_room(&self, request: &RoomRequest) -> Result<Option<NodeId>, StoreError> {
        self.store.take_room(request).await
    }

    async fn stream(&self, key: &StreamKey) -> Result<Option<StreamRecord>, StoreError> {
        self.store.stream(key).await
    }

    async fn streams(&self, query: StreamQuery, after: Option<PageEnd>) -> Result<StreamPage, StoreError> {
        let page = self.store.streams(query, after).await?;
        Ok(StreamPage { streams: self.saw(page.streams), ..page })
    }

    async fn stream_figures(&self, since: UnixMs) -> Result<Vec<StreamFigures>, StoreError> {
        self.store.stream_figures(since).await.map(|read| self.saw(read))
    }

    async fn put_stream(
        &self,
        record: &StreamRecord,
        expected: Option<StreamVersion>,
    ) -> Result<bool, StoreError> {
        self.store.put_stream(record, expected).await
    }

    async fn record_progress(&self, progress: &[StreamProgress], now: UnixMs) -> Result<(), StoreError> {
        self.store.record_progress(progress, now).await
    }
}

fn stream(at: usize) -> StreamRecord {
    testing::stream_held_by(&format!("live/s{at}"), &format!("o{}", at % NODES), "s", NOW)
}

/// A store with nodes and streams, all written longer ago than what is read again.
async fn filled(store: Store) -> Spy {
    for at in 0..NODES {
        let record = testing::node(&format!("o{at}"), store.now().await.unwrap());
        assert!(store.put_node(&record, None).await.unwrap());
    }
    for at in 0..STREAMS {
        assert!(store.put_stream(&stream(at), None).await.unwrap());
    }
    let spy = Spy { store, read: AtomicUsize::new(0) };
    pass(&spy).await;
    spy
}

/// Waits until what was written by now is not read again.
async fn pass(spy: &Spy) {
    let gone = spy.now().await.unwrap().plus(limits::VIEW_OVERLAP + Duration::from_millis(100));
    testing::until_it_is(spy, gone).await;
}

/// All nodes write a heartbeat, and the progress of all streams is recorded.
async fn live_on(spy: &Spy, viewers: u64) {
    let now = spy.now().await.unwrap();
    for read in spy.store.nodes().await.unwrap() {
        let seen = read.unwrap();
        let beat = NodeRecord { rev: seen.rev + 1, heartbeat: now, ..seen.clone() };
        assert!(spy.put_load(&beat, seen.rev).await.unwrap());
    }
    let progress = |record: StreamRecord| StreamProgress {
        key: record.key,
        epoch: record.epoch,
        size: None,
        renditions: record.renditions,
        sequence: 1,
        bitrate_bps: 1_000,
        viewers,
        webrtc_viewers: 0,
        ladder: Box::default(),
        is_news: false,
    };
    let all: Vec<_> = (0..STREAMS).map(|at| progress(stream(at))).collect();
    spy.record_progress(&all, now).await.unwrap();
}

fn heartbeat(view: &ClusterView) -> UnixMs {
    view.nodes[&"o1".parse().unwrap()].heartbeat
}

fn viewers(view: &ClusterView) -> u64 {
    view.streams.values().map(|s| s.viewers).sum()
}

pub(super) async fn an_edge_reads_what_changed_and_itself(store: Store) {
    let spy = filled(store).await;
    let mut reader = Reader::new("o0".parse().unwrap(), false);
    let (began, none) = (clock::now(), ClusterView::default());
    let first = reader.read(&spy, &none, false, began).await.unwrap();
    assert_eq!((first.nodes.len(), first.streams.len(), spy.taken()), (NODES, STREAMS, NODES + STREAMS));

    live_on(&spy, 3).await;
    let second = reader.read(&spy, &first, false, began + limits::VIEW_EVERY).await.unwrap();
    assert_eq!(spy.taken(), 1, "heartbeats and progress are no changes");
    assert_eq!((viewers(&second), second.loads_at), (0, first.loads_at));
    assert!(second.nodes.values().all(|n| second.lives(n)));

    let seen = spy.store.node(&"o7".parse().unwrap()).await.unwrap().unwrap();
    let drained = NodeRecord { rev: seen.rev + 1, state: NodeState::Draining, ..seen.clone() };
    assert!(spy.put_node(&drained, Some(seen.rev)).await.unwrap());
    let seen = spy.stream(&stream(9).key).await.unwrap().unwrap();
    // However far its writer's clock is off.
    let (ended_at, changed) = (Some(NOW), UnixMs(1));
    let ended = StreamRecord { ended_at, changed, viewers: 0, rev: seen.next_rev(), ..seen.clone() };
    assert!(spy.put_stream(&ended, Some(seen.version())).await.unwrap());
    let third = reader.read(&spy, &second, false, began + 2 * limits::VIEW_EVERY).await.unwrap();
    assert_eq!(spy.taken(), 3, "itself, a node, a stream");
    assert_eq!(third.nodes[&"o7".parse().unwrap()].state, NodeState::Draining);
    assert!(!third.streams.get(&stream(9).key).unwrap().is_live());

    let looked_at = reader.read(&spy, &third, true, began + 2 * limits::LOADS_EVERY).await.unwrap();
    assert_eq!(viewers(&looked_at), 3 * (STREAMS as u64 - 1), "somebody looks");
    assert!(heartbeat(&looked_at) > heartbeat(&third));
}

pub(super) async fn a_balancer_reads_every_heartbeat_and_sees_who_is_removed(store: Store) {
    let spy = filled(store).await;
    let mut reader = Reader::new("lb".parse().unwrap(), true);
    let (began, none) = (clock::now(), ClusterView::default());
    let first = reader.read(&spy, &none, false, began).await.unwrap();
    live_on(&spy, 3).await;
    let removed = spy.store.node(&"o5".parse().unwrap()).await.unwrap().unwrap();
    assert!(spy.remove_node(&removed.id, removed.rev).await.unwrap());
    spy.taken();
    let second = reader.read(&spy, &first, false, began + limits::LOADS_EVERY).await.unwrap();
    assert_eq!((spy.taken(), second.nodes.len()), (NODES - 1, NODES - 1));
    assert!(heartbeat(&second) > heartbeat(&first));
}

pub(super) async fn after_an_outage_all_that_may_have_waited_is_read(store: Store) {
    let spy = filled(store).await;
    let mut reader = Reader::new("o0".parse().unwrap(), false);
    let (began, none) = (clock::now(), ClusterView::default());
    let first = reader.read(&spy, &none, false, began).await.unwrap();
    spy.taken();
    let away = ClusterView { store_ok: false, ..first };
    let back = reader.read(&spy, &away, false, began + limits::VIEW_EVERY).await.unwrap();
    assert_eq!((back.store_ok, spy.taken()), (true, NODES + STREAMS), "two minutes of changes");
}
