//! The cache: whole objects, the least recently used given up first, and beside them what was refused a
//! moment ago.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use moka::sync;

use crate::failure::Failure;
use crate::limits;
use crate::object::Object;
use crate::policy::{self, Sort};

/// Objects by their public path. The path is the whole key: neither the query nor the host changes what
/// an object is, and claims differ in the names of their files.
pub(crate) struct Cache {
    objects: sync::Cache<Arc<str>, Arc<Object>>,
    refusals: sync::Cache<Arc<str>, Refusal>,
}

#[derive(Clone, Copy)]
struct Refusal {
    failure: Failure,
    until: Instant,
}

impl Cache {
    /// One that holds `most_bytes`.
    pub(crate) fn new(most_bytes: u64) -> Self {
        // Least recently used, not moka's default: that one turns new entries away when it is full, and a
        // live segment is new exactly when it is wanted.
        let objects = sync::Cache::builder()
            .max_capacity(most_bytes)
            .weigher(|_: &Arc<str>, object: &Arc<Object>| object.weight())
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let refusals = sync::Cache::builder()
            .max_capacity(limits::REFUSALS)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(limits::NOT_FOUND.max(limits::AFTER_ERROR))
            .build();
        Self { objects, refusals }
    }

    /// The object at `path`, whatever its age.
    pub(crate) fn get(&self, path: &str) -> Option<Arc<Object>> {
        self.objects.get(path)
    }

    /// Keeps `object`, and forgets that `path` was refused.
    pub(crate) fn put(&self, path: &Arc<str>, object: Arc<Object>) {
        self.refusals.invalidate(path);
        self.objects.insert(Arc::clone(path), object);
    }

    /// Why `path` is not asked for at `now`.
    pub(crate) fn refusal(&self, path: &str, now: Instant) -> Option<Failure> {
        let refusal = self.refusals.get(path)?;
        (now < refusal.until).then_some(refusal.failure)
    }

    /// Remembers from `now` on that `path` failed, for as long as the policy says.
    pub(crate) fn refuse(&self, path: &Arc<str>, sort: Sort, failure: Failure, now: Instant) {
        if let Some(pause) = policy::refuse_for(sort, failure) {
            let until = now.checked_add(pause).unwrap_or(now);
            self.refusals.insert(Arc::clone(path), Refusal { failure, until });
        }
    }

    /// Bytes held, about: moka counts behind its writers.
    pub(crate) fn bytes(&self) -> u64 {
        self.objects.weighted_size()
    }
}

/// How old `object` is at `now`.
pub(crate) fn age(object: &Object, now: Instant) -> Duration {
    now.saturating_duration_since(object.head.asked)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;
    use sluicegate_cluster::clock;

    use super::*;
    use crate::object::{Format, Head};

    fn object(bytes: usize) -> Arc<Object> {
        let text = HeaderValue::from_static("\"a\"");
        let head = Head { etag: text.clone(), date: text, asked: clock::now(), format: Format::Cmaf };
        Arc::new(Object::new(head, Bytes::from(vec![0; bytes]), None))
    }

    #[test]
    fn a_full_cache_keeps_the_newest_and_gives_up_the_oldest() {
        let cache = Cache::new(10 * 10_512);
        for n in 0..200 {
            cache.put(&format!("/live/streams/{n}").into(), object(10_000));
        }
        cache.objects.run_pending_tasks();
        assert!((190..200).all(|n| cache.get(&format!("/live/streams/{n}")).is_some()));
        assert!((0..180).all(|n| cache.get(&format!("/live/streams/{n}")).is_none()));
        assert!(cache.bytes() <= 10 * 10_512);
    }

    #[test]
    fn a_refusal_ends_by_time_and_by_an_object() {
        let (cache, now) = (Cache::new(1 << 20), clock::now());
        let path: Arc<str> = "/live/streams/a.m3u8".into();
        cache.refuse(&path, Sort::Playlist, Failure::NotFound, now);
        assert_eq!(cache.refusal(&path, now), Some(Failure::NotFound));
        assert_eq!(cache.refusal(&path, now + limits::NOT_FOUND), None);
        cache.put(&path, object(1));
        assert_eq!(cache.refusal(&path, now), None);
        cache.refuse(&path, Sort::Media, Failure::NotFound, now);
        assert_eq!(cache.refusal(&path, now), None);
    }
}
