//! Whether somebody looks at the figures of the whole cluster. They are read only then: with a hundred thousand
//! streams they are most of what the store could be asked for, and most nodes show them to nobody.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::{ClusterView, SharedView};
use crate::clock;
use crate::limits;

/// Who looks tells it here; who reads the store asks.
#[derive(Debug, Default)]
pub struct Attention {
    last: Mutex<Option<Instant>>,
    asked: Notify,
    read: Notify,
}

impl Attention {
    /// Somebody looks now. Returns when figures are of the last moments, or cannot be had for now.
    pub async fn look(&self, view: &SharedView) {
        let now = clock::now();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        let reading = async {
            loop {
                let read = self.read.notified();
                if has_figures(&view.load(), now) {
                    return;
                }
                self.asked.notify_one();
                read.await;
            }
        };
        // Old figures are better than none.
        let _ = tokio::time::timeout(limits::LOOK_WAIT, reading).await;
    }

    /// Whether somebody has looked lately.
    #[must_use]
    pub fn is_there(&self, now: Instant) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| now.saturating_duration_since(last) < limits::LOOKED_AT)
    }

    /// Resolves when somebody waits for figures.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Something was read.
    pub(super) fn has_read(&self) {
        self.read.notify_waiters();
    }
}

fn has_figures(view: &ClusterView, now: Instant) -> bool {
    let recent = |read: Instant| now.saturating_duration_since(read) < 2 * limits::LOADS_EVERY;
    // Without the store there are none to wait for.
    !view.store_ok || view.figures_at.is_some_and(recent)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_look_waits_for_figures_and_is_remembered_for_a_while() {
        let (attention, view) = (Arc::new(Attention::default()), ClusterView::shared());
        view.store(Arc::new(ClusterView { store_ok: true, ..ClusterView::default() }));
        let began = clock::now();
        assert!(!attention.is_there(began));
        let reader = {
            let (attention, view) = (Arc::clone(&attention), Arc::clone(&view));
            tokio::spawn(async move {
                attention.asked().await;
                let figures_at = Some(clock::now());
                view.store(Arc::new(ClusterView { figures_at, store_ok: true, ..ClusterView::default() }));
                attention.has_read();
            })
        };
        attention.look(&view).await;
        assert!(view.load().figures_at.is_some());
        reader.await.unwrap();
        assert!(attention.is_there(began));
        assert!(!attention.is_there(began + 2 * limits::LOOKED_AT));
    }

    #[tokio::test]
    async fn a_look_does_not_wait_for_a_store_that_is_away() {
        let view = ClusterView::shared();
        let looking = Attention::default();
        assert!(!view.load().store_ok);
        tokio::time::timeout(limits::LOOK_WAIT / 2, looking.look(&view)).await.unwrap();
    }
}
