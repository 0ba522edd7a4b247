//! Who publishes a stream to this origin. A stream has one publisher at a time; whether a second one may
//! take its place is decided here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluicegate_cluster::ids::PublisherSession;
use tokio_util::sync::CancellationToken;

/// A publisher that has sent no media for this long is taken to be dead when another one comes.
pub const DEAD_AFTER: Duration = Duration::from_secs(2);

/// A publisher's hold on a stream.
pub struct Slot {
    session: PublisherSession,
    began: Instant,
    /// Milliseconds from `began` to the last media.
    last_media_ms: AtomicU64,
    /// Cancelled when another publisher takes its place.
    pub replaced: CancellationToken,
    /// Cancelled when an operator ends the publish.
    pub(crate) ended: CancellationToken,
}

impl Slot {
    /// A hold that begins at `now`.
    #[must_use]
    pub fn new(session: PublisherSession, now: Instant) -> Self {
        Self {
            session,
            began: now,
            last_media_ms: AtomicU64::new(0),
            replaced: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    /// The connection that has it.
    #[must_use]
    pub fn session(&self) -> &PublisherSession {
        &self.session
    }

    /// Media came at `now`.
    pub fn touch(&self, now: Instant) {
        let ms = u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        self.last_media_ms.store(ms, Ordering::Relaxed);
    }

    /// Whether a publisher with `session` may take its place at `now`: it is the same one, moved, or this
    /// one's connection is dead.
    #[must_use]
    pub fn may_be_replaced_by(&self, session: &PublisherSession, now: Instant) -> bool {
        let last = self.began + Duration::from_millis(self.last_media_ms.load(Ordering::Relaxed));
        self.session == *session || now.saturating_duration_since(last) >= DEAD_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_publisher_is_protected_a_dead_one_replaced() {
        let began = sluicegate_cluster::clock::now();
        let slot = Slot::new("a".into(), began);
        let at = |ms| began + Duration::from_millis(ms);
        assert!(!slot.may_be_replaced_by(&"b".into(), at(1_999)));
        slot.touch(at(1_500));
        assert!(!slot.may_be_replaced_by(&"b".into(), at(3_400)));
        assert!(slot.may_be_replaced_by(&"b".into(), at(3_500)));
        assert!(slot.may_be_replaced_by(&"a".into(), at(1_600)), "the same publisher may move");
    }
}
