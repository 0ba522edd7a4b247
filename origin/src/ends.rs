//! Ends of streams that the store is not told of yet, because it was away: otherwise it would show them live for as
//! long as this node lives.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sluicegate_cluster::claims::Claims;
use sluicegate_cluster::ids::{Epoch, NodeId, StreamKey};
use sluicegate_cluster::store::StoreError;
use sluicegate_cluster::stream::StreamRecord;

/// Ends remembered, the latest.
const ENDS_MAX: usize = 10_000;

/// The end of a stream.
pub(crate) struct End {
    pub(crate) key: StreamKey,
    pub(crate) epoch: Epoch,
    /// Whose claim it was: this node's.
    pub(crate) node: NodeId,
    /// Its claim, if the store did not have that either.
    pub(crate) unconfirmed: Option<StreamRecord>,
    pub(crate) last_sequence: i64,
}

impl End {
    /// Tells the store.
    ///
    /// # Errors
    /// What the store said: it is to be told again.
    pub(crate) async fn settle(&self, claims: &Claims) -> Result<(), StoreError> {
        if let Some(claim) = &self.unconfirmed {
            claims.confirm(claim).await?;
        }
        claims.release(&self.key, self.epoch, &self.node, self.last_sequence).await.map(drop)
    }
}

/// Those to tell of.
#[derive(Default)]
pub(crate) struct Ends(Mutex<VecDeque<End>>);

impl Ends {
    pub(crate) fn push(&self, end: End) {
        let mut ends = self.lock();
        if ends.len() >= ENDS_MAX {
            ends.pop_front();
        }
        ends.push_back(end);
    }

    pub(crate) fn take(&self) -> VecDeque<End> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<End>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluicegate_cluster::clock::UnixMs;
    use sluicegate_cluster::store::{ClusterStore, EmbeddedStore};
    use sluicegate_cluster::testing::stream_held_by;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_came_and_went_while_the_store_was_away_is_recorded_as_ended() {
        let store = Arc::new(EmbeddedStore::in_memory());
        let claims = Claims::new(Arc::clone(&store) as Arc<dyn ClusterStore>);
        let claim = stream_held_by("live/a", "o1", "s", UnixMs(1_000));
        let end = |unconfirmed| End {
            key: claim.key.clone(),
            epoch: claim.epoch,
            node: claim.owner.node.clone(),
            unconfirmed,
            last_sequence: 7,
        };
        end(Some(claim.clone())).settle(&claims).await.unwrap();
        let stored = store.stream(&claim.key).await.unwrap().unwrap();
        assert!(!stored.is_live() && stored.sequence == 7);
        end(None).settle(&claims).await.unwrap();
    }

    #[test]
    fn ends_are_bounded_and_told_once() {
        let ends = Ends::default();
        for n in 0..=ENDS_MAX {
            let key = format!("live/s{n}").parse().unwrap();
            let node = "o1".parse().unwrap();
            ends.push(End { key, epoch: Epoch(1), node, unconfirmed: None, last_sequence: 0 });
        }
        let taken = ends.take();
        assert_eq!((taken.len(), taken[0].key.stream.as_str()), (ENDS_MAX, "s1"));
        assert!(ends.take().is_empty());
    }
}
