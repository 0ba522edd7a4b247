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
use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::metrics::{HttpMetrics, Kind};
use sluicegate_cluster::node::Role;
use sluicegate_cluster::trust::ClusterKey;
use sluicegate_cluster::view::{SharedView, Upstream};
use sluicegate_cluster::viewer::{ViewerBody, ViewerDoor, ViewerRequest, ViewerResponse};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::audience::Audience;
use crate::cache::{self, Cache};
use crate::failure::Failure;
use crate::fetch::{Fetcher, Job};
use crate::fill::{Fill, Started};
use crate::flight::{Boarding, Flights};
use crate::gate;
use crate::metrics::{Egress, Metrics, Served};
use crate::object::Object;
use crate::policy::{self, Standing};
use crate::range;
use crate::reply;
use crate::route::{FileRole, MediaFile, Route, route};
use crate::upstream::Upstreams;

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
    /// Where streams come from.
    pub view: SharedView,
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
    flights: Arc<Flights>,
    apps: Vec<AppSettings>,
    admission: Arc<Admission>,
    audience: Mutex<Audience>,
    egress: Arc<Egress>,
    http: HttpMetrics,
    runtime: Handle,
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
            view: parts.view,
            metrics: Metrics::register(parts.registry)?,
            object_bytes: parts.limits.edge_object_bytes,
            fill_time: parts.limits.edge_fill,
        };
        let now = clock::now();
        Ok(Arc::new(Self {
            fetcher: Arc::new(fetcher),
            flights: Flights::new(parts.limits.edge_fills),
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
        let pass = match gate::admit(&self.admission, request, &file.stream, clock::unix_ms()) {
            Ok(pass) => pass,
            Err(refusal) => return reply::not_admitted(request, refusal),
        };
        let answered = match file.role {
            FileRole::Multivariant | FileRole::MediaPlaylist => self.playlist(request, file).await,
            FileRole::Segment(_) | FileRole::Init(_) | FileRole::Ams(_) => self.segment(request, file).await,
        };
        pass.write_into(request, answered.unwrap_or_else(|failure| reply::failed(request, failure)))
    }

    async fn segment(&self, request: &ViewerRequest, file: &MediaFile) -> Result<ViewerResponse, Failure> {
        let now = clock::now();
        let here = self.fetcher.cache.get(&self.kept_as(request, file));
        let found = match here.filter(|object| standing(object, now) == Standing::Fresh) {
            Some(object) => Ok(Found::Here(object)),
            None => self.find(request, file, now),
        };
        let mut fill = match found.inspect_err(|_| self.served(Served::Refused))? {
            Found::Here(object) => {
                self.served(Served::Hit);
                return Ok(reply::object(request, &object, clock::now()));
            }
            Found::Coming(fill, served) => {
                self.served(served);
                fill
            }
        };
        if request.method != Method::GET || range::is_conditional(&request.headers) {
            return Ok(reply::object(request, &*fill.whole().await?, clock::now()));
        }
        match fill.started().await? {
            Started::Whole(object) => Ok(reply::object(request, &object, clock::now())),
            Started::Coming(head, length) => Ok(reply::coming(&head, length, fill.pieces())),
        }
    }

    async fn playlist(&self, request: &ViewerRequest, file: &MediaFile) -> Result<ViewerResponse, Failure> {
        let now = clock::now();
        let last = self
            .fetcher
            .cache
            .get(&self.kept_as(request, file))
            .map(|object| (standing(&object, now), object));
        let (object, served) = match last {
            Some((Standing::Fresh, object)) => (Ok(object), Served::Hit),
            Some((Standing::Stale, last)) => self.renewed(request, file, now, last).await,
            Some((Standing::Expired, _)) | None => match self.find(request, file, now) {
                Err(failure) => (Err(failure), Served::Refused),
                Ok(Found::Here(object)) => (Ok(object), Served::Hit),
                Ok(Found::Coming(mut fill, served)) => (fill.whole().await, served),
            },
        };
        self.served(served);
        let (object, now) = (object?, clock::now());
        if let (FileRole::MediaPlaylist, &Method::GET, Some(playlist)) =
            (file.role, &request.method, &object.playlist)
        {
            self.audience().reloaded(&file.stream, playlist.target(), now);
        }
        Ok(reply::object(request, &object, now))
    }

    /// A playlist from its origin, or the `last` one when that gives none in time.
    async fn renewed(
        &self,
        request: &ViewerRequest,
        file: &MediaFile,
        now: Instant,
        last: Arc<Object>,
    ) -> (Result<Arc<Object>, Failure>, Served) {
        let (renewed, served) = match self.find(request, file, now) {
            Err(failure) => (Err(failure), Served::Refused),
            Ok(Found::Here(object)) => (Ok(object), Served::Hit),
            Ok(Found::Coming(mut fill, served)) => {
                let patience = policy::patience(now.saturating_duration_since(fill.begun));
                let whole = timeout(patience, fill.whole()).await;
                (whole.unwrap_or(Err(Failure::TimedOut)), served)
            }
        };
        let stands_in = |failure| last.playlist.is_some_and(|playlist| policy::stands_in(&playlist, failure));
        match renewed {
            Err(failure) if stands_in(failure) => (Ok(last), Served::Stale),
            other => (other, served),
        }
    }

    /// Joins the fetch of a file, or has one begun.
    fn find(&self, request: &ViewerRequest, file: &MediaFile, now: Instant) -> Result<Found, Failure> {
        let cache = &self.fetcher.cache;
        let kept_as = self.kept_as(request, file);
        if let Some(failure) = cache.refusal(&kept_as, now) {
            return Err(failure);
        }
        let upstream = self.upstream(file)?;
        let path: Arc<str> = request.path.as_str().into();
        let usable = || cache.get(&kept_as).filter(|object| standing(object, now) == Standing::Fresh);
        // A fetch that hangs at an origin that has lost the stream is not joined.
        let flight: Arc<str> = format!("{}{path}", upstream.epoch).into();
        match self.flights.board(&flight, now, usable) {
            Boarding::Landed(object) => Ok(Found::Here(object)),
            Boarding::Joined(fill) => Ok(Found::Coming(fill, Served::Joined)),
            Boarding::Full => Err(Failure::Busy),
            Boarding::Lead(fill, writer, seat) => {
                let sort = file.role.sort();
                let viewers =
                    (sort == policy::Sort::Playlist).then(|| self.audience().viewers(&file.stream, now));
                let kept_as = kept_as.as_ref().into();
                let job = Job { path, kept_as, stream: file.stream.clone(), sort, upstream, viewers };
                self.runtime.spawn(Arc::clone(&self.fetcher).run(job, writer, seat));
                Ok(Found::Coming(fill, Served::Fill))
            }
        }
    }

    /// What the object is kept under: its path, which names it for good; with AMS's own streams, whose names
    /// come again, with the run of the publish behind it.
    fn kept_as<'a>(&self, request: &'a ViewerRequest, file: &MediaFile) -> Cow<'a, str> {
        let view = self.fetcher.view.load();
        match view.ams.streams.get(&file.stream).and_then(|_| view.upstream(&file.stream)) {
            Some(upstream) if upstream.is_ams => format!("{}@{}", request.path, upstream.epoch).into(),
            _ => request.path.as_str().into(),
        }
    }

    /// The origin to ask for `file`: none for a file of an earlier claim, whose memory is gone. A later
    /// epoch than the one known is asked for: the origin is ahead of what is read of it.
    fn upstream(&self, file: &MediaFile) -> Result<Upstream, Failure> {
        let view = self.fetcher.view.load();
        let absent = || match view.streams.get(&file.stream) {
            Some(record) if record.is_live() => Failure::OriginGone,
            None if !view.is_ready() => Failure::NotReady,
            Some(_) | None => Failure::NotFound,
        };
        let upstream = view.upstream(&file.stream).ok_or_else(absent)?;
        let current = u64::try_from(upstream.epoch.0).unwrap_or(0);
        match file.role {
            FileRole::Segment(epoch) | FileRole::Init(epoch) if epoch < current => Err(Failure::NotFound),
            FileRole::Ams(_) if !upstream.is_ams => Err(Failure::NotFound),
            _ => Ok(upstream),
        }
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

/// What an object may be used for at `now`. A segment of ours never changes, so it is always fresh.
fn standing(object: &Object, now: Instant) -> Standing {
    let age = cache::age(object, now);
    match &object.playlist {
        Some(playlist) => policy::standing(playlist, age),
        None if object.head.format.is_fresh(age) => Standing::Fresh,
        None => Standing::Expired,
    }
}
