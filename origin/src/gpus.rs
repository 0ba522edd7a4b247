//! The machine's graphics cards: which there are, how they are used, and which of them a stream is worked on by.
//! A machine without them, or without a driver, simply has none.
//!
//! [`placement`] decides, over what is known; [`watcher`] finds that out on a thread for each card, so that a driver
//! that hangs holds up nothing but its own card; [`nvidia`] is a real card.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::Registry;
use sluicegate_cluster::clock;
use sluicegate_cluster::config::{DecoderChoice, EncoderChoice, Limits, OriginSettings};
use sluicegate_cluster::node::Gpu;
use tokio::sync::watch;

mod card;
mod metrics;
mod nvidia;
mod placement;
mod watcher;

pub(crate) use card::{Card, CardError, Device};
pub(crate) use metrics::Place;
use metrics::{Failure, GpuMetrics};
pub(crate) use placement::{Ability, Work};
use placement::{CardLimits, CardState, Health, Wanted, choose};

/// How long a start waits for cards to show what they can. Those that take longer are used when they are ready.
const READY_WAIT: Duration = Duration::from_secs(10);

/// The cards.
pub struct Gpus {
    encoder: EncoderChoice,
    decoder: DecoderChoice,
    limits: CardLimits,
    metrics: Option<GpuMetrics>,
    cards: Mutex<Cards>,
    /// Told when there is a trial to hold, when one was held, and when all is to end.
    changed: Condvar,
}

#[derive(Default)]
struct Cards {
    slots: Vec<Slot>,
    /// They are being looked for.
    searching: bool,
    ending: bool,
}

struct Slot {
    card: Arc<dyn Card>,
    state: CardState,
    /// Told when it answers no more: what is placed on it goes elsewhere.
    losses: watch::Sender<u64>,
}

/// A stream's place on a card, as long as it is kept.
pub(crate) struct Lease {
    /// What the card does for it.
    pub(crate) work: Work,
    /// What its codecs work on.
    pub(crate) device: Arc<dyn Device>,
    /// Which one.
    pub(crate) index: usize,
    gpus: Arc<Gpus>,
    mpx: f64,
    losses: watch::Receiver<u64>,
}

/// A card, for `sluicegate doctor`.
#[derive(Debug, Clone)]
pub struct CardReport {
    /// As it was read last; empty if it never was.
    pub gpu: Gpu,
    /// Whether it is used.
    pub good: bool,
    /// What it does, or what it waits for.
    pub state: String,
}

impl Default for Gpus {
    /// No cards.
    fn default() -> Self {
        Self {
            encoder: EncoderChoice::Auto,
            decoder: DecoderChoice::Auto,
            limits: CardLimits { busy_percent: 100.0, memory_percent: 100.0 },
            metrics: None,
            cards: Mutex::default(),
            changed: Condvar::new(),
        }
    }
}

impl Gpus {
    /// Looks for cards, has them show what they can, and waits for that for at most ten seconds. They are watched on
    /// threads of their own until [`Gpus::stop`].
    ///
    /// # Errors
    /// When its metrics are registered already.
    pub fn start(
        origin: &OriginSettings,
        limits: &Limits,
        registry: Option<&Registry>,
    ) -> prometheus::Result<Arc<Self>> {
        let limits =
            CardLimits { busy_percent: limits.gpu_percent, memory_percent: limits.gpu_memory_percent };
        let (encoder, decoder) = (origin.encoder, origin.decoder);
        let metrics = registry.map(GpuMetrics::register).transpose()?;
        let gpus = Arc::new(Self { encoder, decoder, limits, metrics, ..Self::default() });
        // Nothing is left for a card.
        if (encoder, decoder) != (EncoderChoice::X264, DecoderChoice::Software) {
            watcher::search(&gpus, origin.capacity_file.clone());
            gpus.wait_until_tried(READY_WAIT);
        }
        Ok(gpus)
    }

    /// Ends the threads. One that waits for a driver that hangs is left behind.
    pub fn stop(&self) {
        self.lock().ending = true;
        self.changed.notify_all();
    }

    /// How they were used when they were read last, once a second. Brings the gauges up to date as well.
    #[must_use]
    pub fn read(&self) -> Vec<Gpu> {
        let (mut cards, now) = (self.lock(), clock::now());
        for slot in cards.slots.iter_mut().filter(|slot| slot.state.is_silent(now)) {
            // Its thread waits for it, and so may what works on it.
            if slot.lose(now) {
                tracing::error!(
                    card = slot.state.name(),
                    "a graphics card is silent: its streams go elsewhere"
                );
                self.count(Failure::Reading);
            }
        }
        let states: Vec<&CardState> = cards.slots.iter().map(|slot| &slot.state).collect();
        if let Some(metrics) = &self.metrics {
            metrics.show(&states, now);
        }
        let shown = |state: &&CardState| {
            let (gpu, _) = state.reading.as_ref()?;
            Some(Gpu { state: state.state(now), ..gpu.clone() })
        };
        states.iter().filter_map(shown).collect()
    }

    /// What their encoders carry, Mpx/s: those that are trusted.
    #[must_use]
    pub fn capacity_mpx(&self) -> f64 {
        let cards = self.lock();
        let states = cards.slots.iter().map(|slot| &slot.state);
        let encoding =
            states.filter(|state| state.ability.encodes && matches!(state.health, Health::Good { .. }));
        if self.encoder == EncoderChoice::X264 { 0.0 } else { encoding.map(|s| s.ability.capacity_mpx).sum() }
    }

    /// For `sluicegate doctor`.
    #[must_use]
    pub fn report(&self) -> Vec<CardReport> {
        self.lock().slots.iter().map(|slot| report(&slot.state)).collect()
    }

    /// What encodes, by the configuration.
    pub(crate) fn encoder(&self) -> EncoderChoice {
        self.encoder
    }

    /// `by` more transcoders work at such a place.
    pub(crate) fn working(&self, place: Place, by: i64) {
        if let Some(metrics) = &self.metrics {
            metrics.working(place, by);
        }
    }

    /// A transcoder goes on there after a card failed under it.
    pub(crate) fn moved(&self, to: Place) {
        if let Some(metrics) = &self.metrics {
            metrics.moved(to);
        }
    }

    fn count(&self, failure: Failure) {
        if let Some(metrics) = &self.metrics {
            metrics.failed(failure);
        }
    }

    /// A place for a stream of which `mpx` Mpx/s are encoded, on the card with most room that is none of `avoid`.
    /// `None`: the processors have to do it.
    pub(crate) fn place(self: &Arc<Self>, mpx: f64, avoid: &[usize]) -> Option<Lease> {
        let wanted = Wanted { mpx, avoid, encoder: self.encoder, decoder: self.decoder };
        let mut cards = self.lock();
        let states: Vec<CardState> = cards.slots.iter().map(|slot| slot.state.clone()).collect();
        let (index, work) = choose(&states, &wanted, self.limits, clock::now())?;
        let slot = cards.slots.get_mut(index)?;
        let device = slot.card.device()?;
        slot.state.place(mpx);
        let losses = slot.losses.subscribe();
        Some(Lease { work, device, index, gpus: Arc::clone(self), mpx, losses })
    }

    /// Waits until each card has had its first trial.
    fn wait_until_tried(&self, at_most: Duration) {
        let untried = |cards: &mut Cards| {
            let is_untried = |slot: &Slot| slot.state.health == Health::Untried;
            cards.searching || cards.slots.iter().any(is_untried)
        };
        let waited = self.changed.wait_timeout_while(self.lock(), at_most, untried);
        if waited.is_ok_and(|(_, timeout)| timeout.timed_out()) {
            tracing::warn!(
                "graphics cards take long to show what they can; the processors begin without them"
            );
        }
    }

    /// Does something with what is known of a card; `None` if there is no such card.
    fn with_slot<T>(&self, index: usize, use_it: impl FnOnce(&mut Slot, Instant) -> T) -> Option<T> {
        let mut cards = self.lock();
        let done = cards.slots.get_mut(index).map(|slot| use_it(slot, clock::now()));
        drop(cards);
        self.changed.notify_all();
        done
    }

    fn lock(&self) -> MutexGuard<'_, Cards> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// It answers no more; whether that is news.
    fn lose(&mut self, now: Instant) -> bool {
        let was_good = matches!(self.state.health, Health::Good { .. });
        self.state.failed(now);
        if was_good {
            self.losses.send_modify(|losses| *losses += 1);
        }
        was_good
    }
}

impl Lease {
    /// Whether the card has stopped answering since.
    pub(crate) fn is_lost(&self) -> bool {
        self.losses.has_changed().unwrap_or(true)
    }

    /// Changes when the card stops answering.
    pub(crate) fn losses(&self) -> watch::Receiver<u64> {
        self.losses.clone()
    }

    /// The stream broke down on it. The card gets no others before it has shown that it is well.
    pub(crate) fn failed(&self) {
        self.gpus.count(Failure::Stream);
        self.gpus.with_slot(self.index, |slot, now| slot.state.failed(now));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.gpus.with_slot(self.index, |slot, _| slot.state.release(self.mpx));
    }
}

fn report(state: &CardState) -> CardReport {
    let gpu = state.reading.as_ref().map(|(gpu, _)| gpu.clone()).unwrap_or_default();
    let good = matches!(state.health, Health::Good { .. });
    let Ability { decodes, encodes, capacity_mpx } = state.ability;
    let able = match (decodes, encodes) {
        (true, true) => "decodes, scales and encodes",
        (true, false) => "decodes and scales, has no encoder that opens",
        (false, true) => "encodes",
        (false, false) => "does nothing that is of use",
    };
    let state = match state.health {
        Health::Good { .. } => format!("{able}, {capacity_mpx:.0} Mpx/s"),
        Health::Untried => "has not shown yet what it can".to_owned(),
        Health::Suspect | Health::Resting { .. } => "failed at a few pictures; it is tried again".to_owned(),
    };
    CardReport { gpu, good, state }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
