//! The media playlist of a window, written anew when a part has come (RFC 8216bis, 4.4.3 to 4.4.5). Segments
//! near its end are listed with their parts, the one that is coming by its parts alone. Addresses are relative:
//! files lie beside their playlist.

use std::fmt::Write as _;

use super::time::{rfc3339, seconds};
use crate::names::{FileName, Rung};
use crate::reload::Reach;
use crate::segment::{Part, Segment};
use crate::window::{Window, WindowConfig};

/// Parts are listed up to so many target durations from the playlist's end (RFC 8216bis, 6.2.2).
const PARTS_TARGET_DURATIONS: u64 = 3;
/// How far from a playlist's end a player stays, in part targets (RFC 8216bis, 4.4.3.8: at least three).
const HOLD_BACK_PARTS: u64 = 3;
/// What a delta update may leave out is so many target durations from the playlist's end (RFC 8216bis, 4.4.3.8:
/// at least six).
const SKIP_TARGET_DURATIONS: u64 = 6;
/// The first version with `EXT-X-MAP` for any segment (RFC 8216bis, 8).
const VERSION: u64 = 6;
/// The first version with `EXT-X-GAP`.
const GAP_VERSION: u64 = 8;
/// The first version with `EXT-X-SKIP`.
const DELTA_VERSION: u64 = 9;

/// A media playlist as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPlaylist {
    /// All of it.
    pub full: String,
    /// Without the segments that a player has long had; none where a player may not ask for it.
    pub delta: Option<String>,
}

/// How far another rendition of the stream has come: `EXT-X-RENDITION-REPORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The rendition.
    pub rung: Rung,
    /// How far its playlist reaches.
    pub reach: Reach,
}

/// The media playlist of a window, with reports of the stream's other renditions. None before its first
/// segment.
#[must_use]
pub fn media_playlist(window: &Window, reports: &[Report]) -> Option<MediaPlaylist> {
    let reach = window.reach()?;
    let writer = Writer { window, reports, reach };
    let can_skip = writer.can_skip_until_ms().is_some() && !reach.ended;
    Some(MediaPlaylist { full: writer.write(0, VERSION), delta: can_skip.then(|| writer.delta()) })
}

/// What is said before a segment or its first part.
struct Beginning {
    discontinuity: bool,
    init: u32,
    unix_ms: i64,
}

impl Beginning {
    fn of(segment: &Segment) -> Self {
        Self {
            discontinuity: segment.discontinuity,
            init: segment.init.index,
            unix_ms: segment.program_date_time_unix_ms,
        }
    }

    fn of_part(part: &Part) -> Self {
        Self {
            discontinuity: part.discontinuity,
            init: part.init.index,
            unix_ms: part.program_date_time_unix_ms,
        }
    }
}

struct Writer<'a> {
    window: &'a Window,
    reports: &'a [Report],
    reach: Reach,
}

impl Writer<'_> {
    /// The playlist without its oldest segments, as many as a delta update may leave out.
    fn delta(&self) -> String {
        let boundary_ms = self.can_skip_until_ms().unwrap_or(u64::MAX);
        let mut to_end_ms: u64 = self.window.listed().map(|segment| segment.duration_ms).sum();
        let is_skipped = |segment: &&Segment| {
            to_end_ms = to_end_ms.saturating_sub(segment.duration_ms);
            to_end_ms >= boundary_ms
        };
        match self.window.listed().take_while(is_skipped).count() {
            0 => self.write(0, VERSION),
            skipped => self.write(skipped, DELTA_VERSION),
        }
    }

    /// The skip boundary, where the list is long enough to reach beyond it.
    fn can_skip_until_ms(&self) -> Option<u64> {
        let longer = self.window.config().listed as u64 > SKIP_TARGET_DURATIONS;
        longer.then(|| self.window.promise().target_duration_s.saturating_mul(1000 * SKIP_TARGET_DURATIONS))
    }

    fn write(&self, skipped: usize, version: u64) -> String {
        let mut out = String::with_capacity(4096);
        self.head(&mut out, version);
        if skipped > 0 {
            line(&mut out, format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
        }
        let total_ms: u64 = self.window.listed().map(|segment| segment.duration_ms).sum();
        let with_parts_ms =
            self.window.promise().target_duration_s.saturating_mul(1000 * PARTS_TARGET_DURATIONS);
        let (mut init, mut at_ms) = (None, 0);
        for (n, segment) in self.window.listed().enumerate() {
            at_ms += segment.duration_ms;
            if n < skipped {
                continue;
            }
            let near = total_ms - at_ms <= with_parts_ms;
            self.begin(&mut out, &Beginning::of(segment), &mut init);
            self.parts(&mut out, if near { &segment.parts } else { &[] });
            if segment.gap {
                line(&mut out, format_args!("#EXT-X-GAP"));
            }
            let uri = self.name(|stream, rung, epoch| FileName::Segment {
                stream,
                rung,
                epoch,
                sequence: segment.sequence,
            });
            line(&mut out, format_args!("#EXTINF:{},\n{uri}", seconds(segment.duration_ms)));
        }
        if let Some(first) = self.window.coming().first() {
            self.begin(&mut out, &Beginning::of_part(first), &mut init);
        }
        self.parts(&mut out, self.window.coming());
        self.tail(&mut out);
        out
    }

    fn head(&self, out: &mut String, version: u64) {
        let promise = self.window.promise();
        let hold_back = seconds(promise.part_target_ms.saturating_mul(HOLD_BACK_PARTS));
        let skip = self.can_skip_until_ms().map(|ms| format!(",CAN-SKIP-UNTIL={}", seconds(ms)));
        let first = self.window.listed().next().map_or(0, |segment| segment.sequence);
        let version = if self.window.listed().any(|s| s.gap) { version.max(GAP_VERSION) } else { version };
        line(out, format_args!("#EXTM3U\n#EXT-X-VERSION:{version}"));
        line(out, format_args!("#EXT-X-TARGETDURATION:{}", promise.target_duration_s));
        line(
            out,
            format_args!(
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={hold_back}{}",
                skip.unwrap_or_default()
            ),
        );
        line(out, format_args!("#EXT-X-PART-INF:PART-TARGET={}", seconds(promise.part_target_ms)));
        line(out, format_args!("#EXT-X-MEDIA-SEQUENCE:{first}"));
        line(out, format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.window.discontinuity_sequence()));
        // A group of pictures that had to be cut inside makes the promise false until it has left.
        let coming = self.window.coming().first();
        if self.window.listed().all(|segment| segment.independent)
            && coming.is_none_or(|p| p.begins_independent)
        {
            line(out, format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
        }
    }

    /// What applies to a segment from its first part on. `init` is the init segment that applies so far.
    fn begin(&self, out: &mut String, first: &Beginning, init: &mut Option<u32>) {
        if first.discontinuity {
            line(out, format_args!("#EXT-X-DISCONTINUITY"));
        }
        let index = first.init;
        if init.replace(index) != Some(index) {
            let uri = self.name(|stream, rung, epoch| FileName::Init { stream, rung, epoch, index });
            line(out, format_args!("#EXT-X-MAP:URI=\"{uri}\""));
        }
        line(out, format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", rfc3339(first.unix_ms)));
    }

    fn parts(&self, out: &mut String, parts: &[Part]) {
        for part in parts {
            let uri = self.part(part.sequence, part.index);
            let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
            let duration = seconds(part.duration_ms);
            line(out, format_args!("#EXT-X-PART:DURATION={duration},URI=\"{uri}\"{independent}"));
        }
    }

    fn tail(&self, out: &mut String) {
        if self.reach.ended {
            return line(out, format_args!("#EXT-X-ENDLIST"));
        }
        let next = u32::try_from(self.reach.coming).unwrap_or(u32::MAX);
        let hint = self.part(self.reach.sequence.saturating_add(1), next);
        line(out, format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{hint}\""));
        for Report { rung, reach } in self.reports {
            let stream = self.window.config().stream.clone();
            let uri = FileName::MediaPlaylist { stream, rung: *rung };
            let (sequence, part) = reach.last_part();
            line(
                out,
                format_args!("#EXT-X-RENDITION-REPORT:URI=\"{uri}\",LAST-MSN={sequence},LAST-PART={part}"),
            );
        }
    }

    fn part(&self, sequence: u64, part: u32) -> FileName {
        self.name(|stream, rung, epoch| FileName::Part { stream, rung, epoch, sequence, part })
    }

    fn name(&self, file: impl FnOnce(String, Rung, u64) -> FileName) -> FileName {
        let WindowConfig { stream, rung, epoch, .. } = self.window.config();
        file(stream.clone(), *rung, *epoch)
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests;
