//! The origin's room: what it can encode, what its streams cost, and which reservations they have used.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sluicegate_cluster::config::{RungSettings, stream_cost_mpx};
use sluicegate_cluster::ids::{Epoch, ReservationId, StreamKey};
use sluicegate_cluster::membership::Room;
use sluicegate_cluster::stream::PictureSize;

/// Settled reservations told in heartbeats; the store forgets them at the first.
const SETTLED_MAX: usize = 10_000;

/// Books what runs.
pub struct RoomBook {
    floor_mpx: f64,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    capacity_mpx: f64,
    /// Cost of the claim that runs, for each stream.
    running: HashMap<StreamKey, (Epoch, f64)>,
    settled: Vec<ReservationId>,
}

impl Open {
    fn running_mpx(&self) -> f64 {
        self.running.values().map(|(_, mpx)| mpx).sum()
    }
}

impl RoomBook {
    /// A book without streams; `floor_mpx` is what each costs at least.
    #[must_use]
    pub fn new(capacity_mpx: f64, floor_mpx: f64) -> Self {
        Self { floor_mpx, open: Mutex::new(Open { capacity_mpx, ..Open::default() }) }
    }

    /// What a stream costs through `ladder`, Mpx/s; `size` is its picture, if it is known.
    pub(crate) fn cost_mpx(&self, ladder: &[RungSettings], size: Option<PictureSize>) -> f64 {
        stream_cost_mpx(ladder, size, self.floor_mpx)
    }

    /// Whether a stream of this cost fits that has no reservation.
    #[must_use]
    pub fn fits(&self, mpx: f64) -> bool {
        let open = self.lock();
        open.running_mpx() + mpx <= open.capacity_mpx
    }

    /// What can be encoded, now that it is measured.
    pub(crate) fn set_capacity(&self, mpx: f64) {
        self.lock().capacity_mpx = mpx;
    }

    /// The stream's picture is known: this is what it costs.
    pub(crate) fn correct(&self, key: &StreamKey, epoch: Epoch, mpx: f64) {
        if let Some((_, cost)) = self.lock().running.get_mut(key).filter(|(running, _)| *running == epoch) {
            *cost = mpx;
        }
    }

    /// Books a stream of this cost, in place of an earlier claim of it.
    pub fn start(&self, key: &StreamKey, epoch: Epoch, mpx: f64, reservation: Option<ReservationId>) {
        let mut open = self.lock();
        open.running.insert(key.clone(), (epoch, mpx));
        if open.settled.len() >= SETTLED_MAX {
            open.settled.drain(..SETTLED_MAX / 2);
        }
        open.settled.extend(reservation);
    }

    /// Takes a stream off the book, unless a later claim of it runs.
    pub fn end(&self, key: &StreamKey, epoch: Epoch) {
        let mut open = self.lock();
        if open.running.get(key).is_some_and(|(running, _)| *running == epoch) {
            open.running.remove(key);
        }
    }

    /// What the heartbeat tells.
    #[must_use]
    pub fn room(&self) -> Room {
        let open = self.lock();
        Room {
            capacity_mpx: open.capacity_mpx,
            running_mpx: open.running_mpx(),
            settled: open.settled.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_claim_is_counted_once() {
        let book = RoomBook::new(5.0, 2.0);
        let key: StreamKey = "live/a".parse().unwrap();
        let floor = book.cost_mpx(&[], None);
        book.start(&key, Epoch(1), floor, Some("r1".into()));
        book.start(&key, Epoch(2), floor, None);
        book.end(&key, Epoch(1));
        let room = book.room();
        assert!((room.running_mpx - 2.0).abs() < 1e-9);
        assert_eq!(room.settled, ["r1".into()]);
        assert!(book.fits(floor));
        book.start(&"live/b".parse().unwrap(), Epoch(3), floor, None);
        assert!(!book.fits(floor));
        book.set_capacity(6.0);
        assert!(book.fits(floor));
        book.correct(&key, Epoch(1), 100.0);
        assert!(book.fits(floor), "an earlier claim's word is nothing any more");
        book.correct(&key, Epoch(2), 100.0);
        assert!(!book.fits(floor));
        book.end(&key, Epoch(2));
        assert!(book.fits(floor));
    }
}
