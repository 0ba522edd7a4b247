//! As much of HLS (RFC 8216) as a test needs to see what players get.

use crate::http;

/// A media playlist.
#[derive(Debug, Clone)]
pub struct MediaPlaylist {
    /// Where it came from; segments are relative to it.
    url: String,
    /// `EXT-X-MEDIA-SEQUENCE`.
    pub sequence: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub discontinuity_sequence: u64,
    /// The last `EXT-X-MAP` listed.
    pub map: Option<String>,
    /// The segments.
    pub segments: Vec<Segment>,
    /// Whether it has `EXT-X-ENDLIST`.
    pub ended: bool,
}

/// A segment as listed.
#[derive(Debug, Clone, Default)]
pub struct Segment {
    /// Its URI as written.
    pub uri: String,
    /// `EXTINF`.
    pub duration_s: f64,
    /// Whether `EXT-X-DISCONTINUITY` stands before it.
    pub discontinuity: bool,
    /// Whether `EXT-X-PROGRAM-DATE-TIME` stands before it.
    pub dated: bool,
    /// Whether `EXT-X-GAP` stands before it: there is no such file.
    pub gap: bool,
}

impl Segment {
    /// The epoch of the claim under which it was made, by its name (`cam_source__7_40.m4s`); 0 when there is
    /// none.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        let numbers = self.uri.rsplit_once("__").and_then(|(_, numbers)| numbers.split_once('_'));
        numbers.and_then(|(epoch, _)| epoch.parse().ok()).unwrap_or(0)
    }
}

impl MediaPlaylist {
    /// The playlist at `url`, if it is there and lists something.
    #[must_use]
    pub fn fetch(url: &str) -> Option<Self> {
        let answer = http::try_get(url).ok().filter(|answer| answer.status == 200)?;
        Some(Self::read(url, &answer.text())).filter(|playlist| !playlist.segments.is_empty())
    }

    /// The playlist that `text`, which came from `url`, is.
    #[must_use]
    pub fn read(url: &str, text: &str) -> Self {
        let mut playlist = Self {
            url: url.to_owned(),
            sequence: 0,
            discontinuity_sequence: 0,
            map: None,
            segments: Vec::new(),
            ended: false,
        };
        let mut next = Segment::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(number) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                playlist.sequence = number.parse().unwrap_or(0);
            } else if let Some(number) = line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:") {
                playlist.discontinuity_sequence = number.parse().unwrap_or(0);
            } else if let Some(map) = line.strip_prefix("#EXT-X-MAP:") {
                playlist.map = attribute(map, "URI");
            } else if let Some(duration) = line.strip_prefix("#EXTINF:") {
                next.duration_s = duration.split(',').next().and_then(|s| s.parse().ok()).unwrap_or(0.0);
            } else if line == "#EXT-X-GAP" {
                next.gap = true;
            } else if line == "#EXT-X-DISCONTINUITY" {
                next.discontinuity = true;
            } else if line.starts_with("#EXT-X-PROGRAM-DATE-TIME:") {
                next.dated = true;
            } else if line == "#EXT-X-ENDLIST" {
                playlist.ended = true;
            } else if !line.starts_with('#') {
                playlist.segments.push(Segment { uri: line.to_owned(), ..std::mem::take(&mut next) });
            }
        }
        playlist
    }

    /// The media sequence number of its last segment.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.sequence + self.segments.len().saturating_sub(1) as u64
    }

    /// All that it lists, as one file: the last `EXT-X-MAP`, then the segments.
    ///
    /// # Panics
    /// When nothing answers.
    #[must_use]
    pub fn whole(&self) -> Vec<u8> {
        let uris = self.map.iter().chain(self.segments.iter().map(|segment| &segment.uri));
        uris.flat_map(|uri| http::get(&self.resolve(uri)).body).collect()
    }

    /// The address of what it lists as `uri`.
    #[must_use]
    pub fn resolve(&self, uri: &str) -> String {
        match uri {
            _ if uri.contains("://") => uri.to_owned(),
            _ => format!("{}/{uri}", self.url.rsplit_once('/').map_or("", |(folder, _)| folder)),
        }
    }
}

/// The variants of a multivariant playlist: the attributes as written, and the URI.
#[must_use]
pub fn variants(text: &str) -> Vec<(String, String)> {
    let mut lines = text.lines();
    let mut variants = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(attributes) = line.strip_prefix("#EXT-X-STREAM-INF:") {
            variants.push((attributes.to_owned(), lines.next().unwrap_or_default().to_owned()));
        }
    }
    variants
}

/// An attribute of a list (RFC 8216 section 4.2), without its quotes.
#[must_use]
pub fn attribute(list: &str, name: &str) -> Option<String> {
    let mut rest = list;
    while !rest.is_empty() {
        let (found, value) = rest.split_once('=')?;
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_at(value.find(',').unwrap_or(value.len())),
        };
        if found == name {
            return Some(value.to_owned());
        }
        rest = after.trim_start_matches(',');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_players_get_is_read() {
        let text = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI=\"i.mp4\"\n#EXT-X-DISCONTINUITY\n\
                    #EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\n#EXTINF:1.5,\na.m4s\n#EXTINF:1,\nb.m4s\n#EXT-X-ENDLIST\n";
        let playlist = MediaPlaylist::read("http://h/live/streams/x.m3u8", text);
        assert_eq!((playlist.sequence, playlist.last_sequence(), playlist.ended), (7, 8, true));
        assert_eq!(playlist.map.as_deref(), Some("i.mp4"));
        assert!(playlist.segments[0].discontinuity && playlist.segments[0].dated);
        assert!(!playlist.segments[1].discontinuity);
        assert_eq!(playlist.segments[0].epoch(), 0);
        assert_eq!(Segment { uri: "a_source__12_7.m4s".to_owned(), ..Segment::default() }.epoch(), 12);
        assert_eq!(playlist.resolve("a.m4s"), "http://h/live/streams/a.m4s");
    }

    #[test]
    fn attributes_may_hold_commas() {
        let list = "BANDWIDTH=1,CODECS=\"avc1,mp4a\",RESOLUTION=1x2";
        assert_eq!(attribute(list, "CODECS").as_deref(), Some("avc1,mp4a"));
        assert_eq!(attribute(list, "RESOLUTION").as_deref(), Some("1x2"));
        assert_eq!(attribute(list, "FRAME-RATE"), None);
    }
}
