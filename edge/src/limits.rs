//! Limits of the edge that are not configurable. What an operator may change is in
//! [`sluicegate_cluster::config::Limits`].

use std::time::Duration;

/// The shortest time for which a media playlist counts as fresh.
pub const PLAYLIST_FRESH_LEAST: Duration = Duration::from_millis(250);

/// The longest time for which a playlist counts as fresh, and the time for which an ended one does.
pub const PLAYLIST_FRESH_MOST: Duration = Duration::from_secs(5);

/// How long a multivariant playlist, which has no target duration, counts as fresh.
pub const MULTIVARIANT_FRESH: Duration = Duration::from_secs(1);

/// A playlist whose origin does not answer is served for [`STALE_TARGETS`] target durations and this long.
pub const STALE_SLACK: Duration = Duration::from_secs(10);

/// See [`STALE_SLACK`].
pub const STALE_TARGETS: u32 = 3;

/// The target duration that is taken where a playlist does not say one.
pub const TARGET_ASSUMED: Duration = Duration::from_secs(2);

/// The longest target duration that is believed.
pub const TARGET_MOST: Duration = Duration::from_secs(60);

/// The largest playlist.
pub const PLAYLIST_BYTES: usize = 1 << 20;

/// The longest fetch of a playlist; no longer than `limits.edge_fill_ms` either.
pub const PLAYLIST_FILL: Duration = Duration::from_secs(5);

/// How much longer than [`sluicegate_media::reload::HELD_TARGET_DURATIONS`] a held request may take: for an
/// origin to say that nothing has come.
pub const HOLD_SLACK: Duration = Duration::from_secs(2);

/// How long a held request waits before it asks again, when its origin does not answer or has nothing yet.
pub const HOLD_PAUSE: Duration = Duration::from_millis(200);

/// How often a held request looks whether another origin has the stream. The view of the cluster is made anew
/// twice a second.
pub const SUCCESSOR_LOOK: Duration = Duration::from_millis(250);

/// For how many target durations caches may keep the answer to a request that was held (RFC 8216bis B.1).
pub const HELD_FRESH_TARGETS: u32 = 6;

/// How long a fetch may run before viewers get the last playlist instead of waiting for it.
pub const PLAYLIST_PATIENCE: Duration = Duration::from_secs(1);

/// How long a playlist that the origin does not have is not asked for again.
pub const NOT_FOUND: Duration = Duration::from_millis(500);

/// How long an object is not asked for again after its origin failed.
pub const AFTER_ERROR: Duration = Duration::from_millis(200);

/// Refusals remembered at once.
pub const REFUSALS: u64 = 4_096;

/// Pieces that one body may arrive in.
pub const FILL_CHUNKS: usize = 1 << 16;

/// Tries to resume one body that broke off.
pub const RESUME_TRIES: u32 = 2;

/// The pause before a body is resumed, times the number of the try.
pub const RESUME_PAUSE: Duration = Duration::from_millis(100);

/// The longest wait for a connection to an origin.
pub const CONNECT: Duration = Duration::from_secs(1);

/// Idle connections kept to one origin.
pub const IDLE_CONNECTIONS: usize = 32;

/// Headers in an origin's answer.
pub const UPSTREAM_HEADERS: usize = 64;

/// The longest entity tag taken over from an origin: room for the longest name of a file.
pub const ETAG_BYTES: usize = 256;

/// Streams whose viewers are counted at once.
pub const AUDIENCE_STREAMS: usize = 10_000;

/// How often an error that would repeat with every request is logged.
pub const LOG_EVERY: Duration = Duration::from_secs(10);

const _: () = assert!(PLAYLIST_FRESH_LEAST.as_millis() < PLAYLIST_FRESH_MOST.as_millis());
const _: () = assert!(NOT_FOUND.as_millis() <= 500);
const _: () = assert!(PLAYLIST_PATIENCE.as_millis() < PLAYLIST_FILL.as_millis());
