//! The store of one process, for standalone and for tests. Nodes are in memory only, because they end with
//! the process; streams are kept in a file, because their numbers must go on after a restart.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::clock::{self, UnixMs};
use crate::ids::{NodeId, StreamKey};
use crate::node::{NodeRecord, NodeState};
use crate::stream::{StreamProgress, StreamRecord, StreamVersion};

use super::{ClusterStore, NodeRead, RoomRequest, StoreError};

mod file;

use file::StreamFile;

/// Streams remembered. When there are more, the one that has not changed for longest is forgotten: running
/// streams change every [`crate::limits::PROGRESS_EVERY`], so it is one that ended long ago.
const STREAMS_MAX: usize = 20_000;

/// [`ClusterStore`] in the memory of this process.
pub struct EmbeddedStore {
    state: Mutex<State>,
    file: Option<StreamFile>,
}

impl EmbeddedStore {
    /// A store that forgets everything when it is dropped.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { state: Mutex::default(), file: None }
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
        Ok(Self { state: Mutex::new(state), file: Some(StreamFile::new(path)) })
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
        Ok(clock::unix_ms())
    }

    async fn prepare(&self) -> Result<(), StoreError> {
        let version = self.state().touch();
        self.save(version).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRead>, StoreError> {
        Ok(self.state().nodes.values().cloned().map(Ok).collect())
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeRecord>, StoreError> {
        Ok(self.state().nodes.get(id).cloned())
    }

    async fn put_node(&self, record: &NodeRecord, expected: Option<i64>) -> Result<bool, StoreError> {
        Ok(self.state().put_node(record, expected))
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

    async fn streams_changed(&self, since: UnixMs) -> Result<Vec<StreamRecord>, StoreError> {
        let state = self.state();
        let changed = state.streams.values().filter(|s| s.changed >= since);
        Ok(changed.map(|s| StreamRecord::clone(s)).collect())
    }

    async fn put_stream(
        &self,
        record: &StreamRecord,
        expected: Option<StreamVersion>,
    ) -> Result<bool, StoreError> {
        let Some(version) = self.state().put_stream(record, expected) else { return Ok(false) };
        self.save(version).await?;
        Ok(true)
    }

    async fn record_progress(&self, progress: &[StreamProgress], now: UnixMs) -> Result<(), StoreError> {
        let version = self.state().record_progress(progress, now);
        self.save(version).await
    }
}

/// What is stored. `version` counts the changes of `streams`.
#[derive(Default)]
struct State {
    nodes: BTreeMap<NodeId, NodeRecord>,
    streams: BTreeMap<StreamKey, Arc<StreamRecord>>,
    version: u64,
}

impl State {
    fn touch(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn put_node(&mut self, record: &NodeRecord, expected: Option<i64>) -> bool {
        if self.nodes.get(&record.id).map(|n| n.rev) != expected {
            return false;
        }
        self.nodes.insert(record.id.clone(), record.clone());
        true
    }

    fn remove_node(&mut self, id: &NodeId, expected: i64) -> bool {
        let found = self.nodes.get(id).is_some_and(|n| n.rev == expected);
        found && self.nodes.remove(id).is_some()
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
        let origin = self.nodes.values_mut().filter(fits).min_by(|a, b| choice(a).order(&choice(b)))?;
        origin.free_mpx -= mpx;
        origin.reservations.push(request.reservation.clone());
        origin.rev += 1;
        Some(origin.id.clone())
    }

    /// The version that holds the write; `None` when the record has moved.
    fn put_stream(&mut self, record: &StreamRecord, expected: Option<StreamVersion>) -> Option<u64> {
        let stored = self.streams.get(&record.key).map(|s| s.version());
        if stored != expected {
            return None;
        }
        if stored.is_none() && self.streams.len() >= STREAMS_MAX {
            self.forget_oldest();
        }
        self.streams.insert(record.key.clone(), Arc::new(record.clone()));
        Some(self.touch())
    }

    fn forget_oldest(&mut self) {
        let oldest = self.streams.values().min_by_key(|s| s.changed).map(|s| s.key.clone());
        if let Some(key) = oldest {
            self.streams.remove(&key);
        }
    }

    /// The version that holds what was recorded.
    fn record_progress(&mut self, progress: &[StreamProgress], now: UnixMs) -> u64 {
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
            stream.sequence_at = now;
            stream.changed = now;
            stream.rev = stream.next_rev();
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
    fn the_longest_unchanged_stream_is_forgotten_at_the_limit() {
        let mut state = State::default();
        for n in 0..=STREAMS_MAX {
            let changed = UnixMs(i64::try_from(n).unwrap() + 1);
            let record = stream_held_by(&format!("live/s{n}"), "o1", "s", changed);
            assert!(state.put_stream(&record, None).is_some());
        }
        assert_eq!(state.streams.len(), STREAMS_MAX);
        assert!(!state.streams.contains_key(&"live/s0".parse().unwrap()));
        assert!(state.streams.contains_key(&"live/s1".parse().unwrap()));
    }
}
