//! What an edge pulls of an origin, beside what it has to: as the origin counts its sessions, and the edge the
//! renditions that somebody watches there.

use anyhow::ensure;
use sluicegate_e2e::cluster::Cluster;

use crate::figure::Figure;

/// For each rendition in use.
const FOR_EACH: f64 = 1.0;

/// What was seen, look by look.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    sessions: u64,
    renditions: u64,
    most_sessions: u64,
    most_renditions: u64,
}

impl Pulls {
    /// Looks at a cluster of one origin whose streams come by RTMP: all of its WebRTC sessions are pulls.
    pub(super) fn look(&mut self, cluster: &Cluster) {
        let sessions: u64 = cluster
            .origins
            .iter()
            .map(|origin| origin.count("sluicegate_webrtc_sessions", &[("role", "origin")]))
            .sum();
        let renditions = cluster.edge.count("sluicegate_edge_renditions", &[]);
        self.sessions += sessions;
        self.renditions += renditions;
        self.most_sessions = self.most_sessions.max(sessions);
        self.most_renditions = self.most_renditions.max(renditions);
    }

    pub(super) fn figures(&self, kbps: u32) -> anyhow::Result<[Figure; 3]> {
        ensure!(self.renditions > 0, "nothing was watched");
        let each = self.sessions as f64 / self.renditions as f64;
        Ok([
            Figure::new(format!("pulls_per_rendition_in_use_{kbps}kbps"), each).at_most(FOR_EACH),
            Figure::new(format!("pulls_at_once_{kbps}kbps"), self.most_sessions as f64),
            Figure::new(format!("renditions_in_use_at_once_{kbps}kbps"), self.most_renditions as f64),
        ])
    }
}
