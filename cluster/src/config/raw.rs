//! The configuration as written: every key optional, unknown keys refused, addresses and names checked as
//! they are read so that an error names its line. Defaults belong to [`super::settings`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::secret::RawSecret;
use super::settings::Gate;
use crate::ids::{AppName, NodeId};
use crate::node::Role;

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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    pub(super) id: Option<NodeId>,
    pub(super) advertise: Option<IpAddr>,
    pub(super) group: Option<String>,
    pub(super) http: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) admin_password_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCluster {
    pub(super) store: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<RawSecret>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) tls_ca: Option<PathBuf>,
    pub(super) data: Option<PathBuf>,
    pub(super) key: Option<RawSecret>,
    pub(super) key_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApp {
    pub(super) name: AppName,
    pub(super) segment_s: Option<f64>,
    pub(super) part_s: Option<f64>,
    pub(super) window: Option<usize>,
    pub(super) publish: Option<Gate>,
    pub(super) play: Option<Gate>,
    pub(super) token_keys: Option<Vec<RawTokenKey>>,
    pub(super) rest_keys: Option<Vec<RawTokenKey>>,
    pub(super) ladder: Option<Vec<RawRung>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRung {
    pub(super) height: u32,
    pub(super) kbps: u32,
    pub(super) fps: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTokenKey {
    pub(super) id: String,
    pub(super) key: Option<RawSecret>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) key_env: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLb {
    pub(super) http: Option<Vec<SocketAddr>>,
    pub(super) https: Option<Vec<SocketAddr>>,
    pub(super) rtmp: Option<Vec<SocketAddr>>,
    pub(super) certificates: Option<Vec<RawCertificate>>,
    pub(super) threads: Option<usize>,
    pub(super) roles: Option<Vec<RawRoleRule>>,
}

/// What AMS's nodes of a network do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoleRule {
    #[serde(rename = "match")]
    pub(super) network: String,
    pub(super) role: Role,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificate {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEdge {
    pub(super) udp: Option<SocketAddr>,
    pub(super) cache_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOrigin {
    pub(super) rtmp: Option<SocketAddr>,
    pub(super) udp: Option<SocketAddr>,
    pub(super) capacity_mpx: Option<RawCapacity>,
    pub(super) capacity_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWebRtc {
    pub(super) public_address: Option<IpAddr>,
    pub(super) ice_servers: Option<Vec<RawIceServer>>,
    pub(super) threads: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIceServer {
    pub(super) url: String,
    pub(super) username: Option<String>,
    pub(super) credential: Option<RawSecret>,
}

/// `"auto"` or a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawCapacity {
    Mpx(f64),
    Word(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) rtmp_connections: Option<usize>,
    pub(super) rtmp_handshake_ms: Option<u64>,
    pub(super) rtmp_idle_ms: Option<u64>,
    pub(super) rtmp_message_bytes: Option<usize>,
    pub(super) http_handshake_ms: Option<u64>,
    pub(super) http_idle_ms: Option<u64>,
    pub(super) http_connections: Option<usize>,
    pub(super) edge_object_bytes: Option<usize>,
    pub(super) edge_fills: Option<usize>,
    pub(super) edge_holds: Option<usize>,
    pub(super) edge_fill_ms: Option<u64>,
    pub(super) streams_per_origin: Option<usize>,
    pub(super) stream_floor_mpx: Option<f64>,
    pub(super) slow_start_ms: Option<u64>,
    pub(super) cpu_percent: Option<f64>,
    pub(super) memory_percent: Option<f64>,
    pub(super) webrtc_sessions: Option<usize>,
    pub(super) webrtc_half_open: Option<usize>,
    pub(super) webrtc_handshake_ms: Option<u64>,
    pub(super) webrtc_silence_ms: Option<u64>,
    pub(super) webrtc_stun_per_source: Option<u32>,
}
