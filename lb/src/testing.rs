//! For tests: a balancer in front of nodes that are real HTTP servers and answer what they are told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use prometheus::Registry;
use sluicegate_cluster::admission::Admission;
use sluicegate_cluster::ams::roles::RoleRules;
use sluicegate_cluster::clock;
use sluicegate_cluster::config::Sources;
use sluicegate_cluster::hints::Hints;
use sluicegate_cluster::ids::Incarnation;
use sluicegate_cluster::membership::NodeLife;
use sluicegate_cluster::metrics::{HttpMetrics, RtmpMetrics};
use sluicegate_cluster::node::{Addresses, NodeRecord};
use sluicegate_cluster::store::{ClusterStore as _, EmbeddedStore};
use sluicegate_cluster::stream::StreamRecord;
use sluicegate_cluster::testing::{apps, node};
use sluicegate_cluster::trust::ClusterKey;
use sluicegate_cluster::view::ClusterView;
use tokio::net::TcpListener;

use crate::http::Viewers;
use crate::listen::doors::Doors;
use crate::listen::{Http, Speaks as _};
use crate::state::{Balancer, BalancerParts};

/// A request as a node saw it.
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A node that answers what it was told, in that order, and 404 after that.
pub(crate) struct FakeNode {
    pub(crate) id: &'static str,
    address: SocketAddr,
    answers: Mutex<VecDeque<Response>>,
    seen: Mutex<Vec<Seen>>,
}

impl FakeNode {
    /// Starts one.
    pub(crate) async fn start(id: &'static str) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.6.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = Arc::new(Self { id, address, answers: Mutex::default(), seen: Mutex::default() });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&node));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        node
    }

    /// The next answer.
    pub(crate) fn will(&self, status: u16, headers: &[(&str, &str)], body: &'static str) {
        let answer = Response::builder().status(status);
        let answer = headers.iter().fold(answer, |answer, (name, value)| answer.header(*name, *value));
        self.answers.lock().unwrap().push_back(answer.body(Body::from(body)).unwrap());
    }

    /// What was asked of it since this was called last.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn serve(State(node): State<Arc<FakeNode>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    node.seen.lock().unwrap().push(Seen {
        method: head.method,
        target: head.uri.to_string(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let answer = node.answers.lock().unwrap().pop_front();
    answer.unwrap_or_else(|| Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty()).unwrap())
}

/// A balancer, `lb-1`, that knows nodes and has a listener.
pub(crate) struct World {
    pub(crate) key: ClusterKey,
    pub(crate) base: String,
    pub(crate) client: reqwest::Client,
    // What tells the listener's connections to end when it is dropped.
    _shutdown: tokio::sync::watch::Sender<bool>,
}

impl World {
    /// In front of `nodes`, the first of which has the most room, and with `streams` known.
    pub(crate) async fn new(nodes: &[Arc<FakeNode>], streams: Vec<StreamRecord>) -> Self {
        Self::of_apps("", nodes, streams).await
    }

    /// The same, with the applications of this configuration.
    pub(crate) async fn of_apps(text: &str, nodes: &[Arc<FakeNode>], streams: Vec<StreamRecord>) -> Self {
        let key = ClusterKey::random();
        let balancer = balancer(text, &key, nodes, streams).await;
        let conf = Arc::new(ServerConf::default());
        let limits = balancer.limits.clone();
        let refused = crate::refused_connections(&Registry::new()).unwrap();
        let doors = Doors::new("http", balancer.trusted_proxies.clone(), &limits, refused);
        let app = Arc::new(http_proxy(&conf, Viewers::new(balancer)));
        let http = Arc::new(Http { app, tls: None, doors, head: limits.http_head, idle: limits.http_idle });
        let listener = TcpListener::bind("127.0.6.2:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (shutdown, watch) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            loop {
                let (connection, peer) = listener.accept().await.unwrap();
                let (http, watch) = (Arc::clone(&http), watch.clone());
                tokio::spawn(async move { http.serve(connection, peer, watch).await });
            }
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { key, base, client, _shutdown: shutdown }
    }

    /// A request at `path`.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }
}

async fn balancer(
    text: &str,
    key: &ClusterKey,
    nodes: &[Arc<FakeNode>],
    streams: Vec<StreamRecord>,
) -> Arc<Balancer> {
    let (store, now) = (Arc::new(EmbeddedStore::in_memory()), clock::unix_ms());
    let mut reads = Vec::new();
    for (index, fake) in nodes.iter().enumerate() {
        let plain = node(fake.id, now);
        let addresses = Addresses { http: fake.address, ..plain.addresses };
        let free_mpx = 100.0 - index as f64;
        let record = NodeRecord { addresses, free_mpx, ..plain };
        assert!(store.put_node(&record, None).await.unwrap());
        reads.push(Ok(record));
    }
    let view = ClusterView::shared();
    view.store(Arc::new(ClusterView::default().fold(reads, streams, now)));
    let settings = Sources { host_name: "lb-1".to_owned(), ..Sources::default() }.load().unwrap();
    let (registry, apps) = (Registry::new(), apps(text));
    let parts = BalancerParts {
        node: "lb-1".parse().unwrap(),
        group: "default".to_owned(),
        key: key.clone(),
        admission: Admission::new(&apps, &registry).unwrap(),
        apps,
        limits: settings.limits,
        hints: Hints::of(view),
        store,
        node_http: "127.0.6.2:5081".parse().unwrap(),
        ams_roles: RoleRules::default(),
        trusted_proxies: sluicegate_cluster::proxies::TrustedProxies::default(),
        node_runtime: tokio::runtime::Handle::current(),
        life: Arc::new(NodeLife::new(Incarnation::random())),
        ice_servers: Vec::new(),
        own_edge: None,
        http_metrics: HttpMetrics::register(&registry).unwrap(),
        rtmp_metrics: RtmpMetrics::register(&registry).unwrap(),
    };
    let balancer = Balancer::new(parts, &registry).unwrap();
    balancer.make_table();
    balancer
}
