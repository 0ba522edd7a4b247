//! What the cache holds: a file as its origin gave it, in one piece, so that a hit is sent in one go.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;

use crate::playlist::Playlist;
use crate::policy;

/// What is known of a file before its body is here.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// Its strong entity tag.
    pub(crate) etag: HeaderValue,
    /// The `date` of the origin's answer.
    pub(crate) date: HeaderValue,
    /// When it was asked for: ages are counted from here, so that they are never too small.
    pub(crate) asked: Instant,
    /// What it is told to be.
    pub(crate) format: Format,
}

/// What a segment or an init segment is told to be, and for how long it is what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Ours: CMAF, and never changed.
    Cmaf,
    /// AMS's fragmented MP4: its name means another file when the stream is published again.
    AmsMp4,
    /// AMS's MPEG transport stream, likewise.
    AmsTs,
}

impl Format {
    /// That of the file at `path`, whose origin is AMS's own or not.
    pub(crate) fn of(path: &str, is_ams: bool) -> Self {
        match is_ams {
            false => Self::Cmaf,
            true if path.ends_with(".ts") => Self::AmsTs,
            true => Self::AmsMp4,
        }
    }

    /// `content-type`
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Cmaf | Self::AmsMp4 => "video/mp4",
            Self::AmsTs => "video/mp2t",
        }
    }

    /// `cache-control`
    pub(crate) fn cache_control(self) -> &'static str {
        match self {
            Self::Cmaf => policy::CACHE_MEDIA,
            Self::AmsMp4 | Self::AmsTs => policy::CACHE_AMS_MEDIA,
        }
    }

    /// Whether a file of this age is still what its name says.
    pub(crate) fn is_fresh(self, age: Duration) -> bool {
        self == Self::Cmaf || age < policy::AMS_MEDIA_FRESH
    }
}

/// A whole file.
#[derive(Debug)]
pub(crate) struct Object {
    /// What was known first.
    pub(crate) head: Head,
    /// Its bytes.
    pub(crate) body: Bytes,
    /// What it says, when it is a playlist.
    pub(crate) playlist: Option<Playlist>,
    /// It by gzip, once somebody has asked for that; none where that is no shorter.
    gzip: OnceLock<Option<Bytes>>,
}

impl Object {
    /// A file that is complete.
    pub(crate) fn new(head: Head, body: Bytes, playlist: Option<Playlist>) -> Self {
        Self { head, body, playlist, gzip: OnceLock::new() }
    }

    /// Its body by gzip, where that is shorter: made for the first that asks, the same for all.
    pub(crate) fn gzip(&self) -> Option<&Bytes> {
        self.gzip.get_or_init(|| gzip(&self.body).filter(|short| short.len() < self.body.len())).as_ref()
    }

    /// What it counts for in the cache, bytes: its body and, about, what is kept beside it.
    #[must_use]
    pub(crate) fn weight(&self) -> u32 {
        const BESIDE: usize = 512;
        // A playlist may be kept by gzip as well.
        let bodies = self.body.len().saturating_mul(if self.playlist.is_some() { 2 } else { 1 });
        u32::try_from(bodies.saturating_add(BESIDE)).unwrap_or(u32::MAX)
    }
}

/// A playlist is renewed several times a second, so speed counts for more than the last percent.
fn gzip(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}
