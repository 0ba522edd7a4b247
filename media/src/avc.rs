//! H.264's decoder configuration, as FLV and MP4 carry it (avcC, ISO/IEC 14496-15).

use bytes::Bytes;
use h264_reader::nal::sps::{PicOrderCntType, SeqParameterSet, SpsError};
use h264_reader::rbsp::{BitReader, ByteReader};
use mp4_atom::{Atom, Avcc};

use crate::frame::VideoConfig;
use crate::limits;

/// What a NAL unit of a byte stream comes after.
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Why a decoder configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum AvcError {
    /// Longer than [`limits::CODEC_HEADER_BYTES`].
    #[error("the H.264 header is longer than {} bytes", limits::CODEC_HEADER_BYTES)]
    TooLong,
    /// Its fields or lengths contradict each other.
    #[error("the H.264 header is malformed: {0}")]
    Record(#[source] mp4_atom::Error),
    /// NAL units' lengths take 1, 2 or 4 bytes (ISO/IEC 14496-15, 5.3.3.1.2).
    #[error("the H.264 header gives lengths of {0} bytes")]
    LengthSize(u8),
    /// No sequence or no picture parameter set.
    #[error("the H.264 header lacks a parameter set")]
    NoParameterSet,
    /// The sequence parameter set cannot be read.
    #[error("the H.264 sequence parameter set is malformed: {0}")]
    Sps(String),
    /// More macroblocks than H.264's highest level has.
    #[error("a picture of {0} macroblocks is not possible here")]
    Macroblocks(u32),
    /// Nothing is left after cropping, or more than [`limits::PICTURE_PX`] in one direction.
    #[error("a picture of {width}x{height} is not possible here")]
    PictureSize {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
}

/// Reads an AVCDecoderConfigurationRecord.
///
/// # Errors
/// [`AvcError`] says what is wrong with it.
pub fn parse(avcc: Bytes) -> Result<VideoConfig, AvcError> {
    let record = read_record(&avcc)?;
    let sps = record.sequence_parameter_sets.first().ok_or(AvcError::NoParameterSet)?;
    let picture = read_sps(sps)?;
    Ok(VideoConfig {
        codec: format!(
            "avc1.{:02x}{:02x}{:02x}",
            record.avc_profile_indication, record.profile_compatibility, record.avc_level_indication
        ),
        width: picture.width,
        height: picture.height,
        fps: picture.fps,
        avcc,
    })
}

/// The record of these parameter sets, lengths being of four bytes.
///
/// # Errors
/// [`AvcError`] when the sequence parameter set is too short to name its profile.
pub(crate) fn record(sps: &[u8], pps: &[u8]) -> Result<Bytes, AvcError> {
    let mut out = Vec::new();
    Avcc::new(sps, pps).and_then(|record| record.encode_body(&mut out)).map_err(AvcError::Record)?;
    Ok(out.into())
}

/// Whether pictures may be shown in another order than they are decoded in: whether there may be B-frames.
/// `None`: the header does not tell.
#[must_use]
pub fn reorders(video: &VideoConfig) -> Option<bool> {
    const BASELINE: u8 = 66;
    let record = read_record(&video.avcc).ok()?;
    let sps = parse_sps(record.sequence_parameter_sets.first()?).ok()?;
    let in_order = u8::from(sps.profile_idc) == BASELINE || sps.pic_order_cnt == PicOrderCntType::TypeTwo;
    if in_order {
        return Some(false);
    }
    let restrictions = sps.vui_parameters?.bitstream_restrictions?;
    Some(restrictions.max_num_reorder_frames > 0)
}

/// The record's fields, checked as far as muxing depends on them.
pub(crate) fn read_record(avcc: &[u8]) -> Result<Avcc, AvcError> {
    if avcc.len() > limits::CODEC_HEADER_BYTES {
        return Err(AvcError::TooLong);
    }
    let mut body = avcc;
    let record = Avcc::decode_body(&mut body).map_err(AvcError::Record)?;
    if record.length_size == 3 {
        return Err(AvcError::LengthSize(record.length_size));
    }
    if record.picture_parameter_sets.is_empty() {
        return Err(AvcError::NoParameterSet);
    }
    Ok(record)
}

/// The parameter sets of a header, each after a start code (ITU-T H.264, Annex B), and the bytes of the
/// lengths that its pictures' NAL units come after.
///
/// # Errors
/// [`AvcError`] when the header cannot be read.
pub fn parameter_sets(video: &VideoConfig) -> Result<(Vec<u8>, usize), AvcError> {
    let record = read_record(&video.avcc)?;
    let sets = record.sequence_parameter_sets.iter().chain(&record.picture_parameter_sets);
    Ok((sets.flat_map(|set| START_CODE.iter().chain(set)).copied().collect(), record.length_size.into()))
}

/// A picture whose NAL units come after lengths of `length_bytes` as a byte stream with start codes (Annex B),
/// after `headers`. What lies about its length, and what follows it, is left out.
#[must_use]
pub fn to_byte_stream(picture: &[u8], length_bytes: usize, headers: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(headers.len() + picture.len() + 16);
    out.extend_from_slice(headers);
    let mut rest = picture;
    while let Some((length, after)) = rest.split_at_checked(length_bytes.max(1)) {
        let length = length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        let Some((unit, more)) = after.split_at_checked(length) else { break };
        if !unit.is_empty() {
            out.extend_from_slice(&START_CODE);
            out.extend_from_slice(unit);
        }
        rest = more;
    }
    out
}

struct Picture {
    width: u32,
    height: u32,
    fps: Option<f64>,
}

fn read_sps(nal: &[u8]) -> Result<Picture, AvcError> {
    let sps = parse_sps(nal)?;
    let (width, height) = sps.pixel_dimensions().map_err(|error| AvcError::Sps(format!("{error:?}")))?;
    let possible = 1..=limits::PICTURE_PX;
    if !possible.contains(&width) || !possible.contains(&height) {
        return Err(AvcError::PictureSize { width, height });
    }
    let plausible = |fps: &f64| fps.is_finite() && *fps > 0.0 && *fps <= limits::FRAMES_PER_SECOND;
    Ok(Picture { width, height, fps: sps.fps().filter(plausible) })
}

fn parse_sps(nal: &[u8]) -> Result<SeqParameterSet, AvcError> {
    const SPS: u8 = 7;
    let malformed = |why: &str| AvcError::Sps(why.to_owned());
    // Encoders append zero bytes, which belong to the byte stream and not to the parameter set.
    let end = nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut nal = nal.get(..end).unwrap_or_default().to_vec();
    let [header, _profile, _constraints, level, ..] = nal.as_mut_slice() else {
        return Err(malformed("too short"));
    };
    if *header & 0x9f != SPS {
        return Err(malformed("not a sequence parameter set"));
    }
    // Cheap encoders give a level too low for their picture, which the reader refuses. Only the size and
    // the rate are wanted here, and the size has its own limit: read it as the highest level, 6.2.
    *level = 62;
    SeqParameterSet::from_bits(BitReader::new(ByteReader::skipping_h264_header(&nal[..]))).map_err(|error| {
        match error {
            SpsError::FieldValueTooLarge { name: "pic_size_in_map_units", value } => {
                AvcError::Macroblocks(value)
            }
            other => AvcError::Sps(format!("{other:?}")),
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use h264_reader::nal::WritableNal;
    use h264_reader::rbsp::{BitWriter, ByteWriter};
    use proptest::prelude::*;

    use super::*;

    /// 1280x720 at 30 frames a second, High profile, level 3.1, as x264 writes it.
    pub(crate) const SPS_720P: &[u8] = &[
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10,
        0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
    ];
    pub(crate) const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

    fn record_of(sps: &[u8], length_size: u8) -> Bytes {
        let mut out = vec![1, sps[1], sps[2], sps[3], 0xfc | (length_size - 1), 0xe1];
        out.extend_from_slice(&u16::try_from(sps.len()).unwrap().to_be_bytes());
        out.extend_from_slice(sps);
        out.push(1);
        out.extend_from_slice(&u16::try_from(PPS.len()).unwrap().to_be_bytes());
        out.extend_from_slice(PPS);
        out.into()
    }

    pub(crate) fn config_720p() -> VideoConfig {
        parse(record_of(SPS_720P, 4)).unwrap()
    }

    /// The same picture, another level: a different header.
    pub(crate) fn config_720p_level_4() -> VideoConfig {
        let mut sps = SPS_720P.to_vec();
        sps[3] = 0x28;
        parse(record_of(&sps, 4)).unwrap()
    }

    fn sps_with(change: impl FnOnce(&mut SeqParameterSet)) -> Vec<u8> {
        let reader = BitReader::new(ByteReader::skipping_h264_header(SPS_720P));
        let mut sps = SeqParameterSet::from_bits(reader).unwrap();
        change(&mut sps);
        let mut out = vec![0x67];
        sps.write_bits(&mut BitWriter::new(ByteWriter::new(&mut out))).unwrap();
        out
    }

    #[test]
    fn size_rate_and_codec_string() {
        let config = config_720p();
        assert_eq!((config.width, config.height), (1280, 720));
        assert_eq!(config.codec, "avc1.64001f");
        assert!((config.fps.unwrap() - 30.0).abs() < 1e-9, "{:?}", config.fps);
    }

    #[test]
    fn whether_there_may_be_b_frames() {
        assert_eq!(reorders(&config_720p()), Some(true));
        let baseline = sps_with(|sps| sps.profile_idc = 66.into());
        assert_eq!(reorders(&parse(record_of(&baseline, 4)).unwrap()), Some(false));
        let told = sps_with(|sps| {
            let vui = sps.vui_parameters.as_mut().unwrap();
            vui.bitstream_restrictions.as_mut().unwrap().max_num_reorder_frames = 0;
        });
        assert_eq!(reorders(&parse(record_of(&told, 4)).unwrap()), Some(false));
        let silent = sps_with(|sps| sps.vui_parameters = None);
        assert_eq!(reorders(&parse(record_of(&silent, 4)).unwrap()), None);
    }

    #[test]
    fn cropping_is_taken_off() {
        let sps = sps_with(|sps| {
            sps.pic_height_in_map_units_minus1 = 67;
            sps.pic_width_in_mbs_minus1 = 119;
            let crop = h264_reader::nal::sps::FrameCropping { bottom_offset: 4, ..Default::default() };
            sps.frame_cropping = Some(crop);
        });
        let config = parse(record_of(&sps, 4)).unwrap();
        assert_eq!((config.width, config.height), (1920, 1080));
    }

    #[test]
    fn a_level_too_low_for_the_picture_is_no_reason_to_refuse() {
        let mut sps = SPS_720P.to_vec();
        sps[3] = 10;
        let config = parse(record_of(&sps, 4)).unwrap();
        assert_eq!((config.width, config.codec.as_str()), (1280, "avc1.64000a"));
    }

    #[test]
    fn zero_bytes_after_the_parameter_set_are_ignored() {
        let sps = [SPS_720P, &[0, 0]].concat();
        assert_eq!(parse(record_of(&sps, 4)).unwrap().height, 720);
    }

    #[test]
    fn absurd_pictures_are_refused() {
        let wide = sps_with(|sps| sps.pic_width_in_mbs_minus1 = 512);
        assert!(matches!(
            parse(record_of(&wide, 4)),
            Err(AvcError::PictureSize { width: 8208, height: 720 })
        ));
        let huge = sps_with(|sps| {
            (sps.pic_width_in_mbs_minus1, sps.pic_height_in_map_units_minus1) = (1_023, 1_023);
        });
        assert!(matches!(parse(record_of(&huge, 4)), Err(AvcError::Macroblocks(1_048_576))));
        let nothing = sps_with(|sps| {
            let crop = h264_reader::nal::sps::FrameCropping { left_offset: 640, ..Default::default() };
            sps.frame_cropping = Some(crop);
        });
        assert!(matches!(parse(record_of(&nothing, 4)), Err(AvcError::PictureSize { width: 0, .. })));
    }

    #[test]
    fn lying_timing_is_left_out() {
        let sps = sps_with(|sps| {
            let vui = sps.vui_parameters.as_mut().unwrap();
            vui.timing_info.as_mut().unwrap().num_units_in_tick = 0;
        });
        assert_eq!(parse(record_of(&sps, 4)).unwrap().fps, None);
    }

    #[test]
    fn malformed_records_are_refused() {
        assert!(matches!(parse(record_of(SPS_720P, 3)), Err(AvcError::LengthSize(3))));
        assert!(matches!(parse(Bytes::new()), Err(AvcError::Record(_))));
        let no_sps = Bytes::from_static(&[1, 0x64, 0, 31, 0xff, 0xe0, 1, 0, 1, 0x68]);
        assert!(matches!(parse(no_sps), Err(AvcError::NoParameterSet)));
        let not_sps = record_of(&[0x68, 1, 2, 3], 4);
        assert!(matches!(parse(not_sps), Err(AvcError::Sps(_))));
        let long = Bytes::from(vec![1; limits::CODEC_HEADER_BYTES + 1]);
        assert!(matches!(parse(long), Err(AvcError::TooLong)));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = record_of(SPS_720P, 4);
        for end in 0..whole.len() {
            assert!(parse(whole.slice(..end)).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn a_header_and_a_picture_become_a_byte_stream() {
        let (sets, length_bytes) = parameter_sets(&config_720p()).unwrap();
        assert_eq!(sets, [&START_CODE, SPS_720P, &START_CODE, PPS].concat());
        assert_eq!(length_bytes, 4);
        let picture = [0, 0, 0, 2, 0x65, 9, 0, 0, 0, 1, 0x41];
        assert_eq!(to_byte_stream(&picture, 4, &[7]), [7, 0, 0, 0, 1, 0x65, 9, 0, 0, 0, 1, 0x41]);
        assert_eq!(to_byte_stream(&[0, 3, 0x65], 2, &[]), [], "it lies about its length");
    }

    proptest! {
        #[test]
        fn what_was_a_byte_stream_is_one_again(
            units in proptest::collection::vec(proptest::collection::vec(1..255_u8, 1..40), 0..8),
            length_bytes in 1..5_usize,
        ) {
            let lengths = |unit: &Vec<u8>| {
                let length = u32::try_from(unit.len()).unwrap().to_be_bytes();
                [&length[4 - length_bytes..], unit].concat()
            };
            let picture: Vec<u8> = units.iter().flat_map(lengths).collect();
            let stream = to_byte_stream(&picture, length_bytes, &[]);
            let back: Vec<_> = crate::annexb::nal_units(&stream).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(back, units);
        }

        #[test]
        fn any_picture_is_read(picture in proptest::collection::vec(0..4_u8, 0..100), length_bytes in 0..5_usize) {
            let _ = to_byte_stream(&picture, length_bytes, &[]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(bytes.into());
        }

        #[test]
        fn arbitrary_parameter_sets_never_panic(tail in proptest::collection::vec(any::<u8>(), 3..120)) {
            let sps = [&[0x67], &tail[..]].concat();
            if let Ok(config) = parse(record_of(&sps, 4)) {
                prop_assert!(config.width <= limits::PICTURE_PX && config.height <= limits::PICTURE_PX);
            }
        }

        #[test]
        fn damaged_parameter_sets_never_panic(at in 1..SPS_720P.len(), bit in 0..8_u8) {
            let mut sps = SPS_720P.to_vec();
            sps[at] ^= 1 << bit;
            let _ = parse(record_of(&sps, 4));
        }
    }
}
