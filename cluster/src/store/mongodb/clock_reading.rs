//! The database's clock, read now and then and carried forward in between by this machine's monotonic one,
//! so that neither a step of this machine's wall clock nor a round trip comes between a node and the time.

use std::time::{Duration, Instant};

use crate::clock::UnixMs;

/// A reading is used for this long. Oscillators drift a millisecond at most in that time.
const READING_KEPT: Duration = Duration::from_secs(10);

/// What the database's clock showed at an instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    database: UnixMs,
    at: Instant,
}

impl Reading {
    /// `local_time` came back in the answer to a question asked at `sent`: it is taken to have been read
    /// half way.
    pub(super) fn new(local_time: UnixMs, sent: Instant, received: Instant) -> Self {
        let half = received.saturating_duration_since(sent) / 2;
        Self { database: local_time.plus(half), at: received }
    }

    /// The database's time at `now`; `None` when the reading is too old.
    pub(super) fn time(&self, now: Instant) -> Option<UnixMs> {
        let age = now.saturating_duration_since(self.at);
        (age < READING_KEPT).then(|| self.database.plus(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_round_trip_is_added_and_time_goes_on() {
        let sent = crate::clock::now();
        let received = sent + Duration::from_millis(40);
        let reading = Reading::new(UnixMs(5_000), sent, received);
        assert_eq!(reading.time(received), Some(UnixMs(5_020)));
        assert_eq!(reading.time(received + Duration::from_secs(3)), Some(UnixMs(8_020)));
        assert_eq!(reading.time(received + READING_KEPT), None);
    }
}
