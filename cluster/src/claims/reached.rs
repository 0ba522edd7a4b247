//! The numbers that a stream has come to. A balancer tells them with a publish, because it may know of a claim that the
//! store does not have: one that was made, and whose origin died, while the store was away.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;
use crate::ids::Epoch;
use crate::stream::StreamRecord;

/// The longest text that is read.
const TEXT_BYTES: usize = 256;

/// What the next claim's numbers go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reached {
    /// The number of the claim.
    pub epoch: Epoch,
    /// How many claims there had been.
    pub claims: i64,
    /// The media sequence number last told of.
    pub sequence: i64,
    /// When that was, in the database's time.
    pub sequence_at: UnixMs,
}

impl From<&StreamRecord> for Reached {
    fn from(stream: &StreamRecord) -> Self {
        Self {
            epoch: stream.epoch,
            claims: stream.claims,
            sequence: stream.sequence,
            sequence_at: stream.sequence_at,
        }
    }
}

impl Reached {
    /// The later claim's of the two; where both are of the same claim, what is `stored`.
    pub(super) fn later(stored: Option<Self>, told: Option<Self>) -> Option<Self> {
        match (stored, told) {
            (Some(stored), Some(told)) if told.epoch > stored.epoch => {
                Some(Self { claims: told.claims.max(stored.claims), ..told })
            }
            (Some(stored), _) => Some(stored),
            (None, told) => told,
        }
    }

    /// Where the media sequence of a claim made at `now` starts: the last known number plus twice the seconds since,
    /// and one. It never goes back while segments last over half a second, and jumps little.
    pub(super) fn next_sequence(&self, now: UnixMs) -> i64 {
        let seconds = i64::try_from(self.sequence_at.age(now).as_secs_f64().ceil() as u64).unwrap_or(0);
        self.sequence.saturating_add(seconds.saturating_mul(2)).saturating_add(1)
    }

    /// As it is sent along with a publish.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// What was sent; `None` when it is none, which is no reason to refuse a publish.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let text = Some(text).filter(|text| text.len() <= TEXT_BYTES)?;
        let reached: Self = serde_json::from_str(text).ok()?;
        (reached.epoch.0 >= 0 && reached.claims >= 0 && reached.sequence >= 0).then_some(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(epoch: i64, claims: i64, sequence: i64) -> Reached {
        Reached { epoch: Epoch(epoch), claims, sequence, sequence_at: UnixMs(1_000) }
    }

    #[test]
    fn what_is_told_counts_where_the_store_has_nothing_as_late() {
        let (stored, told) = (reached(5, 4, 40), reached(6, 1, 3));
        let later = |stored, told| Reached::later(stored, told);
        assert_eq!(later(None, Some(told)), Some(told));
        assert_eq!(later(Some(stored), Some(told)), Some(reached(6, 4, 3)), "claims never go back");
        assert_eq!(later(Some(told), Some(stored)), Some(told));
        let old = Reached { sequence: 1, ..stored };
        assert_eq!(later(Some(stored), Some(old)), Some(stored), "of one claim, the store knows best");
    }

    #[test]
    fn what_is_no_number_is_none() {
        let sent = reached(5, 4, 40);
        assert_eq!(Reached::read(&sent.text().unwrap()), Some(sent));
        let negative = reached(5, 4, -1).text().unwrap();
        let long = format!("{}{}", " ".repeat(TEXT_BYTES), sent.text().unwrap());
        for text in
            ["", "{}", "7", r#"{"epoch":1,"claims":"x","sequence":0,"sequenceAt":0}"#, &negative, &long]
        {
            assert_eq!(Reached::read(text), None, "{text}");
        }
    }
}
