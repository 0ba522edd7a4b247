//! Files' names: what players ask for, and which rendition's playlist, segment or init segment it is.
//!
//! `{stream}.m3u8`, `{stream}_adaptive.m3u8` and `{stream}_{height}p{kbps}kbps.m3u8` are Ant Media Server's
//! names. Segments carry the claim's epoch, so that no two origins ever give one name to two files.

use std::fmt;
use std::str::FromStr;

use crate::limits;

pub mod ams;

/// One rung of a stream's ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// The stream as published.
    Source,
    /// Encoded by an origin.
    Encoded {
        /// Lines of the picture.
        height: u32,
        /// Kilobits a second.
        kbps: u32,
    },
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => f.write_str("source"),
            Self::Encoded { height, kbps } => write!(f, "{height}p{kbps}kbps"),
        }
    }
}

impl FromStr for Rung {
    type Err = UnknownRung;

    /// The inverse of its `Display`.
    fn from_str(rung: &str) -> Result<Self, UnknownRung> {
        if rung == "source" { Ok(Self::Source) } else { parse_encoded(rung).ok_or(UnknownRung) }
    }
}

/// What was to name a rendition does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no rendition has such a name")]
pub struct UnknownRung;

/// A file of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FileName {
    /// A rendition's media playlist.
    MediaPlaylist {
        /// The stream's name.
        stream: String,
        /// The rendition.
        rung: Rung,
    },
    /// The list of a stream's renditions.
    Multivariant {
        /// The stream's name.
        stream: String,
    },
    /// A media segment.
    Segment {
        /// The stream's name.
        stream: String,
        /// The rendition.
        rung: Rung,
        /// The claim under which it was made.
        epoch: u64,
        /// Its media sequence number.
        sequence: u64,
    },
    /// A part of a media segment.
    Part {
        /// The stream's name.
        stream: String,
        /// The rendition.
        rung: Rung,
        /// The claim under which it was made.
        epoch: u64,
        /// Its segment's media sequence number.
        sequence: u64,
        /// Its place in the segment, from 0.
        part: u32,
    },
    /// An init segment.
    Init {
        /// The stream's name.
        stream: String,
        /// The rendition.
        rung: Rung,
        /// The claim under which it was made.
        epoch: u64,
        /// Its number within the claim.
        index: u32,
    },
}

impl FileName {
    /// The stream whose file it is.
    #[must_use]
    pub fn stream(&self) -> &str {
        match self {
            Self::MediaPlaylist { stream, .. }
            | Self::Multivariant { stream }
            | Self::Segment { stream, .. }
            | Self::Part { stream, .. }
            | Self::Init { stream, .. } => stream,
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MediaPlaylist { stream, rung: Rung::Source } => write!(f, "{stream}.m3u8"),
            Self::MediaPlaylist { stream, rung } => write!(f, "{stream}_{rung}.m3u8"),
            Self::Multivariant { stream } => write!(f, "{stream}_adaptive.m3u8"),
            Self::Segment { stream, rung, epoch, sequence } => {
                write!(f, "{stream}_{rung}__{epoch}_{sequence}.m4s")
            }
            Self::Part { stream, rung, epoch, sequence, part } => {
                write!(f, "{stream}_{rung}__{epoch}_{sequence}.{part}.m4s")
            }
            Self::Init { stream, rung, epoch, index } => {
                write!(f, "{stream}_{rung}__{epoch}_init{index}.mp4")
            }
        }
    }
}

/// What a file's name says, the inverse of its `Display`: any other spelling is no file of ours.
#[must_use]
pub fn parse(file: &str) -> Option<FileName> {
    let (stem, extension) = file.rsplit_once('.')?;
    match extension {
        "m3u8" => parse_playlist(stem),
        "m4s" => {
            let (stream, rung, epoch, number) = parse_numbered(stem)?;
            Some(match number.split_once('.') {
                None => FileName::Segment { stream, rung, epoch, sequence: parse_number(number)? },
                Some((number, part)) => {
                    let (sequence, part) = (parse_number(number)?, parse_number(part)?);
                    FileName::Part { stream, rung, epoch, sequence, part }
                }
            })
        }
        "mp4" => {
            let (stream, rung, epoch, number) = parse_numbered(stem)?;
            let index = parse_number(number.strip_prefix("init")?)?;
            Some(FileName::Init { stream, rung, epoch, index })
        }
        _ => None,
    }
}

fn parse_playlist(stem: &str) -> Option<FileName> {
    if let Some(stream) = stem.strip_suffix("_adaptive") {
        return Some(FileName::Multivariant { stream: parse_stream(stream)? });
    }
    if let Some((stream, rung)) = stem.rsplit_once('_')
        && let Some(rung) = parse_encoded(rung)
    {
        return Some(FileName::MediaPlaylist { stream: parse_stream(stream)?, rung });
    }
    Some(FileName::MediaPlaylist { stream: parse_stream(stem)?, rung: Rung::Source })
}

/// `{stream}_{rung}__{epoch}_{number}`; a stream's name may end in `_`, so from the right.
fn parse_numbered(stem: &str) -> Option<(String, Rung, u64, &str)> {
    let (rendition, numbers) = stem.rsplit_once("__")?;
    let (stream, rung) = rendition.rsplit_once('_')?;
    let rung = rung.parse().ok()?;
    let (epoch, number) = numbers.split_once('_')?;
    Some((parse_stream(stream)?, rung, parse_number(epoch)?, number))
}

/// `{height}p{kbps}kbps`.
fn parse_encoded(rung: &str) -> Option<Rung> {
    let (height, kbps) = rung.strip_suffix("kbps")?.split_once('p')?;
    Some(Rung::Encoded { height: parse_number(height)?, kbps: parse_number(kbps)? })
}

/// Decimal digits without a sign or leading zeros, so that a number has one spelling.
fn parse_number<N: FromStr>(digits: &str) -> Option<N> {
    let canonical =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    if canonical { digits.parse().ok() } else { None }
}

/// A stream's name by the cluster's rule: letters, digits, `.`, `_`, `-`; no `__`; no playlist's ending.
fn parse_stream(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let legal = (1..=limits::NAME_BYTES).contains(&name.len())
        && name.bytes().all(allowed)
        && !matches!(name, "." | "..")
        && !name.contains("__")
        && !ends_like_a_playlist(name);
    legal.then(|| name.to_owned())
}

fn ends_like_a_playlist(name: &str) -> bool {
    let Some((_, tail)) = name.rsplit_once('_') else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let rung = |text: &str| digits(text) || text.split_once('p').is_some_and(|(h, k)| digits(h) && digits(k));
    tail == "adaptive"
        || tail.strip_suffix("kbps").is_some_and(rung)
        || tail.strip_suffix('p').is_some_and(digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(file: &str, expect: FileName) {
        assert_eq!(parse(file), Some(expect.clone()), "{file}");
        assert_eq!(expect.to_string(), file);
    }

    #[test]
    fn every_kind() {
        let stream = || "cam1".to_owned();
        let rung = Rung::Encoded { height: 720, kbps: 2000 };
        check("cam1.m3u8", FileName::MediaPlaylist { stream: stream(), rung: Rung::Source });
        check("cam1_720p2000kbps.m3u8", FileName::MediaPlaylist { stream: stream(), rung });
        check("cam1_adaptive.m3u8", FileName::Multivariant { stream: stream() });
        check(
            "cam1_source__1760000000000_42.m4s",
            FileName::Segment {
                stream: stream(),
                rung: Rung::Source,
                epoch: 1_760_000_000_000,
                sequence: 42,
            },
        );
        check(
            "cam1_720p2000kbps__7_42.0.m4s",
            FileName::Part { stream: stream(), rung, epoch: 7, sequence: 42, part: 0 },
        );
        check(
            "cam1_720p2000kbps__7_init0.mp4",
            FileName::Init { stream: stream(), rung, epoch: 7, index: 0 },
        );
    }

    #[test]
    fn streams_with_awkward_names() {
        for stream in ["a_", "_", "x_source", "a.m3u8", "init0", "24p", "x_p", "-", "source"] {
            let stream = stream.to_owned();
            for name in [
                FileName::MediaPlaylist { stream: stream.clone(), rung: Rung::Source },
                FileName::Segment { stream: stream.clone(), rung: Rung::Source, epoch: 1, sequence: 2 },
                FileName::Part { stream: stream.clone(), rung: Rung::Source, epoch: 1, sequence: 2, part: 3 },
            ] {
                check(&name.to_string(), name);
            }
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        for file in [
            "",
            "cam1",
            ".m3u8",
            "cam1.ts",
            "cam1__7_1.m4s",
            "cam1_source_7_1.m4s",
            "cam1_source__7_01.m4s",
            "cam1_source__+7_1.m4s",
            "cam1_source__7_.m4s",
            "cam1_source__7_99999999999999999999.m4s",
            "cam1_source__7_1..m4s",
            "cam1_source__7_1.02.m4s",
            "cam1_source__7_1.2.3.m4s",
            "cam1_source__7_0.mp4",
            "cam1_720p.m3u8",
            "cam1_adaptive_adaptive.m3u8",
            "a__b.m3u8",
            "a/b.m3u8",
            "...m3u8",
        ] {
            assert_eq!(parse(file), None, "{file}");
        }
    }

    fn stream() -> impl Strategy<Value = String> {
        let part = proptest::string::string_regex("[A-Za-z0-9._-]{1,12}").unwrap();
        let tail =
            proptest::sample::select(vec!["", "_source", "_init0", "_7", "_", "_720p2000", "_p", "_kbps"]);
        (part, tail).prop_map(|(part, tail)| format!("{part}{tail}")).prop_filter("legal", |name| {
            !name.contains("__") && !matches!(&name[..], "." | "..") && !ends_like_a_playlist(name)
        })
    }

    fn file_name() -> impl Strategy<Value = FileName> {
        let encoded = (any::<u32>(), any::<u32>()).prop_map(|(height, kbps)| Rung::Encoded { height, kbps });
        let rung = prop_oneof![Just(Rung::Source), encoded];
        (stream(), rung, any::<u64>(), any::<u64>(), any::<u32>(), 0..5).prop_map(
            |(stream, rung, epoch, sequence, index, kind)| match kind {
                0 => FileName::MediaPlaylist { stream, rung },
                1 => FileName::Multivariant { stream },
                2 => FileName::Segment { stream, rung, epoch, sequence },
                3 => FileName::Part { stream, rung, epoch, sequence, part: index },
                _ => FileName::Init { stream, rung, epoch, index },
            },
        )
    }

    proptest! {
        #[test]
        fn names_survive_a_round_trip(name in file_name()) {
            prop_assert_eq!(parse(&name.to_string()), Some(name));
        }

        #[test]
        fn two_files_never_share_a_name(a in file_name(), b in file_name()) {
            prop_assert_eq!(a == b, a.to_string() == b.to_string());
        }

        #[test]
        fn what_is_read_is_written_the_same(
            file in "[a-z_]{0,4}(_source|_720p20kbps|_adaptive)?(__)?[0-9_init+.]{0,8}\\.(m3u8|m4s|mp4)",
        ) {
            if let Some(name) = parse(&file) {
                prop_assert_eq!(name.to_string(), file);
            }
        }

        #[test]
        fn arbitrary_text_never_panics(file in any::<String>()) {
            let _ = parse(&file);
        }
    }
}
