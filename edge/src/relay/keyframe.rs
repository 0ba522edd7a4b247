//! Where in a run of RTP packets a keyframe begins, from the first bytes of their payloads.

use sluicegate_rtc::Codec;

/// NAL unit types (H.264 table 7-1): a slice of an IDR picture, and the parameters that one may bring along.
const IDR: u8 = 5;
const SPS: u8 = 7;
/// RFC 6184 section 5.2: several NAL units in one packet, and a piece of one.
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Finds the packets that keyframes begin with.
#[derive(Debug, Default)]
pub(crate) struct Keyframes {
    /// The timestamp of the last one found: its other packets begin nothing.
    last: Option<u32>,
}

impl Keyframes {
    /// Whether the packet with this payload is the first of a keyframe that can be shown.
    pub(crate) fn begins(&mut self, codec: Codec, timestamp: u32, payload: &[u8]) -> bool {
        let opens = match codec {
            Codec::H264 => opens_h264(payload),
            Codec::Vp8 => opens_vp8(payload),
            Codec::Opus => false,
        };
        if !opens || self.last == Some(timestamp) {
            return false;
        }
        self.last = Some(timestamp);
        true
    }
}

fn opens_h264(payload: &[u8]) -> bool {
    let Some((first, rest)) = payload.split_first() else { return false };
    match first & 0x1f {
        IDR | SPS => true,
        STAP_A => units(rest).any(|unit| unit.first().is_some_and(|b| matches!(b & 0x1f, IDR | SPS))),
        // The start bit, then the type of the unit that is cut up.
        FU_A => rest.first().is_some_and(|b| b & 0x80 != 0 && b & 0x1f == IDR),
        _ => false,
    }
}

/// The NAL units of a STAP-A, each after its length in two bytes.
fn units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let unit = after.get(..usize::from(u16::from_be_bytes(*length)))?;
        rest = after.get(unit.len()..)?;
        Some(unit)
    })
}

/// The first packet of the first partition, whose header says that it is a key frame (RFC 7741 4.2, 4.3).
fn opens_vp8(payload: &[u8]) -> bool {
    let Some((&required, mut rest)) = payload.split_first() else { return false };
    let begins_first_partition = required & 0x10 != 0 && required & 0x07 == 0;
    if required & 0x80 != 0 {
        let Some((&extension, after)) = rest.split_first() else { return false };
        let picture_id = match (extension & 0x80 != 0, after.first()) {
            (true, Some(id)) if id & 0x80 != 0 => 2,
            (true, _) => 1,
            (false, _) => 0,
        };
        let others = usize::from(extension & 0x40 != 0) + usize::from(extension & 0x30 != 0);
        rest = after.get(picture_id + others..).unwrap_or_default();
    }
    begins_first_partition && rest.first().is_some_and(|header| header & 1 == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(codec: Codec, payload: &[u8], expect: bool) {
        assert_eq!(Keyframes::default().begins(codec, 0, payload), expect, "{payload:x?}");
    }

    #[test]
    fn h264() {
        check(Codec::H264, &[0x65, 1], true);
        check(Codec::H264, &[0x67, 1], true);
        check(Codec::H264, &[0x41, 1], false);
        check(Codec::H264, &[0x78, 0, 1, 0x09, 0, 2, 0x67, 1], true);
        check(Codec::H264, &[0x78, 0, 1, 0x41], false);
        check(Codec::H264, &[0x78, 0, 9, 0x67], false);
        check(Codec::H264, &[0x7c, 0x85, 1], true);
        check(Codec::H264, &[0x7c, 0x05, 1], false);
        check(Codec::H264, &[0x7c, 0x81, 1], false);
    }

    #[test]
    fn vp8() {
        check(Codec::Vp8, &[0x10, 0x00], true);
        check(Codec::Vp8, &[0x10, 0x01], false);
        check(Codec::Vp8, &[0x00, 0x00], false);
        check(Codec::Vp8, &[0x90, 0x80, 0x81, 0x02, 0x00], true);
        check(Codec::Vp8, &[0x90, 0xe0, 0x01, 0x02, 0x03, 0x01], false);
        check(Codec::Vp8, &[0x90], false);
    }

    #[test]
    fn a_keyframe_begins_once() {
        let mut keyframes = Keyframes::default();
        assert!(keyframes.begins(Codec::H264, 7, &[0x67]));
        assert!(!keyframes.begins(Codec::H264, 7, &[0x65]));
        assert!(keyframes.begins(Codec::H264, 8, &[0x65]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            for codec in [Codec::H264, Codec::Vp8, Codec::Opus] {
                let _ = Keyframes::default().begins(codec, 0, &payload);
            }
        }
    }
}
