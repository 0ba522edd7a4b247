//! The UDP ports of WebRTC, bound before anything starts.

use std::net::SocketAddr;

use sluicegate_cluster::clock;
use sluicegate_cluster::config::Settings;
use sluicegate_lb::StartError;
use sluicegate_rtc::{Bound, Limits, MuxConfig};

/// Binds the port of a role, `name`, which the configuration's `key` says to be `listen`.
///
/// # Errors
/// [`StartError::Listen`].
pub(crate) fn bind(
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
