//! `[cluster]`: where the cluster's memory is, and what its nodes trust each other by.

use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use super::secret::{RawSecret, Written};
use crate::store::MongoAddress;
use crate::trust::ClusterKey;

/// `[cluster]`
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// Where the cluster's memory is.
    pub store: StoreSettings,
    /// What nodes trust each other by.
    pub key: ClusterKey,
}

/// Where the cluster's memory is.
#[derive(Debug, Clone)]
pub enum StoreSettings {
    /// In this process. Streams' numbers survive a restart when a file is named.
    Embedded {
        /// That file.
        data: Option<PathBuf>,
    },
    /// In MongoDB.
    Mongo(MongoAddress),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCluster {
    store: Option<String>,
    user: Option<String>,
    password: Option<RawSecret>,
    password_file: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    data: Option<PathBuf>,
    key: Option<RawSecret>,
    key_file: Option<PathBuf>,
}

pub(super) fn resolve(raw: RawCluster) -> Result<ClusterSettings, ConfigError> {
    let password = Written::text_or_file("cluster.password", raw.password, raw.password_file).locate(&[])?;
    if let Some(password) = &password {
        password.read().map_err(|why| ConfigError::invalid("cluster.password", why))?;
    }
    let store = match raw.store.as_deref() {
        None | Some("embedded") => StoreSettings::Embedded { data: raw.data },
        Some(uri) if uri.starts_with("mongodb://") || uri.starts_with("mongodb+srv://") => {
            let (uri, user, tls_ca) = (uri.to_owned(), raw.user, raw.tls_ca);
            let address = MongoAddress { uri, user, password, tls_ca };
            address.check().map_err(|why| ConfigError::invalid("cluster.store", why))?;
            StoreSettings::Mongo(address)
        }
        Some(_) => {
            return Err(ConfigError::invalid(
                "cluster.store",
                "neither \"embedded\" nor an address that starts with mongodb:// or mongodb+srv://",
            ));
        }
    };
    let key = match (Written::text_or_file("cluster.key", raw.key, raw.key_file).locate(&[])?, &store) {
        (Some(key), _) => {
            ClusterKey::read_from(key).map_err(|why| ConfigError::invalid("cluster.key", why))?
        }
        (None, StoreSettings::Embedded { .. }) => ClusterKey::random(),
        (None, StoreSettings::Mongo(_)) => {
            return Err(ConfigError::invalid(
                "cluster.key",
                "a cluster needs one secret that all its nodes share: set key or key_file",
            ));
        }
    };
    Ok(ClusterSettings { store, key })
}
