//! The origin: what its parts share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::Registry;
use sluicegate_cluster::claims::{self, Claimed, Claims, Confirmed, Taker};
use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_cluster::config::{AppSettings, EncoderChoice, Limits, OriginSettings};
use sluicegate_cluster::ids::{AppName, NodeId, ReservationId, StreamKey};
use sluicegate_cluster::limits;
use sluicegate_cluster::membership::{NodeLife, Room};
use sluicegate_cluster::metrics::{HttpMetrics, RtmpMetrics};
use sluicegate_cluster::node::{Full, Gpu, Load, NodeState, Reservation};
use sluicegate_cluster::report::{self, OriginReport};
use sluicegate_cluster::rest::StreamControl;
use sluicegate_cluster::store::{ClusterStore, RoomRequest, StoreError};
use sluicegate_cluster::stream::{PictureSize, PublishType, StreamFigures, StreamRecord};
use sluicegate_cluster::ticket::PublishTicket;
use sluicegate_cluster::trust::ClusterKey;
use sluicegate_cluster::view::{OwnFigures, SharedView};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::capacity;
use crate::ends::{End, Ends};
use crate::error::IngestError;
use crate::gpus::Gpus;
use crate::hold::Holds;
use crate::live::{InStore, LiveStream};
use crate::load::LoadWatch;
use crate::metrics::OriginMetrics;
use crate::overload::Order;
use crate::room::RoomBook;
use crate::streams::StreamTable;
use crate::webrtc::{WebRtc, WebRtcParts};

/// For the store to answer a claim. A balancer waits a little longer.
const CLAIM_WAIT: Duration = Duration::from_secs(2);
/// For the store to take room.
const RESERVE_WAIT: Duration = Duration::from_secs(1);
/// For the store to answer a claim while it is known to be away.
const CLAIM_WAIT_AWAY: Duration = Duration::from_millis(100);

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

    /// The room, for the heartbeat. Brings the gauges up to date as well.
    #[must_use]
    pub fn room(&self) -> Room {
        let capacity_mpx = self.capacity_mpx();
        self.room.set_capacity(capacity_mpx);
        self.metrics.set_capacity(capacity_mpx);
        let mut room = self.room.room();
        let (full, running_mpx) = (self.full(), room.running_mpx);
        if full.is_some() {
            // Nothing is free while nothing is taken.
            room.running_mpx = room.running_mpx.max(room.capacity_mpx);
        }
        let free_mpx = room.capacity_mpx - room.running_mpx;
        self.metrics.set_room(free_mpx, running_mpx, self.life.reserved_mpx());
        self.metrics.set_full(full);
        self.metrics.streams.set(i64::try_from(self.publishes()).unwrap_or(i64::MAX));
        room
    }

    /// What a balancer is told that probes this origin: its room, and the claims that the store may not have.
    #[must_use]
    pub fn report(&self) -> OriginReport {
        let (room, incarnation) = (self.room(), self.life.incarnation());
        let now = self.view.load().now(clock::now());
        let told = |(stream, ended): (Arc<LiveStream>, bool)| {
            let claim = stream.unconfirmed(&incarnation)?.without_session();
            Some(StreamRecord { ended_at: ended.then_some(now), ..claim })
        };
        let mut unconfirmed: Vec<StreamRecord> = self.streams.served().into_iter().filter_map(told).collect();
        unconfirmed.sort_by_key(|claim| std::cmp::Reverse(claim.epoch));
        unconfirmed.truncate(report::CLAIMS_MAX);
        OriginReport { capacity_mpx: room.capacity_mpx, running_mpx: room.running_mpx, unconfirmed }
    }

    /// Records all streams' progress every [`limits::PROGRESS_EVERY`], in one write, and forgets ended ones.
    pub async fn keep_records(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(limits::HEARTBEAT_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = clock::now();
        loop {
            let is_regular = tokio::select! {
                () = stop.cancelled() => return,
                () = self.news.notified() => false,
                () = self.life.reborn() => false,
                _ = ticks.tick() => true,
            };
            let now = clock::now();
            self.streams.sweep(now);
            for stream in self.streams.given_up(now) {
                if self.is_superseded(&stream) { self.leave(&stream) } else { self.end(&stream, false).await }
            }
            let all = now.duration_since(last) >= limits::PROGRESS_EVERY;
            if all {
                last = now;
            }
            let live = self.streams.live();
            self.correct_room(&live);
            if is_regular {
                self.watch_encoders(&live);
            }
            self.settle_claims(&live).await;
            if self.view.load().store_ok {
                for end in self.ends.take() {
                    self.release(end).await;
                }
            }
            // A stream that has just begun is recorded at once, so that its picture is known.
            let due = live.iter().filter(|s| s.has_news() || all);
            let due: Vec<&LiveStream> = due.map(AsRef::as_ref).collect();
            self.record(&due, all).await;
        }
    }

    /// Records the progress of `streams`, which may be `all` of this origin's.
    async fn record(&self, streams: &[&LiveStream], all: bool) {
        let progress: Vec<_> =
            streams.iter().map(|s| s.progress(clock::cluster_ms(), clock::now())).collect();
        if progress.is_empty() {
            return;
        }
        let recorded = match self.store.now().await {
            Ok(now) => {
                if all {
                    let figures = progress.iter().map(|step| StreamFigures::of(step, now)).collect();
                    self.figures.store(Arc::new(figures));
                }
                self.store.record_progress(&progress, now).await
            }
            Err(error) => Err(error),
        };
        match recorded {
            Ok(()) => streams.iter().zip(&progress).for_each(|(stream, step)| stream.was_recorded(step)),
            Err(error) => {
                tracing::warn!(%error, streams = progress.len(), "progress could not be recorded");
            }
        }
    }

    /// Takes a reading of the machine, once a second.
    pub fn note_load(&self, load: &Load) {
        self.load.note(load);
    }

    /// Measures what the processors can encode, unless the configuration says what this origin can. Takes a few tenths
    /// of a second.
    pub fn measure_capacity(&self) {
        if let Some(mpx) =
            self.settings.capacity_mpx.is_none().then(|| capacity::known(&self.settings)).flatten()
        {
            tracing::info!(mpx, "what the processors can encode is known");
            let _ = self.cpu_mpx.set(mpx);
            let _ = self.room();
        }
    }

    /// What can be encoded here, Mpx/s: by the processors, and by the graphics cards that are trusted now.
    fn capacity_mpx(&self) -> f64 {
        if let Some(configured) = self.settings.capacity_mpx {
            return configured;
        }
        let cpu_mpx = match self.settings.encoder {
            EncoderChoice::Nvenc => 0.0,
            EncoderChoice::Auto | EncoderChoice::X264 => {
                self.cpu_mpx.get().copied().unwrap_or_else(|| self.settings.capacity())
            }
        };
        cpu_mpx + self.gpus.capacity_mpx()
    }

    /// Has rungs given up while encoders are late, and made again when they are not.
    fn watch_encoders(&self, live: &[Arc<LiveStream>]) {
        let ladders: Vec<_> = live.iter().filter_map(|stream| stream.ladder()).collect();
        let reports: Vec<_> = live.iter().filter_map(|s| s.report_ladder(clock::now())).collect();
        self.metrics.note_ladders(&reports);
        let worst_ms = ladders.iter().map(|ladder| ladder.lag_ms).max().unwrap_or(0);
        let of = |key: &StreamKey| live.iter().find(|stream| stream.key == *key);
        match self.load.look(&ladders, clock::now()) {
            Some(Order::GiveUp(key)) => {
                tracing::warn!(stream = %key, worst_ms, "encoders are late: a rung is given up");
                self.metrics.rungs_given_up.inc();
                of(&key).inspect(|stream| stream.give_up_a_rung());
            }
            Some(Order::TakeBack(key)) => {
                tracing::info!(stream = %key, "encoders keep up: a rung comes back");
                self.metrics.rungs_taken_back.inc();
                of(&key).inspect(|stream| stream.take_a_rung_back());
            }
            None => {}
        }
    }

    /// Books what streams cost by the pictures they have, in place of what was expected.
    fn correct_room(&self, live: &[Arc<LiveStream>]) {
        for stream in live {
            if let (Some(size), Some(app)) = (stream.picture_size(), self.app(&stream.key.app)) {
                let cost_mpx = self.room.cost_mpx(&app.ladder, Some(size));
                self.room.correct(&stream.key, stream.epoch, cost_mpx);
            }
        }
    }

    /// The picture that a stream had when it was last recorded.
    pub(crate) fn known_size(&self, key: &StreamKey) -> Option<PictureSize> {
        self.view.load().stream(key).and_then(|stream| stream.size)
    }

    pub(crate) fn app(&self, name: &AppName) -> Option<&AppSettings> {
        self.apps.iter().find(|app| app.name == *name)
    }

    /// Takes room here for a publish that comes without: one that was here a moment ago, or that was placed while
    /// the store was away. `None` when the store does not answer: what runs here decides then.
    pub(crate) async fn reserve(
        &self,
        key: &StreamKey,
        mpx: f64,
    ) -> Result<Option<ReservationId>, IngestError> {
        if !self.room.fits(mpx) {
            return Err(IngestError::Full);
        }
        if !self.view.load().store_ok {
            return Ok(None);
        }
        let taking = async {
            let now = self.store.now().await?;
            let reservation = Reservation {
                id: ReservationId::random(),
                stream: key.clone(),
                mpx,
                expires_at: now.plus(limits::RESERVATION),
            };
            let id = reservation.id.clone();
            let candidates = vec![self.node.clone()];
            let request = RoomRequest { candidates, reservation, heartbeat_after: UnixMs(0) };
            Ok::<_, StoreError>(self.store.take_room(&request).await?.map(|_| id))
        };
        match tokio::time::timeout(RESERVE_WAIT, taking).await {
            Ok(Ok(None)) => Err(IngestError::Full),
            Ok(Ok(taken)) => Ok(taken),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }

    /// Claims the stream in the cluster; what the store has of the claim. A store that does not answer in time
    /// does not stop the publish: the epoch is then minted here, and the claim written later. So is that of a
    /// stream that is handed over, when it has something to list.
    pub(crate) async fn claim(
        &self,
        key: &StreamKey,
        ticket: &PublishTicket,
        publish_type: PublishType,
    ) -> Result<(StreamRecord, InStore), IngestError> {
        let taker = Taker {
            node: self.node.clone(),
            incarnation: self.life.incarnation(),
            session: ticket.session.clone(),
            publish_type,
            placed: ticket.placed.clone(),
        };
        let claiming = async {
            if ticket.handover {
                return Ok((self.claims.prepare(key, &taker).await?, InStore::NotBeforeItBegins));
            }
            Ok((self.claims.claim(key, &taker).await?, InStore::As(taker.incarnation.clone())))
        };
        let wait = if self.view.load().store_ok { CLAIM_WAIT } else { CLAIM_WAIT_AWAY };
        let claimed = tokio::time::timeout(wait, claiming).await.unwrap_or(Err(StoreError::TimedOut));
        let error = match claimed {
            Ok((Claimed::Taken(record), in_store)) => return Ok((*record, in_store)),
            Ok((Claimed::Held(owner), _)) => {
                tracing::info!(stream = %key, holder = %owner.node, "another origin has this stream");
                return Err(IngestError::InUse);
            }
            Err(StoreError::Contended) => return Err(IngestError::InUse),
            Err(error) => error,
        };
        tracing::warn!(%error, stream = %key, "the claim is not confirmed; the stream goes on");
        let view = self.view.load();
        let known = view.stream(key).cloned();
        // Whoever is known to hold it lives no more, or its balancer would have sent the publish there.
        match claims::decide(key, known.as_deref(), None, &taker, view.now(clock::now())) {
            Claimed::Taken(record) => Ok((*record, InStore::No)),
            Claimed::Held(_) => Err(IngestError::InUse),
        }
    }

    /// Writes claims that the store does not have as they should be, and gives up streams that others have by
    /// now.
    async fn settle_claims(&self, live: &[Arc<LiveStream>]) {
        let incarnation = self.life.incarnation();
        for stream in live {
            let confirmed = match stream.unconfirmed(&incarnation) {
                _ if self.is_superseded(stream) => Ok(Confirmed::Superseded),
                Some(claim) if self.view.load().store_ok => self.claims.confirm(&claim).await,
                _ => continue,
            };
            match confirmed {
                Ok(Confirmed::Yes) => stream.confirm(&incarnation),
                Ok(Confirmed::Superseded) => {
                    tracing::warn!(stream = %stream.key, "another origin has this stream by a higher epoch");
                    self.streams.yield_to_higher_epoch(stream);
                }
                Err(error) => {
                    tracing::debug!(%error, stream = %stream.key, "the claim is still not confirmed");
                }
            }
        }
    }

    /// Whether a higher epoch is known, by another run or another node.
    pub(crate) fn is_superseded(&self, stream: &LiveStream) -> bool {
        let incarnation = self.life.incarnation();
        let others = |s: &StreamRecord| s.owner.node != self.node || s.owner.incarnation != incarnation;
        self.view.load().stream(&stream.key).is_some_and(|s| s.epoch > stream.epoch && others(s))
    }

    /// A publisher's connection broke off. Its stream ends when it does not come back
    /// ([`StreamTable::given_up`]).
    pub(crate) fn abandon(&self, stream: &Arc<LiveStream>) {
        self.streams.abandon(stream, clock::now());
        stream.stop_feeds();
        self.room.end(&stream.key, stream.epoch);
        tracing::info!(stream = %stream.key, epoch = stream.epoch.0, "a publisher broke off");
    }

    /// A stream was handed over: what there is of it is complete, and is served until the next origin has
    /// something to list, and a while longer. If none ever has, the stream ends.
    pub(crate) fn hand_over(&self, stream: &Arc<LiveStream>) {
        self.streams.hand_over(stream, clock::now());
        self.room.end(&stream.key, stream.epoch);
        tracing::info!(stream = %stream.key, epoch = stream.epoch.0, "a stream was handed over");
    }

    /// Frees a stream whose publisher was sent away and will be back at another origin, under a session of its own.
    /// As with a handover, nothing says that the stream ended, and what there is of it is served meanwhile.
    pub(crate) async fn free(&self, stream: &Arc<LiveStream>) {
        stream.stop_feeds();
        self.hand_over(stream);
        self.release(End {
            key: stream.key.clone(),
            epoch: stream.epoch,
            unconfirmed: stream.unconfirmed(&self.life.incarnation()),
            last_sequence: stream.last_sequence(),
        })
        .await;
    }

    /// Whether an operator drains this node, which goes on with what it has.
    pub(crate) fn is_drained(&self) -> bool {
        self.life.state() == NodeState::Draining && !self.life.is_stopping()
    }

    /// Leaves a stream that goes on elsewhere: its claim is for the next one to take, its files are served
    /// as they are.
    pub(crate) fn leave(&self, stream: &Arc<LiveStream>) {
        self.streams.end(stream, clock::now());
        stream.stop_feeds();
        self.room.end(&stream.key, stream.epoch);
        tracing::info!(stream = %stream.key, epoch = stream.epoch.0, "a stream moved on");
    }

    /// Ends a stream whose publisher is gone: its last playlist says so, its claim is released. One that was
    /// `refused` for its media before it had a playlist gets none.
    pub(crate) async fn end(&self, stream: &Arc<LiveStream>, refused: bool) {
        let last_sequence = stream.finish(refused);
        self.streams.end(stream, clock::now());
        self.room.end(&stream.key, stream.epoch);
        tracing::info!(stream = %stream.key, epoch = stream.epoch.0, "a stream ended");
        self.release(End {
            key: stream.key.clone(),
            epoch: stream.epoch,
            // A stream that was handed over here may end before its claim was written.
            unconfirmed: stream.unconfirmed(&self.life.incarnation()),
            last_sequence,
        })
        .await;
    }

    /// Tells the store of an end, now or when it is back.
    async fn release(&self, end: End) {
        if let Err(error) = end.settle(&self.claims).await {
            tracing::debug!(%error, stream = %end.key, "the claim is not released yet");
            self.ends.push(end);
        }
    }
}
