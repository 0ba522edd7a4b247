//! What the relay counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use sluicegate_rtc::Ended;

use crate::metrics::Egress;

/// The relay's families.
pub(crate) struct RelayMetrics {
    pub(crate) pulls: IntGauge,
    renditions: IntGauge,
    pub(crate) viewers: IntGauge,
    pub(crate) keyframe_requests: IntCounter,
    pub(crate) egress: Egress,
    begun: IntCounterVec,
    ended: IntCounterVec,
    received_packets: IntCounter,
    sent_packets: IntCounter,
    repeated_packets: IntCounter,
}

/// How a pull's offer to an origin ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullBegun {
    /// It is sent.
    Agreed,
    /// The origin does not have it, or not yet.
    Absent,
    /// The origin does not answer, or not so that it can be used.
    Failed,
}

impl PullBegun {
    fn as_str(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Absent => "absent",
            Self::Failed => "failed",
        }
    }
}

impl RelayMetrics {
    /// Registers them.
    pub(crate) fn register(registry: &Registry, egress: Egress) -> prometheus::Result<Self> {
        let metrics = Self {
            pulls: IntGauge::new("sluicegate_edge_pulls", "Renditions being pulled over WebRTC")?,
            renditions: IntGauge::new(
                "sluicegate_edge_renditions",
                "Renditions that somebody watches over WebRTC, or did a moment ago: each is pulled once",
            )?,
            viewers: IntGauge::new("sluicegate_edge_webrtc_viewers", "Viewers by WebRTC")?,
            keyframe_requests: IntCounter::new(
                "sluicegate_edge_keyframe_requests_total",
                "Keyframes asked of origins",
            )?,
            egress,
            begun: IntCounterVec::new(
                Opts::new("sluicegate_edge_pulls_begun_total", "Pulls asked of origins, by how that ended"),
                &["result"],
            )?,
            ended: IntCounterVec::new(
                Opts::new("sluicegate_edge_webrtc_viewers_ended_total", "Viewers by WebRTC that ended"),
                &["reason"],
            )?,
            received_packets: IntCounter::new(
                "sluicegate_edge_relay_received_packets_total",
                "RTP packets that came from origins",
            )?,
            sent_packets: IntCounter::new(
                "sluicegate_edge_relay_sent_packets_total",
                "RTP packets sent to viewers",
            )?,
            repeated_packets: IntCounter::new(
                "sluicegate_edge_relay_repeated_packets_total",
                "RTP packets sent again to viewers who lacked them",
            )?,
        };
        // There from the start, so that the first one is seen to be one more.
        for why in Ended::ALL {
            metrics.ended.with_label_values(&[why.label()]);
        }
        for result in [PullBegun::Agreed, PullBegun::Absent, PullBegun::Failed] {
            metrics.begun.with_label_values(&[result.as_str()]);
        }
        registry.register(Box::new(metrics.pulls.clone()))?;
        registry.register(Box::new(metrics.renditions.clone()))?;
        registry.register(Box::new(metrics.viewers.clone()))?;
        registry.register(Box::new(metrics.keyframe_requests.clone()))?;
        registry.register(Box::new(metrics.begun.clone()))?;
        registry.register(Box::new(metrics.ended.clone()))?;
        registry.register(Box::new(metrics.received_packets.clone()))?;
        registry.register(Box::new(metrics.sent_packets.clone()))?;
        registry.register(Box::new(metrics.repeated_packets.clone()))?;
        Ok(metrics)
    }

    /// So many renditions are in use.
    pub(crate) fn renditions_are(&self, renditions: usize) {
        self.renditions.set(i64::try_from(renditions).unwrap_or(i64::MAX));
    }

    /// An origin was asked.
    pub(crate) fn pull_begun(&self, result: PullBegun) {
        self.begun.with_label_values(&[result.as_str()]).inc();
    }

    /// Packets came.
    pub(crate) fn received(&self, packets: usize) {
        self.received_packets.inc_by(packets as u64);
    }

    /// Packets, with so many bytes of media, were sent.
    pub(crate) fn sent(&self, packets: u64, bytes: u64) {
        self.sent_packets.inc_by(packets);
        self.egress.sent(bytes);
    }

    /// A packet, with so many bytes of media, was sent again.
    pub(crate) fn repeated(&self, bytes: u64) {
        self.repeated_packets.inc();
        self.egress.sent(bytes);
    }

    /// A viewer ended.
    pub(crate) fn viewer_ended(&self, why: Ended) {
        self.ended.with_label_values(&[why.label()]).inc();
    }
}
