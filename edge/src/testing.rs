//! For tests: an origin that is a real HTTP server and answers what it is told to, and an edge in front of
//! it.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, StatusCode, header};
use sluicegate_cluster::admission::Admission;
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::config::{Settings, Sources};
use sluicegate_cluster::hints::Hints;
use sluicegate_cluster::ids::Epoch;
use sluicegate_cluster::metrics::HttpMetrics;
use sluicegate_cluster::node::{Addresses, NodeRecord};
use sluicegate_cluster::stream::{Owner, StreamRecord};
use sluicegate_cluster::testing;
use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_cluster::view::{ClusterView, SharedView};
use sluicegate_cluster::viewer::{BrokenOff, ViewerBody, ViewerDoor, ViewerRequest, ViewerResponse};
use tokio::sync::{mpsc, watch};

use crate::{Edge, EdgeParts};

/// The epoch of the stream `live/cam1` that every [`World`] has.
pub(crate) const EPOCH: i64 = 17;

/// A segment of it.
pub(crate) const SEGMENT: &str = "/live/streams/cam1_source__17_4.m4s";

/// Its playlist.
pub(crate) const PLAYLIST: &str = "/live/streams/cam1.m3u8";

/// The longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// An origin that answers what it was told, in the order it was told, and 404 after that.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Mutex<Vec<(String, HeaderMap)>>,
    answers: Mutex<HashMap<String, VecDeque<Response>>>,
    is_open: watch::Sender<bool>,
}

impl Origin {
    async fn start(key: ClusterKey) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.5.1:0").await.unwrap();
        let origin = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            seen: Mutex::default(),
            answers: Mutex::default(),
            is_open: watch::Sender::new(true),
        });
        let router = Router::new().fallback(serve).with_state((Arc::clone(&origin), key));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        origin
    }

    /// The next answer for `path` will be this one.
    pub(crate) fn will(&self, path: &str, answer: Response) {
        self.answers.lock().unwrap().entry(format!("/origin{path}")).or_default().push_back(answer);
    }

    /// Requests are counted, but not answered until [`Origin::release`].
    pub(crate) fn hold(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.is_open.send_replace(true);
    }

    /// The headers of the requests for `path`, query and all, so far.
    pub(crate) fn asked(&self, path: &str) -> Vec<HeaderMap> {
        let path = format!("/origin{path}");
        self.seen.lock().unwrap().iter().filter(|(p, _)| *p == path).map(|(_, h)| h.clone()).collect()
    }
}

async fn serve(State((origin, key)): State<(Arc<Origin>, ClusterKey)>, request: Request) -> Response {
    let path = request.uri().to_string();
    origin.seen.lock().unwrap().push((path.clone(), request.headers().clone()));
    origin.is_open.subscribe().wait_for(|open| *open).await.unwrap();
    let token = request.headers().get(trust::HEADER).and_then(|token| token.to_str().ok());
    if key.verify(token).is_err() {
        return status(StatusCode::UNAUTHORIZED);
    }
    let answer = origin.answers.lock().unwrap().get_mut(&path).and_then(VecDeque::pop_front);
    answer.unwrap_or_else(|| status(StatusCode::NOT_FOUND))
}

/// An answer of this status, without a body.
pub(crate) fn status(status: StatusCode) -> Response {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

/// An answer with this body.
pub(crate) fn whole(body: impl Into<Bytes>) -> Response {
    Response::builder().header(header::ETAG, "\"v1\"").body(Body::from(body.into())).unwrap()
}

/// The rest of [`whole`] from `from` on.
pub(crate) fn rest(body: &'static [u8], from: usize) -> Response {
    let place = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
    let mut answer = whole(&body[from..]);
    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    answer.headers_mut().insert(header::CONTENT_RANGE, place.parse().unwrap());
    answer
}

/// What the test has the origin send; an error cuts the connection.
pub(crate) type Tap = mpsc::UnboundedSender<Result<Bytes, BrokenOff>>;

/// An answer whose body the test sends, `length` bytes in all when that is announced.
pub(crate) fn tapped(length: Option<usize>) -> (Response, Tap) {
    let (tap, mut body) = mpsc::unbounded_channel();
    let body = Body::from_stream(stream::poll_fn(move |cx| body.poll_recv(cx)));
    let mut answer = Response::builder().header(header::ETAG, "\"v1\"").body(body).unwrap();
    if let Some(length) = length {
        answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    (answer, tap)
}

/// A playlist of three segments from `sequence` on, with the shortest freshness.
pub(crate) fn playlist(epoch: i64, sequence: u64) -> String {
    let segments: String =
        (sequence..sequence + 3).map(|n| format!("#EXTINF:0.5,\ncam1_source__{epoch}_{n}.m4s\n")).collect();
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:0\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n{segments}")
}

/// A low-latency playlist of segment 40 and `coming` parts of 41, of two parts a segment.
pub(crate) fn low_latency(epoch: i64, coming: u64) -> String {
    let part =
        |n: u64, k: u64| format!("#EXT-X-PART:DURATION=0.5,URI=\"cam1_source__{epoch}_{n}.{k}.m4s\"\n");
    let coming: String = (0..coming).map(|k| part(41, k)).collect();
    format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n\
         #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:40\n{}{}#EXTINF:1.0,\n\
         cam1_source__{epoch}_40.m4s\n{coming}",
        part(40, 0),
        part(40, 1),
    )
}

/// An edge, its origin, and what the edge knows.
pub(crate) struct World {
    pub(crate) edge: Arc<Edge>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) key: ClusterKey,
    pub(crate) view: SharedView,
    registry: prometheus::Registry,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One whose settings differ.
    pub(crate) async fn with(adjust: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Sources { host_name: "edge-1".to_owned(), ..Sources::default() }.load().unwrap();
        adjust(&mut settings);
        let key = settings.cluster.key;
        let (view, registry) = (ClusterView::shared(), prometheus::Registry::new());
        let origin = Origin::start(key.clone()).await;
        let edge = Edge::new(EdgeParts {
            settings: settings.edge,
            limits: settings.limits,
            node: settings.node.id,
            key: key.clone(),
            hints: Hints::of(Arc::clone(&view)),
            admission: Admission::new(&settings.apps, &registry).unwrap(),
            apps: settings.apps,
            runtime: tokio::runtime::Handle::current(),
            registry: &registry,
            http: HttpMetrics::register(&registry).unwrap(),
        });
        let world = Self { edge: edge.unwrap(), origin, key, view, registry };
        world.origin_is("o1-1", EPOCH);
        world
    }

    /// The stream's origin is this run of `o1`, under a claim with this epoch.
    pub(crate) fn origin_is(&self, incarnation: &str, epoch: i64) {
        let now = UnixMs(epoch);
        let node = node(self.origin.address, incarnation, now);
        let stream = stream(incarnation, epoch, now);
        self.view.store(Arc::new(ClusterView::default().fold(vec![Ok(node)], vec![stream], now)));
    }

    pub(crate) async fn get(&self, path: &str) -> ViewerResponse {
        self.ask(Method::GET, path, &[]).await
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &'static str)],
    ) -> ViewerResponse {
        self.edge.answer(request(method, path, headers)).await
    }

    /// The counter `name` with this result.
    pub(crate) fn count(&self, name: &str, result: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let series = family.into_iter().flat_map(|family| family.get_metric());
        series
            .filter(|series| series.get_label().iter().any(|label| label.value() == result))
            .map(|series| series.get_counter().get_value() as u64)
            .sum()
    }

    pub(crate) fn served(&self, result: &str) -> u64 {
        self.count("sluicegate_edge_cache_requests_total", result)
    }

    pub(crate) fn fills(&self, result: &str) -> u64 {
        self.count("sluicegate_edge_fills_total", result)
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    headers: &[(header::HeaderName, &'static str)],
) -> ViewerRequest {
    let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    ViewerRequest { method, path: path.to_owned(), query: query.map(str::to_owned), headers }
}

/// All of the body.
pub(crate) async fn body(response: ViewerResponse) -> Result<Vec<u8>, BrokenOff> {
    match response.body {
        ViewerBody::Empty => Ok(Vec::new()),
        ViewerBody::Whole(body) => Ok(body.to_vec()),
        ViewerBody::Pieces(mut pieces) => {
            let mut body = Vec::new();
            while let Some(piece) = within(pieces.next()).await {
                body.extend_from_slice(&piece?);
            }
            Ok(body)
        }
    }
}

/// What `future` gives, within the deadline.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it took too long")
}

/// Waits until `holds`.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            breathe().await;
        }
    })
    .await;
}

/// Lets others run between two looks at a condition.
pub(crate) async fn breathe() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

fn node(http: SocketAddr, incarnation: &str, now: UnixMs) -> NodeRecord {
    let addresses = Addresses { http, rtmp: None };
    NodeRecord { incarnation: incarnation.into(), addresses, ..testing::node("o1", now) }
}

fn stream(incarnation: &str, epoch: i64, now: UnixMs) -> StreamRecord {
    let owner = Owner { node: "o1".parse().unwrap(), incarnation: incarnation.into() };
    StreamRecord { owner, epoch: Epoch(epoch), ..testing::stream_held_by("live/cam1", "o1", "s1", now) }
}
