//! What may be served when, and what viewers and caches behind this one are told about it. Decides; holds
//! nothing and reads no clock.

use std::time::Duration;

use sluicegate_media::reload::{Directives, HELD_TARGET_DURATIONS};

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

/// How long a request for what is about to come may be held, `last` being the playlist that is known.
#[must_use]
pub fn hold_for(last: Option<&Playlist>) -> Duration {
    let target = last.map_or(limits::TARGET_ASSUMED, Playlist::target);
    target * HELD_TARGET_DURATIONS + limits::HOLD_SLACK
}

/// How long an object is not asked for again after `failure`. A segment that is not there may be there the
/// moment a playlist names it, so that is never remembered; nor is a body that broke off, which others
/// are waiting for anew.
#[must_use]
pub fn refuse_for(sort: Sort, failure: Failure) -> Option<Duration> {
    match (failure, sort) {
        (Failure::NotFound, Sort::Playlist) => Some(limits::NOT_FOUND),
        (Failure::NotFound, Sort::Media) | (Failure::BrokeOff | Failure::Busy | Failure::NotReady, _) => None,
        (Failure::Paused | Failure::TooFar | Failure::Crowded, _) => None,
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

/// For how long caches may keep a playlist, in whole seconds: rounded down, because a cache that held it longer
/// than we do would hand players an old one as new. The answer to a request for just the part that it ends with
/// is the same for everybody who asks so, and is kept for longer.
#[must_use]
pub fn playlist_max_age_s(playlist: &Playlist, asked: &Directives) -> u64 {
    if ends_with(playlist, asked) {
        return (playlist.target() * limits::HELD_FRESH_TARGETS).as_secs();
    }
    fresh_for(playlist).as_secs()
}

fn ends_with(playlist: &Playlist, asked: &Directives) -> bool {
    let Playlist::Media(media) = playlist else { return false };
    let (Some(reach), Some(sequence)) = (media.reach, asked.sequence) else { return false };
    let (last, last_part) = reach.last_part();
    let is_complete = reach.coming == 0 && last == sequence;
    !reach.ended && asked.part.map_or(is_complete, |part| (last, last_part as u64) == (sequence, part))
}

#[cfg(test)]
mod tests {
    use sluicegate_media::reload::Reach;

    use super::*;
    use crate::playlist::{MediaPlaylist, Position};

    fn media(target_ms: u64, ended: bool) -> Playlist {
        let position = Position { epoch: Some(1), sequence: 1, listed: 3, coming: 0, ended };
        let reach = Reach {
            sequence: 3,
            parts: 5,
            coming: 2,
            ended,
            target_duration_s: target_ms / 1000,
            part_target_ms: 200,
        };
        let target = Duration::from_millis(target_ms);
        Playlist::Media(MediaPlaylist { target, position, reach: Some(reach) })
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
            let told = playlist_max_age_s(&playlist, &Directives::default());
            assert!(Duration::from_secs(told) <= fresh_for(&playlist), "{target_ms} ms");
        }
        assert_eq!(playlist_max_age_s(&media(4_000, false), &Directives::default()), 2);
    }

    #[test]
    fn the_answer_to_a_request_that_was_held_may_be_kept_by_its_address() {
        let max_age_s = |sequence, part| {
            let asked = Directives { sequence: Some(sequence), part, skip: false };
            playlist_max_age_s(&media(2_000, false), &asked)
        };
        assert_eq!(max_age_s(4, Some(1)), 12);
        // An old number gets the present playlist, which is soon another one.
        assert_eq!([max_age_s(4, Some(0)), max_age_s(3, None), max_age_s(4, None)], [1, 1, 1]);
        let asked = Directives { sequence: Some(4), part: Some(1), skip: false };
        assert_eq!(playlist_max_age_s(&media(2_000, true), &asked), 5, "one that has ended");
    }

    #[test]
    fn a_request_is_held_for_three_target_durations_and_a_little() {
        assert_eq!(hold_for(Some(&media(1_000, false))), ms(3_000) + limits::HOLD_SLACK);
        assert_eq!(hold_for(None), limits::TARGET_ASSUMED * 3 + limits::HOLD_SLACK);
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
