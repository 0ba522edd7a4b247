//! What a rendition is cut into: parts, which are sent as soon as their frames are in, and the segments that
//! they add up to.

use bytes::{Bytes, BytesMut};

/// What a player loads before the segments that refer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitSegment {
    /// Counts from 0 within a segmenter.
    pub index: u32,
    /// The file.
    pub bytes: Bytes,
}

/// A Partial Segment (RFC 8216bis, 3.1): one `moof` and one `mdat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The media sequence number of its segment.
    pub sequence: u64,
    /// Its place in that segment, from 0.
    pub index: u32,
    /// The init segment that it needs.
    pub init: InitSegment,
    /// Whether it is no continuation of the part before. Only ever so for a segment's first.
    pub discontinuity: bool,
    /// Whether it can be decoded without the part before.
    pub begins_independent: bool,
    /// Whether decoding can start within it.
    pub independent: bool,
    /// In milliseconds, at least 1.
    pub duration_ms: u64,
    /// When its first picture (or sound) was published, in Unix milliseconds.
    pub program_date_time_unix_ms: i64,
    /// The file.
    pub bytes: Bytes,
}

/// A media segment and what a playlist says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its media sequence number.
    pub sequence: u64,
    /// Whether there is no such file: it keeps the place of media that this rendition has lost (RFC 8216bis,
    /// 4.4.4.7).
    pub gap: bool,
    /// The init segment that it needs.
    pub init: InitSegment,
    /// Whether it is no continuation of the one before.
    pub discontinuity: bool,
    /// Whether it can be decoded without the one before.
    pub independent: bool,
    /// In milliseconds, at least 1: the sum of its parts'.
    pub duration_ms: u64,
    /// When its first picture (or sound) was published, in Unix milliseconds.
    pub program_date_time_unix_ms: i64,
    /// The file: its parts, one after the other.
    pub bytes: Bytes,
    /// Its parts, whose bytes lie within its own.
    pub parts: Vec<Part>,
}

/// Where a rendition may go on in step with another: the place of that one's segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The media sequence number.
    pub sequence: u64,
    /// When its first picture is shown, in Unix milliseconds.
    pub starts_unix_ms: i64,
    /// Whether it is no continuation of the one before.
    pub discontinuity: bool,
}

impl Segment {
    /// The segment that `parts` are, in this order. None of none.
    #[must_use]
    pub fn of(mut parts: Vec<Part>) -> Option<Self> {
        let bytes = joined(&parts);
        let mut at = 0;
        for part in &mut parts {
            let end = at + part.bytes.len();
            // The same memory twice would double what a window takes.
            part.bytes = bytes.slice(at..end);
            at = end;
        }
        let first = parts.first()?;
        Some(Self {
            sequence: first.sequence,
            gap: false,
            init: first.init.clone(),
            discontinuity: first.discontinuity,
            independent: first.begins_independent,
            duration_ms: parts.iter().map(|part| part.duration_ms).sum(),
            program_date_time_unix_ms: first.program_date_time_unix_ms,
            bytes,
            parts,
        })
    }

    /// What keeps its place in a rendition that does not have it, whose files need `init`.
    #[must_use]
    pub fn gap(&self, init: InitSegment) -> Self {
        Self { gap: true, init, independent: true, bytes: Bytes::new(), parts: Vec::new(), ..*self }
    }

    /// Its bits a second.
    #[must_use]
    pub fn bitrate_bps(&self) -> u64 {
        (self.bytes.len() as u64).saturating_mul(8000) / self.duration_ms.max(1)
    }
}

fn joined(parts: &[Part]) -> Bytes {
    if let [only] = parts {
        return only.bytes.clone();
    }
    let mut bytes = BytesMut::with_capacity(parts.iter().map(|part| part.bytes.len()).sum());
    parts.iter().for_each(|part| bytes.extend_from_slice(&part.bytes));
    bytes.freeze()
}
