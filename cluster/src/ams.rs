//! Ant Media Server's (AMS) own documents. Ours hold the authority; these are mirrors of them, kept in AMS's
//! shapes so that its scripts, its panel and its REST clients read this cluster, and what AMS's own nodes
//! write of themselves, which is read and never written.

pub mod broadcast;
pub mod cluster_node;
mod loose;
pub mod mirror;
pub mod peers;
pub mod roles;

use async_trait::async_trait;

pub use broadcast::Broadcast;
pub use cluster_node::ClusterNode;

use crate::clock::UnixMs;
use crate::ids::{AppName, Epoch, NodeId, StreamKey};
use crate::store::StoreError;

/// AMS's documents, in a store that can hold them.
///
/// # Errors
/// Every method answers [`StoreError`] when the database cannot be asked. Nothing that serves depends on it.
#[async_trait]
pub trait AmsDocuments: Send + Sync {
    /// All of `clusterdb.clusternode`, ours and AMS's.
    async fn cluster_nodes(&self) -> Result<Vec<ClusterNode>, StoreError>;

    /// Writes the mirror of `of` into `clusterdb.clusternode`.
    async fn put_cluster_node(&self, node: &ClusterNode, of: &NodeId) -> Result<(), StoreError>;

    /// Removes the mirror with this `_id`.
    async fn remove_cluster_node(&self, id: &str) -> Result<(), StoreError>;

    /// The broadcasts of `app` that are live and were updated at `since` or later.
    async fn live_broadcasts(&self, app: &AppName, since: UnixMs) -> Result<Vec<Broadcast>, StoreError>;

    /// Writes mirrors of streams into `{app}.broadcast`, in one round trip for each app. A document that an
    /// AMS node holds, or that mirrors a later claim, stays as it is.
    async fn put_broadcasts(&self, mirrors: &[BroadcastMirror], now: UnixMs) -> Result<(), StoreError>;

    /// Removes the mirror of a stream; AMS's own document stays.
    async fn remove_broadcast(&self, key: &StreamKey) -> Result<(), StoreError>;

    /// Sets what `node` left behind as live in `{app}.broadcast`, when its process ended without a word, to
    /// finished: AMS does the same when a node starts.
    async fn finish_broadcasts(&self, app: &AppName, node: &NodeId) -> Result<(), StoreError>;
}

/// What a mirror of a stream says.
#[derive(Debug, Clone, PartialEq)]
pub struct BroadcastMirror {
    /// Which stream.
    pub key: StreamKey,
    /// Its origin.
    pub node: NodeId,
    /// The claim it mirrors. A later one is not written over.
    pub epoch: Epoch,
    /// What to write.
    pub broadcast: Broadcast,
}

/// The database that AMS keeps an application in: its name in lower case. `None` where MongoDB allows no such
/// name, or where it is one of AMS's own or MongoDB's.
#[must_use]
pub fn database_of(app: &AppName) -> Option<String> {
    let name = app.as_str().to_ascii_lowercase();
    let reserved = ["admin", "local", "config", "clusterdb", "serverdb"].contains(&name.as_str());
    // MongoDB's limit is 63 bytes, and a dot ends a database's name.
    (!reserved && name.len() <= 63 && !name.contains('.')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(app: &str, expect: Option<&str>) {
        assert_eq!(database_of(&app.parse().unwrap()).as_deref(), expect, "{app}");
    }

    #[test]
    fn applications_have_databases_of_their_own() {
        check("live", Some("live"));
        check("WebRTCAppEE", Some("webrtcappee"));
        check("v1.2", None);
        check("Admin", None);
        check("clusterdb", None);
    }
}
