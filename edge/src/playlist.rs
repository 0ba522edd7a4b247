//! What the edge has to know of a playlist: how long it is fresh, how far it reaches, and whether another one is
//! older. The body itself is passed on as it is.

use std::time::Duration;

use sluicegate_media::names::{self, FileName};
use sluicegate_media::reload::Reach;

use crate::limits;

/// What a playlist says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Playlist {
    /// It lists renditions.
    Multivariant,
    /// It lists segments.
    Media(MediaPlaylist),
}

/// What a media playlist says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaPlaylist {
    /// `EXT-X-TARGETDURATION`, up to [`limits::TARGET_MOST`].
    pub target: Duration,
    /// How far it has come.
    pub position: Position,
    /// How far it reaches, if players may wait until it reaches further (`CAN-BLOCK-RELOAD`).
    pub reach: Option<Reach>,
}

/// How far a media playlist has come. Of two, the greater is the newer: a later claim, then a later first
/// segment, then more segments, then more parts, then an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The newest epoch that its files name; `None` before it lists a file.
    pub epoch: Option<u64>,
    /// `EXT-X-MEDIA-SEQUENCE`; 0 when it is not there (RFC 8216 4.3.3.2).
    pub sequence: u64,
    /// Segments listed, or left out of a delta update.
    pub listed: usize,
    /// Parts listed of the segment that is not complete.
    pub coming: usize,
    /// Whether it has `EXT-X-ENDLIST`.
    pub ended: bool,
}

impl Playlist {
    /// Reads `body`. `None` when it is not a playlist: it is larger than [`limits::PLAYLIST_BYTES`], is not
    /// text, or does not begin with `#EXTM3U` (RFC 8216 4.3.1.1).
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        if body.len() > limits::PLAYLIST_BYTES {
            return None;
        }
        let mut lines = std::str::from_utf8(body).ok()?.lines().map(str::trim_end);
        if lines.next()? != "#EXTM3U" {
            return None;
        }
        let lines: Vec<&str> = lines.collect();
        if lines.iter().any(|line| line.starts_with("#EXT-X-STREAM-INF:")) {
            return Some(Self::Multivariant);
        }
        Some(Self::Media(MediaPlaylist::read(&lines)))
    }

    /// The target duration, or [`limits::TARGET_ASSUMED`].
    #[must_use]
    pub fn target(&self) -> Duration {
        match self {
            Self::Multivariant => limits::TARGET_ASSUMED,
            Self::Media(media) => media.target,
        }
    }

    /// Whether `self` is older than `served`, the playlist of the same name that viewers have already got.
    #[must_use]
    pub fn is_older_than(&self, served: &Self) -> bool {
        match (self, served) {
            (Self::Media(new), Self::Media(old)) => new.position < old.position,
            _ => false,
        }
    }
}

impl MediaPlaylist {
    fn read(lines: &[&str]) -> Self {
        let mut read = Self::EMPTY;
        let (mut part_target_ms, mut blocks, mut parts_of_last) = (0, false, 0);
        for line in lines.iter().filter(|line| !line.is_empty()) {
            if let Some(seconds) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
                let seconds = seconds.parse::<u32>().map(|s| Duration::from_secs(s.into()));
                read.target = seconds.unwrap_or(read.target).min(limits::TARGET_MOST);
            } else if let Some(seconds) = line.strip_prefix("#EXT-X-PART-INF:PART-TARGET=") {
                part_target_ms = milliseconds(seconds);
            } else if let Some(attributes) = line.strip_prefix("#EXT-X-SERVER-CONTROL:") {
                blocks = attributes.split(',').any(|attribute| attribute == "CAN-BLOCK-RELOAD=YES");
            } else {
                read.position.count(line, &mut parts_of_last);
            }
        }
        let Position { sequence, listed, coming, ended, .. } = read.position;
        read.reach = (blocks && listed > 0).then(|| Reach {
            sequence: sequence.saturating_add(listed as u64 - 1),
            parts: parts_of_last,
            coming,
            ended,
            target_duration_s: read.target.as_secs(),
            part_target_ms,
        });
        read
    }

    const EMPTY: Self = Self {
        target: limits::TARGET_ASSUMED,
        position: Position { epoch: None, sequence: 0, listed: 0, coming: 0, ended: false },
        reach: None,
    };
}

impl Position {
    /// Counts a line in. `parts_of_last`: of the last complete segment.
    fn count(&mut self, line: &str, parts_of_last: &mut usize) {
        if let Some(sequence) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            self.sequence = sequence.parse().unwrap_or(0);
        } else if let Some(skipped) = line.strip_prefix("#EXT-X-SKIP:SKIPPED-SEGMENTS=") {
            self.listed = self.listed.saturating_add(skipped.parse().unwrap_or(0));
        } else if line.starts_with("#EXT-X-PART:") {
            self.coming = self.coming.saturating_add(1);
        } else if line == "#EXT-X-ENDLIST" {
            self.ended = true;
        } else if !line.starts_with('#') {
            self.listed = self.listed.saturating_add(1);
            *parts_of_last = std::mem::take(&mut self.coming);
            self.epoch = self.epoch.max(epoch_of(line));
        }
    }
}

/// The names of the parts of `segment` in the playlist `body`, if it lists them.
#[must_use]
pub fn parts_of<'a>(body: &'a [u8], segment: &str) -> Option<Vec<&'a str>> {
    let mut parts = Vec::new();
    for line in std::str::from_utf8(body).ok()?.lines() {
        if let Some(attributes) = line.strip_prefix("#EXT-X-PART:") {
            parts.push(attributes.split_once("URI=\"")?.1.split_once('"')?.0);
        } else if line == segment {
            return (!parts.is_empty()).then_some(parts);
        } else if !line.starts_with('#') {
            parts.clear();
        }
    }
    None
}

/// A decimal number of seconds, in milliseconds. 0 of anything else.
fn milliseconds(seconds: &str) -> u64 {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let fraction = digits.into_iter().try_fold(0_u64, |ms, digit| {
        Some(ms * 10 + u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?))
    });
    let ms = whole.parse::<u64>().ok().and_then(|s| s.checked_mul(1000)?.checked_add(fraction?));
    ms.unwrap_or(0)
}

/// The epoch in the name of the file that `uri` leads to.
fn epoch_of(uri: &str) -> Option<u64> {
    let path = uri.split(['?', '#']).next()?;
    match names::parse(path.rsplit('/').next()?)? {
        FileName::Segment { epoch, .. } | FileName::Part { epoch, .. } | FileName::Init { epoch, .. } => {
            Some(epoch)
        }
        FileName::MediaPlaylist { .. } | FileName::Multivariant { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(epoch: u64, sequence: u64, listed: u64, ended: bool) -> String {
        let segments: String = (sequence..sequence + listed)
            .map(|n| format!("#EXTINF:1.000,\ncam1_source__{epoch}_{n}.m4s\n"))
            .collect();
        let end = if ended { "#EXT-X-ENDLIST\n" } else { "" };
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n{segments}{end}")
    }

    fn read(epoch: u64, sequence: u64, listed: u64, ended: bool) -> Playlist {
        Playlist::read(text(epoch, sequence, listed, ended).as_bytes()).unwrap()
    }

    #[test]
    fn a_media_playlist_tells_its_target_and_position() {
        let position = Position { epoch: Some(7), sequence: 40, listed: 6, coming: 0, ended: false };
        let media = MediaPlaylist { target: Duration::from_secs(3), position, reach: None };
        assert_eq!(read(7, 40, 6, false), Playlist::Media(media));
    }

    /// A playlist of 40 and 41, of two parts each, with `coming` parts of 42.
    fn low_latency(coming: u64) -> String {
        let part = |n, k| format!("#EXT-X-PART:DURATION=0.5,URI=\"cam1_source__7_{n}.{k}.m4s\"\n");
        let segment = |n| format!("{}{}#EXTINF:1.000,\ncam1_source__7_{n}.m4s\n", part(n, 0), part(n, 1));
        let coming: String = (0..coming).map(|k| part(42, k)).collect();
        format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n\
             #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:30\n#EXT-X-SKIP:SKIPPED-SEGMENTS=10\n\
             {}{}{coming}#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"cam1_source__7_42.9.m4s\"\n",
            segment(40),
            segment(41),
        )
    }

    #[test]
    fn a_low_latency_playlist_tells_how_far_it_reaches() {
        let Some(Playlist::Media(media)) = Playlist::read(low_latency(1).as_bytes()) else { panic!("none") };
        let reach = Reach {
            sequence: 41,
            parts: 2,
            coming: 1,
            ended: false,
            target_duration_s: 1,
            part_target_ms: 500,
        };
        assert_eq!(media.reach, Some(reach));
        let further = Playlist::read(low_latency(2).as_bytes()).unwrap();
        assert!(Playlist::Media(media).is_older_than(&further) && !further.is_older_than(&further));
    }

    #[test]
    fn the_parts_of_a_segment_are_found() {
        let (text, parts) = (low_latency(1), ["cam1_source__7_41.0.m4s", "cam1_source__7_41.1.m4s"]);
        assert_eq!(parts_of(text.as_bytes(), "cam1_source__7_41.m4s").unwrap(), parts);
        assert_eq!(parts_of(text.as_bytes(), "cam1_source__7_42.m4s"), None, "it is not complete");
        assert_eq!(parts_of(text.as_bytes(), "cam1_source__7_39.m4s"), None);
    }

    #[test]
    fn seconds_are_read_to_the_millisecond() {
        let read =
            ["0.2", "1", "1.0015", "12.34", "", "-1", "x", "0.-1", "99999999999999999999"].map(milliseconds);
        assert_eq!(read, [200, 1000, 1001, 12_340, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_multivariant_playlist_is_told_from_a_media_playlist() {
        let body = b"#EXTM3U\r\n#EXT-X-STREAM-INF:BANDWIDTH=1\r\ncam1.m3u8\r\n";
        assert_eq!(Playlist::read(body), Some(Playlist::Multivariant));
    }

    #[test]
    fn what_is_not_a_playlist_is_refused() {
        assert_eq!(Playlist::read(b""), None);
        assert_eq!(Playlist::read(b"<html>"), None);
        assert_eq!(Playlist::read(b"#EXTM3U8\n"), None);
        assert_eq!(Playlist::read(&[b"#EXTM3U\n".as_slice(), &[0xff]].concat()), None);
        let huge = format!("#EXTM3U\n{}", "#\n".repeat(limits::PLAYLIST_BYTES));
        assert_eq!(Playlist::read(huge.as_bytes()), None);
    }

    #[test]
    fn an_absurd_target_duration_is_cut() {
        let body = b"#EXTM3U\n#EXT-X-TARGETDURATION:4000000000\n";
        assert_eq!(Playlist::read(body).unwrap().target(), limits::TARGET_MOST);
    }

    #[test]
    fn a_playlist_is_older_by_epoch_then_sequence_then_length_then_end() {
        let served = read(7, 40, 6, false);
        assert!(read(6, 90, 6, false).is_older_than(&served));
        assert!(read(7, 39, 6, false).is_older_than(&served));
        assert!(read(7, 40, 5, false).is_older_than(&served));
        assert!(read(7, 40, 6, false).is_older_than(&read(7, 40, 6, true)));
        assert!(read(7, 0, 0, false).is_older_than(&served), "one without files is before every claim");
        assert!(!read(7, 40, 6, false).is_older_than(&served));
        assert!(!read(7, 41, 6, false).is_older_than(&served));
        assert!(!read(8, 3, 1, false).is_older_than(&served));
        assert!(!Playlist::Multivariant.is_older_than(&served));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let with_head = [b"#EXTM3U\n".as_slice(), &body].concat();
            let _ = Playlist::read(&body);
            let _ = Playlist::read(&with_head);
        }
    }
}
