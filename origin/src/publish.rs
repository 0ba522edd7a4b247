//! A publish, whichever protocol brings it: admitted, claimed, fed, and ended.

use std::sync::Arc;

use sluicegate_cluster::clock;
use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::stream::PublishType;
use sluicegate_cluster::ticket::PublishTicket;
use tokio_util::sync::CancellationToken;

use crate::error::IngestError;
use crate::live::LiveStream;
use crate::origin::Origin;
use crate::slot::Slot;

/// A publish that was admitted and claimed.
pub(crate) struct Publish {
    pub(crate) stream: Arc<LiveStream>,
    pub(crate) slot: Arc<Slot>,
}

impl Publish {
    /// Waits until somebody other than its publisher ends it; why. `stop`: the node is being stopped.
    pub(crate) async fn interrupted(&self, stop: &CancellationToken) -> IngestError {
        tokio::select! {
            () = self.slot.replaced.cancelled() => IngestError::Replaced,
            () = self.slot.ended.cancelled() => IngestError::Ended,
            () = stop.cancelled() => IngestError::Stopping,
        }
    }
}

impl Origin {
    /// Takes the stream: its slot here, its claim in the cluster, its room.
    pub(crate) async fn admit(
        &self,
        key: &StreamKey,
        ticket: &PublishTicket,
        publish_type: PublishType,
    ) -> Result<Publish, IngestError> {
        let app = self.app(&key.app).ok_or(IngestError::NoApp)?;
        if self.is_drained() && !self.streams.has(key) {
            // A balancer that has not read of the drain yet asks the next one.
            return Err(IngestError::Drained);
        }
        if let Some(full) = self.load.full(clock::now()).filter(|_| !self.streams.has(key)) {
            tracing::warn!(stream = %key, ?full, "a publish was refused");
            return Err(IngestError::Full);
        }
        let cost_mpx = self.room.cost_mpx(&app.ladder, self.known_size(key));
        let reservation = match &ticket.reservation {
            None if !self.streams.has(key) => self.reserve(key, cost_mpx).await?,
            reserved => reserved.clone(),
        };
        let slot = Arc::new(Slot::new(ticket.session.clone(), clock::now()));
        let replaced = self.streams.take_slot(key, &slot, clock::now())?;
        if let Some(earlier) = replaced {
            earlier.replaced.cancel();
        }
        let (record, in_store) = match self.claim(key, ticket, publish_type).await {
            Ok(claimed) => claimed,
            Err(error) => {
                self.streams.give_slot_back(key, &slot, clock::now());
                return Err(error);
            }
        };
        self.room.start(key, record.epoch, cost_mpx, reservation);
        let (counters, gpus) = (self.metrics.media.clone(), Arc::clone(&self.gpus));
        let stream = LiveStream::new(&record, in_store, app, counters, gpus);
        self.streams.go_live(Arc::clone(&stream), &slot);
        tracing::info!(stream = %key, epoch = record.epoch.0, claims = record.claims, "a stream began");
        Ok(Publish { stream, slot })
    }

    /// Media of `bytes` came from its publisher.
    pub(crate) fn received(&self, publish: &Publish, bytes: usize) {
        publish.slot.touch(clock::now());
        self.metrics.ingest_bytes.inc_by(bytes as u64);
        publish.stream.received(bytes);
    }

    /// Does what follows from how it `ended`.
    pub(crate) async fn conclude(&self, publish: &Publish, ended: &Result<(), IngestError>) {
        match ended {
            // The stream goes on elsewhere, under the same publisher session: nothing says that it ended.
            Err(IngestError::Stopping | IngestError::Replaced) => self.leave(&publish.stream),
            Err(IngestError::HandedOver) => self.hand_over(&publish.stream),
            Err(IngestError::Drained) => self.free(&publish.stream).await,
            // A connection that breaks off says nothing of the stream: its publisher may come back.
            Err(IngestError::Wire(_) | IngestError::Session(_)) => self.abandon(&publish.stream),
            _ => self.end(&publish.stream, matches!(ended, Err(IngestError::Media(_)))).await,
        }
    }
}
