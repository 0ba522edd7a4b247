//! Names that Ant Media Server gives the files of its HLS streams, where they differ from ours: renditions
//! named by height or bit rate alone, and segments with nine digits at the end. A name of these may come to
//! mean another file when a stream is published again.

use super::parse_stream;

/// A file of an AMS stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmsFile {
    /// The stream's name.
    pub stream: String,
    /// What it is.
    pub kind: AmsFileKind,
}

/// What a file of an AMS stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmsFileKind {
    /// A media playlist that is not named as ours are: `{stream}_480p.m3u8`, `{stream}_500kbps.m3u8`.
    Playlist,
    /// An MPEG transport stream segment.
    TransportStream,
    /// A fragmented MP4 segment.
    FragmentedMp4,
    /// The init segment of those.
    Init,
}

/// What a file's name says. `None` for what [`super::parse`] knows, and for what is no file of HLS.
#[must_use]
pub fn parse(file: &str) -> Option<AmsFile> {
    let (stem, extension) = file.rsplit_once('.')?;
    let (kind, rendition) = match extension {
        "m3u8" => (AmsFileKind::Playlist, Some(stem).filter(|stem| without_rung(stem) != *stem)),
        "ts" => (AmsFileKind::TransportStream, segment(stem)),
        "fmp4" => (AmsFileKind::FragmentedMp4, segment(stem)),
        "mp4" => (AmsFileKind::Init, stem.strip_suffix("_init").filter(|stem| !stem.contains("__"))),
        _ => return None,
    };
    Some(AmsFile { stream: parse_stream(without_rung(rendition?))?, kind })
}

/// `{rendition}{nine digits}` or `{stream}__{anything}`.
fn segment(stem: &str) -> Option<&str> {
    if let Some((stream, rest)) = stem.split_once("__") {
        return Some(stream).filter(|_| !rest.is_empty() && !rest.contains("__"));
    }
    let (rendition, digits) = stem.split_at_checked(stem.len().checked_sub(9)?)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then_some(rendition)
}

/// The name without `_{height}p`, `_{kbps}kbps` or `_{height}p{kbps}kbps` behind it.
fn without_rung(rendition: &str) -> &str {
    let Some((stream, rung)) = rendition.rsplit_once('_') else { return rendition };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let is_rung = match rung.strip_suffix("kbps") {
        Some(rest) => digits(rest) || rest.split_once('p').is_some_and(|(h, k)| digits(h) && digits(k)),
        None => rung.strip_suffix('p').is_some_and(digits),
    };
    if is_rung { stream } else { rendition }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(file: &str, expect: Option<(&str, AmsFileKind)>) {
        let found = parse(file);
        assert_eq!(found.as_ref().map(|f| (f.stream.as_str(), f.kind)), expect, "{file}");
    }

    #[test]
    fn files_of_ams() {
        use AmsFileKind::{FragmentedMp4, Init, Playlist, TransportStream};
        check("cam1000000012.ts", Some(("cam1", TransportStream)));
        check("cam1_240p300kbps000000001.ts", Some(("cam1", TransportStream)));
        check("cam1_480p000000001.ts", Some(("cam1", TransportStream)));
        check("cam1__20261124-7.ts", Some(("cam1", TransportStream)));
        check("cam_1000000003.fmp4", Some(("cam_1", FragmentedMp4)));
        check("cam1_init.mp4", Some(("cam1", Init)));
        check("cam1_480p.m3u8", Some(("cam1", Playlist)));
        check("cam1_500kbps.m3u8", Some(("cam1", Playlist)));
    }

    #[test]
    fn what_is_none_of_ams() {
        for file in [
            "cam1.ts",
            "cam12345678.ts",
            "000000001.ts",
            "a b000000001.ts",
            "cam1.mp4",
            "../000000001.ts",
            "__x.ts",
        ] {
            check(file, None);
        }
        check("cam1.m3u8", None);
        check("cam1_source__17_init0.mp4", None);
        check("cam1__a__b.ts", None);
        check("é00000001.ts", None);
    }

    proptest! {
        #[test]
        fn any_name_is_read_without_a_panic(name in ".{0,30}", extension in "ts|fmp4|mp4|m3u8") {
            if let Some(file) = parse(&format!("{name}.{extension}")) {
                prop_assert!(name.starts_with(&file.stream));
            }
        }
    }
}
