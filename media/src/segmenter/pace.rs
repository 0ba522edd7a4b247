//! How long parts and segments are. A playlist promises both, and a promise holds until its end (RFC 8216bis,
//! 4.4.3.1 and 4.4.3.7), so both are settled by the first segment: nobody has seen a playlist before it.

use super::SegmenterConfig;

/// What a playlist promises of the lengths of what it lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// No segment is longer, rounded to whole seconds: `EXT-X-TARGETDURATION`.
    pub target_duration_s: u64,
    /// No part is longer, in milliseconds: `PART-TARGET`.
    pub part_target_ms: u64,
}

/// The lengths that are cut to.
#[derive(Debug)]
pub(super) struct Pace {
    target_ms: i64,
    part_ms: i64,
    longest_ms: i64,
    last_picture_ms: Option<i64>,
    promise: Option<Promise>,
}

impl Pace {
    pub(super) fn new(config: &SegmenterConfig) -> Self {
        let target_ms = config.target_duration_ms.max(1);
        Self {
            target_ms,
            part_ms: config.part_target_ms.clamp(1, target_ms),
            longest_ms: config.max_duration_ms,
            last_picture_ms: None,
            promise: None,
        }
    }

    /// The longest part, in milliseconds.
    pub(super) fn part_ms(&self) -> i64 {
        self.part_ms
    }

    /// From so much time without media on, in milliseconds, it is missing: playlists leave it out.
    pub(super) fn missing_ms(&self) -> i64 {
        self.part_ms.saturating_mul(2)
    }

    /// The longest segment, in milliseconds.
    pub(super) fn longest_ms(&self) -> i64 {
        self.longest_ms
    }

    /// What is promised, once there is a segment.
    pub(super) fn promise(&self) -> Option<Promise> {
        self.promise
    }

    /// A picture is decoded at this time. As long as nothing is promised, a part grows to hold one.
    pub(super) fn picture(&mut self, dts_ms: i64) {
        if let (None, Some(last_ms)) = (self.promise, self.last_picture_ms.replace(dts_ms)) {
            self.part_ms = self.part_ms.max(dts_ms.saturating_sub(last_ms).min(self.target_ms));
        }
    }

    /// The next picture is no continuation of the last.
    pub(super) fn interrupted(&mut self) {
        self.last_picture_ms = None;
    }

    /// A segment of this length has ended. The first one settles what is promised.
    pub(super) fn segment(&mut self, duration_ms: u64) {
        if self.promise.is_none() {
            let target_ms = u64::try_from(self.target_ms).unwrap_or(1);
            self.keep(Promise {
                target_duration_s: target_ms.max(duration_ms).div_ceil(1000),
                part_target_ms: u64::try_from(self.part_ms).unwrap_or(1),
            });
        }
    }

    /// Keeps to what another rendition of the stream has promised: all of them promise the same (RFC 8216bis,
    /// 6.2.4). What is promised already stays.
    pub(super) fn keep(&mut self, promise: Promise) {
        /// What rounds to the target duration is still within it.
        const ROUNDED_AWAY_MS: i64 = 499;
        if self.promise.is_some() {
            return;
        }
        let whole_ms = i64::try_from(promise.target_duration_s.saturating_mul(1000)).unwrap_or(i64::MAX);
        self.longest_ms = self.longest_ms.min(whole_ms.saturating_add(ROUNDED_AWAY_MS));
        self.part_ms = i64::try_from(promise.part_target_ms).unwrap_or(i64::MAX).max(1);
        self.promise = Some(promise);
    }
}
