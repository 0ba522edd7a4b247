//! Where this process is in its life, for whoever in it must know: its heartbeat, `/readyz`, its origin.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::ids::Incarnation;
use crate::node::{NodeRecord, NodeState};

/// This node's life. Whoever starts and stops the process sets its stage; its heartbeat brings what others
/// wrote into its document.
#[derive(Debug)]
pub struct NodeLife {
    life: Mutex<Life>,
    reborn: Notify,
}

#[derive(Debug)]
struct Life {
    stage: Stage,
    drained: bool,
    reserved_mpx: f64,
    incarnation: Incarnation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Joining,
    Joined,
    Stopping,
}

impl NodeLife {
    /// A process that has not joined yet, under its first incarnation.
    #[must_use]
    pub fn new(incarnation: Incarnation) -> Self {
        let life = Life { stage: Stage::Joining, drained: false, reserved_mpx: 0.0, incarnation };
        Self { life: Mutex::new(life), reborn: Notify::new() }
    }

    /// The state that others are told.
    #[must_use]
    pub fn state(&self) -> NodeState {
        match self.by_itself() {
            NodeState::Serving if self.lock().drained => NodeState::Draining,
            state => state,
        }
    }

    /// The state that it would be in if nobody drained it.
    pub(super) fn by_itself(&self) -> NodeState {
        match self.lock().stage {
            Stage::Joining => NodeState::Joining,
            Stage::Joined => NodeState::Serving,
            Stage::Stopping => NodeState::Draining,
        }
    }

    /// Whether the process is about to end: a node that is only drained goes on.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.lock().stage == Stage::Stopping
    }

    /// Room that was taken by publishes that have not come yet, Mpx/s, as its document has it.
    #[must_use]
    pub fn reserved_mpx(&self) -> f64 {
        self.lock().reserved_mpx
    }

    /// Under which incarnation the cluster knows it now.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.lock().incarnation.clone()
    }

    /// Resolves when the node has come back as another incarnation, for the one that waits for it: what was
    /// claimed under the earlier one is to be claimed again.
    pub async fn reborn(&self) {
        self.reborn.notified().await;
    }

    /// It is in the cluster, and takes work unless it is drained.
    pub fn joined(&self) {
        let mut life = self.lock();
        if life.stage == Stage::Joining {
            life.stage = Stage::Joined;
        }
    }

    /// It was told to end, and takes nothing new.
    pub fn stop(&self) {
        self.lock().stage = Stage::Stopping;
    }

    /// Follows what is written in its document.
    pub(super) fn follow(&self, record: &NodeRecord) {
        let mut life = self.lock();
        if life.drained != record.drain {
            tracing::info!(drain = record.drain, "an operator changed whether this node is drained");
        }
        life.drained = record.drain;
        life.reserved_mpx = record.reservations.iter().map(|reservation| reservation.mpx).sum();
        if life.incarnation != record.incarnation {
            life.incarnation = record.incarnation.clone();
            self.reborn.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
