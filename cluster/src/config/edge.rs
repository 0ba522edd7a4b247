//! `[edge]`: where WebRTC viewers send to, and how much an edge keeps.

use std::net::SocketAddr;

use serde::Deserialize;

use super::values::any;

/// `[edge]`
#[derive(Debug, Clone)]
pub struct EdgeSettings {
    /// Where WebRTC viewers send to.
    pub udp: SocketAddr,
    /// How much the cache may hold.
    pub cache_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEdge {
    udp: Option<SocketAddr>,
    cache_bytes: Option<u64>,
}

pub(super) fn resolve(raw: RawEdge) -> EdgeSettings {
    EdgeSettings {
        udp: raw.udp.unwrap_or_else(|| any(50_000)),
        cache_bytes: raw.cache_bytes.unwrap_or(512 << 20),
    }
}
