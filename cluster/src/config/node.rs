//! `[node]`: who and where a node is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use super::cluster::StoreSettings;
use super::values::local;
use crate::ids::NodeId;

/// `[node]`
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Its id, unique in the cluster.
    pub id: NodeId,
    /// The address other nodes reach it at.
    pub advertise: IpAddr,
    /// Its region or site.
    pub group: String,
    /// What it serves to balancers and other nodes.
    pub http: SocketAddr,
    /// Console, metrics, health.
    pub admin: SocketAddr,
    /// Where the operator's password is kept. Without it, nobody logs in.
    pub admin_password_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    id: Option<NodeId>,
    pub(super) advertise: Option<IpAddr>,
    group: Option<String>,
    http: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    admin_password_file: Option<PathBuf>,
}

/// `http` is where it listens unless the file says so itself.
pub(super) fn resolve(
    raw: RawNode,
    http: SocketAddr,
    host_name: &str,
    store: &StoreSettings,
) -> Result<NodeSettings, ConfigError> {
    let http = raw.http.unwrap_or(http);
    Ok(NodeSettings {
        id: resolve_id(raw.id, host_name)?,
        advertise: resolve_advertise(raw.advertise, http, store)?,
        group: raw.group.unwrap_or_else(|| "default".to_owned()),
        http,
        admin: raw.admin.unwrap_or_else(|| local(9180)),
        admin_password_file: raw.admin_password_file,
    })
}

fn resolve_id(given: Option<NodeId>, host_name: &str) -> Result<NodeId, ConfigError> {
    given.map_or_else(
        || {
            host_name.parse().map_err(|why| {
                ConfigError::invalid(
                    "node.id",
                    format!("the host's name {host_name:?} cannot be it ({why}); set it"),
                )
            })
        },
        Ok,
    )
}

fn resolve_advertise(
    given: Option<IpAddr>,
    http: SocketAddr,
    store: &StoreSettings,
) -> Result<IpAddr, ConfigError> {
    match (given, store) {
        (Some(address), _) => Ok(address),
        (None, _) if !http.ip().is_unspecified() => Ok(http.ip()),
        (None, StoreSettings::Embedded { .. }) => Ok(Ipv4Addr::LOCALHOST.into()),
        (None, StoreSettings::Mongo(_)) => Err(ConfigError::invalid(
            "node.advertise",
            "node.http listens on every address: set the one that other nodes reach this node at",
        )),
    }
}
