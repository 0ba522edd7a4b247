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

/// How long a publisher whose connection broke off may take to come back before its stream ends.
const RECONNECT: Duration = Duration::from_secs(5);

/// How long a stream that was handed over may take until its next origin has something to list: the longest
/// segment, and a little more.
const HANDED_OVER: Duration = Duration::from_secs(20);

/// All streams here.
pub(crate) struct StreamTable {
    streams_max: usize,
    streams: Mutex<HashMap<StreamKey, Entry>>,
}

#[derive(Default)]
struct Entry {
    /// Who publishes, or is about to; none once nobody does.
    slot: Option<Arc<Slot>>,
    /// What is served, and who publishes or published that; none until the first claim is made.
    served: Option<Served>,
    /// Its publisher left without an end: when the stream ends if nobody comes or takes it over.
    ends_at: Option<Instant>,
    ended: Option<Instant>,
}

struct Served {
    stream: Arc<LiveStream>,
    slot: Arc<Slot>,
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
        (entry.ends_at, entry.ended) = (None, None);
        Ok(entry.slot.replace(Arc::clone(slot)))
    }

    /// The claim failed: the slot is free again, and what an earlier claim left here goes on ending.
    pub(crate) fn give_slot_back(&self, key: &StreamKey, slot: &Arc<Slot>, now: Instant) {
        let mut streams = self.lock();
        let Some(entry) = streams.get_mut(key).filter(|e| e.holds(slot)) else { return };
        entry.slot = None;
        entry.ended = Some(now);
        if entry.served.is_none() {
            streams.remove(key);
        }
    }

    /// The stream that `slot` publishes is served from now on.
    pub(crate) fn go_live(&self, stream: Arc<LiveStream>, slot: &Arc<Slot>) {
        if let Some(entry) = self.lock().get_mut(&stream.key).filter(|e| e.holds(slot)) {
            entry.served = Some(Served { stream, slot: Arc::clone(slot) });
        }
    }

    /// Ends the publish of `stream`: another origin has the stream by a higher epoch.
    pub(crate) fn yield_to_higher_epoch(&self, stream: &Arc<LiveStream>) {
        let streams = self.lock();
        let served = streams.get(&stream.key).and_then(|e| e.served.as_ref());
        if let Some(served) = served.filter(|s| Arc::ptr_eq(&s.stream, stream)) {
            served.slot.replaced.cancel();
        }
    }

    /// Has the publish of `key` ended. `false`: there is none.
    pub(crate) fn stop(&self, key: &StreamKey) -> bool {
        let streams = self.lock();
        let slot = streams.get(key).and_then(|e| e.slot.as_ref());
        slot.map(|slot| slot.ended.cancel()).is_some()
    }

    /// The publisher of `stream` is gone for good. What was made of it is served for [`LINGER`], unless
    /// another publisher has its place here.
    pub(crate) fn end(&self, stream: &Arc<LiveStream>, now: Instant) {
        if let Some(entry) = self.lock().get_mut(&stream.key).filter(|e| e.is_left_by(stream)) {
            (entry.slot, entry.ends_at, entry.ended) = (None, None, Some(now));
        }
    }

    /// The connection of `stream`'s publisher broke off: it may come back.
    pub(crate) fn abandon(&self, stream: &Arc<LiveStream>, now: Instant) {
        self.let_go(stream, now + RECONNECT);
    }

    /// `stream` goes on at another origin, which has nothing to list yet.
    pub(crate) fn hand_over(&self, stream: &Arc<LiveStream>, now: Instant) {
        self.let_go(stream, now + HANDED_OVER);
    }

    fn let_go(&self, stream: &Arc<LiveStream>, ends_at: Instant) {
        if let Some(entry) = self.lock().get_mut(&stream.key).filter(|e| e.is_left_by(stream)) {
            (entry.slot, entry.ends_at) = (None, Some(ends_at));
        }
    }

    /// The streams whose publishers left, and that nobody came back to in time.
    pub(crate) fn given_up(&self, now: Instant) -> Vec<Arc<LiveStream>> {
        let streams = self.lock();
        let overdue = |e: &&Entry| e.ends_at.is_some_and(|ends_at| now >= ends_at);
        streams
            .values()
            .filter(overdue)
            .filter_map(|e| Some(Arc::clone(&e.served.as_ref()?.stream)))
            .collect()
    }

    /// Forgets what ended [`LINGER`] ago.
    pub(crate) fn sweep(&self, now: Instant) {
        let lingers = |e: &Entry| e.ended.is_none_or(|at| now.saturating_duration_since(at) < LINGER);
        self.lock().retain(|_, entry| lingers(entry));
    }

    /// What is served of `key`.
    pub(crate) fn get(&self, key: &StreamKey) -> Option<Arc<LiveStream>> {
        self.lock().get(key)?.served.as_ref().map(|served| Arc::clone(&served.stream))
    }

    /// Whether `key` is being published.
    pub(crate) fn has(&self, key: &StreamKey) -> bool {
        self.lock().get(key).is_some_and(|e| e.slot.is_some())
    }

    /// All streams that are served, and whether they have ended.
    pub(crate) fn served(&self) -> Vec<(Arc<LiveStream>, bool)> {
        let streams = self.lock();
        let served = |e: &Entry| Some((Arc::clone(&e.served.as_ref()?.stream), e.ended.is_some()));
        streams.values().filter_map(served).collect()
    }

    /// The streams that are being published.
    pub(crate) fn live(&self) -> Vec<Arc<LiveStream>> {
        let streams = self.lock();
        let published = |e: &Entry| {
            let served = e.served.as_ref().filter(|served| e.holds(&served.slot))?;
            Some(Arc::clone(&served.stream))
        };
        streams.values().filter_map(published).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamKey, Entry>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn holds(&self, slot: &Arc<Slot>) -> bool {
        self.slot.as_ref().is_some_and(|held| Arc::ptr_eq(held, slot))
    }

    /// Whether `stream` is what is served, and nobody else has taken the place of its publisher.
    fn is_left_by(&self, stream: &Arc<LiveStream>) -> bool {
        self.served.as_ref().is_some_and(|served| {
            Arc::ptr_eq(&served.stream, stream) && (self.slot.is_none() || self.holds(&served.slot))
        })
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock::{self, UnixMs};
    use sluicegate_cluster::testing::{apps, stream_held_by};

    use super::*;
    use crate::live::InStore;
    use crate::metrics::MediaCounters;

    fn stream(epoch: i64) -> Arc<LiveStream> {
        let record = stream_held_by("live/a", "o1", "s", UnixMs(epoch));
        LiveStream::new(&record, InStore::No, &apps("")[0], MediaCounters::new().unwrap(), Arc::default())
    }

    #[test]
    fn a_publisher_that_is_replaced_does_not_end_the_one_in_its_place() {
        let (table, now) = (StreamTable::new(10), clock::now());
        let (first, second) = (stream(1), stream(2));
        let slots = ["a", "a"].map(|session| Arc::new(Slot::new(session.into(), now)));
        table.take_slot(&first.key, &slots[0], now).unwrap();
        table.go_live(Arc::clone(&first), &slots[0]);
        assert!(table.take_slot(&first.key, &slots[1], now).unwrap().is_some(), "the first is replaced");
        table.end(&first, now);
        assert!(Arc::ptr_eq(&table.get(&first.key).unwrap(), &first), "served until the next one is");
        table.go_live(Arc::clone(&second), &slots[1]);
        table.end(&first, now);
        table.yield_to_higher_epoch(&first);
        table.sweep(now + LINGER * 2);
        assert!(Arc::ptr_eq(&table.live()[0], &second));
        assert!(!slots[1].replaced.is_cancelled());
    }

    #[test]
    fn a_publisher_that_broke_off_may_come_back_for_a_while() {
        let (table, now) = (StreamTable::new(10), clock::now());
        let (first, second) = (stream(1), stream(2));
        let slots = ["a", "b"].map(|session| Arc::new(Slot::new(session.into(), now)));
        table.take_slot(&first.key, &slots[0], now).unwrap();
        table.go_live(Arc::clone(&first), &slots[0]);
        table.abandon(&first, now);
        assert!(!table.has(&first.key) && table.get(&first.key).is_some());
        assert!(table.given_up(now + RECONNECT / 2).is_empty());
        assert_eq!(table.given_up(now + RECONNECT).len(), 1);
        table.take_slot(&first.key, &slots[1], now).unwrap();
        assert!(table.given_up(now + RECONNECT).is_empty());
        table.go_live(second, &slots[1]);
        assert_eq!(table.live().len(), 1);
    }

    #[test]
    fn a_failed_claim_leaves_nothing_for_ever() {
        let (table, now) = (StreamTable::new(10), clock::now());
        let first = stream(1);
        let slots = ["a", "b"].map(|session| Arc::new(Slot::new(session.into(), now)));
        table.take_slot(&first.key, &slots[0], now).unwrap();
        table.go_live(Arc::clone(&first), &slots[0]);
        table.end(&first, now);
        table.take_slot(&first.key, &slots[1], now).unwrap();
        table.give_slot_back(&first.key, &slots[1], now);
        table.sweep(now + LINGER);
        assert!(table.get(&first.key).is_none());
    }
}
