//! What a node knows of the cluster: one immutable [`ClusterView`], made anew twice a second by
//! [`follow`] and swapped in. Whoever decides reads one view and nothing else, so the store is on nobody's
//! path, and when it is gone the last view goes on serving and says how old it is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::ams::peers::{AmsView, SharedAmsView};
use crate::clock::{self, UnixMs};
use crate::hints::Hints;
use crate::ids::{Epoch, Incarnation, NodeId, StreamKey};
use crate::limits;
use crate::node::{NodeRecord, NodeState};
use crate::store::{ClusterStore, NodeRead, StoreError, UnreadableNode};
use crate::stream::StreamRecord;

/// The view that is current: load it once per decision.
pub type SharedView = Arc<ArcSwap<ClusterView>>;

/// What was known of the cluster at one moment.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    /// The nodes.
    pub nodes: Arc<HashMap<NodeId, Arc<NodeRecord>>>,
    /// Nodes whose documents cannot be understood.
    pub unreadable: Arc<[UnreadableNode]>,
    /// The streams, live and ended.
    pub streams: Arc<HashMap<StreamKey, Arc<StreamRecord>>>,
    /// Claims that the store does not have, as their origins tell them ([`crate::hints`]).
    pub hinted: Arc<HashMap<StreamKey, Arc<StreamRecord>>>,
    /// AMS's own nodes and their streams.
    pub ams: Arc<AmsView>,
    /// The store's time when this was read; `UnixMs(0)` before the first reading.
    pub read_at: UnixMs,
    /// When that was, by this machine's monotonic clock.
    pub read_instant: Option<Instant>,
    /// Whether the last reading worked.
    pub store_ok: bool,
}

/// Where a stream comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The origin.
    pub node: NodeId,
    /// The run of its process that holds the claim.
    pub incarnation: Incarnation,
    /// Its `node.http`.
    pub http: SocketAddr,
    /// The claim; with AMS's nodes, the run of the publish.
    pub epoch: Epoch,
    /// Whether it is AMS's own: it is told nothing of this cluster, and names its files by its own rules.
    pub is_ams: bool,
}

impl ClusterView {
    /// An empty one, shared.
    #[must_use]
    pub fn shared() -> SharedView {
        Arc::new(ArcSwap::from_pointee(Self::default()))
    }

    /// The store's time at `now`, carried on from the last reading.
    #[must_use]
    pub fn now(&self, now: Instant) -> UnixMs {
        let passed = self.read_instant.map_or(Duration::ZERO, |read| now.saturating_duration_since(read));
        self.read_at.plus(passed)
    }

    /// Whether anything has been read yet.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.read_at != UnixMs::default()
    }

    /// What is known of a stream: what the store has of it, or a hint of a higher epoch.
    #[must_use]
    pub fn stream(&self, key: &StreamKey) -> Option<&Arc<StreamRecord>> {
        self.hint(key).or_else(|| self.streams.get(key))
    }

    /// What is known of a stream by a hint only: the store has nothing of it, or of an earlier claim.
    #[must_use]
    pub fn hint(&self, key: &StreamKey) -> Option<&Arc<StreamRecord>> {
        let hint = self.hinted.get(key)?;
        let stored = self.streams.get(key);
        stored.is_none_or(|stored| stored.epoch < hint.epoch).then_some(hint)
    }

    /// All streams, each once, as [`ClusterView::stream`] knows it.
    pub fn all_streams(&self) -> impl Iterator<Item = &Arc<StreamRecord>> {
        let stored = self.streams.values().filter(|s| self.hint(&s.key).is_none());
        stored.chain(self.hinted.keys().filter_map(|key| self.hint(key)))
    }

    /// A stream's origin: the one that holds it, AMS's own if it is there, or the last, which serves the end of
    /// it for a while. `None` when the stream never was, or that run of the origin is no more.
    #[must_use]
    pub fn upstream(&self, key: &StreamKey) -> Option<Upstream> {
        let ours = self.own_upstream(key);
        let live = self.stream(key).is_some_and(|s| s.is_live()) && ours.is_some();
        if live { ours } else { self.ams_upstream(key).or(ours) }
    }

    fn ams_upstream(&self, key: &StreamKey) -> Option<Upstream> {
        let (stream, node) = self.ams.stream(key)?;
        let incarnation = stream.run.to_string().as_str().into();
        let (node, http) = (node.id.clone(), node.http());
        Some(Upstream { node, incarnation, http, epoch: stream.run, is_ams: true })
    }

    fn own_upstream(&self, key: &StreamKey) -> Option<Upstream> {
        let record = self.stream(key)?;
        let owner = &record.owner;
        let node = self.nodes.get(&owner.node).filter(|n| n.incarnation == owner.incarnation)?;
        Some(Upstream {
            node: owner.node.clone(),
            incarnation: owner.incarnation.clone(),
            http: node.addresses.http,
            epoch: record.epoch,
            is_ams: false,
        })
    }

    /// Whether `stream` has an origin that lives: the run of it that made the claim, not found dead. One that
    /// has not may still be served from there: a claim decides who may take a stream, not whether it plays.
    #[must_use]
    pub fn is_live(&self, stream: &StreamRecord) -> bool {
        let owner = self.nodes.get(&stream.owner.node);
        let lives =
            |n: &Arc<NodeRecord>| n.incarnation == stream.owner.incarnation && n.state != NodeState::Gone;
        stream.is_live() && owner.is_some_and(lives)
    }

    /// The view after a reading at `now` (store's time) of all nodes and of the streams that changed.
    #[must_use]
    pub fn fold(&self, reads: Vec<NodeRead>, changed: Vec<StreamRecord>, now: UnixMs) -> Self {
        let mut nodes = HashMap::with_capacity(reads.len());
        let mut unreadable = Vec::new();
        for read in reads {
            match read {
                Ok(node) => drop(nodes.insert(node.id.clone(), Arc::new(node))),
                Err(bad) => unreadable.push(bad),
            }
        }
        Self {
            nodes: Arc::new(nodes),
            unreadable: unreadable.into(),
            streams: fold_streams(&self.streams, changed, now),
            hinted: Arc::clone(&self.hinted),
            ams: Arc::clone(&self.ams),
            read_at: now,
            read_instant: self.read_instant,
            store_ok: true,
        }
    }

    fn without_store(&self) -> Self {
        Self { store_ok: false, ..self.clone() }
    }

    /// From when changes must be read again.
    fn read_changes_from(&self) -> UnixMs {
        let overlap = i64::try_from(limits::VIEW_OVERLAP.as_millis()).unwrap_or(0);
        UnixMs(self.read_at.0.saturating_sub(overlap).max(0))
    }
}

/// The streams with `changed` folded in. An older epoch never replaces a newer one; those that ended long
/// ago are forgotten here, not in the store.
fn fold_streams(
    known: &Arc<HashMap<StreamKey, Arc<StreamRecord>>>,
    changed: Vec<StreamRecord>,
    now: UnixMs,
) -> Arc<HashMap<StreamKey, Arc<StreamRecord>>> {
    let is_news = |new: &StreamRecord| {
        known.get(&new.key).is_none_or(|old| {
            (new.epoch, new.changed) > (old.epoch, old.changed) || (new.epoch == old.epoch && *new != **old)
        })
    };
    let news: Vec<StreamRecord> = changed.into_iter().filter(is_news).collect();
    if news.is_empty() {
        return Arc::clone(known);
    }
    let mut streams = HashMap::clone(known);
    streams.retain(|_, s| s.is_live() || s.notes.is_some() || s.changed.age(now) < limits::ENDED_KNOWN);
    streams.extend(news.into_iter().map(|record| (record.key.clone(), Arc::new(record))));
    Arc::new(streams)
}

/// Reads the store every [`limits::VIEW_EVERY`] and swaps views in, until cancelled.
pub async fn follow(
    store: Arc<dyn ClusterStore>,
    ams: SharedAmsView,
    hints: Arc<Hints>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(limits::VIEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let seen = hints.view().load_full();
        let next = match read(store.as_ref(), &seen).await {
            Ok(next) => {
                if !seen.store_ok && seen.is_ready() {
                    tracing::info!("the cluster's memory answers again");
                }
                next
            }
            Err(error) => {
                if seen.store_ok || !seen.is_ready() {
                    tracing::warn!(%error, "the cluster's memory does not answer; what is known goes on serving");
                }
                seen.without_store()
            }
        };
        hints.swap_in(ClusterView { ams: ams.load_full(), ..next }, clock::now());
    }
}

async fn read(store: &dyn ClusterStore, seen: &ClusterView) -> Result<ClusterView, StoreError> {
    let (now, nodes, changed) =
        tokio::try_join!(store.now(), store.nodes(), store.streams_changed(seen.read_changes_from()))?;
    Ok(ClusterView { read_instant: Some(clock::now()), ..seen.fold(nodes, changed, now) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, stream_held_by};

    const NOW: UnixMs = UnixMs(1_000_000);

    fn view_of(nodes: &[&str], streams: Vec<StreamRecord>) -> ClusterView {
        let nodes = nodes.iter().map(|id| Ok(node(id, NOW))).collect();
        ClusterView::default().fold(nodes, streams, NOW)
    }

    #[test]
    fn a_live_stream_has_an_upstream() {
        let view = view_of(&["o1"], vec![stream_held_by("live/a", "o1", "s", NOW)]);
        assert_eq!(view.upstream(&"live/a".parse().unwrap()).unwrap().node.as_str(), "o1");
        assert_eq!(view.upstream(&"live/b".parse().unwrap()), None);
    }

    #[test]
    fn a_restarted_origin_has_not_the_streams_of_its_last_run() {
        let mut view = view_of(&[], vec![stream_held_by("live/a", "o1", "s", NOW)]);
        let restarted = NodeRecord { incarnation: "o1-2".into(), ..node("o1", NOW) };
        view = view.fold(vec![Ok(restarted)], Vec::new(), NOW);
        assert_eq!(view.upstream(&"live/a".parse().unwrap()), None);
    }

    #[test]
    fn an_older_epoch_never_replaces_a_newer_one() {
        let newer = StreamRecord { epoch: Epoch(9), ..stream_held_by("live/a", "o2", "s", NOW) };
        let older = StreamRecord { epoch: Epoch(8), ..stream_held_by("live/a", "o1", "s", NOW) };
        let view = view_of(&["o1", "o2"], vec![newer]).fold(Vec::new(), vec![older], NOW);
        assert_eq!(view.streams[&"live/a".parse().unwrap()].epoch, Epoch(9));
    }

    #[test]
    fn reading_the_same_again_copies_nothing() {
        let record = stream_held_by("live/a", "o1", "s", NOW);
        let view = view_of(&["o1"], vec![record.clone()]);
        let again = view.fold(Vec::new(), vec![record], NOW);
        assert!(Arc::ptr_eq(&view.streams, &again.streams));
    }
}
