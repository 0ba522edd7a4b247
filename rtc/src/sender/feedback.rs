//! What receivers say of what they are sent: compound RTCP (RFC 3550 section 6.1) with feedback (RFC 4585), REMB and
//! transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).

const VERSION: u8 = 2;
const HEADER_BYTES: usize = 4;
/// Transport-layer and payload-specific feedback, and which there is of each.
const TRANSPORT: u8 = 205;
const PAYLOAD: u8 = 206;
const NACK: u8 = 1;
const TRANSPORT_WIDE: u8 = 15;
const PLI: u8 = 1;
const FIR: u8 = 4;
const APPLICATION: u8 = 15;
/// A packet says of so many others at most; their status counts are 16 bits long.
const STATUSES_MAX: usize = 1 << 13;
/// A step of arrival times in feedback, and of the time that it begins with, µs.
const STEP_US: i64 = 250;
const REFERENCE_US: i64 = 64_000;

/// One thing that a receiver says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Feedback {
    /// It lacks a packet of this SSRC.
    Lost { ssrc: u32, sequence: u16 },
    /// It cannot go on without a keyframe.
    KeyframeWanted,
    /// What it believes that it can be sent, bits a second.
    Remb { bps: u64 },
    /// Which packets came, and when.
    Arrivals(Vec<Arrival>),
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Its transport-wide sequence number.
    pub(crate) sequence: u16,
    /// When it came by the receiver's clock, which turns after 12 days, µs; `None`: it did not.
    pub(crate) at_us: Option<i64>,
}

/// Reads a compound packet, as far as it can be read.
pub(crate) fn read(mut compound: &[u8], mut each: impl FnMut(Feedback)) {
    while let Some((packet, rest)) = split(compound) {
        compound = rest;
        let [first, kind, _, _, body @ ..] = packet else { return };
        if first >> 6 != VERSION {
            return;
        }
        // After the SSRC of who sends it, and the one that it is about.
        let (Some(ssrc), Some(items)) = (number(body, 4), body.get(8..)) else { continue };
        match (*kind, first & 0x1f) {
            (TRANSPORT, NACK) => lost(ssrc, items, &mut each),
            (TRANSPORT, TRANSPORT_WIDE) => each(Feedback::Arrivals(arrivals(items).unwrap_or_default())),
            (PAYLOAD, PLI | FIR) => each(Feedback::KeyframeWanted),
            (PAYLOAD, APPLICATION) => remb(items).into_iter().for_each(|bps| each(Feedback::Remb { bps })),
            _ => {}
        }
    }
}

/// Takes the first packet of a compound one.
fn split(compound: &[u8]) -> Option<(&[u8], &[u8])> {
    let words = u16::from_be_bytes([*compound.get(2)?, *compound.get(3)?]);
    compound.split_at_checked(HEADER_BYTES + 4 * usize::from(words))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// RFC 4585 section 6.2.1: a number, and which of the sixteen after it are lacking as well.
fn lost(ssrc: u32, items: &[u8], each: &mut impl FnMut(Feedback)) {
    for item in items.chunks_exact(4) {
        let &[first, second, third, fourth] = item else { return };
        let sequence = u16::from_be_bytes([first, second]);
        each(Feedback::Lost { ssrc, sequence });
        let following = u16::from_be_bytes([third, fourth]);
        for bit in (0..16).filter(|bit| following & (1 << bit) != 0) {
            each(Feedback::Lost { ssrc, sequence: sequence.wrapping_add(bit + 1) });
        }
    }
}

/// draft-alvestrand-rmcat-remb-03 section 2.2.
fn remb(items: &[u8]) -> Option<u64> {
    let [b'R', b'E', b'M', b'B', _, high, middle, low, ..] = *items else { return None };
    let mantissa = u64::from(high & 3) << 16 | u64::from(middle) << 8 | u64::from(low);
    mantissa.checked_shl(u32::from(high >> 2)).filter(|bps| bps >> (high >> 2) == mantissa)
}

/// Section 3.1 of the draft. `None`: it cannot be read.
fn arrivals(items: &[u8]) -> Option<Vec<Arrival>> {
    let (head, mut rest) = items.split_at_checked(8)?;
    let &[base_high, base_low, count_high, count_low, high, middle, low, _] = head else { return None };
    let base = u16::from_be_bytes([base_high, base_low]);
    let count = usize::from(u16::from_be_bytes([count_high, count_low]));
    if count > STATUSES_MAX {
        return None;
    }
    let reference = i64::from(high.cast_signed()) << 16 | i64::from(middle) << 8 | i64::from(low);
    let mut statuses = Vec::with_capacity(count);
    while statuses.len() < count {
        let (chunk, after) = rest.split_first_chunk::<2>()?;
        rest = after;
        take_chunk(u16::from_be_bytes(*chunk), count, &mut statuses);
    }
    let mut clock = reference * REFERENCE_US;
    let mut arrivals = Vec::with_capacity(count);
    let mut sequence = base;
    for status in statuses {
        let at_us = match status {
            0 | 3 => None,
            1 => {
                let (step, after) = rest.split_first()?;
                rest = after;
                clock += i64::from(*step) * STEP_US;
                Some(clock)
            }
            _ => {
                let (step, after) = rest.split_first_chunk::<2>()?;
                rest = after;
                clock += i64::from(i16::from_be_bytes(*step)) * STEP_US;
                Some(clock)
            }
        };
        arrivals.push(Arrival { sequence, at_us });
        sequence = sequence.wrapping_add(1);
    }
    Some(arrivals)
}

/// Sections 3.1.3 and 3.1.4: a run of one status, or seven or fourteen of them side by side. Statuses: not received,
/// received a little later, received later or earlier.
fn take_chunk(chunk: u16, count: usize, statuses: &mut Vec<u8>) {
    let low = |bits: u16| u8::try_from(bits & 3).unwrap_or_default();
    let room = count - statuses.len();
    match chunk >> 14 {
        0 | 1 => {
            let run = usize::from(chunk & 0x1fff).min(room);
            statuses.extend(std::iter::repeat_n(low(chunk >> 13), run));
        }
        2 => statuses.extend((0..14).rev().map(|bit| low((chunk >> bit) & 1)).take(room)),
        _ => statuses.extend((0..7).rev().map(|pair| low(chunk >> (2 * pair))).take(room)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(kind: u8, format: u8, items: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80 | format, kind, 0, u8::try_from(2 + items.len() / 4).unwrap()];
        packet.extend([0, 0, 0, 1, 0, 0, 0, 7]);
        packet.extend(items);
        packet
    }

    fn all(compound: &[u8]) -> Vec<Feedback> {
        let mut all = Vec::new();
        read(compound, |feedback| all.push(feedback));
        all
    }

    #[test]
    fn losses_are_told_one_by_one() {
        let lost = |sequence| Feedback::Lost { ssrc: 7, sequence };
        let mut compound = vec![0x80, 201, 0, 1, 0, 0, 0, 1];
        compound.extend(packet(TRANSPORT, NACK, &[0xff, 0xff, 0x80, 1, 0, 5, 0, 0]));
        assert_eq!(all(&compound), [lost(0xffff), lost(0), lost(15), lost(5)]);
    }

    #[test]
    fn requests_and_estimates() {
        assert_eq!(all(&packet(PAYLOAD, PLI, &[])), [Feedback::KeyframeWanted]);
        assert_eq!(all(&packet(PAYLOAD, FIR, &[0, 0, 0, 7, 1, 0, 0, 0])), [Feedback::KeyframeWanted]);
        // 0x3_0000 << 3
        let said = [b'R', b'E', b'M', b'B', 1, 3 << 2 | 3, 0, 0, 0, 0, 0, 7];
        assert_eq!(all(&packet(PAYLOAD, APPLICATION, &said)), [Feedback::Remb { bps: 0x3_0000 << 3 }]);
        let too_much = [b'R', b'E', b'M', b'B', 1, 63 << 2 | 3, 0, 0];
        assert_eq!(all(&packet(PAYLOAD, APPLICATION, &too_much)), []);
        assert_eq!(all(&[0x80, 201, 0, 9, 1]), [], "cut off");
    }

    #[test]
    fn arrivals_are_told_with_their_times() {
        // From 65,535 on: two a little later, one lost, then one much earlier by a vector of two bits each.
        let items = [0xff, 0xff, 0, 4, 0, 0, 2, 1, 0x20, 2, 0xc8, 0, 4, 8, 0xff, 0xfc];
        let at = |sequence, at_us| Arrival { sequence, at_us };
        let expected =
            vec![at(0xffff, Some(129_000)), at(0, Some(131_000)), at(1, None), at(2, Some(130_000))];
        assert_eq!(all(&packet(TRANSPORT, TRANSPORT_WIDE, &items)), [Feedback::Arrivals(expected)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
            let bytes = if whole { packet(TRANSPORT, TRANSPORT_WIDE, &bytes[..bytes.len() / 4 * 4]) } else { bytes };
            let told = all(&bytes).into_iter().map(|feedback| match feedback {
                Feedback::Arrivals(arrivals) => arrivals.len(),
                _ => 1,
            });
            prop_assert!(told.sum::<usize>() <= STATUSES_MAX + 17 * bytes.len());
        }
    }
}
