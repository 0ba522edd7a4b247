//! The WebRTC relay: each rendition that somebody watches is pulled once from the stream's origin, over WHEP
//! inside the cluster, and fanned out to all who watch it.
//!
//! ```text
//! origin ── WHEP ── pull (a task for each feed) ── one message a shard ── fanout (a thread for each shard) ── viewers
//! ```
//!
//! A viewer's connection is to this edge and outlives the stream's origin: [`pull`] finds the next one, and
//! [`continuity`] carries numbers and times on. What is decided, is decided without sockets or clocks:
//! [`continuity`], [`media_clock`], [`gop`], [`keyframe_requests`], [`keyframe`] and [`viewer`]. What a viewer lacks
//! is sent again from one [`history`] for all viewers of a shard; what a pull lacks, `rtc` asks for.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use http::{HeaderValue, StatusCode};
use sluicegate_cluster::admission::Admission;
use sluicegate_cluster::clock;
use sluicegate_cluster::config::AppSettings;
use sluicegate_cluster::hints::Hints;
use sluicegate_cluster::ids::{BadName, NodeId, StreamKey};
use sluicegate_cluster::metrics::HttpMetrics;
use sluicegate_cluster::node::NodeState;
use sluicegate_cluster::token::TokenRefusal;
use sluicegate_cluster::trust::ClusterKey;
use sluicegate_cluster::view::SharedView;
use sluicegate_rtc::{Bound, Mux, Refused, limits as rtc_limits};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::EdgeLoad;
use crate::metrics::Egress;

mod audience;
mod continuity;
mod doors;
mod fanout;
mod feed;
mod front;
mod gop;
mod history;
mod keyframe;
mod keyframe_requests;
mod layers;
mod media_clock;
mod metrics;
mod packet;
mod pull;
#[cfg(test)]
mod tests;
mod upstream;
mod viewer;

use doors::{Doors, Made, Plate};
use fanout::{Fanout, Guest, Message, SeatWanted};
use feed::{Feed, FeedId, FeedName, Pulling, Seat};
use layers::Layer;
use metrics::RelayMetrics;
use pull::Pull;
use upstream::Origins;

/// For the first word from a stream's origin, when a viewer comes for a stream that nobody watches here yet.
const FIRST_WORD: Duration = Duration::from_secs(3);
/// How often a draining edge lets viewers go.
const LET_GO_EVERY: Duration = Duration::from_millis(500);
/// Viewers that wait for a place at another rendition's feed.
const SEATS_WAITING: usize = 1_024;
/// For the last words to viewers to leave when it stops.
const FAREWELL: Duration = Duration::from_millis(100);
/// The share of its viewers that it lets go each time: all are gone in about ten seconds.
const LET_GO_SHARE: usize = 20;

/// What a relay is made of.
pub struct RelayParts<'a> {
    /// Its UDP port.
    pub bound: Bound,
    /// STUN and TURN servers told to viewers, as values of `Link` (RFC 9725 section 4.6).
    pub ice_servers: Vec<String>,
    /// In whose name it asks origins.
    pub node: NodeId,
    /// What origins trust it by.
    pub key: ClusterKey,
    /// Where streams come from, and what balancers tell of that.
    pub hints: Arc<Hints>,
    /// The applications there are.
    pub apps: Vec<AppSettings>,
    /// Who may watch.
    pub admission: Arc<Admission>,
    /// Where pulls run.
    pub runtime: Handle,
    /// Where its metrics go.
    pub registry: &'a prometheus::Registry,
    /// The families that it shares with the other roles.
    pub http: HttpMetrics,
    /// When it stops.
    pub stop: CancellationToken,
    /// Where the end of it is waited for.
    pub tasks: TaskTracker,
}

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A family of metrics is registered already.
    #[error("the relay's metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// There is no client for origins.
    #[error("the client that asks origins cannot be made: {0}")]
    Client(#[from] reqwest::Error),
    /// Its threads cannot be started.
    #[error("the relay's threads cannot be started: {0}")]
    Threads(#[from] io::Error),
}

/// Why a viewer's request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WhepError {
    #[error("there is no such application")]
    NoApp,
    #[error("{0}")]
    BadName(#[from] BadName),
    #[error("{0}")]
    Token(#[from] TokenRefusal),
    #[error("nothing is live under this name")]
    NotLive,
    #[error("{0}")]
    NotPlayable(String),
    #[error("this edge has as many viewers as it may")]
    Busy,
    #[error("{0}")]
    Refused(Refused),
    #[error("there is no such session")]
    NoSession,
    #[error("a change names the ICE session that it is for (If-Match)")]
    NoIfMatch,
    #[error("If-Match names another ICE session than the one that runs")]
    IfMatch,
    #[error("a height is a number of lines")]
    NoHeight,
}

impl From<Refused> for WhepError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Busy | Refused::Stopped => Self::Busy,
            Refused::Gone => Self::NoSession,
            refused => Self::Refused(refused),
        }
    }
}

impl WhepError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoApp | Self::BadName(_) | Self::NoSession => StatusCode::NOT_FOUND,
            Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::NotLive => StatusCode::CONFLICT,
            Self::NotPlayable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoIfMatch => StatusCode::PRECONDITION_REQUIRED,
            Self::IfMatch => StatusCode::PRECONDITION_FAILED,
            Self::Refused(Refused::TooLong) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Refused(Refused::NoCodec | Refused::Unsupported(_)) => StatusCode::NOT_ACCEPTABLE,
            Self::NoHeight | Self::Refused(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// A viewer's session that was made.
pub(crate) struct Admitted {
    pub(crate) id: String,
    /// The answer to the viewer's offer, or the offer.
    pub(crate) sdp: String,
    /// Names its ICE session.
    pub(crate) ufrag: String,
}

/// The relay of an edge.
pub struct Relay {
    pub(crate) mux: Mux<Fanout>,
    pub(crate) origins: Origins,
    pub(crate) view: SharedView,
    pub(crate) hints: Arc<Hints>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) metrics: Arc<RelayMetrics>,
    pub(crate) http: HttpMetrics,
    pub(crate) ice_servers: Vec<HeaderValue>,
    node: NodeId,
    key: ClusterKey,
    apps: Vec<AppSettings>,
    runtime: Handle,
    doors: Arc<Doors>,
    feeds: Mutex<HashMap<FeedName, Arc<Feed>>>,
    feed_ids: AtomicU64,
    sources: AtomicU64,
}

impl Relay {
    /// A relay without viewers.
    ///
    /// # Errors
    /// [`RelayError`], when metrics clash, or threads or a client cannot be made.
    pub fn new(parts: RelayParts<'_>) -> Result<Arc<Self>, RelayError> {
        let metrics = Arc::new(RelayMetrics::register(parts.registry, Egress::new(clock::now()))?);
        let mux_stop = CancellationToken::new();
        let (seats, seats_wanted) = mpsc::channel(SEATS_WAITING);
        let shard = |_| Fanout::new(Arc::clone(&metrics), seats.clone());
        let mux = Mux::start(parts.bound, shard, &mux_stop)?;
        mux.register("edge", parts.registry)?;
        let relay = Arc::new(Self {
            mux,
            origins: Origins::new(parts.key.clone(), parts.node.clone())?,
            view: Arc::clone(parts.hints.view()),
            hints: parts.hints,
            admission: parts.admission,
            metrics,
            http: parts.http,
            ice_servers: parts.ice_servers.iter().filter_map(|link| link.parse().ok()).collect(),
            node: parts.node,
            key: parts.key,
            apps: parts.apps,
            runtime: parts.runtime,
            doors: Arc::default(),
            feeds: Mutex::default(),
            feed_ids: AtomicU64::new(0),
            sources: AtomicU64::new(0),
        });
        relay.runtime.spawn(Arc::clone(&relay).give_seats(seats_wanted));
        relay.runtime.spawn(audience::tell(Arc::clone(&relay), parts.stop.clone()));
        let letting_go = Arc::clone(&relay).let_go(parts.stop, mux_stop);
        parts.tasks.spawn_on(letting_go, &relay.runtime);
        Ok(relay)
    }

    /// What `node.http` serves of it to balancers.
    pub fn router(self: &Arc<Self>) -> Router {
        front::router(Arc::clone(self), self.key.clone())
    }

    /// Its load, for the heartbeat. Brings the gauges up to date as well.
    #[must_use]
    pub fn load(&self) -> EdgeLoad {
        let viewers = self.doors.count() as u64;
        self.metrics.viewers.set(i64::try_from(viewers).unwrap_or(i64::MAX));
        EdgeLoad { viewers, egress_bps: self.metrics.egress.bps(clock::now()) }
    }

    pub(crate) fn stream(&self, app: &str, stream: &str) -> Result<StreamKey, WhepError> {
        let known = self.apps.iter().find(|known| known.name.as_str() == app).ok_or(WhepError::NoApp)?;
        Ok(StreamKey { app: known.name.clone(), stream: stream.parse()? })
    }

    pub(crate) fn session(&self, key: &StreamKey, id: &str) -> Result<Made, WhepError> {
        self.doors.find(key, id).ok_or(WhepError::NoSession)
    }

    /// A new ICE session runs in a session.
    pub(crate) fn restarted(&self, id: &str, ufrag: &str) {
        self.doors.restarted(id, ufrag);
    }

    /// Makes a session of a viewer that offers, once the stream's origin has agreed to send it.
    pub(crate) async fn admit(self: &Arc<Self>, key: &StreamKey, offer: &str) -> Result<Admitted, WhepError> {
        if offer.len() > rtc_limits::SDP_BYTES {
            return Err(Refused::TooLong.into());
        }
        let (guest, plate) = self.guest(key, false).await?;
        let (options, feed) = (guest.options(), guest.seat.feed().id);
        let answer = self.mux.accept(offer, options, guest).await?;
        let id = plate.leads_to(answer.session, &answer.ufrag);
        // A feed that ended meanwhile has told its viewers before this one was there.
        if !self.feeds().values().any(|known| known.id == feed) {
            self.mux.close(answer.session).await;
            return Err(WhepError::NotLive);
        }
        Ok(Admitted { id, sdp: answer.sdp, ufrag: answer.ufrag })
    }

    /// Makes a session of a viewer that waits for an offer, likewise. Media flows once that is answered.
    pub(crate) async fn invite(self: &Arc<Self>, key: &StreamKey) -> Result<Admitted, WhepError> {
        let (guest, plate) = self.guest(key, true).await?;
        let offer = self.mux.offer(key.stream.as_str(), guest.options(), guest).await?;
        let id = plate.leads_to(offer.session, &offer.ufrag);
        Ok(Admitted { id, sdp: offer.sdp, ufrag: offer.ufrag })
    }

    /// A viewer of a stream whose origin has agreed to send it.
    async fn guest(
        self: &Arc<Self>,
        key: &StreamKey,
        is_moved_by_balancer: bool,
    ) -> Result<(Guest, Plate), WhepError> {
        let view = self.view.load_full();
        let record = view.stream(key).filter(|stream| stream.is_live()).ok_or(WhepError::NotLive)?;
        let seat = self.seat(FeedName { key: key.clone(), rendition: None });
        let mut pulling = seat.feed().pulling.subscribe();
        let first_word = pulling.wait_for(|pulling| *pulling != Pulling::Begins);
        match tokio::time::timeout(FIRST_WORD, first_word).await {
            Ok(Ok(word)) => match &*word {
                Pulling::Refused(why) => return Err(WhepError::NotPlayable(why.clone())),
                Pulling::Begins | Pulling::Agreed => {}
            },
            Ok(Err(_)) | Err(_) => return Err(WhepError::NotLive),
        }
        let (door, plate) = self.doors.open(key);
        let layers: Arc<[Layer]> = layers::layers(record).into();
        Ok((Guest { seat, door, layers, is_moved_by_balancer }, plate))
    }

    /// A seat at a feed, which is pulled from here on if it was not yet.
    fn seat(self: &Arc<Self>, name: FeedName) -> Seat {
        let mut feeds = self.feeds();
        if let Some(feed) = feeds.get(&name) {
            return feed.seat();
        }
        let feed = Feed::new(FeedId(self.feed_ids.fetch_add(1, Ordering::Relaxed)), name.clone());
        let seat = feed.seat();
        feeds.insert(name, Arc::clone(&feed));
        self.metrics.renditions_are(feeds.len());
        self.runtime.spawn(Pull::new(Arc::clone(self), feed).run());
        seat
    }

    /// Whether nobody watches a feed; it is forgotten in the same moment, so that nobody comes to it any more.
    pub(crate) fn release(&self, feed: &Feed) -> bool {
        let mut feeds = self.feeds();
        let is_empty = feed.viewers() == 0;
        if is_empty {
            feeds.remove(&feed.name);
            self.metrics.renditions_are(feeds.len());
        }
        is_empty
    }

    /// A feed's pull has ended: whoever comes next has it begun again.
    pub(crate) fn forget(&self, feed: &Feed) {
        feed.end();
        let mut feeds = self.feeds();
        if feeds.get(&feed.name).is_some_and(|known| known.id == feed.id) {
            feeds.remove(&feed.name);
            self.metrics.renditions_are(feeds.len());
        }
    }

    pub(crate) fn next_source(&self) -> u64 {
        self.sources.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells every shard. One that is too busy loses it, as viewers behind a full link would.
    pub(crate) fn tell_all(&self, message: impl Fn() -> Message) {
        for shard in 0..self.mux.shards() {
            let _ = self.mux.post(shard, message());
        }
    }

    /// Gives viewers their places at other renditions' feeds.
    async fn give_seats(self: Arc<Self>, mut wanted: mpsc::Receiver<SeatWanted>) {
        while let Some(SeatWanted { session, feed }) = wanted.recv().await {
            let seat = self.seat(feed);
            // A shard that is too busy leaves the viewer where it is.
            let _ = self.mux.post(session.shard(), Message::Seat(session, seat));
        }
    }

    /// Viewers of an edge that drains are let go, some at a time: their players come back through a balancer,
    /// which sends them elsewhere. Those who are left when it stops are told so.
    async fn let_go(self: Arc<Self>, stop: CancellationToken, mux_stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LET_GO_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.tell_all(|| Message::LetGo(usize::MAX));
                    tokio::time::sleep(FAREWELL).await;
                    return mux_stop.cancel();
                }
                _ = ticks.tick() => {}
            }
            let state = self.view.load().nodes.get(&self.node).map(|node| node.state);
            if state == Some(NodeState::Draining) {
                let shards = usize::from(self.mux.shards()).max(1);
                let each = self.doors.count().div_ceil(LET_GO_SHARE).div_ceil(shards);
                self.tell_all(|| Message::LetGo(each));
            }
        }
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<FeedName, Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
