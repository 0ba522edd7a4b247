//! `[origin]`: where an origin listens, and what it can encode.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use super::values::{any, cores};

/// `[origin]`
#[derive(Debug, Clone)]
pub struct OriginSettings {
    /// Where balancers publish to.
    pub rtmp: SocketAddr,
    /// Where WebRTC publishers, and edges that pull, send to.
    pub udp: SocketAddr,
    /// What it can encode, Mpx/s. `None`: it is measured; until then [`Self::MPX_PER_CORE`] for each core.
    pub capacity_mpx: Option<f64>,
    /// Where what was measured is kept.
    pub capacity_file: Option<PathBuf>,
    /// What encodes.
    pub encoder: EncoderChoice,
    /// What decodes and scales.
    pub decoder: DecoderChoice,
}

/// What encodes pictures on an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderChoice {
    /// Graphics cards that can, x264 where none has room.
    #[default]
    Auto,
    /// Graphics cards and nothing else: what none of them can take is not encoded.
    Nvenc,
    /// The processors.
    X264,
}

/// What decodes and scales pictures on an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecoderChoice {
    /// The graphics card that a stream is on, the processors where it is on none.
    #[default]
    Auto,
    /// The processors.
    Software,
}

impl OriginSettings {
    /// What a core is taken to encode until it is measured: 1080p30.
    pub const MPX_PER_CORE: f64 = 62.0;

    /// What it can encode, Mpx/s, as far as it is known without measuring.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.capacity_mpx.unwrap_or_else(|| Self::MPX_PER_CORE * cores() as f64)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOrigin {
    rtmp: Option<SocketAddr>,
    udp: Option<SocketAddr>,
    capacity_mpx: Option<RawCapacity>,
    capacity_file: Option<PathBuf>,
    encoder: Option<EncoderChoice>,
    decoder: Option<DecoderChoice>,
}

/// `"auto"` or a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawCapacity {
    Mpx(f64),
    Word(String),
}

/// `rtmp` is where it listens unless the file says so.
pub(super) fn resolve(raw: RawOrigin, rtmp: SocketAddr) -> Result<OriginSettings, ConfigError> {
    Ok(OriginSettings {
        rtmp: raw.rtmp.unwrap_or(rtmp),
        udp: raw.udp.unwrap_or_else(|| any(50_001)),
        capacity_mpx: resolve_capacity(raw.capacity_mpx)?,
        capacity_file: raw.capacity_file,
        encoder: raw.encoder.unwrap_or_default(),
        decoder: raw.decoder.unwrap_or_default(),
    })
}

fn resolve_capacity(raw: Option<RawCapacity>) -> Result<Option<f64>, ConfigError> {
    let wrong = || ConfigError::invalid("origin.capacity_mpx", "\"auto\" or a number above 0 (Mpx/s)");
    match raw {
        None => Ok(None),
        Some(RawCapacity::Word(word)) if word == "auto" => Ok(None),
        Some(RawCapacity::Mpx(mpx)) if mpx > 0.0 && mpx.is_finite() => Ok(Some(mpx)),
        Some(_) => Err(wrong()),
    }
}
