//! The driver's client and its login. The driver keeps the login in the client, so another password means another
//! client: calls that are under way end on the old one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::{Client, Collection, Database};
use tokio::runtime::Handle;

use super::{MongoAddress, STREAMS, bounded, failure};
use crate::limits;
use crate::secret::Secret;
use crate::store::StoreError;
use crate::watched::Reread;

const NODES: &str = "sluicegate_node";

/// A client, and what this program has at its database.
pub(super) struct Connection {
    password: Option<String>,
    pub(super) database: Database,
    pub(super) nodes: Collection<RawDocumentBuf>,
    pub(super) streams: Collection<RawDocumentBuf>,
}

/// The connection in force.
pub(super) struct Link {
    address: MongoAddress,
    database: String,
    in_force: ArcSwap<Connection>,
}

impl Link {
    pub(super) async fn open(address: &MongoAddress, database: &str) -> Result<Self, StoreError> {
        let connection = Connection::open(address, address.read_password()?, database).await?;
        Ok(Self {
            address: address.clone(),
            database: database.to_owned(),
            in_force: ArcSwap::from_pointee(connection),
        })
    }

    pub(super) fn connection(&self) -> Arc<Connection> {
        self.in_force.load_full()
    }

    /// Takes over the password that is written now, once the database has taken it.
    async fn log_in_anew(&self) -> Result<(), StoreError> {
        let password = self.address.read_password()?;
        if password == self.in_force.load().password {
            return Ok(());
        }
        let next = Connection::open(&self.address, password, &self.database).await?;
        next.try_out().await?;
        self.in_force.store(Arc::new(next));
        Ok(())
    }
}

impl Connection {
    async fn open(
        address: &MongoAddress,
        password: Option<String>,
        database: &str,
    ) -> Result<Self, StoreError> {
        // Options of `mongodb+srv` are looked up in the DNS.
        let options = tokio::time::timeout(limits::STORE_CALL, address.client_options(password.as_deref()))
            .await
            .map_err(|_| StoreError::Unavailable("the DNS says nothing in time".to_owned()))??;
        let client = Client::with_options(options).map_err(|e| failure::store_error(&e))?;
        let database = client.database(database);
        Ok(Self {
            password,
            nodes: database.collection(NODES),
            streams: database.collection(STREAMS),
            database,
        })
    }

    /// Logs in, and reads something.
    async fn try_out(&self) -> Result<(), StoreError> {
        bounded(self.nodes.find_one(doc! {}).projection(doc! {"_id": 1})).await.map(drop)
    }
}

impl Reread for Link {
    fn what(&self) -> &'static str {
        "database_password"
    }

    fn files(&self) -> Vec<PathBuf> {
        self.address.password.iter().filter_map(Secret::file).map(Path::to_owned).collect()
    }

    fn reread(&self) -> Result<(), String> {
        let runtime = Handle::try_current().map_err(|why| why.to_string())?;
        runtime.block_on(self.log_in_anew()).map_err(|why| why.to_string())
    }
}
