//! What the cards do, as metrics. Cards are labelled by their number, of which there are a few dozen at most.

use std::time::Instant;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use sluicegate_cluster::node::GpuState;

use super::CardState;

/// Where a transcoder's pictures are worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// All of it on a card.
    Card,
    /// Partly on a card, partly by the processors.
    Both,
    /// By the processors.
    Cpu,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A stream broke down on a card.
    Stream,
    /// A card could not be read.
    Reading,
    /// A card failed its trial.
    Trial,
}

/// The cards' metrics.
pub(super) struct GpuMetrics {
    failures: IntCounterVec,
    moved: IntCounterVec,
    transcoders: IntGaugeVec,
    cards: IntGaugeVec,
    percent: GaugeVec,
    memory: GaugeVec,
    sessions: GaugeVec,
    mpx: GaugeVec,
    streams: GaugeVec,
}

impl GpuMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            prometheus::Result::Ok(gauges)
        };
        let whole_gauges = |name: &str, help: &str, label: &str| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(gauges.clone()))?;
            prometheus::Result::Ok(gauges)
        };
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        Ok(Self {
            failures: counters("sluicegate_gpu_failures_total", "Failures of graphics cards", "what")?,
            moved: counters(
                "sluicegate_gpu_moved_total",
                "Transcoders that went on elsewhere after a card failed",
                "to",
            )?,
            transcoders: whole_gauges(
                "sluicegate_gpu_transcoders",
                "Transcoders by where they work on pictures",
                "place",
            )?,
            cards: whole_gauges("sluicegate_gpu_cards", "Graphics cards by their state", "state")?,
            percent: gauges("sluicegate_gpu_percent", "How busy a card's parts are", &["card", "part"])?,
            memory: gauges("sluicegate_gpu_memory_bytes", "A card's memory", &["card", "memory"])?,
            sessions: gauges("sluicegate_gpu_encoder_sessions", "Sessions of a card's encoders", &["card"])?,
            mpx: gauges(
                "sluicegate_gpu_mpx",
                "What a card carries, and what is on it, Mpx/s",
                &["card", "mpx"],
            )?,
            streams: gauges("sluicegate_gpu_streams", "Streams placed on a card", &["card"])?,
        })
    }

    pub(super) fn failed(&self, what: Failure) {
        let what = match what {
            Failure::Stream => "stream",
            Failure::Reading => "reading",
            Failure::Trial => "trial",
        };
        self.failures.with_label_values(&[what]).inc();
    }

    pub(super) fn moved(&self, to: Place) {
        let to = if to == Place::Cpu { "cpu" } else { "card" };
        self.moved.with_label_values(&[to]).inc();
    }

    /// `by` more transcoders work there.
    pub(super) fn working(&self, place: Place, by: i64) {
        let place = match place {
            Place::Card => "card",
            Place::Both => "both",
            Place::Cpu => "cpu",
        };
        self.transcoders.with_label_values(&[place]).add(by);
    }

    /// Shows what is known of the cards.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
    pub(super) fn show(&self, cards: &[&CardState], now: Instant) {
        for state in GpuState::ALL {
            let count = cards.iter().filter(|card| card.state(now) == state).count();
            self.cards.with_label_values(&[state.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (index, card) in cards.iter().enumerate() {
            let index = index.to_string();
            self.mpx.with_label_values(&[index.as_str(), "capacity"]).set(card.ability.capacity_mpx);
            self.mpx.with_label_values(&[index.as_str(), "placed"]).set(card.placed_mpx);
            self.streams.with_label_values(&[index.as_str()]).set(card.streams as f64);
            let Some((gpu, _)) = &card.reading else { continue };
            for (part, percent) in [("cores", gpu.gpu), ("encoder", gpu.encoder), ("decoder", gpu.decoder)] {
                self.percent.with_label_values(&[index.as_str(), part]).set(f64::from(percent));
            }
            for (memory, bytes) in [("used", gpu.memory_used), ("total", gpu.memory_total)] {
                self.memory.with_label_values(&[index.as_str(), memory]).set(bytes as f64);
            }
            self.sessions.with_label_values(&[index.as_str()]).set(f64::from(gpu.encoder_sessions));
        }
    }
}
