//! Who is a stream's origin. A claim is one compare-and-set on the stream's document, guarded by the epoch
//! seen; [`decide`] says whether it may be tried.

use std::sync::Arc;

use crate::clock::UnixMs;
use crate::ids::{Epoch, Incarnation, NodeId, PublisherSession, StreamKey};
use crate::limits;
use crate::node::NodeRecord;
use crate::store::{ClusterStore, StoreError};
use crate::stream::{Owner, StreamRecord};

/// Who wants to be a stream's origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taker {
    /// The node.
    pub node: NodeId,
    /// The run of its process.
    pub incarnation: Incarnation,
    /// The publisher's connection it holds.
    pub session: PublisherSession,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claimed {
    /// The stream is the taker's, by this record.
    Taken(StreamRecord),
    /// Another origin has it, alive, with another publisher.
    Held(Owner),
}

/// What came of confirming a claim that was made without the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// It is in the store now.
    Yes,
    /// A higher epoch is: the stream is another's, and this claim ends.
    Superseded,
}

/// Decides a claim from what is stored: the record to write, or who holds the stream.
///
/// A stream may be taken if it is free, if its owner's incarnation is gone or replaced, if it is the taker's
/// own, or if the taker presents the current publisher session. `owner` is the document of the node that
/// `seen` names; `now` is the database's time.
#[must_use]
pub fn decide(
    key: &StreamKey,
    seen: Option<&StreamRecord>,
    owner: Option<&NodeRecord>,
    taker: &Taker,
    now: UnixMs,
) -> Claimed {
    if let Some(held) = seen.filter(|s| s.is_live()) {
        let own = held.owner.node == taker.node;
        let carried = held.session == taker.session;
        let owner_lives = owner.is_some_and(|n| n.incarnation == held.owner.incarnation && n.is_alive(now));
        if owner_lives && !own && !carried {
            return Claimed::Held(held.owner.clone());
        }
    }
    Claimed::Taken(next_record(key, seen, taker, now))
}

fn next_record(key: &StreamKey, seen: Option<&StreamRecord>, taker: &Taker, now: UnixMs) -> StreamRecord {
    StreamRecord {
        key: key.clone(),
        owner: Owner { node: taker.node.clone(), incarnation: taker.incarnation.clone() },
        ended_at: None,
        epoch: next_epoch(seen.map(|s| s.epoch), now),
        claims: seen.map_or(1, |s| s.claims.saturating_add(1)),
        session: taker.session.clone(),
        renditions: vec!["source".to_owned()],
        size: seen.and_then(|s| s.size),
        sequence: seen.map_or(0, |s| next_sequence(s, now)),
        sequence_at: now,
        started_at: now,
        bitrate_bps: 0,
        viewers: 0,
        notes: seen.and_then(|s| s.notes.clone()),
        changed: now,
    }
}

/// `max(last + 1, now)`: it rises even when clocks do not, and can be minted without the store.
#[must_use]
pub fn next_epoch(last: Option<Epoch>, now: UnixMs) -> Epoch {
    Epoch(last.map_or(now.0, |e| now.0.max(e.0.saturating_add(1))))
}

/// Where a new claim's media sequence starts: the last recorded one plus twice the seconds since, and one.
/// It never goes back while segments last over half a second, and jumps little.
fn next_sequence(seen: &StreamRecord, now: UnixMs) -> i64 {
    let seconds = i64::try_from(seen.sequence_at.age(now).as_secs_f64().ceil() as u64).unwrap_or(0);
    seen.sequence.saturating_add(seconds.saturating_mul(2)).saturating_add(1)
}

/// Claims over a store.
#[derive(Clone)]
pub struct Claims {
    store: Arc<dyn ClusterStore>,
}

impl Claims {
    /// Claims kept in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn ClusterStore>) -> Self {
        Self { store }
    }

    /// Claims `key` for `taker`.
    ///
    /// # Errors
    /// [`StoreError::Contended`] when others won [`limits::CAS_TRIES`] times, else what the store said.
    pub async fn claim(&self, key: &StreamKey, taker: &Taker) -> Result<Claimed, StoreError> {
        for _ in 0..limits::CAS_TRIES {
            let seen = self.store.stream(key).await?;
            let owner = match seen.as_ref().filter(|s| s.is_live()) {
                Some(held) => self.store.node(&held.owner.node).await?,
                None => None,
            };
            let now = self.store.now().await?;
            let record = match decide(key, seen.as_ref(), owner.as_ref(), taker, now) {
                Claimed::Held(owner) => return Ok(Claimed::Held(owner)),
                Claimed::Taken(record) => record,
            };
            if self.store.put_stream(&record, seen.map(|s| s.epoch)).await? {
                return Ok(Claimed::Taken(record));
            }
        }
        Err(StoreError::Contended)
    }

    /// Writes a claim that was made while the store was away. The higher epoch wins.
    ///
    /// # Errors
    /// [`StoreError::Contended`] when others won [`limits::CAS_TRIES`] times, else what the store said.
    pub async fn confirm(&self, claim: &StreamRecord) -> Result<Confirmed, StoreError> {
        for _ in 0..limits::CAS_TRIES {
            let seen = self.store.stream(&claim.key).await?;
            if seen.as_ref().is_some_and(|s| s.epoch > claim.epoch) {
                return Ok(Confirmed::Superseded);
            }
            if seen.as_ref().is_some_and(|s| s.epoch == claim.epoch && s.owner == claim.owner) {
                return Ok(Confirmed::Yes);
            }
            let now = self.store.now().await?;
            let claims = seen.as_ref().map_or(1, |s| s.claims.saturating_add(1));
            let notes = seen.as_ref().and_then(|s| s.notes.clone());
            let record = StreamRecord { claims, notes, sequence_at: now, changed: now, ..claim.clone() };
            if self.store.put_stream(&record, seen.map(|s| s.epoch)).await? {
                return Ok(Confirmed::Yes);
            }
        }
        Err(StoreError::Contended)
    }

    /// Ends `key`'s claim `epoch`: the stream is free. `sequence` is its last media sequence number.
    /// `false` when a later claim has it already.
    ///
    /// # Errors
    /// What the store said.
    pub async fn release(&self, key: &StreamKey, epoch: Epoch, sequence: i64) -> Result<bool, StoreError> {
        let Some(seen) = self.store.stream(key).await? else { return Ok(false) };
        if seen.epoch != epoch {
            return Ok(false);
        }
        let now = self.store.now().await?;
        let ended = StreamRecord {
            ended_at: Some(now),
            sequence: seen.sequence.max(sequence),
            sequence_at: now,
            bitrate_bps: 0,
            viewers: 0,
            changed: now,
            ..seen
        };
        self.store.put_stream(&ended, Some(epoch)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, stream_held_by, taker};

    const NOW: UnixMs = UnixMs(1_000_000);

    fn key() -> StreamKey {
        "live/cam".parse().unwrap()
    }

    #[test]
    fn a_stream_that_never_was_is_free() {
        let Claimed::Taken(record) = decide(&key(), None, None, &taker("o1", "s1"), NOW) else {
            panic!("held")
        };
        assert_eq!((record.epoch, record.claims, record.sequence), (Epoch(NOW.0), 1, 0));
    }

    #[test]
    fn a_live_owner_keeps_its_stream() {
        let held = stream_held_by("live/cam", "o1", "s1", NOW);
        let owner = node("o1", NOW);
        let outcome = decide(&key(), Some(&held), Some(&owner), &taker("o2", "s2"), NOW);
        assert_eq!(outcome, Claimed::Held(held.owner));
    }

    #[test]
    fn the_publishers_session_moves_the_stream() {
        let held = stream_held_by("live/cam", "o1", "s1", NOW);
        let owner = node("o1", NOW);
        let outcome = decide(&key(), Some(&held), Some(&owner), &taker("o2", "s1"), NOW);
        assert!(matches!(outcome, Claimed::Taken(r) if r.epoch > held.epoch && r.claims == 2));
    }

    #[test]
    fn a_silent_or_replaced_owner_loses_its_stream() {
        let held = stream_held_by("live/cam", "o1", "s1", NOW);
        let later = NOW.plus(limits::HEARTBEAT_GONE);
        let silent = node("o1", NOW);
        let replaced = NodeRecord { incarnation: "other".into(), ..node("o1", later) };
        for owner in [None, Some(&silent), Some(&replaced)] {
            let outcome = decide(&key(), Some(&held), owner, &taker("o2", "s2"), later);
            assert!(matches!(outcome, Claimed::Taken(_)), "{owner:?}");
        }
    }

    #[test]
    fn numbers_only_rise() {
        let held = StreamRecord {
            sequence: 40,
            sequence_at: NOW,
            epoch: Epoch(NOW.0 + 50_000),
            ..stream_held_by("live/cam", "o1", "s1", NOW)
        };
        let later = NOW.plus(std::time::Duration::from_millis(2_500));
        let Claimed::Taken(next) = decide(&key(), Some(&held), None, &taker("o1", "s2"), later) else {
            panic!("held")
        };
        assert_eq!(next.sequence, 40 + 2 * 3 + 1);
        assert_eq!(next.epoch, Epoch(NOW.0 + 50_001));
    }

    #[tokio::test]
    async fn a_claim_made_without_the_store_is_written_later_unless_a_higher_epoch_is_there() {
        let store = Arc::new(crate::store::EmbeddedStore::in_memory());
        let claims = Claims::new(Arc::clone(&store) as Arc<dyn ClusterStore>);
        let stored = stream_held_by("live/cam", "o1", "s1", NOW);
        assert!(store.put_stream(&stored, None).await.unwrap());
        let later = StreamRecord { epoch: Epoch(NOW.0 + 10), ..stream_held_by("live/cam", "o2", "s2", NOW) };
        assert_eq!(claims.confirm(&later).await.unwrap(), Confirmed::Yes);
        assert_eq!(claims.confirm(&later).await.unwrap(), Confirmed::Yes, "it may be said twice");
        let record = store.stream(&key()).await.unwrap().unwrap();
        assert_eq!((record.owner.node.as_str(), record.epoch, record.claims), ("o2", later.epoch, 2));
        assert_eq!(claims.confirm(&stored).await.unwrap(), Confirmed::Superseded);
    }
}
