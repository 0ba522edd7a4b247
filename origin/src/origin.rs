//! The origin: what its parts share. [`claims`] are its rights to streams, [`departures`] how streams leave it, [`room`]
//! what it can carry, [`records`] what it does once a second.

mod claims;
mod departures;
mod records;
mod room;

use std::sync::{Arc, OnceLock};

use prometheus::Registry;
use sluicegate_cluster::claims::Claims;
use sluicegate_cluster::clock;
use sluicegate_cluster::config::{AppSettings, Limits, OriginSettings};
use sluicegate_cluster::ids::{AppName, NodeId, StreamKey};
use sluicegate_cluster::membership::NodeLife;
use sluicegate_cluster::metrics::{HttpMetrics, RtmpMetrics};
use sluicegate_cluster::node::{Full, Gpu, Load, NodeState};
use sluicegate_cluster::report::{self, OriginReport};
use sluicegate_cluster::rest::StreamControl;
use sluicegate_cluster::store::ClusterStore;
use sluicegate_cluster::stream::StreamRecord;
use sluicegate_cluster::trust::ClusterKey;
use sluicegate_cluster::view::{OwnFigures, SharedView};
use tokio::sync::Notify;

use crate::ends::Ends;
use crate::gpus::Gpus;
use crate::hold::Holds;
use crate::live::LiveStream;
use crate::load::LoadWatch;
use crate::metrics::OriginMetrics;
use crate::room::RoomBook;
use crate::streams::StreamTable;
use crate::webrtc::{WebRtc, WebRtcParts};

/// What an origin is made of.
pub struct OriginParts<'a> {
    /// Its own settings.
    pub settings: OriginSettings,
    /// What it bounds.
    pub limits: Limits,
    /// This node.
    pub node: NodeId,
    /// This node's life: under which incarnation it claims.
    pub life: Arc<NodeLife>,
    /// What nodes trust each other by.
    pub key: ClusterKey,
    /// Its UDP port, and what goes with it.
    pub webrtc: WebRtcParts,
    /// The applications there are.
    pub apps: Vec<AppSettings>,
    /// The cluster as it is known.
    pub view: SharedView,
    /// Who has which stream.
    pub claims: Claims,
    /// Where progress is recorded.
    pub store: Arc<dyn ClusterStore>,
    /// Where this node's view finds the figures of its streams.
    pub figures: OwnFigures,
    /// Where its metrics go.
    pub registry: &'a Registry,
    /// HTTP's counters.
    pub http: HttpMetrics,
    /// RTMP's counters.
    pub rtmp: RtmpMetrics,
}

/// Why there is no origin.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// Metrics are registered twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// WebRTC has no threads to run on.
    #[error("WebRTC cannot be started: {0}")]
    WebRtc(#[from] std::io::Error),
}

/// An origin: takes publishes, serves what it makes of them to edges.
pub struct Origin {
    pub(crate) limits: Limits,
    pub(crate) key: ClusterKey,
    pub(crate) streams: StreamTable,
    pub(crate) room: RoomBook,
    pub(crate) load: LoadWatch,
    pub(crate) webrtc: WebRtc,
    pub(crate) http_metrics: HttpMetrics,
    pub(crate) rtmp_metrics: RtmpMetrics,
    pub(crate) metrics: OriginMetrics,
    pub(crate) holds: Holds,
    /// Told when a claim is to be written at once.
    pub(crate) news: Notify,
    node: NodeId,
    life: Arc<NodeLife>,
    apps: Vec<AppSettings>,
    view: SharedView,
    claims: Claims,
    store: Arc<dyn ClusterStore>,
    figures: OwnFigures,
    ends: Ends,
    pub(crate) gpus: Arc<Gpus>,
    /// What the processors can encode, Mpx/s, once it is measured.
    cpu_mpx: OnceLock<f64>,
    settings: OriginSettings,
}

impl StreamControl for Origin {
    fn stop(&self, key: &StreamKey) -> bool {
        self.streams.stop(key)
    }

    fn has(&self, key: &StreamKey) -> bool {
        self.streams.has(key)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.gpus.stop();
    }
}

impl Origin {
    /// An origin without streams. Where there are graphics cards, it waits until they have shown what they can, ten
    /// seconds at most.
    ///
    /// # Errors
    /// When its metrics are registered already, or it cannot have its threads.
    pub fn new(parts: OriginParts<'_>) -> Result<Arc<Self>, OriginError> {
        let capacity_mpx = parts.settings.capacity();
        Ok(Arc::new(Self {
            streams: StreamTable::new(parts.limits.streams_per_origin),
            load: LoadWatch::new(&parts.limits),
            room: RoomBook::new(capacity_mpx, parts.limits.stream_floor_mpx),
            metrics: OriginMetrics::register(parts.registry, capacity_mpx)?,
            holds: Holds::default(),
            webrtc: WebRtc::start(parts.webrtc, parts.registry)?,
            gpus: Gpus::start(&parts.settings, &parts.limits, Some(parts.registry))?,
            cpu_mpx: OnceLock::new(),
            limits: parts.limits,
            key: parts.key,
            http_metrics: parts.http,
            rtmp_metrics: parts.rtmp,
            node: parts.node,
            news: Notify::new(),
            life: parts.life,
            apps: parts.apps,
            view: parts.view,
            claims: parts.claims,
            store: parts.store,
            figures: parts.figures,
            ends: Ends::default(),
            settings: parts.settings,
        }))
    }

    /// Streams being published.
    #[must_use]
    pub fn publishes(&self) -> u64 {
        self.streams.live().len() as u64
    }

    /// The graphics cards, and how they were used when they were read last.
    #[must_use]
    pub fn gpus(&self) -> Vec<Gpu> {
        self.gpus.read()
    }

    /// Why no more is taken, if nothing is.
    #[must_use]
    pub fn full(&self) -> Option<Full> {
        self.load.full(clock::now())
    }

    /// What a balancer is told that probes this origin: its room, and the claims that the store may not have.
    #[must_use]
    pub fn report(&self) -> OriginReport {
        let (room, incarnation) = (self.room(), self.life.incarnation());
        let now = self.view.load().now(clock::now());
        let told = |(stream, ended): (Arc<LiveStream>, bool)| {
            let claim = stream.unconfirmed(&incarnation)?.without_session();
            Some(StreamRecord { ended_at: ended.then_some(now), sequence_at: now, ..claim })
        };
        let mut unconfirmed: Vec<StreamRecord> = self.streams.served().into_iter().filter_map(told).collect();
        unconfirmed.sort_by_key(|claim| std::cmp::Reverse(claim.epoch));
        unconfirmed.truncate(report::CLAIMS_MAX);
        OriginReport { capacity_mpx: room.capacity_mpx, running_mpx: room.running_mpx, unconfirmed }
    }

    /// Takes a reading of the machine, once a second.
    pub fn note_load(&self, load: &Load) {
        self.load.note(load);
    }

    pub(crate) fn app(&self, name: &AppName) -> Option<&AppSettings> {
        self.apps.iter().find(|app| app.name == *name)
    }

    /// Whether an operator drains this node, which goes on with what it has.
    pub(crate) fn is_drained(&self) -> bool {
        self.life.state() == NodeState::Draining && !self.life.is_stopping()
    }
}
