//! Who is a stream's origin. A claim is one compare-and-set on the stream's document, guarded by the epoch
//! seen; [`decide`] says whether it may be tried.

use std::sync::Arc;

use crate::clock::UnixMs;
use crate::ids::{Epoch, Incarnation, NodeId, PublisherSession, StreamKey};
use crate::limits;
use crate::node::NodeRecord;
use crate::placed::Placed;
use crate::store::{ClusterStore, StoreError};
use crate::stream::{Owner, PublishType, StreamRecord};

mod reached;

pub use reached::Reached;

/// Who wants to be a stream's origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Taker {
    /// The node.
    pub node: NodeId,
    /// The run of its process.
    pub incarnation: Incarnation,
    /// The publisher's connection it holds.
    pub session: PublisherSession,
    /// How that publishes.
    pub publish_type: PublishType,
    /// Why the stream came to it.
    pub placed: Option<Placed>,
    /// What its balancer knows of the stream's last claim, which may not be in the store.
    pub reached: Option<Reached>,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claimed {
    /// The stream is the taker's, by this record.
    Taken(Box<StreamRecord>),
    /// Another origin has it, alive, with another publisher.
    Held(Owner),
}

/// What came of confirming a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// It is in the store now.
    Yes,
    /// A higher epoch is, or the same of another origin: the stream is another's, and this claim ends.
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
    Claimed::Taken(Box::new(next_record(key, seen, taker, now)))
}

fn next_record(key: &StreamKey, seen: Option<&StreamRecord>, taker: &Taker, now: UnixMs) -> StreamRecord {
    let reached = Reached::later(seen.map(Reached::from), taker.reached);
    StreamRecord {
        key: key.clone(),
        owner: Owner { node: taker.node.clone(), incarnation: taker.incarnation.clone() },
        ended_at: None,
        epoch: next_epoch(reached.map(|r| r.epoch), now),
        rev: seen.map_or(1, StreamRecord::next_rev),
        claims: reached.map_or(1, |r| r.claims.saturating_add(1)),
        session: taker.session.clone(),
        renditions: vec!["source".to_owned()],
        size: seen.and_then(|s| s.size),
        sequence: reached.map_or(0, |r| r.next_sequence(now)),
        sequence_at: now,
        started_at: now,
        bitrate_bps: 0,
        viewers: 0,
        webrtc_viewers: 0,
        publish_type: taker.publish_type,
        placed: taker.placed.clone().map(Box::new),
        ladder: Box::default(),
        notes: seen.and_then(|s| s.notes.clone()),
        changed: now,
    }
}

/// `max(last + 1, now)`: it rises even when clocks do not, and can be minted without the store.
#[must_use]
pub fn next_epoch(last: Option<Epoch>, now: UnixMs) -> Epoch {
    Epoch(last.map_or(now.0, |e| now.0.max(e.0.saturating_add(1))))
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
            let (seen, claimed) = self.look(key, taker).await?;
            let Claimed::Taken(record) = &claimed else { return Ok(claimed) };
            if self.store.put_stream(record, seen.map(|s| s.version())).await? {
                return Ok(claimed);
            }
        }
        Err(StoreError::Contended)
    }

    /// The claim that [`Claims::claim`] would make, without making it: for a stream that is handed over, which
    /// stays with its present origin until the next one has something to list. [`Claims::confirm`] makes it.
    ///
    /// # Errors
    /// What the store said.
    pub async fn prepare(&self, key: &StreamKey, taker: &Taker) -> Result<Claimed, StoreError> {
        Ok(self.look(key, taker).await?.1)
    }

    /// What is stored of a stream, and what may be done about it.
    async fn look(
        &self,
        key: &StreamKey,
        taker: &Taker,
    ) -> Result<(Option<StreamRecord>, Claimed), StoreError> {
        let seen = self.store.stream(key).await?;
        let owner = match seen.as_ref().filter(|s| s.is_live()) {
            Some(held) => self.store.node(&held.owner.node).await?,
            None => None,
        };
        let now = self.store.now().await?;
        let claimed = decide(key, seen.as_ref(), owner.as_ref(), taker, now);
        Ok((seen, claimed))
    }

    /// Writes a claim that is not in the store as it should be: made while the store was away, prepared for a
    /// handover, or made by an earlier incarnation of its node. The higher epoch wins.
    ///
    /// # Errors
    /// [`StoreError::Contended`] when others won [`limits::CAS_TRIES`] times, else what the store said.
    pub async fn confirm(&self, claim: &StreamRecord) -> Result<Confirmed, StoreError> {
        for _ in 0..limits::CAS_TRIES {
            let seen = self.store.stream(&claim.key).await?;
            if seen.as_ref().is_some_and(|s| s.supersedes(claim.epoch, &claim.owner.node)) {
                return Ok(Confirmed::Superseded);
            }
            let now = self.store.now().await?;
            let rev = seen.as_ref().map_or(1, StreamRecord::next_rev);
            let record = match seen.as_ref().filter(|s| s.is_same_claim(claim)) {
                Some(own) if own.owner == claim.owner || !own.is_live() => return Ok(Confirmed::Yes),
                Some(own) => StreamRecord { owner: claim.owner.clone(), rev, changed: now, ..own.clone() },
                None => {
                    // Its own count is higher where earlier claims never came to the store.
                    let stored = seen.as_ref().map_or(0, |s| s.claims);
                    let claims = claim.claims.max(stored.saturating_add(1));
                    let notes = seen.as_ref().and_then(|s| s.notes.clone());
                    StreamRecord { rev, claims, notes, sequence_at: now, changed: now, ..claim.clone() }
                }
            };
            if self.store.put_stream(&record, seen.map(|s| s.version())).await? {
                return Ok(Confirmed::Yes);
            }
        }
        Err(StoreError::Contended)
    }

    /// Ends `key`'s claim `epoch` of `node`: the stream is free. `sequence` is its last media sequence number.
    /// `false` when another claim has it already.
    ///
    /// # Errors
    /// [`StoreError::Contended`] when others won [`limits::CAS_TRIES`] times, else what the store said.
    pub async fn release(
        &self,
        key: &StreamKey,
        epoch: Epoch,
        node: &NodeId,
        sequence: i64,
    ) -> Result<bool, StoreError> {
        let is_its = |s: &StreamRecord| s.epoch == epoch && s.owner.node == *node;
        for _ in 0..limits::CAS_TRIES {
            let Some(seen) = self.store.stream(key).await?.filter(is_its) else {
                return Ok(false);
            };
            let (now, seen_at) = (self.store.now().await?, seen.version());
            let ended = StreamRecord {
                rev: seen.next_rev(),
                ended_at: Some(now),
                sequence: seen.sequence.max(sequence),
                sequence_at: now,
                bitrate_bps: 0,
                viewers: 0,
                webrtc_viewers: 0,
                changed: now,
                ..seen
            };
            if self.store.put_stream(&ended, Some(seen_at)).await? {
                return Ok(true);
            }
        }
        Err(StoreError::Contended)
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
    fn another_streams_session_an_earlier_one_or_none_moves_nothing() {
        let held = stream_held_by("live/cam", "o1", "s2", NOW);
        let owner = node("o1", NOW);
        for session in ["s1", "s2 ", "S2", ""] {
            let outcome = decide(&key(), Some(&held), Some(&owner), &taker("o2", session), NOW);
            assert_eq!(outcome, Claimed::Held(held.owner.clone()), "{session:?}");
        }
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

    #[test]
    fn numbers_go_on_from_a_claim_that_never_came_to_the_store() {
        let told = Reached { epoch: Epoch(NOW.0 + 5), claims: 3, sequence: 40, sequence_at: NOW };
        let carried = Taker { reached: Some(told), ..taker("o2", "s1") };
        let at = NOW.plus(std::time::Duration::from_secs(2));
        let Claimed::Taken(next) = decide(&key(), None, None, &carried, at) else { panic!("held") };
        assert_eq!((next.epoch, next.claims, next.sequence, next.rev), (Epoch(at.0), 4, 45, 1));
        // The store has an older one.
        let held = StreamRecord { rev: 7, ..stream_held_by("live/cam", "o1", "s1", NOW) };
        let Claimed::Taken(next) = decide(&key(), Some(&held), None, &carried, NOW) else { panic!("held") };
        assert_eq!((next.epoch, next.claims, next.sequence, next.rev), (Epoch(NOW.0 + 6), 4, 41, 8));
    }

    #[tokio::test]
    async fn a_claim_that_followed_one_that_the_store_never_had_keeps_its_count() {
        let store = Arc::new(crate::store::EmbeddedStore::in_memory());
        let claims = Claims::new(Arc::clone(&store) as Arc<dyn ClusterStore>);
        let third = StreamRecord { claims: 3, ..stream_held_by("live/cam", "o2", "s1", NOW) };
        assert_eq!(claims.confirm(&third).await.unwrap(), Confirmed::Yes);
        assert_eq!(store.stream(&key()).await.unwrap().unwrap().claims, 3);
    }

    #[tokio::test]
    async fn of_two_claims_made_in_the_same_millisecond_the_one_that_is_written_first_has_the_stream() {
        let store = Arc::new(crate::store::EmbeddedStore::in_memory());
        let claims = Claims::new(Arc::clone(&store) as Arc<dyn ClusterStore>);
        let [first, second] = ["o2", "o1"].map(|node| stream_held_by("live/cam", node, node, NOW));
        assert_eq!(claims.confirm(&first).await.unwrap(), Confirmed::Yes);
        assert_eq!(claims.confirm(&second).await.unwrap(), Confirmed::Superseded);
        assert!(!claims.release(&key(), second.epoch, &second.owner.node, 9).await.unwrap());
        let stored = store.stream(&key()).await.unwrap().unwrap();
        assert!(stored.is_live() && stored.owner == first.owner, "{stored:?}");
        assert!(claims.release(&key(), first.epoch, &first.owner.node, 9).await.unwrap());
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

    #[tokio::test]
    async fn a_stream_is_kept_by_the_next_incarnation_of_its_node_under_the_same_claim() {
        let store = Arc::new(crate::store::EmbeddedStore::in_memory());
        let claims = Claims::new(Arc::clone(&store) as Arc<dyn ClusterStore>);
        let first = stream_held_by("live/cam", "o1", "s1", NOW);
        assert!(store.put_stream(&first, None).await.unwrap());
        let owner = Owner { incarnation: "o1-2".into(), ..first.owner.clone() };
        let kept = StreamRecord { owner, ..first.clone() };
        assert_eq!(claims.confirm(&kept).await.unwrap(), Confirmed::Yes);
        let record = store.stream(&key()).await.unwrap().unwrap();
        assert_eq!((&record.owner, record.epoch, record.claims), (&kept.owner, first.epoch, 1));
        assert!(claims.release(&key(), first.epoch, &first.owner.node, 5).await.unwrap());
        assert_eq!(claims.confirm(&first).await.unwrap(), Confirmed::Yes);
        assert!(!store.stream(&key()).await.unwrap().unwrap().is_live(), "what ended stays so");
    }

    #[tokio::test]
    async fn a_late_write_of_the_same_claim_does_not_bring_an_ended_stream_back() {
        let store = Arc::new(crate::store::EmbeddedStore::in_memory());
        let claims = Claims::new(Arc::clone(&store) as Arc<dyn ClusterStore>);
        let first = stream_held_by("live/cam", "o1", "s1", NOW);
        assert!(store.put_stream(&first, None).await.unwrap());
        // As `confirm` of the next incarnation would write it, if it had read the record before the end.
        let owner = Owner { incarnation: "o1-2".into(), ..first.owner.clone() };
        let late = StreamRecord { owner, rev: first.next_rev(), ..first.clone() };
        assert!(claims.release(&key(), first.epoch, &first.owner.node, 5).await.unwrap());
        assert!(!store.put_stream(&late, Some(first.version())).await.unwrap());
        assert!(!store.stream(&key()).await.unwrap().unwrap().is_live());
    }

    #[tokio::test]
    async fn a_prepared_claim_leaves_the_stream_where_it_is_until_it_is_made() {
        let store = Arc::new(crate::store::EmbeddedStore::in_memory());
        let claims = Claims::new(Arc::clone(&store) as Arc<dyn ClusterStore>);
        let present = stream_held_by("live/cam", "o1", "s1", NOW);
        assert!(store.put_stream(&present, None).await.unwrap());
        let Claimed::Taken(next) = claims.prepare(&key(), &taker("o2", "s1")).await.unwrap() else {
            panic!("held")
        };
        assert!(next.epoch > present.epoch && next.sequence > present.sequence && next.claims == 2);
        let stored = store.stream(&key()).await.unwrap().unwrap();
        assert_eq!(StreamRecord { changed: present.changed, ..stored }, present);
        assert_eq!(claims.confirm(&next).await.unwrap(), Confirmed::Yes);
        let record = store.stream(&key()).await.unwrap().unwrap();
        assert_eq!((record.owner, record.epoch, record.claims), (next.owner, next.epoch, 2));
    }
}
