//! An operator drains a node, or takes that back: one guarded update of the node's document, which leaves
//! placement at once and which the node itself obeys at its next heartbeat.

use crate::ids::NodeId;
use crate::limits;
use crate::node::{NodeRecord, NodeState};
use crate::store::{ClusterStore, StoreError};

/// Why a node cannot be drained.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// There is no node of that id.
    #[error("there is no node {0}")]
    Unknown(NodeId),
    /// It has ended: nothing is left to drain.
    #[error("node {0} is gone")]
    Gone(NodeId),
    /// The store cannot be asked, or others kept writing.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Drains the node `id`, or, with `drain` false, lets it take work again. Its document afterwards.
///
/// # Errors
/// [`DrainError`] says what is in the way.
pub async fn set_drain(store: &dyn ClusterStore, id: &NodeId, drain: bool) -> Result<NodeRecord, DrainError> {
    for _ in 0..limits::CAS_TRIES {
        let seen = store.node(id).await?.ok_or_else(|| DrainError::Unknown(id.clone()))?;
        if seen.state == NodeState::Gone {
            return Err(DrainError::Gone(id.clone()));
        }
        if seen.drain == drain {
            return Ok(seen);
        }
        let next = with_drain(&seen, drain);
        if store.put_node(&next, Some(seen.rev)).await? {
            return Ok(next);
        }
    }
    Err(StoreError::Contended.into())
}

/// A drained node leaves placement by this very write. One that is let go takes work when it says so itself:
/// its process may be ending.
fn with_drain(seen: &NodeRecord, drain: bool) -> NodeRecord {
    let leaves = drain && seen.state == NodeState::Serving;
    let state = if leaves { NodeState::Draining } else { seen.state };
    NodeRecord { rev: seen.rev.saturating_add(1), drain, state, ..seen.clone() }
}
