//! Keeps a node's view: reads, and swaps in what was read.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::{Attention, ClusterView, Reader};
use crate::ams::peers::SharedAmsView;
use crate::clock;
use crate::hints::Hints;
use crate::limits;
use crate::store::ClusterStore;
use crate::stream::StreamFigures;

/// The figures of this node's own streams, as it last recorded them: it need not read them back.
pub type OwnFigures = Arc<ArcSwap<Vec<StreamFigures>>>;

/// What a view is made of.
pub struct Following {
    /// The cluster's memory.
    pub store: Arc<dyn ClusterStore>,
    /// How it is read.
    pub reader: Reader,
    /// What is known of AMS's own nodes.
    pub ams: SharedAmsView,
    /// The figures of this node's own streams.
    pub own: OwnFigures,
    /// Whether somebody looks.
    pub attention: Arc<Attention>,
    /// Where it goes, beside what origins tell while the store is away.
    pub hints: Arc<Hints>,
}

/// Reads the store every [`limits::VIEW_EVERY`] and swaps views in, until cancelled.
pub async fn follow(mut following: Following, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(limits::VIEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = following.attention.asked() => {}
            _ = ticks.tick() => {}
        }
        let next = following.next().await;
        following.hints.swap_in(next, clock::now());
        following.attention.has_read();
    }
}

impl Following {
    async fn next(&mut self) -> ClusterView {
        let (seen, now) = (self.hints.view().load_full(), clock::now());
        let looked_at = self.attention.is_there(now);
        let next = match self.reader.read(self.store.as_ref(), &seen, looked_at, now).await {
            Ok(next) => {
                if !seen.store_ok && seen.is_ready() {
                    tracing::info!("the cluster's memory answers again");
                }
                // Its reading of the store's clock, which it has just used.
                if let Ok(time) = self.store.now().await {
                    clock::follow_cluster(time, clock::now());
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
        let next = next.with_figures(&self.own.load());
        ClusterView { ams: self.ams.load_full(), ..next }
    }
}
