//! H.264 as encoders write it, a byte stream with start codes (ITU-T H.264, Annex B), into what MP4 and FLV
//! carry: NAL units after their lengths, parameter sets apart (ISO/IEC 14496-15).

use bytes::{BufMut, Bytes, BytesMut};

use crate::avc::{self, AvcError};
use crate::frame::VideoConfig;

const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;

/// The NAL units of a byte stream, in order. Bytes before the first start code belong to none.
pub fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(stream);
    std::iter::from_fn(move || {
        let unit_and_more = rest?;
        let end = start_code(unit_and_more).unwrap_or(unit_and_more.len());
        let (unit, more) = unit_and_more.split_at_checked(end)?;
        rest = after_start_code(more);
        // A start code of four bytes begins with a zero, and a unit never ends with one.
        Some(unit.iter().rposition(|byte| *byte != 0).map_or(&[][..], |last| &unit[..=last]))
    })
    .filter(|unit| !unit.is_empty())
}

/// One picture, each NAL unit after its length in four bytes. Parameter sets and delimiters are left out: the
/// header has them.
#[must_use]
pub fn to_lengths(stream: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(stream.len().saturating_add(16));
    for unit in nal_units(stream).filter(|unit| !matches!(kind(unit), SPS | PPS | DELIMITER)) {
        let Ok(length) = u32::try_from(unit.len()) else { continue };
        out.put_u32(length);
        out.put_slice(unit);
    }
    out.freeze()
}

/// The header of a track whose parameter sets are in this byte stream.
///
/// # Errors
/// [`AvcError`] when one is missing or cannot be read.
pub fn video_config(parameter_sets: &[u8]) -> Result<VideoConfig, AvcError> {
    let find = |wanted| nal_units(parameter_sets).find(|unit| kind(unit) == wanted);
    let (sps, pps) = find(SPS).zip(find(PPS)).ok_or(AvcError::NoParameterSet)?;
    avc::parse(avc::record(sps, pps)?)
}

fn kind(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |header| header & 0x1f)
}

fn start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|window| window == [0, 0, 1])
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(start_code(bytes)?.saturating_add(3)..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::avc::tests::{PPS as PPS_720P, SPS_720P};

    #[test]
    fn units_between_start_codes_of_three_and_four_bytes() {
        let stream = [0, 0, 0, 1, 0x67, 9, 0, 0, 1, 0x68, 8, 0, 0, 0, 1, 0x65, 7];
        assert_eq!(nal_units(&stream).collect::<Vec<_>>(), [&[0x67, 9][..], &[0x68, 8], &[0x65, 7]]);
        assert_eq!(&to_lengths(&stream)[..], [0, 0, 0, 2, 0x65, 7]);
        assert_eq!(nal_units(&[1, 2, 3]).count(), 0);
    }

    #[test]
    fn a_header_is_made_of_parameter_sets() {
        let start = &[0, 0, 0, 1][..];
        let config = video_config(&[start, SPS_720P, start, PPS_720P].concat()).unwrap();
        assert_eq!((config.width, config.height, config.codec.as_str()), (1280, 720, "avc1.64001f"));
        let without = video_config(&[start, SPS_720P].concat());
        assert!(matches!(without, Err(AvcError::NoParameterSet)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(0..3_u8, 0..200)) {
            let units: usize = nal_units(&bytes).map(<[u8]>::len).sum();
            prop_assert!(units <= bytes.len());
            let _ = (to_lengths(&bytes), video_config(&bytes));
        }
    }
}
