//! The origin's room: what it can encode, what its streams cost, and which reservations they have used.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sluicegate_cluster::ids::{Epoch, ReservationId, StreamKey};
use sluicegate_cluster::membership::Room;

/// Settled reservations told in heartbeats; the store forgets them at the first.
const SETTLED_MAX: usize = 10_000;

/// Books what runs.
pub(crate) struct RoomBook {
    capacity_mpx: f64,
    floor_mpx: f64,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
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
    pub(crate) fn new(capacity_mpx: f64, floor_mpx: f64) -> Self {
        Self { capacity_mpx, floor_mpx, open: Mutex::default() }
    }

    /// Whether a stream without a reservation fits.
    pub(crate) fn fits_another(&self) -> bool {
        self.lock().running_mpx() + self.floor_mpx <= self.capacity_mpx
    }

    /// Books a stream that is passed through, in place of an earlier claim of it.
    pub(crate) fn start(&self, key: &StreamKey, epoch: Epoch, reservation: Option<ReservationId>) {
        let mut open = self.lock();
        open.running.insert(key.clone(), (epoch, self.floor_mpx));
        if open.settled.len() >= SETTLED_MAX {
            open.settled.drain(..SETTLED_MAX / 2);
        }
        open.settled.extend(reservation);
    }

    /// Takes a stream off the book, unless a later claim of it runs.
    pub(crate) fn end(&self, key: &StreamKey, epoch: Epoch) {
        let mut open = self.lock();
        if open.running.get(key).is_some_and(|(running, _)| *running == epoch) {
            open.running.remove(key);
        }
    }

    /// What the heartbeat tells.
    pub(crate) fn room(&self) -> Room {
        let open = self.lock();
        Room {
            capacity_mpx: self.capacity_mpx,
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
        book.start(&key, Epoch(1), Some("r1".into()));
        book.start(&key, Epoch(2), None);
        book.end(&key, Epoch(1));
        let room = book.room();
        assert!((room.running_mpx - 2.0).abs() < 1e-9);
        assert_eq!(room.settled, ["r1".into()]);
        assert!(book.fits_another());
        book.start(&"live/b".parse().unwrap(), Epoch(3), None);
        assert!(!book.fits_another());
        book.end(&key, Epoch(2));
        assert!(book.fits_another());
    }
}
