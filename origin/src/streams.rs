//! The streams of this origin: those that live, and those that ended a little while ago, whose last
//! playlist is still served.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluicegate_cluster::ids::StreamKey;

use crate::error::IngestError;
use crate::live::LiveStream;
use crate::slot::Slot;

/// How long an ended stream's last playlist and segments are served.
const LINGER: Duration = Duration::from_secs(30);

/// All streams here.
pub(crate) struct StreamTable {
    streams_max: usize,
    streams: Mutex<HashMap<StreamKey, Entry>>,
}

#[derive(Default)]
struct Entry {
    /// Who publishes; none once it ended.
    slot: Option<Arc<Slot>>,
    /// What is served; none until the first claim is made.
    stream: Option<Arc<LiveStream>>,
    ended: Option<Instant>,
}

impl StreamTable {
    pub(crate) fn new(streams_max: usize) -> Self {
        Self { streams_max, streams: Mutex::default() }
    }

    /// Gives `slot` the stream, in place of an earlier publisher that may be replaced, which is returned.
    ///
    /// # Errors
    /// [`IngestError::InUse`] while the earlier one lives; [`IngestError::Full`] when there are too many.
    pub(crate) fn take_slot(
        &self,
        key: &StreamKey,
        slot: &Arc<Slot>,
        now: Instant,
    ) -> Result<Option<Arc<Slot>>, IngestError> {
        let mut streams = self.lock();
        let live = streams.values().filter(|e| e.slot.is_some()).count();
        if !streams.contains_key(key) && live >= self.streams_max {
            return Err(IngestError::Full);
        }
        let entry = streams.entry(key.clone()).or_default();
        if entry.slot.as_ref().is_some_and(|held| !held.may_be_replaced_by(slot.session(), now)) {
            return Err(IngestError::InUse);
        }
        entry.ended = None;
        Ok(entry.slot.replace(Arc::clone(slot)))
    }

    /// The claim failed: the slot is free again.
    pub(crate) fn give_slot_back(&self, key: &StreamKey, slot: &Arc<Slot>) {
        let mut streams = self.lock();
        let Some(entry) = streams.get_mut(key).filter(|e| e.holds(slot)) else { return };
        entry.slot = None;
        if entry.stream.is_none() {
            streams.remove(key);
        }
    }

    /// The stream that `slot` publishes is served from now on.
    pub(crate) fn go_live(&self, stream: Arc<LiveStream>, slot: &Arc<Slot>) {
        if let Some(entry) = self.lock().get_mut(&stream.key).filter(|e| e.holds(slot)) {
            entry.stream = Some(stream);
        }
    }

    /// Ends the publish of `stream`: another origin has the stream by a higher epoch.
    pub(crate) fn yield_to_higher_epoch(&self, stream: &Arc<LiveStream>) {
        let streams = self.lock();
        let entry = streams.get(&stream.key);
        let current = entry.filter(|e| e.stream.as_ref().is_some_and(|s| Arc::ptr_eq(s, stream)));
        if let Some(slot) = current.and_then(|e| e.slot.as_ref()) {
            slot.replaced.cancel();
        }
    }

    /// The publisher of `stream` is gone. What was made of it is served for [`LINGER`], unless a later
    /// claim is live here.
    pub(crate) fn end(&self, stream: &Arc<LiveStream>, now: Instant) {
        let mut streams = self.lock();
        let is_current = |e: &&mut Entry| e.stream.as_ref().is_some_and(|s| Arc::ptr_eq(s, stream));
        if let Some(entry) = streams.get_mut(&stream.key).filter(is_current) {
            entry.slot = None;
            entry.ended = Some(now);
        }
    }

    /// Forgets what ended [`LINGER`] ago.
    pub(crate) fn sweep(&self, now: Instant) {
        let lingers = |e: &Entry| e.ended.is_none_or(|at| now.saturating_duration_since(at) < LINGER);
        self.lock().retain(|_, entry| lingers(entry));
    }

    /// What is served of `key`.
    pub(crate) fn get(&self, key: &StreamKey) -> Option<Arc<LiveStream>> {
        self.lock().get(key)?.stream.clone()
    }

    /// Whether `key` is being published.
    pub(crate) fn has(&self, key: &StreamKey) -> bool {
        self.lock().get(key).is_some_and(|e| e.slot.is_some())
    }

    /// The streams that are being published.
    pub(crate) fn live(&self) -> Vec<Arc<LiveStream>> {
        let streams = self.lock();
        streams.values().filter(|e| e.slot.is_some()).filter_map(|e| e.stream.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamKey, Entry>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn holds(&self, slot: &Arc<Slot>) -> bool {
        self.slot.as_ref().is_some_and(|held| Arc::ptr_eq(held, slot))
    }
}
