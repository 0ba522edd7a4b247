//! How many are watching, estimated without cookies or identities: a player reloads its media playlist
//! about once per target duration, so reloads over a while tell how many players there are.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sluicegate_cluster::ids::StreamKey;

use crate::limits;

/// Whole seconds that are looked back on.
const SECONDS: usize = 10;

/// Reloads of media playlists by stream.
pub(crate) struct Audience {
    since: Instant,
    streams: HashMap<StreamKey, Reloads>,
}

/// The reloads of one stream in the present second and the [`SECONDS`] before it.
struct Reloads {
    target: Duration,
    /// The second of the newest count.
    second: u64,
    counts: [u32; SECONDS + 1],
}

impl Audience {
    /// Nobody, from `now` on.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, streams: HashMap::new() }
    }

    /// A player loaded a media playlist of `stream`, which has this target duration. Beyond
    /// [`limits::AUDIENCE_STREAMS`] streams nothing is counted.
    pub(crate) fn reloaded(&mut self, stream: &StreamKey, target: Duration, now: Instant) {
        let second = self.second(now);
        if let Some(reloads) = self.streams.get_mut(stream) {
            reloads.target = target;
            reloads.count(second);
            return;
        }
        if self.streams.len() >= limits::AUDIENCE_STREAMS {
            self.drop_idle(second);
        }
        if self.streams.len() < limits::AUDIENCE_STREAMS {
            let mut reloads = Reloads { target, second, counts: [0; SECONDS + 1] };
            reloads.count(second);
            self.streams.insert(stream.clone(), reloads);
        }
    }

    /// Viewers of `stream`, about.
    pub(crate) fn viewers(&self, stream: &StreamKey, now: Instant) -> u64 {
        self.streams.get(stream).map_or(0, |reloads| reloads.viewers(self.second(now)))
    }

    /// Viewers of all streams, about. Streams that nobody watches any more are forgotten.
    pub(crate) fn total(&mut self, now: Instant) -> u64 {
        let second = self.second(now);
        self.drop_idle(second);
        self.streams.values().map(|reloads| reloads.viewers(second)).sum()
    }

    fn drop_idle(&mut self, second: u64) {
        self.streams.retain(|_, reloads| second.saturating_sub(reloads.second) <= SECONDS as u64);
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs()
    }
}

impl Reloads {
    /// The counts as they are at `second`, the present one first.
    fn at(&self, second: u64) -> [u32; SECONDS + 1] {
        let passed = usize::try_from(second.saturating_sub(self.second)).unwrap_or(usize::MAX);
        let mut counts = [0; SECONDS + 1];
        counts.iter_mut().skip(passed).zip(self.counts).for_each(|(to, from)| *to = from);
        counts
    }

    fn count(&mut self, second: u64) {
        self.counts = self.at(second);
        self.second = second.max(self.second);
        let [present, ..] = &mut self.counts;
        *present = present.saturating_add(1);
    }

    /// Whole seconds are counted; in a stream's first one the present is all there is. Whoever has come
    /// is at least one viewer.
    fn viewers(&self, second: u64) -> u64 {
        let counts = self.at(second);
        let any = counts.iter().any(|count| *count > 0);
        let reloads: u64 = counts.iter().skip(1).map(|count| u64::from(*count)).sum();
        let target_ms = u64::try_from(self.target.as_millis()).unwrap_or(u64::MAX);
        let window_ms = SECONDS as u64 * 1_000;
        let viewers = reloads.saturating_mul(target_ms).saturating_add(window_ms / 2) / window_ms;
        viewers.max(u64::from(any))
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock;

    use super::*;

    fn key(n: usize) -> StreamKey {
        format!("live/s{n}").parse().unwrap()
    }

    /// `viewers` players of one stream that reload once per `target` for `seconds`.
    fn watch(viewers: u64, target: Duration, seconds: u64) -> (Audience, Instant) {
        let start = clock::now();
        let mut audience = Audience::new(start);
        let mut at = Duration::ZERO;
        while at < Duration::from_secs(seconds) {
            (0..viewers).for_each(|_| audience.reloaded(&key(0), target, start + at));
            at += target;
        }
        (audience, start + Duration::from_secs(seconds))
    }

    #[test]
    fn players_are_counted_by_their_reloads() {
        for target in [1, 2, 5].map(Duration::from_secs) {
            let (mut audience, now) = watch(37, target, 30);
            assert_eq!(audience.viewers(&key(0), now), 37);
            assert_eq!(audience.total(now), 37);
        }
    }

    #[test]
    fn one_player_is_one_viewer_from_its_first_reload_on() {
        let (audience, now) = watch(1, Duration::from_secs(1), 1);
        assert_eq!(audience.viewers(&key(0), now), 1);
        assert_eq!(audience.viewers(&key(1), now), 0);
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let (mut audience, now) = watch(5, Duration::from_secs(1), 20);
        assert_eq!(audience.viewers(&key(0), now + Duration::from_secs(11)), 0);
        assert_eq!(audience.total(now + Duration::from_secs(11)), 0);
        assert!(audience.streams.is_empty());
    }

    #[test]
    fn streams_beyond_the_limit_are_not_counted_until_others_are_idle() {
        let (mut audience, now) = (Audience::new(clock::now()), clock::now());
        let target = Duration::from_secs(1);
        (0..limits::AUDIENCE_STREAMS).for_each(|n| audience.reloaded(&key(n), target, now));
        let late = key(limits::AUDIENCE_STREAMS);
        audience.reloaded(&late, target, now);
        assert_eq!(audience.viewers(&late, now), 0);
        let later = now + Duration::from_secs(30);
        audience.reloaded(&late, target, later);
        assert_eq!(audience.viewers(&late, later), 1);
        assert_eq!(audience.streams.len(), 1);
    }
}
