//! Why a stream was placed where it is: what its balancer saw when it chose. It goes to the origin with the publish,
//! is kept in the stream's record with the claim, and shown to operators.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;
use crate::ids::NodeId;

/// Candidates that are told of.
const CANDIDATES_MAX: usize = 8;
/// The longest text of one.
const TEXT_BYTES: usize = 4_096;

/// A balancer's decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placed {
    /// The balancer.
    pub by: NodeId,
    /// When, in the database's time.
    pub at: UnixMs,
    /// Why there.
    pub because: Because,
    /// What its publish was expected to cost, Mpx/s.
    pub cost_mpx: f64,
    /// How many origins there were to choose from.
    pub of: usize,
    /// Those of them that came first, the chosen one before all.
    pub candidates: Vec<PlacedCandidate>,
}

/// Why an origin was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// It had the stream already.
    HasTheStream,
    /// It would be the least loaded for its capacity, and room was reserved there.
    LeastLoaded,
    /// The store did not answer: by what was known, of some that were looked at.
    LeastLoadedAsKnown,
}

/// An origin as it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacedCandidate {
    /// The node.
    pub node: NodeId,
    /// What it had left, Mpx/s.
    pub free_mpx: f64,
    /// Of so much.
    pub capacity_mpx: f64,
    /// Its processors, percent.
    pub cpu: f64,
    /// How old its last heartbeat was, milliseconds.
    pub heartbeat_age_ms: u64,
}

impl Placed {
    /// The decision with as many candidates as are told of.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.candidates.truncate(CANDIDATES_MAX);
        self
    }

    /// As it is sent along with a publish. A node's name may be long: what would not be read is not sent.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok().filter(|text| text.len() <= TEXT_BYTES)
    }

    /// What was sent; `None` when it is none, which is no reason to refuse a publish.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let text = Some(text).filter(|text| text.len() <= TEXT_BYTES)?;
        serde_json::from_str::<Self>(text).ok().map(Self::bounded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(candidates: usize) -> Placed {
        let candidate = |n| PlacedCandidate {
            node: format!("origin-{n}").parse().unwrap(),
            free_mpx: 31.5,
            capacity_mpx: 62.0,
            cpu: 12.5,
            heartbeat_age_ms: 400,
        };
        Placed {
            by: "lb-1".parse().unwrap(),
            at: UnixMs(1_700_000_000_000),
            because: Because::LeastLoaded,
            cost_mpx: 2.0,
            of: candidates,
            candidates: (0..candidates).map(candidate).collect(),
        }
    }

    #[test]
    fn a_decision_arrives_as_it_was_sent_and_bounded() {
        let sent = placed(3);
        assert_eq!(Placed::read(&sent.text().unwrap()), Some(sent));
        let many = placed(30);
        assert_eq!(Placed::read(&many.text().unwrap()).unwrap().candidates.len(), CANDIDATES_MAX);
        assert!(many.bounded().text().unwrap().len() < 1_200);
        assert_eq!(placed(200).text(), None);
        for bad in ["", "{}", "null", &"x".repeat(TEXT_BYTES + 1)] {
            assert_eq!(Placed::read(bad), None);
        }
    }
}
