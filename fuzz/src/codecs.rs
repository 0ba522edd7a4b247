//! Codecs' headers and the FLV tags that carry them.

use bytes::Bytes;
use sluicegate_media::flv::{self, Packet, Peek};
use sluicegate_media::{aac, avc, limits};

/// An AVCDecoderConfigurationRecord with its SPS: the picture that it promises is a possible one.
pub fn avc(data: &[u8]) {
    let Ok(video) = avc::parse(Bytes::copy_from_slice(data)) else { return };
    let possible = 1..=limits::PICTURE_PX;
    assert!(possible.contains(&video.width) && possible.contains(&video.height), "{video:?}");
    assert!(video.fps.is_none_or(|fps| fps > 0.0 && fps <= limits::FRAMES_PER_SECOND), "{video:?}");
    assert_eq!((video.avcc.as_ref(), video.codec.len()), (data, "avc1.64001f".len()));
}

/// An AudioSpecificConfig: the sound that it promises is a possible one.
pub fn aac(data: &[u8]) {
    let Ok(audio) = aac::parse(Bytes::copy_from_slice(data)) else { return };
    let possible = limits::SAMPLE_RATE_HZ_MIN..=limits::SAMPLE_RATE_HZ_MAX;
    assert!(possible.contains(&audio.sample_rate), "{audio:?}");
    assert!((1..=8).contains(&audio.channels) && matches!(audio.frame_samples, 960 | 1024), "{audio:?}");
    assert_eq!(audio.asc, data);
}

/// The body of an RTMP video or audio message. What a relay takes for a keyframe is one for the parser.
pub fn flv(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    for parsed in [flv::parse_video(&body), flv::parse_audio(&body)] {
        match parsed {
            Ok(Packet::Frame { payload, composition_ms, .. }) => {
                assert!(!payload.is_empty() && payload.len() < body.len());
                assert!((-(1 << 23)..1 << 23).contains(&composition_ms));
            }
            Ok(Packet::VideoHeader(video)) => avc(&video.avcc),
            Ok(Packet::AudioHeader(audio)) => aac(&audio.asc),
            Ok(Packet::EndOfSequence | Packet::Nothing) => {}
            Err(error) => assert!(!error.kind().is_empty() && !error.to_string().is_empty()),
        }
    }
    if let Ok(Packet::Frame { keyframe: true, .. }) = flv::parse_video(&body) {
        assert_eq!(flv::peek_video(&body), Peek::Keyframe);
    }
    if let Ok(Packet::VideoHeader(_)) = flv::parse_video(&body) {
        assert_eq!(flv::peek_video(&body), Peek::Header);
    }
    if let Ok(Packet::AudioHeader(_)) = flv::parse_audio(&body) {
        assert_eq!(flv::peek_audio(&body), Peek::Header);
    }
}
