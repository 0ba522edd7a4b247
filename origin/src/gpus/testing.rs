//! A card that works when and as a test says.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
use sluicegate_cluster::clock;
use sluicegate_cluster::config::EncoderChoice;
use sluicegate_cluster::node::Gpu;

use super::{Ability, Card, CardError, Device, GpuMetrics, Gpus, watcher};

/// A card whose pictures are really worked on by the processors.
#[derive(Default)]
pub(crate) struct FakeCard {
    /// It can be read no more.
    pub(crate) is_lost: AtomicBool,
    /// It fails its trials.
    pub(crate) fails_trials: AtomicBool,
    /// Nothing can be opened on it.
    pub(crate) refuses: AtomicBool,
    /// Codecs that were opened on it.
    pub(crate) attached: AtomicUsize,
    /// Trials that it had.
    pub(crate) trials: AtomicUsize,
    /// Whoever has this keeps it from all that it does: its driver hangs.
    pub(crate) driver: Mutex<()>,
}

struct FakeDevice(Arc<FakeCard>);

/// The card as others see it.
struct Seen(Arc<FakeCard>);

impl Card for Seen {
    fn read(&self) -> Result<Gpu, CardError> {
        let _driver = self.0.driver.lock().unwrap();
        if self.0.is_lost.load(Ordering::SeqCst) {
            return Err(CardError::Cuda("it fell off the bus".to_owned()));
        }
        let name = "a card".to_owned();
        Ok(Gpu { name, memory_used: 1 << 30, memory_total: 8 << 30, ..Gpu::default() })
    }

    fn try_out(&self) -> Result<Ability, CardError> {
        self.0.trials.fetch_add(1, Ordering::SeqCst);
        if self.0.fails_trials.load(Ordering::SeqCst) || self.0.is_lost.load(Ordering::SeqCst) {
            return Err(CardError::Cuda("no".to_owned()));
        }
        Ok(Ability { decodes: true, encodes: false, capacity_mpx: 500.0 })
    }

    fn device(&self) -> Option<Arc<dyn Device>> {
        Some(Arc::new(FakeDevice(Arc::clone(&self.0))))
    }
}

impl Device for FakeDevice {
    #[cfg(feature = "ffmpeg")]
    fn attach(&self, _: &mut ffmpeg_next::codec::Context) -> Result<(), ffmpeg_next::Error> {
        let _driver = self.0.driver.lock().unwrap();
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(ffmpeg_next::Error::External);
        }
        self.0.attached.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl Gpus {
    /// None yet, counted in `registry`.
    pub(crate) fn counted(registry: &Registry) -> Self {
        Self { metrics: Some(GpuMetrics::register(registry).unwrap()), ..Self::default() }
    }

    /// None yet, with what may encode.
    pub(crate) fn choosing(encoder: EncoderChoice) -> Self {
        Self { encoder, ..Self::default() }
    }
}

/// These cards, tried and watched.
pub(crate) fn gpus_of(cards: &[Arc<FakeCard>]) -> Arc<Gpus> {
    watched(Gpus::default(), cards)
}

/// These cards of `gpus`, tried and watched.
pub(crate) fn watched(gpus: Gpus, cards: &[Arc<FakeCard>]) -> Arc<Gpus> {
    let gpus = Arc::new(gpus);
    cards.iter().for_each(|card| watcher::add(&gpus, Arc::new(Seen(Arc::clone(card)))));
    gpus.wait_until_tried(Duration::from_secs(10));
    gpus
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = clock::now() + Duration::from_secs(20);
    while !holds() {
        assert!(clock::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}
