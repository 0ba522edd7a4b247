//! What may be served when, and what viewers and caches behind this one are told about it. Decides; holds
//! nothing and reads no clock.

use std::time::Duration;

use crate::failure::Failure;
use crate::limits;
use crate::playlist::Playlist;

/// What a file is, as far as caching goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Changes under the same name.
    Playlist,
    /// A segment or an init segment: the claim's epoch is in its name, so it never changes.
    Media,
}

/// What a playlist that is this old may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the answer.
    Fresh,
    /// It is the answer while the origin has none.
    Stale,
    /// It is of no use any more.
    Expired,
}

/// The standing of a playlist that came from its origin `age` ago.
#[must_use]
pub fn standing(playlist: &Playlist, age: Duration) -> Standing {
    if age < fresh_for(playlist) {
        Standing::Fresh
    } else if age < stale_for(playlist) {
        Standing::Stale
    } else {
        Standing::Expired
    }
}

/// How long a playlist counts as fresh: half its target duration, so that a player which reloads once per
/// target duration is at most half of one behind.
#[must_use]
pub fn fresh_for(playlist: &Playlist) -> Duration {
    match playlist {
        Playlist::Multivariant => limits::MULTIVARIANT_FRESH,
        Playlist::Media(media) if media.position.ended => limits::PLAYLIST_FRESH_MOST,
        Playlist::Media(media) => {
            (media.target / 2).clamp(limits::PLAYLIST_FRESH_LEAST, limits::PLAYLIST_FRESH_MOST)
        }
    }
}

/// How old a playlist may be and still be served when its origin gives none: the time a stream has to find
/// another origin.
#[must_use]
pub fn stale_for(playlist: &Playlist) -> Duration {
    playlist.target() * limits::STALE_TARGETS + limits::STALE_SLACK
}

/// Whether the last playlist may stand in after `failure`. One that has ended does not outlive its origin's
/// memory of it.
#[must_use]
pub fn stands_in(playlist: &Playlist, failure: Failure) -> bool {
    let ended = matches!(playlist, Playlist::Media(media) if media.position.ended);
    !(ended && failure == Failure::NotFound)
}

/// How much longer a viewer waits for a playlist's fetch that has run for `running`, with the last one at
/// hand.
#[must_use]
pub fn patience(running: Duration) -> Duration {
    limits::PLAYLIST_PATIENCE.saturating_sub(running)
}

/// How long an object is not asked for again after `failure`. A segment that is not there may be there the
/// moment a playlist names it, so that is never remembered; nor is a body that broke off, which others
/// are waiting for anew.
#[must_use]
pub fn refuse_for(sort: Sort, failure: Failure) -> Option<Duration> {
    match (failure, sort) {
        (Failure::NotFound, Sort::Playlist) => Some(limits::NOT_FOUND),
        (Failure::NotFound, Sort::Media) | (Failure::BrokeOff | Failure::Busy | Failure::NotReady, _) => None,
        _ => Some(limits::AFTER_ERROR),
    }
}

/// `cache-control` of a segment or an init segment: its name is never used again.
pub const CACHE_MEDIA: &str = "public, max-age=86400, immutable";

/// How long AMS's segments are kept, which may be named again: AMS's own `Expires` for them.
pub const AMS_MEDIA_FRESH: Duration = Duration::from_secs(10);

/// `cache-control` of AMS's segments.
pub const CACHE_AMS_MEDIA: &str = "public, max-age=10";

/// `cache-control` of every answer that is not the object asked for.
pub const CACHE_ERROR: &str = "no-store";

/// `cache-control` of a playlist, in whole seconds: rounded down, because a cache that held it longer than
/// we do would hand players an old one as new.
#[must_use]
pub fn playlist_cache_control(playlist: &Playlist) -> &'static str {
    const BY_SECONDS: [&str; 6] = [
        "public, max-age=0",
        "public, max-age=1",
        "public, max-age=2",
        "public, max-age=3",
        "public, max-age=4",
        "public, max-age=5",
    ];
    let seconds = usize::try_from(fresh_for(playlist).as_secs()).unwrap_or(0);
    BY_SECONDS.get(seconds).copied().unwrap_or("public, max-age=5")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playlist::{MediaPlaylist, Position};

    fn media(target_ms: u64, ended: bool) -> Playlist {
        let position = Position { epoch: Some(1), sequence: 1, listed: 3, ended };
        Playlist::Media(MediaPlaylist { target: Duration::from_millis(target_ms), position })
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_playlist_is_fresh_for_half_its_target_duration_within_bounds() {
        assert_eq!(fresh_for(&media(2_000, false)), ms(1_000));
        assert_eq!(fresh_for(&media(0, false)), limits::PLAYLIST_FRESH_LEAST);
        assert_eq!(fresh_for(&media(60_000, false)), limits::PLAYLIST_FRESH_MOST);
        assert_eq!(fresh_for(&media(2_000, true)), limits::PLAYLIST_FRESH_MOST);
    }

    #[test]
    fn a_playlist_is_fresh_then_stale_then_expired() {
        let playlist = media(2_000, false);
        assert_eq!(standing(&playlist, ms(0)), Standing::Fresh);
        assert_eq!(standing(&playlist, ms(999)), Standing::Fresh);
        assert_eq!(standing(&playlist, ms(1_000)), Standing::Stale);
        assert_eq!(standing(&playlist, ms(15_999)), Standing::Stale);
        assert_eq!(standing(&playlist, ms(16_000)), Standing::Expired);
    }

    #[test]
    fn caches_behind_this_one_never_hold_a_playlist_longer_than_it_is_fresh() {
        for target_ms in [0, 500, 1_000, 2_000, 3_000, 6_000, 60_000] {
            let playlist = media(target_ms, false);
            let told: u64 = playlist_cache_control(&playlist).rsplit_once('=').unwrap().1.parse().unwrap();
            assert!(Duration::from_secs(told) <= fresh_for(&playlist), "{target_ms} ms");
        }
        assert_eq!(playlist_cache_control(&media(4_000, false)), "public, max-age=2");
    }

    #[test]
    fn a_missing_playlist_is_remembered_for_half_a_second_at_most_and_a_missing_segment_never() {
        assert!(refuse_for(Sort::Playlist, Failure::NotFound).unwrap() <= ms(500));
        assert_eq!(refuse_for(Sort::Media, Failure::NotFound), None);
        assert_eq!(refuse_for(Sort::Media, Failure::BrokeOff), None);
        assert_eq!(refuse_for(Sort::Media, Failure::Unreachable), Some(limits::AFTER_ERROR));
    }

    #[test]
    fn the_last_playlist_stands_in_unless_the_stream_has_ended_and_is_forgotten() {
        assert!(stands_in(&media(2_000, false), Failure::NotFound));
        assert!(stands_in(&media(2_000, true), Failure::Unreachable));
        assert!(!stands_in(&media(2_000, true), Failure::NotFound));
    }

    #[test]
    fn patience_runs_out_with_the_fetch() {
        assert_eq!(patience(ms(0)), limits::PLAYLIST_PATIENCE);
        assert_eq!(patience(ms(400)), limits::PLAYLIST_PATIENCE - ms(400));
        assert_eq!(patience(ms(60_000)), ms(0));
    }
}
