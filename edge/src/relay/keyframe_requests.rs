//! When an origin is asked for a keyframe: once, however many viewers want one, at most once a second, and not
//! while one has only just come.

use std::time::{Duration, Instant};

/// The least time between two requests.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A keyframe that came this recently is the one that was wanted: who asked had not got it yet.
const JUST_CAME: Duration = Duration::from_millis(300);

/// What is wanted of one pull.
#[derive(Debug, Default)]
pub(crate) struct KeyframeRequests {
    is_wanted: bool,
    asked: Option<Instant>,
    came: Option<Instant>,
}

impl KeyframeRequests {
    /// A viewer cannot begin without one. One that has just come is past, for who has not seen it.
    pub(crate) fn need(&mut self) {
        self.is_wanted = true;
    }

    /// A viewer cannot go on without one.
    pub(crate) fn want(&mut self, now: Instant) {
        let just_came = self.came.is_some_and(|came| now.saturating_duration_since(came) < JUST_CAME);
        self.is_wanted |= !just_came;
    }

    /// One has begun.
    pub(crate) fn came(&mut self, now: Instant) {
        self.is_wanted = false;
        self.came = Some(now);
    }

    /// Whether to ask now. If so, that counts as having asked; while none comes it is due again and again.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let asked_lately = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < ASK_EVERY);
        let due = self.is_wanted && !asked_lately;
        if due {
            self.asked = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock;

    use super::*;

    /// How often the origin is asked within `seconds`, when viewers want a keyframe every 10 ms.
    fn asked(seconds: u64, comes_after: Option<Duration>) -> usize {
        let (mut requests, start) = (KeyframeRequests::default(), clock::now());
        let (mut asked, mut last) = (0, None);
        for n in 0..seconds * 100 {
            let now = start + Duration::from_millis(10 * n);
            requests.want(now);
            if requests.is_due(now) {
                (asked, last) = (asked + 1, Some(now));
            }
            if last.zip(comes_after).is_some_and(|(last, after)| now - last >= after) {
                requests.came(now);
                last = None;
            }
        }
        asked
    }

    #[test]
    fn an_origin_is_asked_once_a_second_at_most() {
        assert_eq!(asked(10, None), 10, "one that does not answer is asked again");
        assert_eq!(asked(10, Some(Duration::from_millis(100))), 10);
    }

    #[test]
    fn one_that_has_just_come_is_what_was_wanted() {
        let (mut requests, now) = (KeyframeRequests::default(), clock::now());
        assert!(!requests.is_due(now), "nobody wants one");
        requests.came(now);
        requests.want(now + Duration::from_millis(100));
        assert!(!requests.is_due(now + Duration::from_millis(100)));
        requests.want(now + Duration::from_millis(400));
        assert!(requests.is_due(now + Duration::from_millis(400)));
        requests.came(now + Duration::from_secs(2));
        requests.need();
        assert!(requests.is_due(now + Duration::from_millis(2_100)), "but not by who begins after it");
    }
}
