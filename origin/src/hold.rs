//! Requests that wait for what is about to come: playlists that do not reach far enough yet (RFC 8216bis,
//! 6.2.5.2), and the part that a playlist hints at (6.2.6).

use std::time::Duration;

use sluicegate_media::reload::{HELD_TARGET_DURATIONS, Reach, Verdict};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Requests held at once. An edge has one for each playlist and each part, whatever its audience.
const HELD_MAX: usize = 10_000;

/// Those that wait.
pub(crate) struct Holds(Semaphore);

/// Why one is not answered with what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotHeld {
    /// There is no playlist yet, or no more.
    #[error("there is no such file of a live stream here")]
    Absent,
    /// Too far ahead of what is there.
    #[error("too far ahead of the playlist")]
    TooFar,
    /// It did not come in three target durations.
    #[error("the stream has paused")]
    Paused,
    /// [`HELD_MAX`] wait already.
    #[error("too many requests wait")]
    TooMany,
}

impl Default for Holds {
    fn default() -> Self {
        Self(Semaphore::new(HELD_MAX))
    }
}

impl Holds {
    /// Returns as soon as `verdict` is [`Verdict::Now`] for a rendition's `reach`.
    ///
    /// # Errors
    /// [`NotHeld`] when it will not be.
    pub(crate) async fn until(
        &self,
        mut reach: watch::Receiver<Option<Reach>>,
        verdict: impl Fn(&Reach) -> Verdict,
    ) -> Result<(), NotHeld> {
        let now = (*reach.borrow()).ok_or(NotHeld::Absent)?;
        match verdict(&now) {
            Verdict::Now => return Ok(()),
            Verdict::TooFar => return Err(NotHeld::TooFar),
            Verdict::Hold => {}
        }
        let _place = self.0.try_acquire().map_err(|_| NotHeld::TooMany)?;
        let longest = Duration::from_secs(now.target_duration_s) * HELD_TARGET_DURATIONS;
        let arrived = reach.wait_for(|reach| reach.is_some_and(|reach| verdict(&reach) != Verdict::Hold));
        match timeout(longest, arrived).await {
            Ok(Ok(_)) => Ok(()),
            // The stream has gone while its publisher came back elsewhere.
            Ok(Err(_)) => Err(NotHeld::Absent),
            Err(_) => Err(NotHeld::Paused),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluicegate_media::reload::Directives;

    use super::*;

    const REACH: Reach =
        Reach { sequence: 7, parts: 5, coming: 1, ended: false, target_duration_s: 1, part_target_ms: 200 };

    /// Asks for part 1 of segment 8, while `change` happens.
    async fn ask(
        first: Option<Reach>,
        change: impl FnOnce(watch::Sender<Option<Reach>>),
    ) -> Result<(), NotHeld> {
        let (sender, reach) = watch::channel(first);
        let holds = Arc::new(Holds::default());
        let asked = Directives { sequence: Some(8), part: Some(1), skip: false };
        let request = tokio::spawn(async move { holds.until(reach, |reach| reach.verdict(&asked)).await });
        tokio::task::yield_now().await;
        change(sender);
        request.await.unwrap()
    }

    #[tokio::test]
    async fn a_request_is_held_until_the_playlist_reaches_so_far() {
        let further = Reach { coming: 2, ..REACH };
        assert_eq!(
            ask(Some(REACH), |reach| {
                reach.send_replace(Some(further));
            })
            .await,
            Ok(())
        );
        let ended = Reach { ended: true, ..REACH };
        assert_eq!(
            ask(Some(REACH), |reach| {
                reach.send_replace(Some(ended));
            })
            .await,
            Ok(())
        );
        assert_eq!(ask(Some(further), drop).await, Ok(()), "not held at all");
    }

    #[tokio::test]
    async fn what_cannot_come_is_not_waited_for() {
        assert_eq!(ask(None, drop).await, Err(NotHeld::Absent));
        assert_eq!(ask(Some(REACH), drop).await, Err(NotHeld::Absent));
        let long_ago = Reach { sequence: 5, ..REACH };
        assert_eq!(ask(Some(long_ago), drop).await, Err(NotHeld::TooFar));
    }

    #[tokio::test]
    async fn a_stream_that_pauses_holds_nobody_for_ever() {
        let (_sender, reach) = watch::channel(Some(Reach { target_duration_s: 0, ..REACH }));
        assert_eq!(Holds::default().until(reach, |_| Verdict::Hold).await, Err(NotHeld::Paused));
    }

    #[tokio::test]
    async fn no_more_are_held_than_may_be() {
        let (_sender, reach) = watch::channel(Some(REACH));
        let holds = Holds(Semaphore::new(0));
        assert_eq!(holds.until(reach, |_| Verdict::Hold).await, Err(NotHeld::TooMany));
    }
}
