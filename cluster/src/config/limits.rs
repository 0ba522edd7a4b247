//! `[limits]`: what an operator may widen or narrow.

use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;

/// `[limits]`: what an operator may widen or narrow.
#[derive(Debug, Clone)]
pub struct Limits {
    /// RTMP connections at once, per listener process.
    pub rtmp_connections: usize,
    /// From a connection's first byte to its `publish`.
    pub rtmp_handshake: Duration,
    /// The longest silence of a publisher.
    pub rtmp_idle: Duration,
    /// The longest RTMP message.
    pub rtmp_message_bytes: usize,
    /// For the TLS handshake.
    pub http_handshake: Duration,
    /// The longest silence of a viewer's connection, in a request or between two.
    pub http_idle: Duration,
    /// For all of a request's head, from the connection's start.
    pub http_head: Duration,
    /// Viewers' connections at once.
    pub http_connections: usize,
    /// Connections at once from one address, of viewers and of publishers each.
    pub connections_per_address: usize,
    /// Connections at once to what a node serves to other nodes, and to its admin plane each.
    pub node_connections: usize,
    /// The largest object an edge caches.
    pub edge_object_bytes: usize,
    /// Fetches from origins at once, per edge.
    pub edge_fills: usize,
    /// Viewers' requests that an edge holds at once for a playlist or part that is about to come.
    pub edge_holds: usize,
    /// The longest fetch from an origin.
    pub edge_fill: Duration,
    /// Streams at once on an origin.
    pub streams_per_origin: usize,
    /// What a stream costs at least, Mpx/s: a pass-through stream takes room too.
    pub stream_floor_mpx: f64,
    /// From a node's first work to all of its part: newcomers get it gradually.
    pub slow_start: Duration,
    /// An origin whose machine's processors are busier, by a mean of some seconds, takes no more publishes;
    /// 100: it takes them.
    pub cpu_percent: f64,
    /// The same of its memory.
    pub memory_percent: f64,
    /// A graphics card whose cores, encoder or decoder are busier, by a mean of some seconds, gets no more streams;
    /// 100: it gets them.
    pub gpu_percent: f64,
    /// The same of its memory.
    pub gpu_memory_percent: f64,
    /// How long no encoder must be late before a rung that was given up comes back.
    pub ladder_calm: Duration,
    /// WebRTC sessions at once, of each role.
    pub webrtc_sessions: usize,
    /// Those of them that are not connected yet.
    pub webrtc_half_open: usize,
    /// From an offer to media that can flow.
    pub webrtc_handshake: Duration,
    /// How long a session outlives its last sign of life.
    pub webrtc_silence: Duration,
    /// ICE checks a second from one IP address, from ports that no session knows.
    pub webrtc_stun_per_source: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    rtmp_connections: Option<usize>,
    rtmp_handshake_ms: Option<u64>,
    rtmp_idle_ms: Option<u64>,
    rtmp_message_bytes: Option<usize>,
    http_handshake_ms: Option<u64>,
    http_idle_ms: Option<u64>,
    http_head_ms: Option<u64>,
    http_connections: Option<usize>,
    connections_per_address: Option<usize>,
    node_connections: Option<usize>,
    edge_object_bytes: Option<usize>,
    edge_fills: Option<usize>,
    edge_holds: Option<usize>,
    edge_fill_ms: Option<u64>,
    streams_per_origin: Option<usize>,
    stream_floor_mpx: Option<f64>,
    slow_start_ms: Option<u64>,
    cpu_percent: Option<f64>,
    memory_percent: Option<f64>,
    gpu_percent: Option<f64>,
    gpu_memory_percent: Option<f64>,
    ladder_calm_ms: Option<u64>,
    webrtc_sessions: Option<usize>,
    webrtc_half_open: Option<usize>,
    webrtc_handshake_ms: Option<u64>,
    webrtc_silence_ms: Option<u64>,
    webrtc_stun_per_source: Option<u32>,
}

pub(super) fn resolve(raw: RawLimits) -> Result<Limits, ConfigError> {
    let ms = |key: &'static str, given: Option<u64>, default: u64| {
        positive(key, given.unwrap_or(default)).map(Duration::from_millis)
    };
    let count =
        |key: &'static str, given: Option<usize>, default: usize| positive(key, given.unwrap_or(default));
    Ok(Limits {
        rtmp_connections: count("limits.rtmp_connections", raw.rtmp_connections, 2_000)?,
        rtmp_handshake: ms("limits.rtmp_handshake_ms", raw.rtmp_handshake_ms, 5_000)?,
        rtmp_idle: ms("limits.rtmp_idle_ms", raw.rtmp_idle_ms, 15_000)?,
        rtmp_message_bytes: count("limits.rtmp_message_bytes", raw.rtmp_message_bytes, 4 << 20)?,
        http_handshake: ms("limits.http_handshake_ms", raw.http_handshake_ms, 10_000)?,
        http_idle: ms("limits.http_idle_ms", raw.http_idle_ms, 60_000)?,
        http_head: ms("limits.http_head_ms", raw.http_head_ms, 10_000)?,
        http_connections: count("limits.http_connections", raw.http_connections, 20_000)?,
        connections_per_address: count(
            "limits.connections_per_address",
            raw.connections_per_address,
            usize::MAX,
        )?,
        node_connections: count("limits.node_connections", raw.node_connections, 10_000)?,
        edge_object_bytes: count("limits.edge_object_bytes", raw.edge_object_bytes, 64 << 20)?,
        edge_fills: count("limits.edge_fills", raw.edge_fills, 1_024)?,
        edge_holds: count("limits.edge_holds", raw.edge_holds, 20_000)?,
        edge_fill: ms("limits.edge_fill_ms", raw.edge_fill_ms, 15_000)?,
        streams_per_origin: count("limits.streams_per_origin", raw.streams_per_origin, 1_000)?,
        slow_start: ms("limits.slow_start_ms", raw.slow_start_ms, 30_000)?,
        stream_floor_mpx: raw.stream_floor_mpx.filter(|m| *m > 0.0).unwrap_or(2.0),
        cpu_percent: percent("limits.cpu_percent", raw.cpu_percent)?,
        memory_percent: percent("limits.memory_percent", raw.memory_percent)?,
        gpu_percent: percent("limits.gpu_percent", raw.gpu_percent)?,
        gpu_memory_percent: percent("limits.gpu_memory_percent", raw.gpu_memory_percent)?,
        ladder_calm: ms("limits.ladder_calm_ms", raw.ladder_calm_ms, 10_000)?,
        webrtc_sessions: count("limits.webrtc_sessions", raw.webrtc_sessions, 5_000)?,
        webrtc_half_open: count("limits.webrtc_half_open", raw.webrtc_half_open, 1_000)?,
        webrtc_handshake: ms("limits.webrtc_handshake_ms", raw.webrtc_handshake_ms, 15_000)?,
        webrtc_silence: ms("limits.webrtc_silence_ms", raw.webrtc_silence_ms, 10_000)?,
        webrtc_stun_per_source: positive(
            "limits.webrtc_stun_per_source",
            raw.webrtc_stun_per_source.unwrap_or(500),
        )?,
    })
}

/// A load's limit; Ant Media Server's default.
fn percent(key: &'static str, given: Option<f64>) -> Result<f64, ConfigError> {
    let value = given.unwrap_or(75.0);
    if (1.0..=100.0).contains(&value) {
        Ok(value)
    } else {
        Err(ConfigError::invalid(key, "between 1 and 100"))
    }
}

fn positive<T: Default + PartialEq>(key: &'static str, value: T) -> Result<T, ConfigError> {
    if value == T::default() { Err(ConfigError::invalid(key, "above 0")) } else { Ok(value) }
}
