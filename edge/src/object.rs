//! What the cache holds: a file as its origin gave it, in one piece, so that a hit is sent in one go.

use std::time::{Duration, Instant};

use bytes::Bytes;
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
}

impl Object {
    /// What it counts for in the cache, bytes: its body and, about, what is kept beside it.
    #[must_use]
    pub(crate) fn weight(&self) -> u32 {
        const BESIDE: usize = 512;
        u32::try_from(self.body.len().saturating_add(BESIDE)).unwrap_or(u32::MAX)
    }
}
