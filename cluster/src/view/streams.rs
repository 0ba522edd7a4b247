//! The streams of a view, in shards: the next view shares all shards but those in which something changed. With a
//! hundred thousand streams, a change is then a copy of a few hundred pointers, and what differs between two views is
//! found without looking at all of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ids::StreamKey;
use crate::stream::StreamRecord;

const SHARDS: usize = 512;
/// Shards that are swept at a time: all of them in 64 views with news.
const SWEPT: usize = 8;

type Shard = HashMap<StreamKey, Arc<StreamRecord>>;

/// Streams by their names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Streams {
    shards: Vec<Arc<Shard>>,
    len: usize,
    /// The shard that is swept next.
    swept: usize,
}

impl Default for Streams {
    fn default() -> Self {
        Self { shards: vec![Arc::default(); SHARDS], len: 0, swept: 0 }
    }
}

impl Streams {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The stream `key`.
    #[must_use]
    pub fn get(&self, key: &StreamKey) -> Option<&Arc<StreamRecord>> {
        self.shards.get(shard_of(key))?.get(key)
    }

    /// Whether there is the stream `key`.
    #[must_use]
    pub fn contains_key(&self, key: &StreamKey) -> bool {
        self.get(key).is_some()
    }

    /// All of them, in no order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<StreamRecord>> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    /// Those that are not as in `before`, each with what it was there.
    pub fn changed_since<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Arc<StreamRecord>>, &'a Arc<StreamRecord>)> {
        let shards = self.shards.iter().zip(&before.shards).filter(|(now, then)| !Arc::ptr_eq(now, then));
        let streams = shards.flat_map(|(now, then)| now.values().map(move |s| (then.get(&s.key), s)));
        streams.filter(|(then, now)| !then.is_some_and(|then| Arc::ptr_eq(then, now)))
    }

    pub(super) fn put(&mut self, record: StreamRecord) {
        if let Some(shard) = self.shards.get_mut(shard_of(&record.key)) {
            let earlier = Arc::make_mut(shard).insert(record.key.clone(), Arc::new(record));
            self.len += usize::from(earlier.is_none());
        }
    }

    pub(super) fn get_mut(&mut self, key: &StreamKey) -> Option<&mut StreamRecord> {
        let shard = self.shards.get_mut(shard_of(key))?;
        Arc::make_mut(shard).get_mut(key).map(Arc::make_mut)
    }

    /// Forgets what is not to be kept, in a few shards at a time.
    pub(super) fn sweep(&mut self, is_kept: impl Fn(&StreamRecord) -> bool) {
        for at in (self.swept..SHARDS).take(SWEPT) {
            if let Some(shard) = self.shards.get_mut(at).filter(|shard| !shard.values().all(|s| is_kept(s))) {
                let shard = Arc::make_mut(shard);
                let before = shard.len();
                shard.retain(|_, s| is_kept(s));
                self.len -= before - shard.len();
            }
        }
        self.swept = (self.swept + SWEPT) % SHARDS;
    }
}

/// Which shard a stream is in. Names that were chosen to meet in one only make that one slower to copy.
fn shard_of(key: &StreamKey) -> usize {
    let bytes = key.app.as_str().bytes().chain(key.stream.as_str().bytes());
    let hash = bytes.fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    (hash ^ (hash >> 16)) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMs;
    use crate::testing::stream_held_by;

    fn stream(at: usize) -> StreamRecord {
        stream_held_by(&format!("live/s{at}"), "o1", "s", UnixMs(1_000))
    }

    fn many() -> Streams {
        let mut streams = Streams::default();
        (0..20_000).for_each(|at| streams.put(stream(at)));
        streams
    }

    #[test]
    fn names_that_count_up_are_spread() {
        let streams = many();
        assert_eq!((streams.len(), streams.values().count()), (20_000, 20_000));
        let fullest = streams.shards.iter().map(|shard| shard.len()).max();
        assert!(fullest.is_some_and(|fullest| fullest < 4 * 20_000 / SHARDS), "{fullest:?}");
    }

    #[test]
    fn what_differs_is_found_and_the_rest_is_shared() {
        let before = many();
        let mut after = before.clone();
        after.put(StreamRecord { claims: 2, ..stream(7) });
        after.put(stream(20_000));
        let changed: Vec<_> =
            after.changed_since(&before).map(|(then, now)| (then.map(|t| t.claims), now.claims)).collect();
        assert_eq!(changed.len(), 2);
        assert!(changed.contains(&(Some(1), 2)) && changed.contains(&(None, 1)), "{changed:?}");
        let shared = after.shards.iter().zip(&before.shards).filter(|(a, b)| Arc::ptr_eq(a, b));
        assert!(shared.count() >= SHARDS - 2);
        assert_eq!(
            (before.len(), after.len(), before.get(&stream(7).key).unwrap().claims),
            (20_000, 20_001, 1)
        );
    }

    #[test]
    fn sweeps_come_round() {
        let mut streams = many();
        let is_kept = |s: &StreamRecord| s.key.stream.as_str().ends_with('7');
        (0..SHARDS / SWEPT).for_each(|_| streams.sweep(is_kept));
        assert_eq!((streams.len(), streams.values().count()), (2_000, 2_000));
    }
}
