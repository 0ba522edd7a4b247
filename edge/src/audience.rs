//! How many are watching, estimated without cookies or identities: a player reloads its media playlist
//! about once per target duration, or per part if it plays with low latency, so reloads over a while, each
//! counted for as long as it serves its player, tell how many players there are.

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
    /// The second of the newest count.
    second: u64,
    /// For how long they serve their players, in milliseconds.
    served_ms: [u64; SECONDS + 1],
}

impl Audience {
    /// Nobody, from `now` on.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, streams: HashMap::new() }
    }

    /// A player loaded a media playlist of `stream`, and will load it again after `interval`. Beyond
    /// [`limits::AUDIENCE_STREAMS`] streams nothing is counted.
    pub(crate) fn reloaded(&mut self, stream: &StreamKey, interval: Duration, now: Instant) {
        let second = self.second(now);
        if let Some(reloads) = self.streams.get_mut(stream) {
            reloads.count(second, interval);
            return;
        }
        if self.streams.len() >= limits::AUDIENCE_STREAMS {
            self.drop_idle(second);
        }
        if self.streams.len() < limits::AUDIENCE_STREAMS {
            let mut reloads = Reloads { second, served_ms: [0; SECONDS + 1] };
            reloads.count(second, interval);
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
    fn at(&self, second: u64) -> [u64; SECONDS + 1] {
        let passed = usize::try_from(second.saturating_sub(self.second)).unwrap_or(usize::MAX);
        let mut served_ms = [0; SECONDS + 1];
        served_ms.iter_mut().skip(passed).zip(self.served_ms).for_each(|(to, from)| *to = from);
        served_ms
    }

    fn count(&mut self, second: u64, interval: Duration) {
        self.served_ms = self.at(second);
        self.second = second.max(self.second);
        let [present, ..] = &mut self.served_ms;
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        *present = present.saturating_add(interval_ms.max(1));
    }

    /// Whole seconds are counted; in a stream's first one the present is all there is. Whoever has come
    /// is at least one viewer.
    fn viewers(&self, second: u64) -> u64 {
        let served_ms = self.at(second);
        let any = served_ms.iter().any(|ms| *ms > 0);
        let all_ms = served_ms.iter().skip(1).fold(0_u64, |all, ms| all.saturating_add(*ms));
        let window_ms = SECONDS as u64 * 1_000;
        (all_ms.saturating_add(window_ms / 2) / window_ms).max(u64::from(any))
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
        for interval_ms in [200, 1_000, 2_000, 5_000] {
            let (mut audience, now) = watch(37, Duration::from_millis(interval_ms), 30);
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
