//! The RTCP that goes with what is sent: sender reports with the name of their source, and goodbyes (RFC 3550
//! section 6.4.1, 6.5, 6.6).

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SENDER_REPORT: u8 = 200;
const DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const CNAME: u8 = 1;
/// The longest value of a description.
const NAME_BYTES_MAX: usize = 255;
/// From 1900, with which NTP begins, to 1970.
const NTP_BEFORE_UNIX_S: u64 = 2_208_988_800;

/// What is said of one SSRC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) ssrc: u32,
    /// The RTP timestamp of this moment.
    pub(crate) timestamp: u32,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
}

/// Writes reports of what is sent by the source of this name, as of `now`.
pub(crate) fn write(reports: &[Report], name: &str, now: Instant) -> Vec<u8> {
    let wall = since_1970(now);
    let fraction = (u64::from(wall.subsec_nanos()) << 32) / 1_000_000_000;
    let ntp = ((wall.as_secs() + NTP_BEFORE_UNIX_S) << 32) | fraction;
    let mut compound = Vec::new();
    for report in reports {
        let begin = compound.len();
        compound.extend([0x80, SENDER_REPORT, 0, 0]);
        compound.extend(report.ssrc.to_be_bytes());
        compound.extend(ntp.to_be_bytes());
        compound.extend(report.timestamp.to_be_bytes());
        compound.extend(report.packets.to_be_bytes());
        compound.extend(report.octets.to_be_bytes());
        end(&mut compound, begin);
    }
    for report in reports {
        let begin = compound.len();
        let name = name.as_bytes().get(..name.len().min(NAME_BYTES_MAX)).unwrap_or_default();
        compound.extend([0x81, DESCRIPTION, 0, 0]);
        compound.extend(report.ssrc.to_be_bytes());
        compound.extend([CNAME, u8::try_from(name.len()).unwrap_or_default()]);
        compound.extend(name);
        // A zero ends the list.
        compound.push(0);
        end(&mut compound, begin);
    }
    compound
}

/// Says that nothing more comes of these, after [`write`]: a compound packet begins with reports.
pub(crate) fn say_goodbye(compound: &mut Vec<u8>, ssrcs: impl Iterator<Item = u32>) {
    for ssrc in ssrcs {
        let begin = compound.len();
        compound.extend([0x81, GOODBYE, 0, 0]);
        compound.extend(ssrc.to_be_bytes());
        end(compound, begin);
    }
}

/// Pads a packet to whole words, and writes how many follow its first.
fn end(compound: &mut Vec<u8>, begin: usize) {
    compound.resize(begin + (compound.len() - begin).next_multiple_of(4), 0);
    let words = u16::try_from((compound.len() - begin) / 4 - 1).unwrap_or(u16::MAX);
    if let Some(length) = compound.get_mut(begin + 2..begin + 4) {
        length.copy_from_slice(&words.to_be_bytes());
    }
}

/// What the wall clock says at a moment, by one reading of it: reports of all sessions and tracks go together.
#[allow(clippy::disallowed_methods, reason = "no decision hangs on it: receivers compare it with itself")]
fn since_1970(now: Instant) -> Duration {
    static READ: OnceLock<(Instant, Duration)> = OnceLock::new();
    let read = || (now, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let (at, wall) = *READ.get_or_init(read);
    match now.checked_duration_since(at) {
        Some(passed) => wall.saturating_add(passed),
        None => wall.saturating_sub(at.saturating_duration_since(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    fn reports_are_whole_words_and_end_with_goodbyes() {
        let now = Instant::now();
        let report = Report { ssrc: 0x1122_3344, timestamp: 5, packets: 6, octets: 7 };
        let mut compound = write(&[report], "abcde", now);
        assert_eq!(compound[..8], [0x80, 200, 0, 6, 0x11, 0x22, 0x33, 0x44]);
        assert_eq!(compound[16..28], [0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7]);
        assert_eq!(compound[28..], *b"\x81\xca\0\x03\x11\x22\x33\x44\x01\x05abcde\0");
        let later = write(&[report], "abcde", now + Duration::from_millis(1_500));
        let seconds = |bytes: &[u8]| {
            let ntp = u64::from_be_bytes(bytes[8..16].try_into().unwrap());
            ntp as f64 / f64::from(u32::MAX)
        };
        assert!((seconds(&later) - seconds(&compound) - 1.5).abs() < 1e-3);
        say_goodbye(&mut compound, [9].into_iter());
        assert_eq!(compound[44..], [0x81, 203, 0, 1, 0, 0, 0, 9]);
    }
}
