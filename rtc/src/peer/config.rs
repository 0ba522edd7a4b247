//! What is negotiated: codecs, in which order, and how the engine is set up.

use std::sync::Arc;

use str0m::config::{CryptoProvider, DtlsCert};
use str0m::format::{Codec as EngineCodec, PayloadParams};
use str0m::{IceCreds, RtcConfig};

use super::SessionOptions;
use crate::keying;
use crate::media::{Codec, Delivery};

/// The certificate of all sessions of a mux: browsers compare its fingerprint with the answer's.
#[derive(Clone)]
pub(crate) struct Certificate {
    provider: Arc<CryptoProvider>,
    certificate: Option<DtlsCert>,
}

impl Certificate {
    pub(crate) fn generate() -> Self {
        let provider = Arc::new(keying::provider());
        let certificate = provider.dtls_provider.generate_certificate();
        Self { provider, certificate }
    }
}

/// H.264 with packetization-mode 1: payload type, its RTX, profile-level-id. Level 3.1, which browsers offer;
/// levels are not compared.
const H264: [(u8, u8, u32); 4] =
    [(114, 115, 0x64_001f), (123, 119, 0x4d_001f), (127, 121, 0x42_001f), (108, 109, 0x42_e01f)];

/// A server's: ICE-lite, with `credentials`.
pub(super) fn server(
    options: SessionOptions,
    credentials: &IceCreds,
    certificate: &Certificate,
) -> RtcConfig {
    let config = common(options)
        .set_ice_lite(true)
        .set_local_ice_credentials(credentials.clone())
        .set_crypto_provider(Arc::clone(&certificate.provider));
    match &certificate.certificate {
        Some(certificate) => config.set_dtls_cert(certificate.clone()),
        None => config,
    }
}

/// A client's.
pub(super) fn client(options: SessionOptions) -> RtcConfig {
    common(options).set_crypto_provider(Certificate::generate().provider)
}

/// How much a codec is wanted, and which it is; `None` for one that is not used.
pub(super) fn rank(params: &PayloadParams) -> Option<(u32, Codec)> {
    let spec = params.spec();
    let profile = spec.format.profile_level_id.map_or(0, |id| id >> 16);
    let rank = match spec.codec {
        EngineCodec::H264 => 0x100 + profile,
        EngineCodec::Vp8 => 1,
        _ => 0,
    };
    Some((rank, codec(spec.codec)?))
}

pub(super) fn codec(codec: EngineCodec) -> Option<Codec> {
    match codec {
        EngineCodec::H264 => Some(Codec::H264),
        EngineCodec::Vp8 => Some(Codec::Vp8),
        EngineCodec::Opus => Some(Codec::Opus),
        _ => None,
    }
}

fn common(options: SessionOptions) -> RtcConfig {
    let mut config = RtcConfig::new().clear_codecs().enable_opus(true, false);
    for (pt, resend, profile) in H264 {
        config.codec_config().add_h264(pt.into(), Some(resend.into()), true, profile);
    }
    config.set_rtp_mode(options.delivery == Delivery::Packets)
}
