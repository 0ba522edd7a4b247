//! Metrics that several roles share, and the registry they all meet in. Labels come from closed sets.

use std::sync::Arc;

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::clock::{self, UnixMs};
use crate::node::{NodeState, Role};
use crate::view::{ClusterView, SharedView};

/// What was asked for by HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A playlist.
    Playlist,
    /// A media segment.
    Segment,
    /// A part of a media segment.
    Part,
    /// An init segment.
    Init,
    /// A publisher's WebRTC session: made, changed or ended.
    Whip,
    /// A viewer's WebRTC session: made, changed or ended.
    Whep,
    /// A page or one of its assets.
    Page,
    /// Anything else.
    Other,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Playlist => "playlist",
            Self::Segment => "segment",
            Self::Part => "part",
            Self::Init => "init",
            Self::Whip => "whip",
            Self::Whep => "whep",
            Self::Page => "page",
            Self::Other => "other",
        }
    }
}

/// HTTP requests by role, kind and class of status.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    sent_bytes: IntCounterVec,
}

impl HttpMetrics {
    /// Registers the two families.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new("sluicegate_http_requests_total", "HTTP requests answered"),
            &["role", "kind", "status"],
        )?;
        let sent_bytes = IntCounterVec::new(
            Opts::new("sluicegate_http_sent_bytes_total", "Bytes of HTTP bodies sent"),
            &["role"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(sent_bytes.clone()))?;
        Ok(Self { requests, sent_bytes })
    }

    /// Counts one answered request.
    pub fn record(&self, role: Role, kind: Kind, status: u16, body_bytes: u64) {
        let class = match status {
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[role.as_str(), kind.as_str(), class]).inc();
        self.count_sent(role, body_bytes);
    }

    /// Counts bytes of a body that is sent in pieces.
    pub fn count_sent(&self, role: Role, bytes: u64) {
        self.sent_bytes.with_label_values(&[role.as_str()]).inc_by(bytes);
    }
}

/// The cluster as this node sees it, brought up to date when the metrics are read.
pub struct ClusterMetrics {
    view: SharedView,
    state_age_seconds: prometheus::Gauge,
    clock_ahead_seconds: prometheus::Gauge,
    store_up: IntGauge,
    nodes: IntGaugeVec,
    unreadable: IntGaugeVec,
    streams_live: IntGauge,
}

impl ClusterMetrics {
    /// Registers the families, and `sluicegate_build_info`.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry, view: SharedView) -> prometheus::Result<Arc<Self>> {
        let build =
            IntGaugeVec::new(Opts::new("sluicegate_build_info", "1, with the version"), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;
        let metrics = Self {
            view,
            state_age_seconds: prometheus::Gauge::new(
                "sluicegate_node_state_age_seconds",
                "How old what this node knows of the cluster is",
            )?,
            clock_ahead_seconds: prometheus::Gauge::new(
                "sluicegate_node_clock_ahead_seconds",
                "How far this machine's clock is ahead of the cluster's time",
            )?,
            store_up: IntGauge::new("sluicegate_store_up", "Whether the cluster's memory answers")?,
            nodes: IntGaugeVec::new(Opts::new("sluicegate_nodes", "Nodes known"), &["role", "state"])?,
            unreadable: IntGaugeVec::new(
                Opts::new(
                    "sluicegate_unreadable_documents",
                    "Documents of the store that cannot be read or cannot be true",
                ),
                &["kind"],
            )?,
            streams_live: IntGauge::new("sluicegate_streams_live", "Streams that have an origin")?,
        };
        registry.register(Box::new(metrics.state_age_seconds.clone()))?;
        registry.register(Box::new(metrics.clock_ahead_seconds.clone()))?;
        registry.register(Box::new(metrics.store_up.clone()))?;
        registry.register(Box::new(metrics.nodes.clone()))?;
        registry.register(Box::new(metrics.unreadable.clone()))?;
        registry.register(Box::new(metrics.streams_live.clone()))?;
        Ok(Arc::new(metrics))
    }

    /// Sets the gauges from the current view, at `now` in the store's time.
    pub fn refresh(&self, now: UnixMs) {
        let view = self.view.load();
        self.state_age_seconds.set(view.read_at.age(now).as_secs_f64());
        self.clock_ahead_seconds.set(clock::ahead_ms() as f64 / 1e3);
        self.store_up.set(i64::from(view.store_ok));
        let live = view.all_streams().filter(|s| view.is_live(s));
        self.streams_live.set(count(live.count()));
        self.unreadable.with_label_values(&["node"]).set(count(view.unreadable.len()));
        self.unreadable.with_label_values(&["stream"]).set(count(view.unreadable_streams.len()));
        for role in [Role::Lb, Role::Edge, Role::Origin] {
            self.refresh_nodes(&view, role);
        }
    }

    fn refresh_nodes(&self, view: &ClusterView, role: Role) {
        let of_role = || view.nodes.values().filter(|n| n.has(role));
        for state in [NodeState::Joining, NodeState::Serving, NodeState::Draining] {
            let alive = of_role().filter(|n| n.state == state && view.lives(n)).count();
            self.nodes.with_label_values(&[role.as_str(), state.as_str()]).set(count(alive));
        }
        let silent = of_role().filter(|n| n.state != NodeState::Gone && !view.lives(n)).count();
        self.nodes.with_label_values(&[role.as_str(), "silent"]).set(count(silent));
        let found_dead = of_role().filter(|n| n.found_dead_by.is_some()).count();
        self.nodes.with_label_values(&[role.as_str(), NodeState::Gone.as_str()]).set(count(found_dead));
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Registers the counter of heartbeats by result.
///
/// # Errors
/// When it is registered already.
pub fn heartbeats(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let opts = Opts::new("sluicegate_heartbeats_total", "Heartbeats written, by result");
    let heartbeats = IntCounterVec::new(opts, &["result"])?;
    registry.register(Box::new(heartbeats.clone()))?;
    Ok(heartbeats)
}

/// RTMP connections by role.
#[derive(Clone)]
pub struct RtmpMetrics {
    connections: IntCounterVec,
    publishers: IntGaugeVec,
}

/// How an RTMP connection ended, or that it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtmpEnd {
    /// The publisher ended its stream, or its connection closed.
    Finished,
    /// Refused with a status that says why.
    Refused,
    /// It broke the protocol or a limit.
    Protocol,
    /// It was silent for too long.
    Stalled,
    /// The other side of the relay was lost.
    Upstream,
    /// Another publisher took its place, or the node stops.
    Replaced,
}

impl RtmpEnd {
    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
            Self::Stalled => "stalled",
            Self::Upstream => "upstream",
            Self::Replaced => "replaced",
        }
    }
}

impl RtmpMetrics {
    /// Registers the two families.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let connections = IntCounterVec::new(
            Opts::new("sluicegate_rtmp_connections_total", "RTMP connections that ended"),
            &["role", "result"],
        )?;
        let publishers = IntGaugeVec::new(
            Opts::new("sluicegate_rtmp_publishers", "Publishers being served over RTMP"),
            &["role"],
        )?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(publishers.clone()))?;
        Ok(Self { connections, publishers })
    }

    /// Counts a connection that ended.
    pub fn ended(&self, role: Role, end: RtmpEnd) {
        self.connections.with_label_values(&[role.as_str(), end.as_str()]).inc();
    }

    /// Counts a publisher for as long as the guard lives.
    #[must_use]
    pub fn publishing(&self, role: Role) -> PublisherGuard {
        let gauge = self.publishers.with_label_values(&[role.as_str()]);
        gauge.inc();
        PublisherGuard(gauge)
    }
}

/// A publisher being served.
pub struct PublisherGuard(IntGauge);

impl Drop for PublisherGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
