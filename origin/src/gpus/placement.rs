//! Which card a stream goes to, and when a card that erred is trusted again: decisions over what is known of the
//! cards, without a clock and without a card.

use std::time::{Duration, Instant};

use sluicegate_cluster::config::{DecoderChoice, EncoderChoice};
use sluicegate_cluster::node::{Gpu, GpuState};

/// A card that has not been read for so long may hang with its driver: it gets nothing more.
const SILENT_AFTER: Duration = Duration::from_secs(5);
/// How much of a reading, once a second, counts: a peak of a few seconds sends nobody away.
const SMOOTHING: f64 = 0.25;
/// Memory that a stream is taken to need until a reading shows it: its decoder's pictures, its encoders' sessions.
const STREAM_BYTES: u64 = 256 << 20;
/// A card that failed its trial rests so long before the next one, twice as long each time …
const REST_MIN: Duration = Duration::from_secs(5);
/// … and this long at most.
const REST_MAX: Duration = Duration::from_secs(300);
/// A card that was well for so long begins anew with short rests.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// What a card turned out to be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Ability {
    /// It decodes, and scales.
    pub(crate) decodes: bool,
    /// It encodes.
    pub(crate) encodes: bool,
    /// Mpx/s that go through it.
    pub(crate) capacity_mpx: f64,
}

/// Whether a card is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It has to show first what it can.
    Untried,
    /// It passed its trial.
    Good { since: Instant },
    /// A stream broke down on it, or it could not be read: it has to show again what it can.
    Suspect,
    /// It failed its trial.
    Resting { until: Instant },
}

/// What is known of a card.
#[derive(Debug, Clone)]
pub(crate) struct CardState {
    pub(crate) health: Health,
    pub(crate) ability: Ability,
    /// What was placed on it, Mpx/s.
    pub(crate) placed_mpx: f64,
    /// Streams that were placed on it.
    pub(crate) streams: u64,
    /// What it said last, and when.
    pub(crate) reading: Option<(Gpu, Instant)>,
    busy_percent: f64,
    /// Streams placed on it that its reading does not show yet.
    unseen: u64,
    rests: u32,
}

/// What a stream wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// What is to be encoded of it, Mpx/s.
    pub(crate) mpx: f64,
    /// Cards that failed under it.
    pub(crate) avoid: &'a [usize],
    pub(crate) encoder: EncoderChoice,
    pub(crate) decoder: DecoderChoice,
}

/// What a card does for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) decodes: bool,
    pub(crate) encodes: bool,
}

impl Work {
    /// No card takes part.
    pub(crate) const NONE: Self = Self { decodes: false, encodes: false };
}

/// `limits.gpu_percent` and `limits.gpu_memory_percent`; 100 is no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CardLimits {
    pub(crate) busy_percent: f64,
    pub(crate) memory_percent: f64,
}

/// The card with most room for a stream, and what it does for it. One that encodes goes before one that only
/// decodes. `None`: the processors have to do it.
pub(crate) fn choose(
    cards: &[CardState],
    wanted: &Wanted<'_>,
    limits: CardLimits,
    now: Instant,
) -> Option<(usize, Work)> {
    let fit = cards.iter().enumerate().filter(|(index, _)| !wanted.avoid.contains(index));
    let fit = fit.filter_map(|(index, card)| {
        let work = card.work(wanted)?;
        let room_mpx = card.room_mpx(limits, now).filter(|room| *room >= wanted.mpx)?;
        Some((index, work, room_mpx))
    });
    let best =
        fit.max_by(|(_, a, a_mpx), (_, b, b_mpx)| a.encodes.cmp(&b.encodes).then(a_mpx.total_cmp(b_mpx)));
    best.map(|(index, work, _)| (index, work))
}

impl CardState {
    /// A card of which nothing is known.
    pub(crate) fn new() -> Self {
        Self {
            health: Health::Untried,
            ability: Ability::default(),
            placed_mpx: 0.0,
            streams: 0,
            reading: None,
            busy_percent: 0.0,
            unseen: 0,
            rests: 0,
        }
    }

    /// It was read.
    pub(crate) fn read(&mut self, reading: Gpu, now: Instant) {
        let busy = f64::from(reading.gpu.max(reading.encoder).max(reading.decoder));
        let last = if self.reading.is_some() { self.busy_percent } else { busy };
        self.busy_percent = last + (busy - last) * SMOOTHING;
        self.unseen = 0;
        self.reading = Some((reading, now));
    }

    /// A stream came.
    pub(crate) fn place(&mut self, mpx: f64) {
        self.placed_mpx += mpx;
        self.streams += 1;
        self.unseen += 1;
    }

    /// A stream went.
    pub(crate) fn release(&mut self, mpx: f64) {
        self.placed_mpx = (self.placed_mpx - mpx).max(0.0);
        self.streams = self.streams.saturating_sub(1);
        self.unseen = self.unseen.saturating_sub(1);
    }

    /// A stream broke down on it, or it could not be read.
    pub(crate) fn failed(&mut self, now: Instant) {
        if let Health::Good { since } = self.health {
            if now.saturating_duration_since(since) >= FORGIVEN_AFTER {
                self.rests = 0;
            }
            self.health = Health::Suspect;
        }
    }

    /// It had its trial; `ability` is what came of it.
    pub(crate) fn tried(&mut self, ability: Option<Ability>, now: Instant) {
        if let Some(ability) = ability {
            self.ability = ability;
            self.health = Health::Good { since: now };
        } else {
            let rest = REST_MIN.saturating_mul(1 << self.rests.min(16)).min(REST_MAX);
            self.rests = self.rests.saturating_add(1);
            self.health = Health::Resting { until: now + rest };
        }
    }

    /// Whether it is to have a trial.
    pub(crate) fn is_trial_due(&self, now: Instant) -> bool {
        match self.health {
            Health::Untried | Health::Suspect => true,
            Health::Good { .. } => false,
            Health::Resting { until } => now >= until,
        }
    }

    /// Whether it answers no more.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.reading.as_ref().is_none_or(|(_, at)| now.saturating_duration_since(*at) > SILENT_AFTER)
    }

    /// Whether streams are placed on it, for whoever looks.
    pub(crate) fn state(&self, now: Instant) -> GpuState {
        match self.health {
            Health::Good { .. } if self.is_silent(now) => GpuState::Silent,
            Health::Good { .. } => GpuState::Good,
            Health::Untried => GpuState::Untried,
            Health::Suspect => GpuState::Suspect,
            Health::Resting { .. } => GpuState::Resting,
        }
    }

    /// What it is called, if it was ever read.
    pub(crate) fn name(&self) -> &str {
        self.reading.as_ref().map_or("", |(gpu, _)| gpu.name.as_str())
    }

    /// What it would do for a stream; `None` if nothing that is wanted.
    fn work(&self, wanted: &Wanted<'_>) -> Option<Work> {
        let work = Work {
            decodes: self.ability.decodes && wanted.decoder == DecoderChoice::Auto,
            encodes: self.ability.encodes && wanted.encoder != EncoderChoice::X264,
        };
        let useful = work.encodes || (work.decodes && wanted.encoder != EncoderChoice::Nvenc);
        useful.then_some(work)
    }

    /// What it could still take, Mpx/s; `None` if nothing is to be placed on it.
    fn room_mpx(&self, limits: CardLimits, now: Instant) -> Option<f64> {
        let over = |percent: f64, max: f64| max < 100.0 && percent > max;
        let (reading, _) = self.reading.as_ref()?;
        let used = reading.memory_used.saturating_add((self.unseen + 1) * STREAM_BYTES);
        #[expect(clippy::cast_precision_loss, reason = "a share of a card's memory")]
        let memory_percent = 100.0 * used as f64 / reading.memory_total.max(1) as f64;
        let usable = matches!(self.health, Health::Good { .. })
            && !self.is_silent(now)
            && used <= reading.memory_total
            && !over(memory_percent, limits.memory_percent)
            && !over(self.busy_percent, limits.busy_percent);
        usable.then_some(self.ability.capacity_mpx - self.placed_mpx)
    }
}

#[cfg(test)]
mod tests;
