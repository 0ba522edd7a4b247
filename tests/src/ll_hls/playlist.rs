//! A low-latency media playlist, as strictly as a validator wants it.

use crate::hls::attribute;

/// What a media playlist says. Lengths of time are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Playlist {
    /// `EXT-X-VERSION`.
    pub version: u64,
    /// `EXT-X-TARGETDURATION`.
    pub target_ms: u64,
    /// `EXT-X-PART-INF`.
    pub part_target_ms: Option<u64>,
    /// `EXT-X-SERVER-CONTROL` as written.
    pub server_control: Option<String>,
    /// `EXT-X-MEDIA-SEQUENCE`.
    pub sequence: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub discontinuity_sequence: u64,
    /// `EXT-X-SKIP`.
    pub skipped: u64,
    /// Whether `EXT-X-INDEPENDENT-SEGMENTS` is there.
    pub independent_segments: bool,
    /// The segments; the last may be incomplete, and then has no address.
    pub segments: Vec<Segment>,
    /// The address of `EXT-X-PRELOAD-HINT`.
    pub hint: Option<String>,
    /// `EXT-X-RENDITION-REPORT`s.
    pub reports: Vec<RenditionReport>,
    /// Whether it has `EXT-X-ENDLIST`.
    pub ended: bool,
}

/// A segment and its parts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Segment {
    /// Its address, once it is complete.
    pub uri: Option<String>,
    /// `EXTINF`.
    pub duration_ms: u64,
    /// Whether `EXT-X-PROGRAM-DATE-TIME` stands before it.
    pub dated: bool,
    /// Whether `EXT-X-DISCONTINUITY` stands before it.
    pub discontinuity: bool,
    /// The `EXT-X-MAP` that applies.
    pub map: Option<String>,
    /// Its parts, as far as they are listed.
    pub parts: Vec<Part>,
}

/// A part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its address.
    pub uri: String,
    /// `DURATION`.
    pub duration_ms: u64,
    /// `INDEPENDENT`.
    pub independent: bool,
}

/// What is said of another rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionReport {
    /// Its playlist.
    pub uri: String,
    /// `LAST-MSN` and `LAST-PART`.
    pub last: (u64, u64),
}

impl Playlist {
    /// Reads `text`.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut playlist = Self::default();
        let mut next = Segment::default();
        for line in text.lines() {
            if !line.starts_with('#') && !line.is_empty() {
                let map = next.map.clone();
                let complete = Segment { uri: Some(line.to_owned()), ..std::mem::take(&mut next) };
                playlist.segments.push(complete);
                next.map = map;
                continue;
            }
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            playlist.take(tag, value, &mut next);
        }
        if !next.parts.is_empty() {
            playlist.segments.push(next);
        }
        playlist
    }

    fn take(&mut self, tag: &str, value: &str, next: &mut Segment) {
        let number = || value.parse().unwrap_or(0);
        match tag {
            "#EXT-X-VERSION" => self.version = number(),
            "#EXT-X-TARGETDURATION" => self.target_ms = milliseconds(value),
            "#EXT-X-PART-INF" => {
                self.part_target_ms = attribute(value, "PART-TARGET").map(|target| milliseconds(&target));
            }
            "#EXT-X-SERVER-CONTROL" => self.server_control = Some(value.to_owned()),
            "#EXT-X-MEDIA-SEQUENCE" => self.sequence = number(),
            "#EXT-X-DISCONTINUITY-SEQUENCE" => self.discontinuity_sequence = number(),
            "#EXT-X-SKIP" => self.skipped = attribute_number(value, "SKIPPED-SEGMENTS"),
            "#EXT-X-INDEPENDENT-SEGMENTS" => self.independent_segments = true,
            "#EXT-X-PROGRAM-DATE-TIME" => next.dated = true,
            "#EXT-X-DISCONTINUITY" => next.discontinuity = true,
            "#EXT-X-MAP" => next.map = attribute(value, "URI"),
            "#EXTINF" => next.duration_ms = milliseconds(value.split(',').next().unwrap_or_default()),
            "#EXT-X-PART" => next.parts.push(Part {
                uri: attribute(value, "URI").unwrap_or_default(),
                duration_ms: attribute(value, "DURATION").map_or(0, |duration| milliseconds(&duration)),
                independent: attribute(value, "INDEPENDENT").as_deref() == Some("YES"),
            }),
            "#EXT-X-PRELOAD-HINT" => self.hint = attribute(value, "URI"),
            "#EXT-X-RENDITION-REPORT" => self.reports.push(RenditionReport {
                uri: attribute(value, "URI").unwrap_or_default(),
                last: (attribute_number(value, "LAST-MSN"), attribute_number(value, "LAST-PART")),
            }),
            "#EXT-X-ENDLIST" => self.ended = true,
            _ => {}
        }
    }

    /// The segments with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (u64, &Segment)> {
        (self.sequence + self.skipped..).zip(&self.segments)
    }

    /// The segment of that number.
    #[must_use]
    pub fn segment(&self, number: u64) -> Option<&Segment> {
        let at = number.checked_sub(self.sequence + self.skipped)?;
        self.segments.get(usize::try_from(at).ok()?)
    }

    /// The number of its last complete segment.
    #[must_use]
    pub fn last_complete(&self) -> Option<u64> {
        self.numbered().filter(|(_, segment)| segment.uri.is_some()).map(|(number, _)| number).last()
    }

    /// Its last part: the segment's number, and its own within that.
    #[must_use]
    pub fn last_part(&self) -> Option<(u64, u64)> {
        let (number, segment) = self.numbered().last()?;
        Some((number, (segment.parts.len() as u64).checked_sub(1)?))
    }

    /// The part that comes next, as a player asks for it.
    #[must_use]
    pub fn next_part(&self) -> Option<(u64, u64)> {
        let (number, segment) = self.numbered().last()?;
        Some(match segment.uri {
            Some(_) => (number + 1, 0),
            None => (number, segment.parts.len() as u64),
        })
    }

    /// An attribute of `EXT-X-SERVER-CONTROL`.
    #[must_use]
    pub fn control(&self, name: &str) -> Option<String> {
        attribute(self.server_control.as_deref()?, name)
    }

    /// Such an attribute that is a length of time.
    #[must_use]
    pub fn control_ms(&self, name: &str) -> Option<u64> {
        self.control(name).map(|value| milliseconds(&value))
    }
}

fn attribute_number(list: &str, name: &str) -> u64 {
    attribute(list, name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Decimal seconds, to the nearest millisecond.
fn milliseconds(seconds: &str) -> u64 {
    seconds.parse::<f64>().map_or(0, |seconds| (seconds * 1000.0).round() as u64)
}
