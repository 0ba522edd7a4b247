//! The room that an origin has: what it can encode, what is taken of it, and what is given up when it is too little.

use std::sync::Arc;
use std::time::Duration;

use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_cluster::config::EncoderChoice;
use sluicegate_cluster::ids::{ReservationId, StreamKey};
use sluicegate_cluster::limits;
use sluicegate_cluster::membership::Room;
use sluicegate_cluster::node::Reservation;
use sluicegate_cluster::store::{RoomRequest, StoreError};
use sluicegate_cluster::stream::PictureSize;

use super::Origin;
use crate::capacity;
use crate::error::IngestError;
use crate::live::LiveStream;
use crate::overload::Order;

/// For the store to take room.
const RESERVE_WAIT: Duration = Duration::from_secs(1);

impl Origin {
    /// The room, for the heartbeat. Brings the gauges up to date as well.
    #[must_use]
    pub fn room(&self) -> Room {
        let capacity_mpx = self.capacity_mpx();
        self.room.set_capacity(capacity_mpx);
        self.metrics.set_capacity(capacity_mpx);
        let mut room = self.room.room();
        let (full, running_mpx) = (self.full(), room.running_mpx);
        if full.is_some() {
            // Nothing is free while nothing is taken.
            room.running_mpx = room.running_mpx.max(room.capacity_mpx);
        }
        let free_mpx = room.capacity_mpx - room.running_mpx;
        self.metrics.set_room(free_mpx, running_mpx, self.life.reserved_mpx());
        self.metrics.set_full(full);
        self.metrics.streams.set(i64::try_from(self.publishes()).unwrap_or(i64::MAX));
        room
    }

    /// Takes room here for a publish that comes without: one that was here a moment ago, or that was placed while
    /// the store was away. `None` when the store does not answer: what runs here decides then.
    pub(crate) async fn reserve(
        &self,
        key: &StreamKey,
        mpx: f64,
    ) -> Result<Option<ReservationId>, IngestError> {
        if !self.room.fits(mpx) {
            return Err(IngestError::Full);
        }
        if !self.view.load().store_ok {
            return Ok(None);
        }
        let taking = async {
            let now = self.store.now().await?;
            let reservation = Reservation {
                id: ReservationId::random(),
                stream: key.clone(),
                mpx,
                expires_at: now.plus(limits::RESERVATION),
            };
            let id = reservation.id.clone();
            let candidates = vec![self.node.clone()];
            let request = RoomRequest { candidates, reservation, heartbeat_after: UnixMs(0) };
            Ok::<_, StoreError>(self.store.take_room(&request).await?.map(|_| id))
        };
        match tokio::time::timeout(RESERVE_WAIT, taking).await {
            Ok(Ok(None)) => Err(IngestError::Full),
            Ok(Ok(taken)) => Ok(taken),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }

    /// The picture that a stream had when it was last recorded.
    pub(crate) fn known_size(&self, key: &StreamKey) -> Option<PictureSize> {
        self.view.load().stream(key).and_then(|stream| stream.size)
    }

    /// Books what streams cost by the pictures they have, in place of what was expected.
    pub(super) fn correct_room(&self, live: &[Arc<LiveStream>]) {
        for stream in live {
            if let (Some(size), Some(app)) = (stream.picture_size(), self.app(&stream.key.app)) {
                let cost_mpx = self.room.cost_mpx(&app.ladder, Some(size));
                self.room.correct(&stream.key, stream.epoch, cost_mpx);
            }
        }
    }

    /// Measures what the processors can encode, unless the configuration says what this origin can. Takes a few tenths
    /// of a second.
    pub fn measure_capacity(&self) {
        if let Some(mpx) =
            self.settings.capacity_mpx.is_none().then(|| capacity::known(&self.settings)).flatten()
        {
            tracing::info!(mpx, "what the processors can encode is known");
            let _ = self.cpu_mpx.set(mpx);
            let _ = self.room();
        }
    }

    /// What can be encoded here, Mpx/s: by the processors, and by the graphics cards that are trusted now.
    fn capacity_mpx(&self) -> f64 {
        if let Some(configured) = self.settings.capacity_mpx {
            return configured;
        }
        let cpu_mpx = match self.settings.encoder {
            EncoderChoice::Nvenc => 0.0,
            EncoderChoice::Auto | EncoderChoice::X264 => {
                self.cpu_mpx.get().copied().unwrap_or_else(|| self.settings.capacity())
            }
        };
        cpu_mpx + self.gpus.capacity_mpx()
    }

    /// Has rungs given up while encoders are late, and made again when they are not.
    pub(super) fn watch_encoders(&self, live: &[Arc<LiveStream>]) {
        let ladders: Vec<_> = live.iter().filter_map(|stream| stream.ladder()).collect();
        let reports: Vec<_> = live.iter().filter_map(|s| s.report_ladder(clock::now())).collect();
        self.metrics.note_ladders(&reports);
        let worst_ms = ladders.iter().map(|ladder| ladder.lag_ms).max().unwrap_or(0);
        let of = |key: &StreamKey| live.iter().find(|stream| stream.key == *key);
        match self.load.look(&ladders, clock::now()) {
            Some(Order::GiveUp(key)) => {
                tracing::warn!(stream = %key, worst_ms, "encoders are late: a rung is given up");
                self.metrics.rungs_given_up.inc();
                of(&key).inspect(|stream| stream.give_up_a_rung());
            }
            Some(Order::TakeBack(key)) => {
                tracing::info!(stream = %key, "encoders keep up: a rung comes back");
                self.metrics.rungs_taken_back.inc();
                of(&key).inspect(|stream| stream.take_a_rung_back());
            }
            None => {}
        }
    }
}
