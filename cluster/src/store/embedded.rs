//! The store of one process, for standalone and for tests. Nodes are in memory only, because they end with
//! the process; streams are kept in a file, because their numbers must go on after a restart.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::clock::{self, UnixMs};
use crate::ids::{NodeId, StreamKey};
use crate::limits;
use crate::node::{NodeRecord, NodeState};
use crate::stream::{StreamFigures, StreamProgress, StreamRecord, StreamVersion};

use super::{ClusterStore, NodeRead, PageEnd, RoomRequest, StoreError, StreamPage, StreamQuery};

mod file;

use file::StreamFile;

/// Streams remembered. When there are more, the one that ended the longest ago is forgotten.
const STREAMS_MAX: usize = 20_000;

/// Where a store reads the time.
type Clock = Box<dyn Fn() -> UnixMs + Send + Sync>;

/// [`ClusterStore`] in the memory of this process.
pub struct EmbeddedStore {
    state: Mutex<State>,
    file: Option<StreamFile>,
    clock: Clock,
}

impl EmbeddedStore {
    /// A store that forgets everything when it is dropped.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with_clock(clock::unix_ms)
    }

    /// A store in memory whose time is `clock`.
    pub fn with_clock(clock: impl Fn() -> UnixMs + Send + Sync + 'static) -> Self {
        Self { state: Mutex::default(), file: None, clock: Box::new(clock) }
    }

    /// A store that keeps its streams in the file `path`, which need not exist yet. Reads the file on the
    /// calling thread.
    ///
    /// # Errors
    /// [`StoreError::File`] when it cannot be read, [`StoreError::Unreadable`] when it holds something else
    /// than streams: it is left as it is then.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let mut state = State::default();
        for record in file::read(&path)? {
            state.streams.insert(record.key.clone(), Arc::new(record));
        }
        let clock = Box::new(clock::unix_ms);
        Ok(Self { state: Mutex::new(state), file: Some(StreamFile::new(path)), clock })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the streams as of `version` are in the file. A failed write leaves the change in memory;
    /// the next one that succeeds takes it along.
    async fn save(&self, version: u64) -> Result<(), StoreError> {
        let Some(file) = &self.file else { return Ok(()) };
        file.write(version, || {
            let state = self.state();
            (state.version, state.streams.values().cloned().collect())
        })
        .await
    }
}

#[async_trait]
impl ClusterStore for EmbeddedStore {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    async fn now(&self) -> Result<UnixMs, StoreError> {
        Ok((self.clock)())
    }

    async fn prepare(&self) -> Result<(), StoreError> {
        let version = self.state().touch();
        self.save(version).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRead>, StoreError> {
        Ok(self.state().nodes.values().map(|kept| Ok(kept.record.clone())).collect())
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeRecord>, StoreError> {
        Ok(self.state().nodes.get(id).map(|kept| kept.record.clone()))
    }

    async fn nodes_changed(&self, since: UnixMs, own: &NodeId) -> Result<Vec<NodeRead>, StoreError> {
        let state = self.state();
        let changed = state.nodes.values().filter(|kept| kept.changed >= since || kept.record.id == *own);
        Ok(changed.map(|kept| Ok(kept.record.clone())).collect())
    }

    async fn put_node(&self, record: &NodeRecord, expected: Option<i64>) -> Result<bool, StoreError> {
        let now = (self.clock)();
        Ok(self.state().put_node(record, expected, Some(now)))
    }

    async fn put_load(&self, record: &NodeRecord, expected: i64) -> Result<bool, StoreError> {
        Ok(self.state().put_node(record, Some(expected), None))
    }

    async fn remove_node(&self, id: &NodeId, expected: i64) -> Result<bool, StoreError> {
        Ok(self.state().remove_node(id, expected))
    }

    async fn take_room(&self, request: &RoomRequest) -> Result<Option<NodeId>, StoreError> {
        Ok(self.state().take_room(request))
    }

    async fn stream(&self, key: &StreamKey) -> Result<Option<StreamRecord>, StoreError> {
        Ok(self.state().streams.get(key).map(|s| StreamRecord::clone(s)))
    }

    async fn streams(&self, query: StreamQuery, after: Option<PageEnd>) -> Result<StreamPage, StoreError> {
        Ok(self.state().page(query, after.as_ref()))
    }

    async fn stream_figures(&self, since: UnixMs) -> Result<Vec<StreamFigures>, StoreError> {
        let state = self.state();
        let recorded = state.streams.values().filter(|s| s.is_live() && s.sequence_at >= since);
        Ok(recorded.map(|s| StreamFigures::from(s.as_ref())).collect())
    }

    async fn put_stream(
        &self,
        record: &StreamRecord,
        expected: Option<StreamVersion>,
    ) -> Result<bool, StoreError> {
        let now = (self.clock)();
        let Some(version) = self.state().put_stream(record, expected, now) else { return Ok(false) };
        self.save(version).await?;
        Ok(true)
    }

    async fn record_progress(&self, progress: &[StreamProgress], now: UnixMs) -> Result<(), StoreError> {
        let stamp = (self.clock)();
        let version = self.state().record_progress(progress, now, stamp);
        self.save(version).await
    }
}

/// A node, and when more than its load last changed.
struct Kept {
    record: NodeRecord,
    changed: UnixMs,
}

/// What is stored. `version` counts the changes of `streams`.
#[derive(Default)]
struct State {
    nodes: BTreeMap<NodeId, Kept>,
    streams: BTreeMap<StreamKey, Arc<StreamRecord>>,
    version: u64,
}

impl State {
    fn touch(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Without `changed`, it is as it was: when the node last changed.
    fn put_node(&mut self, record: &NodeRecord, expected: Option<i64>, changed: Option<UnixMs>) -> bool {
        let stored = self.nodes.get(&record.id);
        if stored.map(|kept| kept.record.rev) != expected {
            return false;
        }
        let changed = changed.or_else(|| stored.map(|kept| kept.changed)).unwrap_or_default();
        self.nodes.insert(record.id.clone(), Kept { record: record.clone(), changed });
        true
    }

    fn remove_node(&mut self, id: &NodeId, expected: i64) -> bool {
        let found = self.nodes.get(id).is_some_and(|kept| kept.record.rev == expected);
        found && self.nodes.remove(id).is_some()
    }

    fn page(&self, query: StreamQuery, after: Option<&PageEnd>) -> StreamPage {
        let mut wanted: Vec<(UnixMs, String, &Arc<StreamRecord>)> = match query {
            StreamQuery::Known { ended_since } => {
                let is_known =
                    |s: &&Arc<StreamRecord>| s.is_live() || s.notes.is_some() || s.changed >= ended_since;
                let known = self.streams.values().filter(is_known);
                known.map(|s| (UnixMs::default(), s.key.to_string(), s)).collect()
            }
            StreamQuery::Changed { since } => {
                let changed = self.streams.values().filter(|s| s.changed >= since);
                changed.map(|s| (s.changed, s.key.to_string(), s)).collect()
            }
        };
        if let Some(after) = after {
            let at =
                if matches!(query, StreamQuery::Known { .. }) { UnixMs::default() } else { after.changed };
            wanted.retain(|(changed, key, _)| (*changed, key) > (at, &after.key));
        }
        wanted.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let is_last = wanted.len() <= limits::STREAMS_PAGE;
        wanted.truncate(limits::STREAMS_PAGE);
        let end = wanted
            .last()
            .filter(|_| !is_last)
            .map(|(_, key, stream)| PageEnd { key: key.clone(), changed: stream.changed });
        let bare = |s: &StreamRecord| StreamRecord { placed: None, ..s.clone() };
        let streams = wanted.into_iter().map(|(_, _, s)| bare(s)).collect();
        StreamPage { streams, unreadable: Vec::new(), end }
    }

    fn take_room(&mut self, request: &RoomRequest) -> Option<NodeId> {
        let mpx = request.reservation.mpx;
        let fits = |n: &&mut NodeRecord| {
            n.state == NodeState::Serving
                && n.heartbeat >= request.heartbeat_after
                && n.free_mpx >= mpx
                && request.candidates.contains(&n.id)
        };
        let choice = |n: &NodeRecord| request.choice(n.capacity_mpx, n.free_mpx);
        let nodes = self.nodes.values_mut().map(|kept| &mut kept.record);
        let origin = nodes.filter(fits).min_by(|a, b| choice(a).order(&choice(b)))?;
        origin.free_mpx -= mpx;
        origin.reservations.push(request.reservation.clone());
        origin.rev += 1;
        Some(origin.id.clone())
    }

    /// The version that holds the write; `None` when the record has moved.
    fn put_stream(
        &mut self,
        record: &StreamRecord,
        expected: Option<StreamVersion>,
        now: UnixMs,
    ) -> Option<u64> {
        let stored = self.streams.get(&record.key).map(|s| s.version());
        if stored != expected {
            return None;
        }
        if stored.is_none() && self.streams.len() >= STREAMS_MAX {
            self.forget_oldest();
        }
        let stamped = StreamRecord { changed: now, ..record.clone() };
        self.streams.insert(record.key.clone(), Arc::new(stamped));
        Some(self.touch())
    }

    fn forget_oldest(&mut self) {
        let oldest = self.streams.values().min_by_key(|s| (s.is_live(), s.changed)).map(|s| s.key.clone());
        if let Some(key) = oldest {
            self.streams.remove(&key);
        }
    }

    /// The version that holds what was recorded.
    fn record_progress(&mut self, progress: &[StreamProgress], now: UnixMs, stamp: UnixMs) -> u64 {
        let mut recorded = false;
        for step in progress {
            let Some(stream) = self.streams.get_mut(&step.key) else { continue };
            if stream.epoch != step.epoch || !stream.is_live() {
                continue;
            }
            let stream = Arc::make_mut(stream);
            stream.size = step.size.or(stream.size);
            stream.renditions.clone_from(&step.renditions);
            stream.sequence = stream.sequence.max(step.sequence);
            stream.bitrate_bps = step.bitrate_bps;
            stream.viewers = step.viewers;
            stream.webrtc_viewers = step.webrtc_viewers;
            stream.ladder.clone_from(&step.ladder);
            stream.sequence_at = now;
            stream.rev = stream.next_rev();
            if step.is_news {
                stream.changed = stamp;
            }
            recorded = true;
        }
        if recorded { self.touch() } else { self.version }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stream_held_by;

    #[test]
    fn at_the_limit_the_stream_that_ended_the_longest_ago_is_forgotten() {
        let mut state = State::default();
        for n in 0..=STREAMS_MAX {
            let now = UnixMs(i64::try_from(n).unwrap() + 1);
            let live = stream_held_by(&format!("live/s{n}"), "o1", "s", now);
            let record = StreamRecord { ended_at: (n % 2 == 1).then_some(now), ..live };
            assert!(state.put_stream(&record, None, now).is_some());
        }
        assert_eq!(state.streams.len(), STREAMS_MAX);
        assert!(!state.streams.contains_key(&"live/s1".parse().unwrap()));
        assert!(state.streams.contains_key(&"live/s0".parse().unwrap()), "it is live");
    }
}
