//! How far a node has read the store, and what it reads next.
//!
//! **Nothing is missed.** The store stamps a change as it makes it, by its own clock, so neither a writer's clock
//! nor how long its command took can put a change before what was read already. What is left is covered by
//! reading again: [`limits::VIEW_OVERLAP`] for a reader's error about the store's time and for the moment between
//! a stamp and its being seen, and, now and then, [`limits::VIEW_SWEEP`] for a database that failed over to a
//! server whose clock is behind. An overlap costs what changed in it, however many streams are live.
//!
//! **Nodes** change when they come, go, or are drained. Their heartbeats are no changes; they are read, all at
//! once, by balancers, and by others while somebody looks.

use std::time::{Duration, Instant};

use super::{ClusterView, News, NodesRead};
use crate::clock::UnixMs;
use crate::ids::NodeId;
use crate::limits;
use crate::store::{ClusterStore, StoreError, StreamQuery, read_streams};
use crate::stream::StreamFigures;

/// Reads a store for one node.
#[derive(Debug)]
pub struct Reader {
    own: NodeId,
    /// Whether heartbeats and load are always of interest.
    balances: bool,
    /// The store's time when changes were last read; none before the first reading.
    changes_at: Option<UnixMs>,
    swept: Option<Instant>,
    all_nodes: Option<Instant>,
    figures_at: Option<UnixMs>,
}

impl Reader {
    /// A reader for the node `own` that has read nothing. `balances`: it goes by all nodes' heartbeats and load.
    #[must_use]
    pub fn new(own: NodeId, balances: bool) -> Self {
        Self { own, balances, changes_at: None, swept: None, all_nodes: None, figures_at: None }
    }

    /// The view after `seen`. `looked_at`: somebody looks at the figures of the whole cluster.
    ///
    /// # Errors
    /// What the store said: nothing counts as read then.
    pub async fn read(
        &mut self,
        store: &dyn ClusterStore,
        seen: &ClusterView,
        looked_at: bool,
        now: Instant,
    ) -> Result<ClusterView, StoreError> {
        let all_nodes = is_due(self.all_nodes, self.nodes_every(looked_at), now);
        // After an outage, changes may have waited anywhere.
        let sweeps = !seen.store_ok || is_due(self.swept, limits::VIEW_SWEEP_EVERY, now);
        let overlap = if sweeps { limits::VIEW_SWEEP } else { limits::VIEW_OVERLAP };
        let store_now = store.now().await?;
        let since = self.changes_at.map(|at| before(at, overlap));
        let (nodes, streams, figures) = tokio::try_join!(
            self.nodes(store, if all_nodes { None } else { since }),
            read_streams(store, query(since, store_now)),
            self.figures(store, looked_at),
        )?;
        let news = News::read(nodes, streams, figures, store_now);
        let next = ClusterView {
            read_instant: Some(now),
            figures_at: if looked_at { Some(now) } else { seen.figures_at },
            ..seen.after(news)
        };
        self.changes_at = Some(store_now);
        self.figures_at = looked_at.then_some(store_now);
        if sweeps {
            self.swept = Some(now);
        }
        if all_nodes {
            self.all_nodes = Some(now);
        }
        Ok(next)
    }

    fn nodes_every(&self, looked_at: bool) -> Duration {
        if self.balances || looked_at { limits::LOADS_EVERY } else { limits::NODES_EVERY }
    }

    async fn nodes(&self, store: &dyn ClusterStore, since: Option<UnixMs>) -> Result<NodesRead, StoreError> {
        Ok(match since {
            None => NodesRead::All(store.nodes().await?),
            Some(since) => NodesRead::Changed(store.nodes_changed(since, &self.own).await?),
        })
    }

    async fn figures(
        &self,
        store: &dyn ClusterStore,
        looked_at: bool,
    ) -> Result<Vec<StreamFigures>, StoreError> {
        if !looked_at {
            return Ok(Vec::new());
        }
        // The first look wants the last ones of all.
        let since = match self.figures_at {
            Some(at) => before(at, limits::VIEW_OVERLAP),
            None => before(store.now().await?, 2 * limits::PROGRESS_EVERY),
        };
        store.stream_figures(since).await
    }
}

fn query(since: Option<UnixMs>, now: UnixMs) -> StreamQuery {
    match since {
        Some(since) => StreamQuery::Changed { since },
        None => StreamQuery::Known { ended_since: before(now, limits::ENDED_KNOWN) },
    }
}

fn is_due(last: Option<Instant>, every: Duration, now: Instant) -> bool {
    // A tick that comes a little early is the one that was meant.
    let early = limits::VIEW_EVERY / 5;
    last.is_none_or(|last| now.saturating_duration_since(last) + early >= every)
}

fn before(at: UnixMs, time: Duration) -> UnixMs {
    UnixMs(at.0.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)).max(0))
}
