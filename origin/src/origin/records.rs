//! What an origin does once a second: streams that are over end, claims are settled, progress is recorded.

use std::sync::Arc;

use sluicegate_cluster::stream::StreamFigures;
use sluicegate_cluster::{clock, limits};
use tokio_util::sync::CancellationToken;

use super::Origin;
use crate::live::LiveStream;

impl Origin {
    /// Records all streams' progress every [`limits::PROGRESS_EVERY`], in one write, and forgets ended ones.
    pub async fn keep_records(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(limits::HEARTBEAT_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = clock::now();
        loop {
            let is_regular = tokio::select! {
                () = stop.cancelled() => return,
                () = self.news.notified() => false,
                () = self.life.reborn() => false,
                _ = ticks.tick() => true,
            };
            let now = clock::now();
            self.streams.sweep(now);
            for stream in self.streams.given_up(now) {
                if self.is_superseded(&stream) { self.leave(&stream) } else { self.end(&stream, false).await }
            }
            let all = now.duration_since(last) >= limits::PROGRESS_EVERY;
            if all {
                last = now;
            }
            let live = self.streams.live();
            self.correct_room(&live);
            if is_regular {
                self.watch_encoders(&live);
            }
            self.settle_claims(&live).await;
            if self.view.load().store_ok {
                for end in self.ends.take() {
                    self.release(end).await;
                }
            }
            // A stream that has just begun is recorded at once, so that its picture is known.
            let due = live.iter().filter(|s| s.has_news() || all);
            let due: Vec<&LiveStream> = due.map(AsRef::as_ref).collect();
            self.record(&due, all).await;
        }
    }

    /// Records the progress of `streams`, which may be `all` of this origin's.
    async fn record(&self, streams: &[&LiveStream], all: bool) {
        let progress: Vec<_> =
            streams.iter().map(|s| s.progress(clock::cluster_ms(), clock::now())).collect();
        if progress.is_empty() {
            return;
        }
        let recorded = match self.store.now().await {
            Ok(now) => {
                if all {
                    let figures = progress.iter().map(|step| StreamFigures::of(step, now)).collect();
                    self.figures.store(Arc::new(figures));
                }
                self.store.record_progress(&progress, now).await
            }
            Err(error) => Err(error),
        };
        match recorded {
            Ok(()) => streams.iter().zip(&progress).for_each(|(stream, step)| stream.was_recorded(step)),
            Err(error) => {
                tracing::warn!(%error, streams = progress.len(), "progress could not be recorded");
            }
        }
    }
}
