//! A node found dead by others: its incarnation is marked gone, by an update that its next heartbeat would
//! win. A node that was alive after all comes back as a new incarnation.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::clock::{self, UnixMs};
use crate::ids::{Incarnation, NodeId};
use crate::limits;
use crate::node::{NodeRecord, NodeState};
use crate::store::{ClusterStore, StoreError};
use crate::view::{ClusterView, SharedView};

/// Marks this run of a node gone, in the name of `by`, if its heartbeat is `silent_for` old by the document as
/// it is now. `false`: it is not, or that run is no more.
///
/// # Errors
/// What the store said; [`StoreError::Contended`] when others won [`limits::CAS_TRIES`] times.
pub async fn mark_gone(
    store: &dyn ClusterStore,
    id: &NodeId,
    incarnation: &Incarnation,
    by: &NodeId,
    silent_for: Duration,
) -> Result<bool, StoreError> {
    for _ in 0..limits::CAS_TRIES {
        let Some(seen) = store.node(id).await? else { return Ok(false) };
        let silent = seen.heartbeat.age(store.now().await?) >= silent_for;
        if seen.incarnation != *incarnation || seen.state == NodeState::Gone || !silent {
            return Ok(false);
        }
        let gone = NodeRecord {
            rev: seen.rev.saturating_add(1),
            state: NodeState::Gone,
            found_dead_by: Some(by.clone()),
            ..seen.clone()
        };
        if store.put_node(&gone, Some(seen.rev)).await? {
            tracing::warn!(node = %id, "a node is taken for dead: its streams are free to take");
            return Ok(true);
        }
    }
    Err(StoreError::Contended)
}

/// Which nodes have stopped writing heartbeats, as one reader of the store sees it. An old heartbeat alone
/// says little: the store may have been away, or be slow. It must not have moved either, for as long, under the
/// reader's own eyes.
#[derive(Debug, Default)]
pub struct Silence {
    since: HashMap<NodeId, (UnixMs, Instant)>,
}

impl Silence {
    /// Folds in what `view` says at `now`; the nodes that are to be marked gone. Readings that failed in
    /// between begin the watch anew.
    pub fn after(&mut self, view: &ClusterView, now: Instant) -> Vec<Arc<NodeRecord>> {
        if !view.store_ok {
            self.since.clear();
            return Vec::new();
        }
        let watched = view.nodes.values().filter(|n| n.state != NodeState::Gone);
        let since = watched.map(|node| {
            let before = self.since.get(&node.id).filter(|(heartbeat, _)| *heartbeat == node.heartbeat);
            (node.id.clone(), before.copied().unwrap_or((node.heartbeat, now)))
        });
        self.since = since.collect();
        let is_silent = |node: &&Arc<NodeRecord>| {
            let since = self.since.get(&node.id).map(|(_, since)| *since);
            since.is_some_and(|since| now.saturating_duration_since(since) >= limits::HEARTBEAT_GONE)
                && node.heartbeat.age(view.loads_at) >= limits::HEARTBEAT_GONE
        };
        view.nodes.values().filter(is_silent).cloned().collect()
    }
}

/// Marks nodes gone that write no heartbeats any more, until cancelled; never `own`. For nodes that read heartbeats.
pub async fn bury_the_silent(
    store: Arc<dyn ClusterStore>,
    view: SharedView,
    own: NodeId,
    stop: CancellationToken,
) {
    let mut silence = Silence::default();
    let mut ticks = tokio::time::interval(limits::VIEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let silent = silence.after(&view.load(), clock::now());
        for node in silent.iter().filter(|node| node.id != own) {
            let marked =
                mark_gone(store.as_ref(), &node.id, &node.incarnation, &own, limits::HEARTBEAT_GONE).await;
            if let Err(error) = marked {
                tracing::debug!(%error, node = %node.id, "a silent node could not be marked gone");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EmbeddedStore;
    use crate::testing::node;

    const NOW: UnixMs = UnixMs(1_000_000);

    #[tokio::test]
    async fn only_a_silent_run_of_a_node_is_marked_and_only_once() {
        let store = EmbeddedStore::in_memory();
        let now = store.now().await.unwrap();
        let fresh = node("n", now);
        assert!(store.put_node(&fresh, None).await.unwrap());
        let mark = |incarnation: &'static str| {
            let store = &store;
            async move {
                let id = "n".parse().unwrap();
                mark_gone(store, &id, &incarnation.into(), &"lb".parse().unwrap(), limits::HEARTBEAT_GONE)
                    .await
                    .unwrap()
            }
        };
        assert!(!mark("n-1").await, "its heartbeat is fresh");
        let silent = NodeRecord { rev: 2, heartbeat: UnixMs(now.0 - 5_000), ..fresh };
        assert!(store.put_node(&silent, Some(1)).await.unwrap());
        assert!(!mark("n-2").await, "another run of it");
        assert!(mark("n-1").await);
        assert!(!mark("n-1").await, "it is gone already");
        let stored = store.node(&"n".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((stored.state, stored.rev), (NodeState::Gone, 3));
        assert_eq!(stored.found_dead_by, Some("lb".parse().unwrap()));
    }

    /// A reading of one node, `seconds` after the first one.
    fn reading(heartbeat_s: i64, seconds: i64) -> ClusterView {
        let heartbeat = UnixMs(NOW.0 + heartbeat_s * 1_000);
        ClusterView::default().fold(
            vec![Ok(node("n", heartbeat))],
            Vec::new(),
            UnixMs(NOW.0 + seconds * 1_000),
        )
    }

    #[test]
    fn a_node_is_silent_when_its_heartbeat_is_old_and_does_not_move() {
        let began = clock::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        assert!(silence.after(&reading(0, 0), at(0)).is_empty());
        assert!(silence.after(&reading(0, 4), at(4)).is_empty());
        assert_eq!(silence.after(&reading(0, 5), at(5)).len(), 1);
    }

    #[test]
    fn late_heartbeats_are_not_silence_nor_is_what_a_store_that_was_away_has_kept() {
        let began = clock::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        // A slow store: what is read is six seconds old every time, but it moves.
        for second in (0..60).step_by(3) {
            let view = reading(second - 6, second);
            assert!(silence.after(&view, at(second.unsigned_abs())).is_empty(), "{second}");
        }
        // Away for a minute: everybody's heartbeat is old then.
        let away = ClusterView { store_ok: false, ..reading(54, 60) };
        assert!(silence.after(&away, at(60)).is_empty());
        assert!(silence.after(&reading(54, 120), at(120)).is_empty());
        assert!(silence.after(&reading(54, 124), at(124)).is_empty());
        assert!(silence.after(&reading(124, 125), at(125)).is_empty());
        assert_eq!(silence.after(&reading(124, 130), at(130)).len(), 1);
    }
}
