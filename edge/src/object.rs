//! What the cache holds: a file as its origin gave it, in one piece, so that a hit is sent in one go.

use std::time::Instant;

use bytes::Bytes;
use http::HeaderValue;

use crate::playlist::Playlist;

/// What is known of a file before its body is here.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// Its strong entity tag.
    pub(crate) etag: HeaderValue,
    /// The `date` of the origin's answer.
    pub(crate) date: HeaderValue,
    /// When it was asked for: ages are counted from here, so that they are never too small.
    pub(crate) asked: Instant,
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
