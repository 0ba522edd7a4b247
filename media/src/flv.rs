//! FLV tag bodies: what the video and audio messages of RTMP carry (Adobe FLV 10.1, E.4.2 and E.4.3).

use bytes::Bytes;

use crate::aac::{self, AacError};
use crate::avc::{self, AvcError};
use crate::frame::{AudioConfig, Track, VideoConfig};
use crate::limits;

/// What a relay must know of a message without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// A codec header: whoever joins later needs it first.
    Header,
    /// Decoding can start here.
    Keyframe,
    /// Anything else.
    Other,
}

/// Looks at the first bytes of a video message.
#[must_use]
pub fn peek_video(body: &[u8]) -> Peek {
    match *body {
        [_, 0, ..] => Peek::Header,
        [first, 1, ..] if first >> 4 == 1 => Peek::Keyframe,
        _ => Peek::Other,
    }
}

/// Looks at the first bytes of an audio message.
#[must_use]
pub fn peek_audio(body: &[u8]) -> Peek {
    const AAC: u8 = 10;
    match *body {
        [first, 0, ..] if first >> 4 == AAC => Peek::Header,
        _ => Peek::Other,
    }
}

/// What one message means.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet {
    /// How to decode the video that follows.
    VideoHeader(VideoConfig),
    /// How to decode the audio that follows.
    AudioHeader(AudioConfig),
    /// One encoded frame.
    Frame {
        /// Its track.
        track: Track,
        /// Whether decoding can start here, as the publisher says.
        keyframe: bool,
        /// When it is shown, in milliseconds after it is decoded: -8,388,608..=8,388,607, 0 for audio.
        composition_ms: i32,
        /// As in [`crate::frame::Frame::payload`].
        payload: Bytes,
    },
    /// The encoder ends its video here.
    EndOfSequence,
    /// An empty message or a seek command: encoders send them, and nothing follows from them.
    Nothing,
}

/// Why a message was refused.
#[derive(Debug, thiserror::Error)]
pub enum FlvError {
    /// It ends inside its own header.
    #[error("a media message is truncated")]
    Truncated,
    /// A packet type that the format does not have.
    #[error("a media message has packet type {0}")]
    PacketType(u8),
    /// A frame of sound of more than [`limits::AUDIO_FRAME_BYTES`].
    #[error("a frame of sound has {0} bytes; it may have {max}", max = limits::AUDIO_FRAME_BYTES)]
    SoundTooLong(usize),
    /// Only H.264 and AAC are taken.
    #[error("{codec} is not supported: publish H.264 video and AAC audio")]
    NotSupported {
        /// The codec's name.
        codec: &'static str,
    },
    /// The video's decoder configuration.
    #[error(transparent)]
    Avc(#[from] AvcError),
    /// The audio's decoder configuration.
    #[error(transparent)]
    Aac(#[from] AacError),
}

impl FlvError {
    /// Whether the publisher means what cannot be taken: not damage, after which the next message may be good.
    #[must_use]
    pub fn is_final(&self) -> bool {
        use AacError::{Channels, ObjectType, SampleRate};
        matches!(
            self,
            Self::NotSupported { .. }
                | Self::Avc(AvcError::PictureSize { .. } | AvcError::Macroblocks(_))
                | Self::Aac(ObjectType(_) | SampleRate(_) | Channels(_))
        )
    }

    /// A label for metrics, from a closed set.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::PacketType(_) => "packet_type",
            Self::SoundTooLong(_) => "sound_size",
            Self::NotSupported { .. } => "codec",
            Self::Avc(_) => "avc_header",
            Self::Aac(_) => "aac_header",
        }
    }
}

/// Reads the body of an RTMP video message.
///
/// # Errors
/// [`FlvError`] says why it cannot be used.
pub fn parse_video(body: &Bytes) -> Result<Packet, FlvError> {
    const KEYFRAME: u8 = 1;
    const COMMAND: u8 = 5;
    const ENHANCED: u8 = 0x80;
    const AVC: u8 = 7;
    let Some(&first) = body.first() else { return Ok(Packet::Nothing) };
    if first & ENHANCED != 0 {
        return Err(enhanced(body, enhanced_video_codec));
    }
    let (frame_type, codec) = (first >> 4, first & 0x0f);
    if frame_type == COMMAND {
        return Ok(Packet::Nothing);
    }
    if codec != AVC {
        return Err(FlvError::NotSupported { codec: video_codec(codec) });
    }
    match *body.get(1).ok_or(FlvError::Truncated)? {
        0 => Ok(Packet::VideoHeader(avc::parse(after(body, 5)?)?)),
        1 => {
            let payload = after(body, 5)?;
            if payload.is_empty() {
                return Ok(Packet::Nothing);
            }
            let composition_ms = signed_24_bits(body)?;
            Ok(Packet::Frame {
                track: Track::Video,
                keyframe: frame_type == KEYFRAME,
                composition_ms,
                payload,
            })
        }
        2 => Ok(Packet::EndOfSequence),
        other => Err(FlvError::PacketType(other)),
    }
}

/// Reads the body of an RTMP audio message.
///
/// # Errors
/// [`FlvError`] says why it cannot be used.
pub fn parse_audio(body: &Bytes) -> Result<Packet, FlvError> {
    const ENHANCED: u8 = 9;
    const AAC: u8 = 10;
    let Some(&first) = body.first() else { return Ok(Packet::Nothing) };
    match first >> 4 {
        AAC => {}
        ENHANCED => return Err(enhanced(body, enhanced_audio_codec)),
        format => return Err(FlvError::NotSupported { codec: audio_codec(format) }),
    }
    match *body.get(1).ok_or(FlvError::Truncated)? {
        0 => Ok(Packet::AudioHeader(aac::parse(after(body, 2)?)?)),
        1 => {
            let payload = after(body, 2)?;
            if payload.is_empty() {
                return Ok(Packet::Nothing);
            }
            if payload.len() > limits::AUDIO_FRAME_BYTES {
                return Err(FlvError::SoundTooLong(payload.len()));
            }
            Ok(Packet::Frame { track: Track::Audio, keyframe: true, composition_ms: 0, payload })
        }
        other => Err(FlvError::PacketType(other)),
    }
}

fn after(body: &Bytes, header_bytes: usize) -> Result<Bytes, FlvError> {
    if body.len() < header_bytes { Err(FlvError::Truncated) } else { Ok(body.slice(header_bytes..)) }
}

/// The composition time: bytes 2 to 4, in two's complement.
fn signed_24_bits(body: &[u8]) -> Result<i32, FlvError> {
    let &[_, _, a, b, c, ..] = body else { return Err(FlvError::Truncated) };
    Ok(i32::from_be_bytes([a, b, c, 0]) >> 8)
}

/// Enhanced RTMP: the codec is a FourCC after the first byte.
fn enhanced(body: &[u8], name: fn(&[u8; 4]) -> &'static str) -> FlvError {
    match body.get(1..).and_then(<[u8]>::first_chunk) {
        Some(four_cc) => FlvError::NotSupported { codec: name(four_cc) },
        None => FlvError::Truncated,
    }
}

fn enhanced_video_codec(four_cc: &[u8; 4]) -> &'static str {
    match four_cc {
        b"hvc1" => "HEVC",
        b"av01" => "AV1",
        b"vp09" => "VP9",
        b"vp08" => "VP8",
        b"vvc1" => "VVC",
        b"avc1" => "H.264 in Enhanced RTMP's framing",
        _ => "an unknown codec in Enhanced RTMP's framing",
    }
}

fn enhanced_audio_codec(four_cc: &[u8; 4]) -> &'static str {
    match four_cc {
        b"Opus" => "Opus",
        b"fLaC" => "FLAC",
        b"ac-3" => "AC-3",
        b"ec-3" => "E-AC-3",
        b".mp3" => "MP3",
        b"mp4a" => "AAC in Enhanced RTMP's framing",
        _ => "an unknown codec in Enhanced RTMP's framing",
    }
}

/// The codec ids of FLV, and those that encoders took for themselves before Enhanced RTMP.
fn video_codec(id: u8) -> &'static str {
    match id {
        2 => "Sorenson H.263",
        3 => "Screen Video",
        4 => "VP6",
        5 => "VP6 with alpha",
        6 => "Screen Video 2",
        12 => "HEVC",
        13 => "AV1",
        14 => "VVC",
        _ => "an unknown video codec",
    }
}

fn audio_codec(format: u8) -> &'static str {
    match format {
        0 | 3 => "PCM",
        1 => "ADPCM",
        2 | 14 => "MP3",
        4..=6 => "Nellymoser",
        7 => "G.711 A-law",
        8 => "G.711 mu-law",
        11 => "Speex",
        _ => "an unknown audio codec",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{aac, avc};

    fn video(body: &[u8]) -> Result<Packet, FlvError> {
        parse_video(&Bytes::copy_from_slice(body))
    }

    fn audio(body: &[u8]) -> Result<Packet, FlvError> {
        parse_audio(&Bytes::copy_from_slice(body))
    }

    #[track_caller]
    fn refused(result: Result<Packet, FlvError>, name: &str) {
        match result {
            Err(FlvError::NotSupported { codec }) => assert_eq!(codec, name),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn headers() {
        let config = avc::tests::config_720p();
        let body = [&[0x17, 0, 0, 0, 0], &config.avcc[..]].concat();
        assert_eq!(video(&body).unwrap(), Packet::VideoHeader(config));
        let config = aac::tests::config_48k();
        let body = [&[0xaf, 0], &config.asc[..]].concat();
        assert_eq!(audio(&body).unwrap(), Packet::AudioHeader(config));
    }

    #[test]
    fn frames() {
        let frame = |track, keyframe, composition_ms, payload| Packet::Frame {
            track,
            keyframe,
            composition_ms,
            payload: Bytes::from_static(payload),
        };
        let key = video(&[0x17, 1, 0, 0, 80, 9, 9]).unwrap();
        assert_eq!(key, frame(Track::Video, true, 80, &[9, 9]));
        let early = video(&[0x27, 1, 0xff, 0xff, 0xf0, 9]).unwrap();
        assert_eq!(early, frame(Track::Video, false, -16, &[9]));
        assert_eq!(audio(&[0xaf, 1, 5, 6]).unwrap(), frame(Track::Audio, true, 0, &[5, 6]));
    }

    #[test]
    fn what_is_announced_and_cannot_be_taken_is_final_and_damage_is_not() {
        let of = |result: Result<Packet, FlvError>| result.unwrap_err().is_final();
        assert!(of(video(b"\x90hvc1")) && of(audio(&[0x2f, 0])));
        assert!(of(audio(&[0xaf, 0, 0x11, 0x80, 0])), "no channels");
        assert!(!of(video(&[0x17, 0, 0, 0])) && !of(audio(&[0xaf, 0])) && !of(video(&[0x17, 9, 0, 0, 0])));
        assert!(FlvError::Avc(AvcError::PictureSize { width: 16_384, height: 16_384 }).is_final());
    }

    #[test]
    fn sound_is_short() {
        let of = |bytes| audio(&[&[0xaf, 1][..], &vec![0; bytes]].concat());
        assert!(of(limits::AUDIO_FRAME_BYTES).is_ok());
        assert!(matches!(of(limits::AUDIO_FRAME_BYTES + 1), Err(FlvError::SoundTooLong(8_193))));
    }

    #[test]
    fn messages_without_media() {
        assert_eq!(video(&[]).unwrap(), Packet::Nothing);
        assert_eq!(audio(&[]).unwrap(), Packet::Nothing);
        assert_eq!(video(&[0x57, 0]).unwrap(), Packet::Nothing);
        assert_eq!(video(&[0x27, 1, 0, 0, 0]).unwrap(), Packet::Nothing);
        assert_eq!(audio(&[0xaf, 1]).unwrap(), Packet::Nothing);
        assert_eq!(video(&[0x17, 2, 0, 0, 0]).unwrap(), Packet::EndOfSequence);
    }

    #[test]
    fn other_codecs_are_named() {
        refused(video(&[0x12, 0]), "Sorenson H.263");
        refused(video(&[0x1c, 0]), "HEVC");
        refused(video(b"\x90hvc1"), "HEVC");
        refused(video(b"\x91av01...."), "AV1");
        refused(video(b"\x90????"), "an unknown codec in Enhanced RTMP's framing");
        refused(audio(&[0x2f, 0]), "MP3");
        refused(audio(&[0xb2, 0]), "Speex");
        refused(audio(b"\x90Opus"), "Opus");
    }

    #[test]
    fn truncation_is_an_error() {
        let truncated: [Result<Packet, FlvError>; 6] = [
            video(&[0x17]),
            video(&[0x17, 1, 0, 0]),
            video(&[0x17, 0, 0, 0]),
            video(b"\x90hv"),
            audio(&[0xaf]),
            audio(b"\x90Op"),
        ];
        for result in truncated {
            assert!(matches!(result, Err(FlvError::Truncated)), "{result:?}");
        }
        assert!(matches!(audio(&[0xaf, 0]), Err(FlvError::Aac(AacError::Truncated))));
        assert!(matches!(video(&[0x17, 9, 0, 0, 0]), Err(FlvError::PacketType(9))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = video(&bytes);
            let _ = audio(&bytes);
            let _ = video(&[&[0x17, 0, 0, 0, 0], &bytes[..]].concat());
            let _ = audio(&[&[0xaf, 0], &bytes[..]].concat());
        }

        #[test]
        fn composition_times_are_signed(ms in -8_388_608..=8_388_607_i32) {
            let [_, a, b, c] = ms.to_be_bytes();
            let read = match video(&[0x27, 1, a, b, c, 1]) {
                Ok(Packet::Frame { composition_ms, .. }) => composition_ms,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(read, ms);
        }
    }
}
