//! Keeps the mirrors of this node and of its streams: the node every 5 s, its streams every 10 s in bulk and
//! when one starts or ends, as AMS does. One round trip for each application whatever the number of streams.
//! A mirror that cannot be written is written later; nothing waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::cluster_node::{is_mirrored, mirror_id};
use super::{Broadcast, BroadcastMirror, ClusterNode, database_of};
use crate::clock::{self, UnixMs};
use crate::ids::{AppName, Epoch, NodeId, StreamKey};
use crate::limits;
use crate::store::{ClusterStore, StoreError};
use crate::view::{ClusterView, SharedView};

/// How often a node is written (AMS: `NODE_UPDATE_PERIOD`).
const NODE_EVERY: Duration = Duration::from_secs(5);
/// How often its live streams are (AMS: `STAT_UPDATE_PERIOD_MS`).
const STREAMS_EVERY: Duration = limits::PROGRESS_EVERY;

/// What has been mirrored, and when.
#[derive(Debug)]
pub struct Mirror {
    node: NodeId,
    node_at: Option<UnixMs>,
    streams_at: Option<UnixMs>,
    live: HashMap<StreamKey, Epoch>,
}

/// What is to be written now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Writes {
    /// The node itself.
    pub node: bool,
    /// Streams: all that are live, or those that started or ended.
    pub broadcasts: Vec<BroadcastMirror>,
    all: bool,
}

impl Mirror {
    /// Nothing of `node` written yet.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self { node, node_at: None, streams_at: None, live: HashMap::new() }
    }

    /// What is due at `now`, the database's time.
    #[must_use]
    pub fn due(&self, view: &ClusterView, now: UnixMs) -> Writes {
        let is_due = |at: Option<UnixMs>, every| at.is_none_or(|at| at.age(now) >= every);
        let all = is_due(self.streams_at, STREAMS_EVERY);
        let own = view.nodes.get(&self.node);
        let origin = own.map(|n| n.addresses.http.ip());
        let mut broadcasts = Vec::new();
        for record in view.streams.values().filter(|s| s.owner.node == self.node) {
            let ours = own.is_some_and(|n| n.incarnation == record.owner.incarnation);
            let known = self.live.get(&record.key);
            let started = ours && record.is_live() && (all || known != Some(&record.epoch));
            let ended = !record.is_live() && known == Some(&record.epoch);
            if started || ended {
                broadcasts.push(BroadcastMirror {
                    key: record.key.clone(),
                    node: self.node.clone(),
                    epoch: record.epoch,
                    broadcast: Broadcast::of(record, origin, now),
                });
            }
        }
        let node = own.is_some_and(|n| is_mirrored(n)) && is_due(self.node_at, NODE_EVERY);
        Writes { node, broadcasts, all }
    }

    /// Remembers that the streams of `writes` were written at `now`.
    pub fn wrote_streams(&mut self, writes: &Writes, now: UnixMs) {
        if writes.all {
            self.streams_at = Some(now);
            // Those that went to other nodes are mirrored there.
            self.live.clear();
        }
        for mirror in &writes.broadcasts {
            if mirror.broadcast.is_live(now) {
                self.live.insert(mirror.key.clone(), mirror.epoch);
            } else {
                self.live.remove(&mirror.key);
            }
        }
    }

    /// Remembers that the node was written at `now`.
    pub fn wrote_node(&mut self, now: UnixMs) {
        self.node_at = Some(now);
    }
}

/// Keeps the mirrors of a node until cancelled; then its own is removed. Ends at once with a
/// store that has none of AMS's documents.
pub async fn keep(
    store: Arc<dyn ClusterStore>,
    view: SharedView,
    mut mirror: Mirror,
    apps: Vec<AppName>,
    stop: CancellationToken,
) {
    if store.ams().is_none() {
        return;
    }
    let mut shell = Shell { store, apps, cleaned: false, failing: false, query: Duration::ZERO };
    let mut ticks = tokio::time::interval(limits::VIEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let seen = view.load_full();
        if seen.nodes.contains_key(&mirror.node) {
            let written = shell.write(&seen, &mut mirror).await;
            shell.tell(written);
        }
    }
    shell.end(&view.load(), &mirror).await;
}

/// The sockets' side of it.
struct Shell {
    store: Arc<dyn ClusterStore>,
    apps: Vec<AppName>,
    /// Whether what an earlier run left behind is tidied up.
    cleaned: bool,
    failing: bool,
    /// How long the last write took.
    query: Duration,
}

impl Shell {
    async fn write(&mut self, view: &ClusterView, mirror: &mut Mirror) -> Result<(), StoreError> {
        let Some(ams) = self.store.ams() else { return Ok(()) };
        let now = self.store.now().await?;
        if !self.cleaned {
            for app in self.apps.iter().filter(|app| database_of(app).is_some()) {
                ams.finish_broadcasts(app, &mirror.node).await?;
            }
            self.cleaned = true;
        }
        let writes = mirror.due(view, now);
        if let Some(record) = view.nodes.get(&mirror.node).filter(|_| writes.node) {
            let began = clock::now();
            ams.put_cluster_node(&ClusterNode::of(record, self.query), &mirror.node).await?;
            self.query = clock::now().saturating_duration_since(began);
            mirror.wrote_node(now);
        }
        if !writes.broadcasts.is_empty() {
            ams.put_broadcasts(&writes.broadcasts, now).await?;
        }
        mirror.wrote_streams(&writes, now);
        Ok(())
    }

    /// Says once that mirrors cannot be written, and once that they can again.
    fn tell(&mut self, written: Result<(), StoreError>) {
        match &written {
            Ok(()) if self.failing => tracing::info!("AMS's documents are written again"),
            Err(error) if !self.failing => tracing::warn!(%error, "AMS's documents cannot be written"),
            Ok(()) | Err(_) => {}
        }
        self.failing = written.is_err();
    }

    async fn end(&self, view: &ClusterView, mirror: &Mirror) {
        let Some((ams, record)) = self.store.ams().zip(view.nodes.get(&mirror.node)) else { return };
        if let Err(error) = ams.remove_cluster_node(&mirror_id(record)).await {
            tracing::debug!(%error, "AMS's document of this node stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Owner, StreamRecord};
    use crate::testing::{node, stream_held_by};

    const NOW: UnixMs = UnixMs(1_000_000);

    fn view(streams: Vec<StreamRecord>) -> ClusterView {
        ClusterView::default().fold(vec![Ok(node("o1", NOW)), Ok(node("o2", NOW))], streams, NOW)
    }

    fn shown(writes: &Writes) -> Vec<(String, &str)> {
        let mut shown: Vec<_> = writes
            .broadcasts
            .iter()
            .map(|m| (m.key.to_string(), m.broadcast.status.as_deref().unwrap_or_default()))
            .collect();
        shown.sort();
        shown
    }

    fn at(mirror: &mut Mirror, view: &ClusterView, second: u64) -> Writes {
        let now = NOW.plus(Duration::from_secs(second));
        let writes = mirror.due(view, now);
        mirror.wrote_streams(&writes, now);
        if writes.node {
            mirror.wrote_node(now);
        }
        writes
    }

    #[test]
    fn a_node_is_written_every_five_seconds_whatever_it_carries() {
        let mut mirror = Mirror::new("o1".parse().unwrap());
        let view = view((0..100).map(|n| stream_held_by(&format!("live/s{n}"), "o1", "s", NOW)).collect());
        let written = (0..60).filter(|second| at(&mut mirror, &view, *second).node).count();
        assert_eq!(written, 12);
    }

    #[test]
    fn streams_are_written_at_their_start_at_their_end_and_every_ten_seconds() {
        let mut mirror = Mirror::new("o1".parse().unwrap());
        let a = stream_held_by("live/a", "o1", "s", NOW);
        let others = stream_held_by("live/x", "o2", "s", NOW);
        assert_eq!(shown(&at(&mut mirror, &view(vec![others.clone()]), 0)), []);
        let started = view(vec![a.clone(), others]);
        let live = ("live/a".to_owned(), "broadcasting");
        assert_eq!(shown(&at(&mut mirror, &started, 1)), std::slice::from_ref(&live));
        let quiet: Vec<_> = (2..10).flat_map(|second| at(&mut mirror, &started, second).broadcasts).collect();
        assert_eq!(quiet, []);
        assert_eq!(shown(&at(&mut mirror, &started, 10)), [live]);
        let ended = view(vec![StreamRecord { ended_at: Some(NOW), ..a }]);
        assert_eq!(shown(&at(&mut mirror, &ended, 11)), [("live/a".to_owned(), "finished")]);
        assert_eq!(shown(&at(&mut mirror, &ended, 21)), []);
    }

    #[test]
    fn streams_of_an_earlier_run_are_not_this_ones() {
        let mirror = Mirror::new("o1".parse().unwrap());
        let owner = Owner { node: "o1".parse().unwrap(), incarnation: "o1-0".into() };
        let view = view(vec![StreamRecord { owner, ..stream_held_by("live/a", "o1", "s", NOW) }]);
        assert_eq!(mirror.due(&view, NOW).broadcasts, []);
    }
}
