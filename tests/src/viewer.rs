//! A viewer as strict as no player is: reloads a stream's playlist, and fails the test at what must never be in
//! it while the stream lives.

use std::time::Duration;

use crate::hls::MediaPlaylist;
use crate::http;
use crate::until::until;

/// For a stream's first segments to be listed.
const FIRST_SEGMENTS: Duration = Duration::from_secs(20);

/// A viewer of one stream.
pub struct Viewer {
    url: String,
    last: MediaPlaylist,
}

impl Viewer {
    /// Watches the media playlist at `url` from its first segments on.
    ///
    /// # Panics
    /// When there are none.
    #[track_caller]
    #[must_use]
    pub fn watch(url: &str) -> Self {
        let last = until(&format!("{url} lists segments"), FIRST_SEGMENTS, || MediaPlaylist::fetch(url));
        Self { url: url.to_owned(), last }
    }

    /// The playlist as it is now, of a stream that lives.
    ///
    /// # Panics
    /// When it has an end, and as [`Viewer::reload_to_the_end`].
    #[track_caller]
    pub fn reload(&mut self) -> &MediaPlaylist {
        self.reload_to_the_end();
        assert!(!self.last.ended, "{} has ended: {:?}", self.url, self.last);
        &self.last
    }

    /// The playlist as it is now, be it the last one.
    ///
    /// # Panics
    /// When it is not there, lists nothing, or is one of before: its numbers and the epochs in its names only
    /// rise.
    #[track_caller]
    pub fn reload_to_the_end(&mut self) -> &MediaPlaylist {
        let answer = http::get(&self.url);
        assert_eq!(answer.status, 200, "{}: {}", self.url, answer.text());
        let now = MediaPlaylist::read(&self.url, &answer.text());
        let last = &self.last;
        assert!(!now.segments.is_empty(), "{} lists nothing: {}", self.url, answer.text());
        assert!(
            now.sequence >= last.sequence
                && now.last_sequence() >= last.last_sequence()
                && now.discontinuity_sequence >= last.discontinuity_sequence
                && newest_epoch(&now) >= newest_epoch(last),
            "{} went back from {last:?} to {now:?}",
            self.url
        );
        self.last = now;
        &self.last
    }

    /// Reloads until the playlist is what is `wanted`, and returns it.
    ///
    /// # Panics
    /// At the deadline, and as [`Viewer::reload`].
    #[track_caller]
    pub fn until(
        &mut self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&MediaPlaylist) -> bool,
    ) -> MediaPlaylist {
        until(&format!("{}: {what}", self.url), deadline, || {
            let now = self.reload();
            wanted(now).then(|| now.clone())
        })
    }

    /// The media sequence number of the last segment seen.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.last.last_sequence()
    }
}

/// The claim that the newest segment was made under.
#[must_use]
pub fn newest_epoch(playlist: &MediaPlaylist) -> i64 {
    playlist.segments.last().map_or(0, crate::hls::Segment::epoch)
}
