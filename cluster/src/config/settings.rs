//! The configuration: as written, every key optional and unknown keys refused, so that an error names its line;
//! and as used, every value present and checked. Each section has a file of its own, with its defaults.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

use super::ConfigError;
use super::app::{self, AppSettings, RawApp};
use super::cluster::{self, ClusterSettings, RawCluster, StoreSettings};
use super::edge::{self, EdgeSettings, RawEdge};
use super::lb::{self, LbSettings, RawLb};
use super::limits::{self, Limits, RawLimits};
use super::node::{self, NodeSettings, RawNode};
use super::origin::{self, OriginSettings, RawOrigin};
use super::secret::Variables;
use super::values::{any, cores};
use super::webrtc::{self, RawWebRtc, WebRtcSettings};
use crate::node::Role;

/// What a process is to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What it does.
    pub roles: Vec<Role>,
    /// Who and where it is.
    pub node: NodeSettings,
    /// The cluster's memory and its key.
    pub cluster: ClusterSettings,
    /// The applications it knows. Others are not there.
    pub apps: Vec<AppSettings>,
    /// Its balancer's listeners. Used with [`Role::Lb`].
    pub lb: LbSettings,
    /// Its edge. Used with [`Role::Edge`].
    pub edge: EdgeSettings,
    /// Its origin. Used with [`Role::Origin`].
    pub origin: OriginSettings,
    /// WebRTC of its edge and its origin.
    pub webrtc: WebRtcSettings,
    /// What it bounds.
    pub limits: Limits,
}

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) roles: Option<Vec<Role>>,
    #[serde(default)]
    pub(super) node: RawNode,
    #[serde(default)]
    pub(super) cluster: RawCluster,
    #[serde(default)]
    pub(super) app: Vec<RawApp>,
    #[serde(default)]
    pub(super) lb: RawLb,
    #[serde(default)]
    pub(super) edge: RawEdge,
    #[serde(default)]
    pub(super) origin: RawOrigin,
    #[serde(default)]
    pub(super) webrtc: RawWebRtc,
    #[serde(default)]
    pub(super) limits: RawLimits,
}

pub(super) fn resolve(raw: Raw, host_name: &str, variables: &Variables) -> Result<Settings, ConfigError> {
    let roles = raw.roles.unwrap_or_else(|| vec![Role::Lb, Role::Edge, Role::Origin]);
    if roles.is_empty() {
        return Err(ConfigError::invalid("roles", "name at least one of lb, edge, origin"));
    }
    let beside_lb = roles.contains(&Role::Lb);
    let cluster = cluster::resolve(raw.cluster)?;
    // Beside a balancer, what other nodes are to reach moves out of its ports' way; what none reaches stays
    // on loopback.
    let reached = matches!(cluster.store, StoreSettings::Mongo(_)) && roles.iter().any(|r| *r != Role::Lb);
    let own = if reached {
        raw.node.advertise.unwrap_or_else(|| Ipv4Addr::UNSPECIFIED.into())
    } else {
        Ipv4Addr::LOCALHOST.into()
    };
    let beside = |port: u16| SocketAddr::new(own, port);
    let (http, rtmp) = if beside_lb { (beside(5081), beside(19350)) } else { (any(5080), any(1935)) };
    Ok(Settings {
        node: node::resolve(raw.node, http, host_name, &cluster.store)?,
        cluster,
        apps: app::resolve(raw.app, variables)?,
        lb: lb::resolve(raw.lb, beside_lb)?,
        edge: edge::resolve(raw.edge),
        origin: origin::resolve(raw.origin, rtmp)?,
        webrtc: webrtc::resolve(raw.webrtc, cores())?,
        limits: limits::resolve(raw.limits)?,
        roles,
    })
}
