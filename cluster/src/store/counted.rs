//! A store whose calls are counted, by operation and result.

use async_trait::async_trait;
use prometheus::{IntCounterVec, Opts, Registry};

use super::{ClusterStore, NodeRead, PageEnd, RoomRequest, StoreError, StreamPage, StreamQuery};
use crate::ams::AmsDocuments;
use crate::clock::UnixMs;
use crate::ids::{NodeId, StreamKey};
use crate::node::NodeRecord;
use crate::stream::{StreamFigures, StreamProgress, StreamRecord, StreamVersion};

/// Counts the calls of the store within.
pub struct CountedStore<S> {
    inner: S,
    calls: IntCounterVec,
}

impl<S> CountedStore<S> {
    /// Counts `inner`'s calls in `registry`.
    ///
    /// # Errors
    /// When the family is registered already.
    pub fn new(inner: S, registry: &Registry) -> prometheus::Result<Self> {
        let calls = IntCounterVec::new(
            Opts::new("sluicegate_store_calls_total", "Calls of the cluster's memory"),
            &["op", "result"],
        )?;
        registry.register(Box::new(calls.clone()))?;
        Ok(Self { inner, calls })
    }

    fn count<T>(&self, op: &str, result: Result<T, StoreError>) -> Result<T, StoreError> {
        let label = result.as_ref().map_or_else(StoreError::kind, |_| "ok");
        self.calls.with_label_values(&[op, label]).inc();
        result
    }
}

#[async_trait]
impl<S: ClusterStore> ClusterStore for CountedStore<S> {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    /// Mirrors are nobody's calls: what they cost the database is flat, and nothing waits for them.
    fn ams(&self) -> Option<&dyn AmsDocuments> {
        self.inner.ams()
    }

    async fn now(&self) -> Result<UnixMs, StoreError> {
        self.count("now", self.inner.now().await)
    }

    async fn prepare(&self) -> Result<(), StoreError> {
        self.count("prepare", self.inner.prepare().await)
    }

    async fn nodes(&self) -> Result<Vec<NodeRead>, StoreError> {
        self.count("nodes", self.inner.nodes().await)
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeRecord>, StoreError> {
        self.count("node", self.inner.node(id).await)
    }

    async fn nodes_changed(&self, since: UnixMs, own: &NodeId) -> Result<Vec<NodeRead>, StoreError> {
        self.count("nodes_changed", self.inner.nodes_changed(since, own).await)
    }

    async fn put_node(&self, record: &NodeRecord, expected: Option<i64>) -> Result<bool, StoreError> {
        self.count("put_node", self.inner.put_node(record, expected).await)
    }

    async fn put_load(&self, record: &NodeRecord, expected: i64) -> Result<bool, StoreError> {
        self.count("put_load", self.inner.put_load(record, expected).await)
    }

    async fn remove_node(&self, id: &NodeId, expected: i64) -> Result<bool, StoreError> {
        self.count("remove_node", self.inner.remove_node(id, expected).await)
    }

    async fn take_room(&self, request: &RoomRequest) -> Result<Option<NodeId>, StoreError> {
        self.count("take_room", self.inner.take_room(request).await)
    }

    async fn stream(&self, key: &StreamKey) -> Result<Option<StreamRecord>, StoreError> {
        self.count("stream", self.inner.stream(key).await)
    }

    async fn streams(&self, query: StreamQuery, after: Option<PageEnd>) -> Result<StreamPage, StoreError> {
        self.count("streams", self.inner.streams(query, after).await)
    }

    async fn stream_figures(&self, since: UnixMs) -> Result<Vec<StreamFigures>, StoreError> {
        self.count("stream_figures", self.inner.stream_figures(since).await)
    }

    async fn put_stream(
        &self,
        record: &StreamRecord,
        expected: Option<StreamVersion>,
    ) -> Result<bool, StoreError> {
        self.count("put_stream", self.inner.put_stream(record, expected).await)
    }

    async fn record_progress(&self, progress: &[StreamProgress], now: UnixMs) -> Result<(), StoreError> {
        self.count("record_progress", self.inner.record_progress(progress, now).await)
    }
}
