//! What the balancer's services share, and the loop that brings the viewers' table up to date.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use prometheus::{IntCounterVec, Opts, Registry};
use sluicegate_cluster::admission::Admission;
use sluicegate_cluster::ams::roles::RoleRules;
use sluicegate_cluster::clock;
use sluicegate_cluster::config::{AppSettings, IceServer, Limits};
use sluicegate_cluster::hints::Hints;
use sluicegate_cluster::ids::{AppName, NodeId};
use sluicegate_cluster::membership::NodeLife;
use sluicegate_cluster::metrics::{HttpMetrics, RtmpMetrics};
use sluicegate_cluster::node::NodeState;
use sluicegate_cluster::proxies::TrustedProxies;
use sluicegate_cluster::store::ClusterStore;
use sluicegate_cluster::trust::ClusterKey;
use sluicegate_cluster::view::{ClusterView, SharedView};
use sluicegate_cluster::viewer::ViewerDoor;
use tokio::sync::{Semaphore, watch};

use crate::error::StartError;
use crate::health::{Health, takes_work};
use crate::http::signalling::NodeClient;
use crate::http::websocket::SocketMetrics;
use crate::placement::ams::Charges;
use crate::placement::{Demand, EdgeSeat, SlowStart, ToldRooms, Unreserved, ViewerTable};
use crate::rtmp::gop::GopBudget;

/// How often the viewers' table is made anew.
const TABLE_EVERY: Duration = Duration::from_secs(1);

/// Between looks for the first edge, before there is one.
const FIRST_TABLE: Duration = Duration::from_millis(10);

/// What a balancer is made of.
pub struct BalancerParts {
    /// This node.
    pub node: NodeId,
    /// Its region or site.
    pub group: String,
    /// What nodes trust each other by.
    pub key: ClusterKey,
    /// The applications there are.
    pub apps: Vec<AppSettings>,
    /// Who may publish.
    pub admission: Arc<Admission>,
    /// What it bounds.
    pub limits: Limits,
    /// The cluster as it is known, and what origins tell when they are probed.
    pub hints: Arc<Hints>,
    /// The cluster's memory, for reservations only.
    pub store: Arc<dyn ClusterStore>,
    /// Where this process serves other nodes, and REST.
    pub node_http: SocketAddr,
    /// What AMS's own nodes do.
    pub ams_roles: RoleRules,
    /// Proxies that are believed.
    pub trusted_proxies: TrustedProxies,
    /// The runtime that the store lives on.
    pub node_runtime: tokio::runtime::Handle,
    /// This process's life.
    pub life: Arc<NodeLife>,
    /// STUN and TURN servers that clients of AMS's signalling are told of.
    pub ice_servers: Vec<IceServer>,
    /// The edge in this process, if there is one.
    pub own_edge: Option<Arc<dyn ViewerDoor>>,
    /// HTTP's counters.
    pub http_metrics: HttpMetrics,
    /// RTMP's counters.
    pub rtmp_metrics: RtmpMetrics,
}

/// The balancer's state.
pub(crate) struct Balancer {
    pub(crate) node: NodeId,
    pub(crate) key: ClusterKey,
    pub(crate) admission: Arc<Admission>,
    pub(crate) limits: Limits,
    pub(crate) view: SharedView,
    pub(crate) hints: Arc<Hints>,
    /// What origins said of their room when they were probed last.
    pub(crate) rooms: ArcSwap<ToldRooms>,
    pub(crate) store: Arc<dyn ClusterStore>,
    pub(crate) node_http: SocketAddr,
    pub(crate) ams_roles: RoleRules,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) ams_charges: Charges,
    pub(crate) node_runtime: tokio::runtime::Handle,
    pub(crate) life: Arc<NodeLife>,
    pub(crate) ice_servers: Vec<IceServer>,
    pub(crate) sockets: SocketMetrics,
    pub(crate) own_edge: Option<Arc<dyn ViewerDoor>>,
    pub(crate) nodes: NodeClient,
    pub(crate) http_metrics: HttpMetrics,
    pub(crate) rtmp_metrics: RtmpMetrics,
    pub(crate) placements: IntCounterVec,
    pub(crate) demand: Demand,
    pub(crate) unreserved: Unreserved,
    pub(crate) gops: Arc<GopBudget>,
    pub(crate) viewers: ArcSwap<ViewerTable>,
    group: String,
    pub(crate) apps: Vec<AppSettings>,
    health: watch::Sender<Arc<Health>>,
    drained: watch::Sender<BTreeSet<NodeId>>,
    /// Who may move a publisher off a drained origin: one after another.
    pub(crate) moves: Semaphore,
    last_fold: Mutex<Instant>,
}

impl Balancer {
    pub(crate) fn new(parts: BalancerParts, registry: &Registry) -> Result<Arc<Self>, StartError> {
        let placements = IntCounterVec::new(
            Opts::new("sluicegate_placements_total", "Publishers placed on origins"),
            &["kind", "result"],
        )?;
        registry.register(Box::new(placements.clone()))?;
        let balancer = Self {
            nodes: NodeClient::new(parts.key.clone(), parts.node.clone())?,
            node: parts.node,
            key: parts.key,
            admission: parts.admission,
            limits: parts.limits,
            view: Arc::clone(parts.hints.view()),
            hints: parts.hints,
            rooms: ArcSwap::default(),
            store: parts.store,
            node_http: parts.node_http,
            ams_roles: parts.ams_roles,
            trusted_proxies: parts.trusted_proxies,
            ams_charges: Charges::default(),
            node_runtime: parts.node_runtime,
            life: parts.life,
            ice_servers: parts.ice_servers,
            sockets: SocketMetrics::register(registry)?,
            own_edge: parts.own_edge,
            http_metrics: parts.http_metrics,
            rtmp_metrics: parts.rtmp_metrics,
            placements,
            demand: Demand::default(),
            unreserved: Unreserved::default(),
            gops: Arc::default(),
            viewers: ArcSwap::default(),
            group: parts.group,
            apps: parts.apps,
            health: watch::Sender::default(),
            drained: watch::Sender::default(),
            moves: Semaphore::new(1),
            last_fold: Mutex::new(clock::now()),
        };
        Ok(Arc::new(balancer))
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    pub(crate) fn is_self(&self, node: &NodeId) -> bool {
        self.node == *node
    }

    /// Where this process itself answers.
    pub(crate) fn own_seat(&self) -> EdgeSeat {
        EdgeSeat { node: self.node.clone(), http: self.node_http }
    }

    pub(crate) fn is_app(&self, app: &AppName) -> bool {
        self.apps.iter().any(|known| known.name == *app)
    }

    /// What probes say of the nodes.
    pub(crate) fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health.borrow())
    }

    pub(crate) fn set_health(&self, health: Health) {
        self.health.send_replace(Arc::new(health));
    }

    /// Resolves when probes say that `node` is down.
    pub(crate) async fn is_down(&self, node: &NodeId) {
        let mut health = self.health.subscribe();
        // The sender lives as long as the balancer does.
        let _ = health.wait_for(|health| health.is_down(node)).await;
    }

    /// How newcomers are spared, as of `view`.
    pub(crate) fn slow_start(&self, view: &ClusterView) -> SlowStart {
        SlowStart { now: view.now(clock::now()), ramp: self.limits.slow_start }
    }

    /// Resolves when `node` is drained.
    pub(crate) async fn is_drained(&self, node: &NodeId) {
        let mut drained = self.drained.subscribe();
        // The sender lives as long as the balancer does.
        let _ = drained.wait_for(|drained| drained.contains(node)).await;
    }

    /// Brings up to date which nodes are drained.
    fn note_drained(&self, view: &ClusterView) {
        let now = view.nodes.values().filter(|n| n.drain && n.state == NodeState::Draining);
        let now: BTreeSet<NodeId> = now.map(|n| n.id.clone()).collect();
        self.drained.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    /// Folds view, probes and demand into the next viewers' table.
    pub(crate) fn make_table(&self) {
        let mut last_fold = self.last_fold.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        let demand = self.demand.fold(now.duration_since(*last_fold).as_secs_f64());
        *last_fold = now;
        let (view, health) = (self.view.load(), self.health());
        self.note_drained(&view);
        let nodes = view.nodes.values().map(AsRef::as_ref).filter(|n| takes_work(n, &view, &health));
        let slow_start = self.slow_start(&view);
        self.viewers.store(Arc::new(ViewerTable::new(nodes, &self.group, &demand, slow_start)));
    }
}

/// Keeps the viewers' table up to date.
pub(crate) struct TableKeeper(pub(crate) Arc<Balancer>);

#[async_trait]
impl BackgroundService for TableKeeper {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut was_ready = false;
        loop {
            // The first view is not waited for: a node that starts serves as soon as it knows of edges.
            let wait = if was_ready { TABLE_EVERY } else { FIRST_TABLE };
            tokio::select! {
                _ = shutdown.changed() => return,
                () = tokio::time::sleep(wait) => {}
            }
            self.0.make_table();
            was_ready = !self.0.viewers.load().edges().is_empty();
        }
    }
}
