//! What the edge has to know of a playlist: how long it is fresh, and whether another one is older. The
//! body itself is passed on as it is.

use std::time::Duration;

use sluicegate_media::names::{self, FileName};

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
}

/// How far a media playlist has come. Of two, the greater is the newer: a later claim, then a later first
/// segment, then more segments, then an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The newest epoch that its files name; `None` before it lists a file.
    pub epoch: Option<u64>,
    /// `EXT-X-MEDIA-SEQUENCE`; 0 when it is not there (RFC 8216 4.3.3.2).
    pub sequence: u64,
    /// Segments listed.
    pub listed: usize,
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
        let mut target = limits::TARGET_ASSUMED;
        let mut position = Position { epoch: None, sequence: 0, listed: 0, ended: false };
        for line in lines.iter().filter(|line| !line.is_empty()) {
            if let Some(seconds) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
                let seconds = seconds.parse::<u32>().map(|s| Duration::from_secs(s.into()));
                target = seconds.unwrap_or(target).min(limits::TARGET_MOST);
            } else if let Some(sequence) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                position.sequence = sequence.parse().unwrap_or(0);
            } else if *line == "#EXT-X-ENDLIST" {
                position.ended = true;
            } else if !line.starts_with('#') {
                position.listed = position.listed.saturating_add(1);
                position.epoch = position.epoch.max(epoch_of(line));
            }
        }
        Self { target, position }
    }
}

/// The epoch in the name of the file that `uri` leads to.
fn epoch_of(uri: &str) -> Option<u64> {
    let path = uri.split(['?', '#']).next()?;
    match names::parse(path.rsplit('/').next()?)? {
        FileName::Segment { epoch, .. } | FileName::Init { epoch, .. } => Some(epoch),
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
        let position = Position { epoch: Some(7), sequence: 40, listed: 6, ended: false };
        let media = MediaPlaylist { target: Duration::from_secs(3), position };
        assert_eq!(read(7, 40, 6, false), Playlist::Media(media));
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
