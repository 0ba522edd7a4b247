//! A thread for each card: reads it once a second, and holds its trials.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use sluicegate_cluster::node::Gpu;
use tokio::sync;

use super::placement::CardState;
use super::{Ability, Card, CardError, Cards, Failure, Gpus, Health, Slot, nvidia};

/// Between two readings.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks for cards on a thread of its own.
pub(super) fn search(gpus: &Arc<Gpus>, capacity_file: Option<PathBuf>) {
    gpus.lock().searching = true;
    let own = Arc::clone(gpus);
    let search = move || {
        // CUDA's crate panics where a driver lacks something that it wants.
        let found = std::panic::catch_unwind(|| nvidia::find(capacity_file.as_deref()));
        for card in found.unwrap_or_default() {
            add(&own, card);
        }
        own.lock().searching = false;
        own.changed.notify_all();
    };
    if let Err(error) = Builder::new().name("gpus".to_owned()).spawn(search) {
        tracing::warn!(%error, "graphics cards cannot be looked for");
        gpus.lock().searching = false;
    }
}

/// Takes a card in, and watches it.
pub(super) fn add(gpus: &Arc<Gpus>, card: Arc<dyn Card>) {
    let slot = Slot { card: Arc::clone(&card), state: CardState::new(), losses: sync::watch::Sender::new(0) };
    let index = {
        let mut cards = gpus.lock();
        cards.slots.push(slot);
        cards.slots.len() - 1
    };
    let own = Arc::clone(gpus);
    let watch = move || watch(&own, index, card.as_ref());
    if let Err(error) = Builder::new().name(format!("gpu {index}")).spawn(watch) {
        tracing::warn!(%error, index, "a graphics card cannot be watched; it is not used");
        gpus.with_slot(index, |slot, now| slot.state.tried(None, now));
    }
}

fn watch(gpus: &Gpus, index: usize, card: &dyn Card) {
    loop {
        note_reading(gpus, index, card.read());
        if gpus.with_slot(index, |slot, now| slot.state.is_trial_due(now)) == Some(true) {
            let tried = card.try_out();
            // It took its time, in which the card was not read: that is no silence.
            note_reading(gpus, index, card.read());
            note_trial(gpus, index, tried);
        }
        // Woken for a trial, so that a card that did nothing wrong is back soon.
        let rests = |cards: &mut Cards| {
            let suspect = cards.slots.get(index).is_some_and(|slot| slot.state.health == Health::Suspect);
            !cards.ending && !suspect
        };
        let waited = gpus.changed.wait_timeout_while(gpus.lock(), PERIOD, rests);
        if waited.map_or(true, |(cards, _)| cards.ending) {
            return;
        }
    }
}

fn note_reading(gpus: &Gpus, index: usize, read: Result<Gpu, CardError>) {
    let lost = match read {
        Ok(reading) => {
            gpus.with_slot(index, |slot, now| slot.state.read(reading, now));
            return;
        }
        Err(error) => gpus.with_slot(index, |slot, now| slot.lose(now).then_some(error)),
    };
    if let Some(error) = lost.flatten() {
        tracing::error!(%error, index, "a graphics card answers no more: its streams go elsewhere");
        gpus.count(Failure::Reading);
    }
}

fn note_trial(gpus: &Gpus, index: usize, tried: Result<Ability, CardError>) {
    match &tried {
        Ok(ability) => tracing::info!(index, ?ability, "a graphics card has shown what it can"),
        Err(error) => {
            tracing::warn!(%error, index, "a graphics card fails at a few pictures; it is tried again later");
            gpus.count(Failure::Trial);
        }
    }
    gpus.with_slot(index, |slot, now| slot.state.tried(tried.ok(), now));
}
