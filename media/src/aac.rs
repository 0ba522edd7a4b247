//! AAC's decoder configuration (AudioSpecificConfig, ISO/IEC 14496-3, 1.6.2.1).

use bytes::Bytes;

use crate::frame::AudioConfig;
use crate::limits;

/// Why a decoder configuration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AacError {
    /// Longer than [`limits::CODEC_HEADER_BYTES`].
    #[error("the AAC header is longer than {} bytes", limits::CODEC_HEADER_BYTES)]
    TooLong,
    /// It ends before its fields do.
    #[error("the AAC header is truncated")]
    Truncated,
    /// Only AAC-LC and, on top of it, HE-AAC and HE-AAC v2 play in browsers.
    #[error("audio object type {0} is not AAC-LC, HE-AAC or HE-AAC v2")]
    ObjectType(u32),
    /// Reserved, zero, or outside of [`limits::SAMPLE_RATE_HZ_MIN`]..=[`limits::SAMPLE_RATE_HZ_MAX`].
    #[error("the AAC header gives no possible sampling rate ({0} Hz)")]
    SampleRate(u32),
    /// Reserved, or described by a program config element.
    #[error("channel configuration {0} is not supported")]
    Channels(u32),
}

const LC: u32 = 2;
const SBR: u32 = 5;
const PS: u32 = 29;

/// Reads an AudioSpecificConfig.
///
/// # Errors
/// [`AacError`] says what is wrong with it.
pub fn parse(asc: Bytes) -> Result<AudioConfig, AacError> {
    if asc.len() > limits::CODEC_HEADER_BYTES {
        return Err(AacError::TooLong);
    }
    let mut bits = Bits { bytes: &asc, at: 0 };
    let mut object_type = bits.object_type()?;
    let sample_rate = bits.sample_rate()?;
    let channels = channel_count(bits.take(4)?)?;
    let mut signalled = object_type;
    if matches!(object_type, SBR | PS) {
        bits.sample_rate()?;
        object_type = bits.object_type()?;
    }
    if object_type != LC {
        return Err(AacError::ObjectType(object_type));
    }
    let frame_samples = if bits.take(1)? == 1 { 960 } else { 1024 };
    if bits.take(1)? == 1 {
        bits.take(14)?;
    }
    bits.take(1)?;
    if signalled == LC {
        signalled = extension(&mut bits).unwrap_or(LC);
    }
    Ok(AudioConfig { codec: format!("mp4a.40.{signalled}"), sample_rate, channels, frame_samples, asc })
}

fn channel_count(configuration: u32) -> Result<u16, AacError> {
    match configuration {
        1..=6 => u16::try_from(configuration).map_err(|_| AacError::Channels(configuration)),
        7 => Ok(8),
        _ => Err(AacError::Channels(configuration)),
    }
}

/// The extension that older decoders do not see, after the part that they do (1.6.5.3). What is there
/// instead, or nothing, is no error: it says that there is no extension.
fn extension(bits: &mut Bits<'_>) -> Option<u32> {
    const SBR_FOLLOWS: u32 = 0x2b7;
    const PS_FOLLOWS: u32 = 0x548;
    let mut read = |count| bits.take(count).ok();
    if read(11)? != SBR_FOLLOWS || read(5)? != SBR || read(1)? == 0 {
        return None;
    }
    bits.sample_rate().ok()?;
    let mut read = |count| bits.take(count).ok();
    let stereo = read(11) == Some(PS_FOLLOWS) && read(1) == Some(1);
    Some(if stereo { PS } else { SBR })
}

/// The bits of a header, the highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next `count` bits, at most 32.
    fn take(&mut self, count: usize) -> Result<u32, AacError> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8).ok_or(AacError::Truncated)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    fn object_type(&mut self) -> Result<u32, AacError> {
        const ESCAPE: u32 = 31;
        match self.take(5)? {
            ESCAPE => Ok(32 + self.take(6)?),
            object_type => Ok(object_type),
        }
    }

    fn sample_rate(&mut self) -> Result<u32, AacError> {
        const RATES_HZ: [u32; 13] =
            [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
        const ESCAPE: u32 = 15;
        let rate = match self.take(4)? {
            ESCAPE => self.take(24)?,
            index => RATES_HZ.get(index as usize).copied().unwrap_or(0),
        };
        let possible = limits::SAMPLE_RATE_HZ_MIN..=limits::SAMPLE_RATE_HZ_MAX;
        if possible.contains(&rate) { Ok(rate) } else { Err(AacError::SampleRate(rate)) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `fields` as (value, bits), padded to a byte.
    fn asc(fields: &[(u32, usize)]) -> Bytes {
        let mut bits: Vec<u8> = Vec::new();
        for &(value, count) in fields {
            bits.extend((0..count).rev().map(|bit| u8::from(value >> bit & 1 == 1)));
        }
        bits.resize(bits.len().next_multiple_of(8), 0);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | bit)).collect()
    }

    pub(crate) fn config(rate_index: u32) -> AudioConfig {
        parse(asc(&[(2, 5), (rate_index, 4), (2, 4), (0, 3)])).unwrap()
    }

    pub(crate) fn config_48k() -> AudioConfig {
        config(3)
    }

    #[test]
    fn lc_stereo() {
        let config = parse(Bytes::from_static(&[0x12, 0x10])).unwrap();
        assert_eq!((config.sample_rate, config.channels, config.frame_samples), (44100, 2, 1024));
        assert_eq!(config.codec, "mp4a.40.2");
    }

    #[test]
    fn frames_of_960_samples() {
        assert_eq!(parse(asc(&[(2, 5), (3, 4), (2, 4), (4, 3)])).unwrap().frame_samples, 960);
    }

    #[test]
    fn an_escaped_rate() {
        let config = parse(asc(&[(2, 5), (15, 4), (47_999, 24), (1, 4), (0, 3)])).unwrap();
        assert_eq!((config.sample_rate, config.channels), (47_999, 1));
    }

    #[test]
    fn spectral_band_replication_keeps_the_core_rate() {
        let explicit = parse(asc(&[(5, 5), (6, 4), (2, 4), (3, 4), (2, 5), (0, 3)])).unwrap();
        assert_eq!((explicit.sample_rate, explicit.codec.as_str()), (24000, "mp4a.40.5"));
        let hidden =
            parse(asc(&[(2, 5), (6, 4), (2, 4), (0, 3), (0x2b7, 11), (5, 5), (1, 1), (3, 4)])).unwrap();
        assert_eq!((hidden.sample_rate, hidden.codec.as_str()), (24000, "mp4a.40.5"));
    }

    #[test]
    fn parametric_stereo() {
        let explicit = parse(asc(&[(29, 5), (6, 4), (1, 4), (3, 4), (2, 5), (0, 3)])).unwrap();
        assert_eq!((explicit.channels, explicit.codec.as_str()), (1, "mp4a.40.29"));
        let lc = [(2, 5), (6, 4), (1, 4), (0, 3)];
        let hidden = [&lc[..], &[(0x2b7, 11), (5, 5), (1, 1), (3, 4), (0x548, 11), (1, 1)]].concat();
        assert_eq!(parse(asc(&hidden)).unwrap().codec, "mp4a.40.29");
    }

    #[test]
    fn lies_are_refused() {
        let zero_rate = asc(&[(2, 5), (15, 4), (0, 24), (2, 4), (0, 3)]);
        assert_eq!(parse(zero_rate), Err(AacError::SampleRate(0)));
        assert_eq!(parse(asc(&[(2, 5), (13, 4), (2, 4), (0, 3)])), Err(AacError::SampleRate(0)));
        assert_eq!(parse(asc(&[(2, 5), (3, 4), (0, 4), (0, 3)])), Err(AacError::Channels(0)));
        assert_eq!(parse(asc(&[(2, 5), (3, 4), (8, 4), (0, 3)])), Err(AacError::Channels(8)));
        assert_eq!(parse(asc(&[(31, 5), (10, 6), (3, 4), (2, 4), (0, 3)])), Err(AacError::ObjectType(42)));
        assert_eq!(parse(Bytes::from_static(&[0x12])), Err(AacError::Truncated));
        assert_eq!(parse(vec![0x12; limits::CODEC_HEADER_BYTES + 1].into()), Err(AacError::TooLong));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            if let Ok(config) = parse(bytes.into()) {
                prop_assert!(config.sample_rate >= limits::SAMPLE_RATE_HZ_MIN && config.channels > 0);
            }
        }
    }
}
