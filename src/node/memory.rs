//! The cluster's memory opened, and the cluster joined. A memory that does not answer is tried again.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use sluicegate_cluster::config::StoreSettings;
use sluicegate_cluster::limits;
use sluicegate_cluster::membership::{JoinError, Membership};
use sluicegate_cluster::node::NodeRecord;
use sluicegate_cluster::store::{
    ClusterStore, CountedStore, EmbeddedStore, MongoAddress, MongoStore, StoreError,
};
use sluicegate_cluster::watched::Reread;

/// Between tries of a store that does not answer when the node starts.
const JOIN_RETRY: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// The memory, and its login where that may change.
pub(super) type Opened = (Arc<dyn ClusterStore>, Option<Arc<dyn Reread>>);

pub(super) async fn open(settings: &StoreSettings, registry: &Registry) -> anyhow::Result<Opened> {
    let (embedded, mongo) = match settings {
        StoreSettings::Embedded { data: None } => (EmbeddedStore::in_memory(), None),
        StoreSettings::Embedded { data: Some(path) } => (EmbeddedStore::open(path)?, None),
        StoreSettings::Mongo(address) => (EmbeddedStore::in_memory(), Some(address)),
    };
    let Some(address) = mongo else { return Ok((Arc::new(CountedStore::new(embedded, registry)?), None)) };
    let mongo = open_mongo(address).await?;
    let login = mongo.login();
    Ok((Arc::new(CountedStore::new(mongo, registry)?), Some(login)))
}

/// A store whose servers the DNS names is tried again while that does not answer.
async fn open_mongo(address: &MongoAddress) -> Result<MongoStore, StoreError> {
    let mut waits = join_waits();
    loop {
        match MongoStore::open(address).await {
            Err(error @ (StoreError::Unavailable(_) | StoreError::TimedOut)) => {
                tracing::warn!(%error, store = %address, "the cluster's memory cannot be found yet; trying again");
                tokio::time::sleep(waits.next().unwrap_or(limits::HEARTBEAT_EVERY)).await;
            }
            opened => return opened,
        }
    }
}

pub(super) async fn join(
    store: &Arc<dyn ClusterStore>,
    record: &NodeRecord,
) -> Result<Membership, JoinError> {
    store.prepare().await?;
    Membership::join(Arc::clone(store), record.clone()).await
}

pub(super) async fn join_by_retrying(store: Arc<dyn ClusterStore>, record: NodeRecord) -> Membership {
    let mut waits = join_waits();
    loop {
        tokio::time::sleep(waits.next().unwrap_or(limits::HEARTBEAT_EVERY)).await;
        match join(&store, &record).await {
            Ok(member) => {
                tracing::info!("the cluster was joined");
                return member;
            }
            Err(error) => tracing::warn!(%error, "the cluster cannot be joined yet"),
        }
    }
}

/// Between tries of a store, without end.
fn join_waits() -> impl Iterator<Item = Duration> {
    let [.., last] = JOIN_RETRY;
    JOIN_RETRY.into_iter().chain(std::iter::repeat(last))
}
