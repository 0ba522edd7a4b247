//! The edge: answers viewers from the cache, and has one fetch made for whatever is not there.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use futures_util::StreamExt;
use http::Method;
use sluicegate_cluster::admission::Admission;
use sluicegate_cluster::clock;
use sluicegate_cluster::config::{AppSettings, EdgeSettings, Limits};
use sluicegate_cluster::hints::{self, Hints};
use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::metrics::{HttpMetrics, Kind};
use sluicegate_cluster::node::Role;
use sluicegate_cluster::trust::ClusterKey;
use sluicegate_cluster::view::Upstream;
use sluicegate_cluster::viewer::{ViewerBody, ViewerDoor, ViewerRequest, ViewerResponse};
use sluicegate_media::reload::Directives;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::audience::Audience;
use crate::cache::{self, Cache};
use crate::failure::Failure;
use crate::fetch::{self, Fetcher, Job};
use crate::fill::{Fill, Started};
use crate::flight::{Boarding, Flights};
use crate::gate::{self, Pass};
use crate::metrics::{Egress, Metrics, Served};
use crate::object::Object;
use crate::policy::{self, Standing};
use crate::range;
use crate::reply;
use crate::route::{FileRole, MediaFile, Route, route};
use crate::upstream::Upstreams;

mod playlists;

/// What an edge is made of.
pub struct EdgeParts<'a> {
    /// Its own settings.
    pub settings: EdgeSettings,
    /// What it bounds.
    pub limits: Limits,
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
    /// Where fetches run. Viewers may be answered on another runtime.
    pub runtime: Handle,
    /// Where its metrics go.
    pub registry: &'a prometheus::Registry,
    /// The families that it shares with the other roles.
    pub http: HttpMetrics,
}

/// Why there is no edge.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// A family of metrics is registered already.
    #[error("the edge's metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// There is no client for origins.
    #[error("the client that asks origins cannot be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// What an edge says of itself once a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeLoad {
    /// Viewers, estimated from their reloads of playlists.
    pub viewers: u64,
    /// Bits a second sent to viewers since the call before.
    pub egress_bps: u64,
}

/// An HLS edge. It is a [`ViewerDoor`].
pub struct Edge {
    fetcher: Arc<Fetcher>,
    /// Fetches of what is there.
    flights: Arc<Flights>,
    /// Fetches of what is about to come.
    holds: Arc<Flights>,
    /// Viewers that wait for those.
    waiting: Semaphore,
    hints: Arc<Hints>,
    apps: Vec<AppSettings>,
    admission: Arc<Admission>,
    audience: Mutex<Audience>,
    egress: Arc<Egress>,
    http: HttpMetrics,
    runtime: Handle,
}

/// A request for a file of a stream, from a viewer that was let in.
struct Ask<'a> {
    request: &'a ViewerRequest,
    file: &'a MediaFile,
    asked: Directives,
    pass: Pass<'a>,
    now: Instant,
}

/// How a request for media gets its object.
enum Found {
    Here(Arc<Object>),
    Coming(Fill, Served),
}

impl Edge {
    /// An edge with an empty cache.
    ///
    /// # Errors
    /// [`EdgeError`], when metrics clash or no client can be made.
    pub fn new(parts: EdgeParts<'_>) -> Result<Arc<Self>, EdgeError> {
        let fetcher = Fetcher {
            cache: Cache::new(parts.settings.cache_bytes),
            upstreams: Upstreams::new(parts.key, parts.node)?,
            view: Arc::clone(parts.hints.view()),
            metrics: Metrics::register(parts.registry)?,
            object_bytes: parts.limits.edge_object_bytes,
            fill_time: parts.limits.edge_fill,
        };
        let now = clock::now();
        Ok(Arc::new(Self {
            fetcher: Arc::new(fetcher),
            flights: Flights::new(parts.limits.edge_fills),
            holds: Flights::new(parts.limits.edge_fills),
            waiting: Semaphore::new(parts.limits.edge_holds.min(Semaphore::MAX_PERMITS)),
            hints: parts.hints,
            apps: parts.apps,
            admission: parts.admission,
            audience: Mutex::new(Audience::new(now)),
            egress: Arc::new(Egress::new(now)),
            http: parts.http,
            runtime: parts.runtime,
        }))
    }

    /// Its load, for the heartbeat. Called about once a second; brings the gauges up to date as well.
    #[must_use]
    pub fn load(&self) -> EdgeLoad {
        let now = clock::now();
        let load = EdgeLoad { viewers: self.audience().total(now), egress_bps: self.egress.bps(now) };
        self.fetcher.metrics.gauge(self.fetcher.cache.bytes(), load.viewers);
        load
    }

    async fn media(&self, request: &ViewerRequest, file: &MediaFile) -> ViewerResponse {
        let ask = match self.let_in(request, file) {
            Ok(ask) => ask,
            Err(refusal) => return *refusal,
        };
        let answer = match self.here(&ask) {
            Some(answer) => answer,
            None => self.fetched(&ask).await.unwrap_or_else(|failure| reply::failed(request, failure)),
        };
        ask.pass.write_into(request, answer)
    }

    /// What a viewer asks for, or the answer that refuses it.
    fn let_in<'a>(
        &self,
        request: &'a ViewerRequest,
        file: &'a MediaFile,
    ) -> Result<Ask<'a>, Box<ViewerResponse>> {
        let pass = gate::admit(&self.admission, request, &file.stream, clock::cluster_ms())
            .map_err(|refusal| Box::new(reply::not_admitted(request, refusal)))?;
        if let Some(claim) = hints::told_in(&request.headers, &file.stream) {
            self.hints.told(claim, clock::now());
        }
        // AMS's own nodes know nothing of directives.
        let may_direct = file.role == FileRole::MediaPlaylist && self.ams_upstream(&file.stream).is_none();
        let asked =
            if may_direct { Directives::parse(request.query.as_deref()) } else { Ok(Directives::default()) };
        let asked =
            asked.map_err(|why| Box::new(pass.write_into(request, reply::bad_directives(request, why))))?;
        Ok(Ask { request, file, asked, pass, now: clock::now() })
    }

    /// The answer from the cache, if what is asked for is there and fresh.
    fn here(&self, ask: &Ask<'_>) -> Option<ViewerResponse> {
        let kept = self.fetcher.cache.get(&self.kept_as(ask));
        let fresh = kept.filter(|object| is_answer(object, ask));
        let answer = match ask.file.role.sort() {
            policy::Sort::Playlist => self.list(ask, &*fresh?, ask.now),
            policy::Sort::Media => {
                let object = fresh.or_else(|| self.fetcher.assembled(&ask.request.path, ask.file.role))?;
                reply::object(ask.request, &object, ask.now)
            }
        };
        self.served(Served::Hit);
        Some(answer)
    }

    /// The answer with what is not in the cache, or not fresh.
    async fn fetched(&self, ask: &Ask<'_>) -> Result<ViewerResponse, Failure> {
        match ask.file.role.sort() {
            policy::Sort::Playlist => self.playlist(ask).await,
            policy::Sort::Media => self.segment(ask).await,
        }
    }

    async fn segment(&self, ask: &Ask<'_>) -> Result<ViewerResponse, Failure> {
        let Ask { request, file, .. } = *ask;
        let mut fill = match self.find(ask).inspect_err(|_| self.served(Served::Refused))? {
            Found::Here(object) => {
                self.served(Served::Hit);
                return Ok(reply::object(request, &object, clock::now()));
            }
            Found::Coming(fill, served) => {
                self.served(served);
                fill
            }
        };
        let _place = matches!(file.role, FileRole::Part(_)).then(|| self.wait()).transpose()?;
        if request.method != Method::GET || range::is_conditional(&request.headers) {
            return Ok(reply::object(request, &*fill.whole().await?, clock::now()));
        }
        match fill.started().await? {
            Started::Whole(object) => Ok(reply::object(request, &object, clock::now())),
            Started::Coming(head, length) => Ok(reply::coming(&head, length, fill.pieces())),
        }
    }

    /// Joins the fetch of a file, or has one begun.
    fn find(&self, ask: &Ask<'_>) -> Result<Found, Failure> {
        let Ask { request, file, asked, now, .. } = *ask;
        let cache = &self.fetcher.cache;
        let kept_as = self.kept_as(ask);
        if let Some(failure) = cache.refusal(&kept_as, now) {
            return Err(failure);
        }
        let upstream = self.upstream(file)?;
        let viewers =
            (file.role.sort() == policy::Sort::Playlist).then(|| self.audience().viewers(&file.stream, now));
        let (path, kept_as) = (request.path.as_str().into(), kept_as.as_ref().into());
        let stream = file.stream.clone();
        let job = Job { path, kept_as, asked, stream, role: file.role, upstream, viewers };
        let usable = || cache.get(&job.kept_as).filter(|object| is_answer(object, ask));
        // A fetch that hangs at an origin that has lost the stream is not joined.
        let flight: Arc<str> = format!("{}{}", job.upstream.epoch, job.target()).into();
        let waits = asked.sequence.is_some() || matches!(file.role, FileRole::Part(_));
        let flights = if waits { &self.holds } else { &self.flights };
        match flights.board(&flight, now, usable) {
            Boarding::Landed(object) => Ok(Found::Here(object)),
            Boarding::Joined(fill) => Ok(Found::Coming(fill, Served::Joined)),
            Boarding::Full => Err(Failure::Busy),
            Boarding::Lead(fill, writer, seat) => {
                self.runtime.spawn(Arc::clone(&self.fetcher).run(job, writer, seat));
                Ok(Found::Coming(fill, Served::Fill))
            }
        }
    }

    /// What the object is kept under: its path, which names it for good, and a delta update beside the whole
    /// playlist; with AMS's own streams, whose names come again, with the run of the publish behind it.
    fn kept_as<'a>(&self, ask: &Ask<'a>) -> Cow<'a, str> {
        let path = &ask.request.path;
        match self.ams_upstream(&ask.file.stream) {
            Some(upstream) => format!("{path}@{}", upstream.epoch).into(),
            None if ask.asked.skip => fetch::with_query(path, &fetch::newest(&ask.asked)).into(),
            None => path.as_str().into(),
        }
    }

    /// The node of AMS's own that has the stream, if one has.
    fn ams_upstream(&self, stream: &StreamKey) -> Option<Upstream> {
        let view = self.fetcher.view.load();
        view.ams.streams.get(stream).and_then(|_| view.upstream(stream)).filter(|upstream| upstream.is_ams)
    }

    /// The origin to ask for `file`: none for a file of an earlier claim, whose memory is gone. A later
    /// epoch than the one known is asked for: the origin is ahead of what is read of it.
    fn upstream(&self, file: &MediaFile) -> Result<Upstream, Failure> {
        let view = self.fetcher.view.load();
        let absent = || match view.stream(&file.stream) {
            Some(record) if record.is_live() => Failure::OriginGone,
            None if !view.is_ready() => Failure::NotReady,
            Some(_) | None => Failure::NotFound,
        };
        let upstream = view.upstream(&file.stream).ok_or_else(absent)?;
        let current = u64::try_from(upstream.epoch.0).unwrap_or(0);
        match file.role {
            FileRole::Segment(epoch) | FileRole::Part(epoch) | FileRole::Init(epoch) if epoch < current => {
                Err(Failure::NotFound)
            }
            FileRole::Ams(_) if !upstream.is_ams => Err(Failure::NotFound),
            _ => Ok(upstream),
        }
    }

    /// A place among the viewers that wait for what is about to come.
    fn wait(&self) -> Result<SemaphorePermit<'_>, Failure> {
        self.waiting.try_acquire().map_err(|_| Failure::Crowded)
    }

    /// Counts an answer; a body in pieces, as it goes.
    fn count(&self, kind: Kind, mut response: ViewerResponse) -> ViewerResponse {
        let bytes = match &response.body {
            ViewerBody::Whole(body) => u64::try_from(body.len()).unwrap_or(u64::MAX),
            ViewerBody::Empty | ViewerBody::Pieces(_) => 0,
        };
        self.http.record(Role::Edge, kind, response.status.as_u16(), bytes);
        self.egress.sent(bytes);
        if let ViewerBody::Pieces(pieces) = response.body {
            let (http, egress) = (self.http.clone(), Arc::clone(&self.egress));
            let counted = pieces.inspect(move |piece| {
                let bytes = piece.as_ref().map_or(0, |piece| u64::try_from(piece.len()).unwrap_or(u64::MAX));
                http.count_sent(Role::Edge, bytes);
                egress.sent(bytes);
            });
            response.body = ViewerBody::Pieces(counted.boxed());
        }
        response
    }

    fn served(&self, served: Served) {
        self.fetcher.metrics.served(served);
    }

    fn audience(&self) -> MutexGuard<'_, Audience> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ViewerDoor for Edge {
    fn at_hand(&self, request: &ViewerRequest) -> Option<ViewerResponse> {
        let file = match route(&request.path, &self.apps) {
            Ok(Route::Media(file)) if matches!(request.method, Method::GET | Method::HEAD) => file,
            Ok(_) | Err(_) => return None,
        };
        let answer = match self.let_in(request, &file) {
            Ok(ask) => ask.pass.write_into(request, self.here(&ask)?),
            Err(refusal) => *refusal,
        };
        Some(self.count(file.role.kind(), answer))
    }

    async fn answer(&self, request: ViewerRequest) -> ViewerResponse {
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        let (kind, response) = match route(&request.path, &self.apps) {
            Err(why) => (Kind::Other, reply::no_route(&request, why)),
            Ok(_) if request.method == Method::OPTIONS => (Kind::Other, reply::options()),
            Ok(_) if !is_read => (Kind::Other, reply::method_not_allowed(&request)),
            Ok(Route::Page(asset)) => (Kind::Page, reply::page(&request, asset)),
            Ok(Route::Media(file)) => (file.role.kind(), self.media(&request, &file).await),
        };
        self.count(kind, response)
    }
}

/// Whether an object is fresh and, if it is a playlist, reaches as far as is asked.
fn is_answer(object: &Object, ask: &Ask<'_>) -> bool {
    standing(object, ask.now) == Standing::Fresh && playlists::answers(object, &ask.asked)
}

/// What an object may be used for at `now`. A segment of ours never changes, so it is always fresh.
fn standing(object: &Object, now: Instant) -> Standing {
    let age = cache::age(object, now);
    match &object.playlist {
        Some(playlist) => policy::standing(playlist, age),
        None if object.head.format.is_fresh(age) => Standing::Fresh,
        None => Standing::Expired,
    }
}
