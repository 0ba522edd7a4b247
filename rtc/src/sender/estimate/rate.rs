//! How much arrives: over a while, and of packets that left together.

use std::collections::VecDeque;
use std::time::Instant;

use super::TRAIN_PACKETS;

/// Over how long arrivals are counted; a shorter time counts as the second.
const WINDOW_US: i64 = 500_000;
const WINDOW_MIN_US: i64 = 100_000;
/// What arrives at once, within a step of the receiver's clock, has taken that long.
const STEP_US: i64 = 250;
/// No more is kept than a fast way brings in the window.
const ARRIVALS_MAX: usize = 4_096;

/// What arrives, by the receiver's clock.
#[derive(Debug, Default)]
pub(super) struct Rate {
    arrivals: VecDeque<(i64, u32)>,
    bytes: u64,
}

impl Rate {
    pub(super) fn arrived(&mut self, at_us: i64, bytes: u32) {
        self.arrivals.push_back((at_us, bytes));
        self.bytes += u64::from(bytes);
        while let Some((oldest, bytes)) = self.arrivals.front().copied()
            && (at_us.saturating_sub(oldest) > WINDOW_US || self.arrivals.len() > ARRIVALS_MAX)
        {
            self.arrivals.pop_front();
            self.bytes -= u64::from(bytes);
        }
    }

    /// Bits a second.
    pub(super) fn bps(&self) -> f64 {
        let (Some((first, _)), Some((last, _))) = (self.arrivals.front(), self.arrivals.back()) else {
            return 0.0;
        };
        let span = last.saturating_sub(*first).clamp(WINDOW_MIN_US, WINDOW_US);
        self.bytes as f64 * 8e6 / span as f64
    }
}

/// Packets that left together, as they arrive.
#[derive(Debug, Default)]
pub(super) struct Train {
    left: Option<Instant>,
    packets: usize,
    /// When the first and the last arrived, and what came after the first.
    arrived: Option<(i64, i64)>,
    bytes: u64,
    is_broken: bool,
}

impl Train {
    /// Whether a packet that left then is the first of its train.
    pub(super) fn departs(&self, left: Instant) -> bool {
        self.left != Some(left)
    }

    /// A packet of a train arrives, or is lost. When that is another one's: how much the one before says that
    /// passes, bits a second.
    pub(super) fn arrives(&mut self, left: Instant, bytes: u32, at_us: Option<i64>) -> Option<f64> {
        let found = self.departs(left).then(|| {
            let before = std::mem::replace(self, Self { left: Some(left), ..Self::default() });
            before.found()
        });
        self.packets += 1;
        match (at_us, self.arrived) {
            (None, _) => self.is_broken = true,
            (Some(at), None) => self.arrived = Some((at, at)),
            (Some(at), Some((first, last))) => {
                self.arrived = Some((first, last.max(at)));
                self.bytes += u64::from(bytes);
            }
        }
        found.flatten()
    }

    fn found(&self) -> Option<f64> {
        let (first, last) = self.arrived.filter(|_| !self.is_broken && self.packets >= TRAIN_PACKETS)?;
        Some(self.bytes as f64 * 8e6 / last.saturating_sub(first).max(STEP_US) as f64)
    }
}
