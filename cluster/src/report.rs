//! What an origin tells a balancer that probes it, once a second: its room as it is now, and the claims that the
//! store may not have. With it a stream that begins while the store is away is found, and publishes are placed by
//! more than was known before.

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, StreamKey};
use crate::stream::StreamRecord;

/// Where an origin serves it (`node.http`), to nodes of the cluster.
pub const PATH: &str = "/origin/report";

/// Claims told at once, the newest. An origin has more only when the store has been away for very long.
pub const CLAIMS_MAX: usize = 1_000;

/// Where an origin is told by edges how many watch its streams by WebRTC: a list of [`Watched`].
pub const WATCHED_PATH: &str = "/origin/watched";

/// The longest report that is read, bytes.
pub const BYTES_MAX: u64 = 1 << 20;

/// An origin's word of itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OriginReport {
    /// What it can encode, Mpx/s.
    pub capacity_mpx: f64,
    /// What its running streams cost, Mpx/s.
    pub running_mpx: f64,
    /// The claims that the store does not have as they should be, live or just ended.
    pub unconfirmed: Vec<StreamRecord>,
}

/// How many watch a stream by WebRTC on the edge that tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The stream.
    pub stream: StreamKey,
    /// Its viewers there.
    pub viewers: u64,
}

impl Watched {
    /// Streams told of at once.
    pub const MAX: usize = 1_000;
}

impl OriginReport {
    /// Reads what `origin` answered. `None`: it cannot be understood. A node speaks for itself only: claims in the
    /// name of another are left out.
    #[must_use]
    pub fn read(origin: &NodeId, body: &[u8]) -> Option<Self> {
        let mut report: Self = serde_json::from_slice(body).ok()?;
        let is_room = |mpx: f64| mpx.is_finite() && mpx >= 0.0;
        if !is_room(report.capacity_mpx) || !is_room(report.running_mpx) {
            return None;
        }
        report.unconfirmed.retain(|claim| claim.owner.node == *origin);
        report.unconfirmed.truncate(CLAIMS_MAX);
        Some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMs;
    use crate::testing::stream_held_by;

    #[test]
    fn an_origin_speaks_for_itself_only() {
        let of = |node: &str| stream_held_by(&format!("live/{node}"), node, "", UnixMs(1_000));
        let report =
            OriginReport { capacity_mpx: 8.0, running_mpx: 2.0, unconfirmed: vec![of("o1"), of("o2")] };
        let body = serde_json::to_vec(&report).unwrap();
        let read = OriginReport::read(&"o1".parse().unwrap(), &body).unwrap();
        assert_eq!(read, OriginReport { unconfirmed: vec![of("o1")], ..report });
    }

    #[test]
    fn what_is_no_report_is_none() {
        let id = "o1".parse().unwrap();
        for body in [
            "",
            "ok\n",
            "{}",
            r#"{"capacityMpx": -1, "runningMpx": 0, "unconfirmed": []}"#,
            r#"{"capacityMpx": 1e999, "runningMpx": 0, "unconfirmed": []}"#,
            r#"{"capacityMpx": 1, "runningMpx": 0, "unconfirmed": [7]}"#,
        ] {
            assert_eq!(OriginReport::read(&id, body.as_bytes()), None, "{body}");
        }
    }
}
