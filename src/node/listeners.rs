//! Every listener of a node, bound before anything starts.

use std::net::{SocketAddr, TcpListener};

use sluicegate_cluster::clock;
use sluicegate_cluster::config::Settings;
use sluicegate_cluster::node::Role;
use sluicegate_lb::{Front, StartError, bind};
use sluicegate_rtc::{Bound, Limits, MuxConfig};

/// Everything that is bound before anything starts.
pub(super) struct Listeners {
    pub(super) front: Option<Front>,
    pub(super) http: TcpListener,
    pub(super) admin: TcpListener,
    pub(super) rtmp: Option<TcpListener>,
    pub(super) edge_udp: Option<Bound>,
    pub(super) origin_udp: Option<Bound>,
}

impl Listeners {
    pub(super) fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let has = |role| settings.roles.contains(&role);
        let front = if has(Role::Lb) { Some(Front::open(&settings.lb)?) } else { None };
        let rtmp = if has(Role::Origin) { Some(bind("origin.rtmp", settings.origin.rtmp)?) } else { None };
        let udp =
            |role, name, key, address| has(role).then(|| bind_udp(settings, name, key, address)).transpose();
        Ok(Self {
            front,
            http: bind("node.http", settings.node.http)?,
            admin: bind("node.admin", settings.node.admin)?,
            rtmp,
            edge_udp: udp(Role::Edge, "edge", "edge.udp", settings.edge.udp)?,
            origin_udp: udp(Role::Origin, "origin", "origin.udp", settings.origin.udp)?,
        })
    }
}

/// Binds the UDP port of a role, `name`, which the configuration's `key` says to be `listen`.
///
/// # Errors
/// [`StartError::Listen`].
fn bind_udp(
    settings: &Settings,
    name: &'static str,
    key: &'static str,
    listen: SocketAddr,
) -> Result<Bound, StartError> {
    let limits = &settings.limits;
    let config = MuxConfig {
        name,
        listen,
        candidates: settings.webrtc.candidates(listen, settings.node.advertise),
        shards: settings.webrtc.threads,
        limits: Limits {
            sessions: limits.webrtc_sessions,
            half_open: limits.webrtc_half_open,
            handshake: limits.webrtc_handshake,
            silence: limits.webrtc_silence,
            stun_per_source: limits.webrtc_stun_per_source,
        },
        clock: clock::now,
    };
    Bound::bind(config).map_err(|why| StartError::Listen { key, address: listen, why })
}
