//! A node from its settings: listeners bound, roles assembled, run, and ended in order.
//!
//! Two runtimes: Pingora's, which serve viewers and publishers of the balancer, and the node's, which owns
//! the store, what the node serves to others, ingest and the admin plane. Between them pass the cluster's
//! view, and calls of the edge in this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::routing::get;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use prometheus::Registry;
use sluicegate_cluster::access::{Access, Login};
use sluicegate_cluster::admin::{self, AdminParts, Explains};
use sluicegate_cluster::admission::Admission;
use sluicegate_cluster::ams::mirror::{self, Mirror};
use sluicegate_cluster::ams::peers::{self, AmsView, SharedAmsView};
use sluicegate_cluster::config::{ConfigError, Settings};
use sluicegate_cluster::hints::Hints;
use sluicegate_cluster::ids::Incarnation;
use sluicegate_cluster::membership::{self, JoinError, NodeLife};
use sluicegate_cluster::metrics::{self, ClusterMetrics, HttpMetrics, RtmpMetrics};
use sluicegate_cluster::node::{Addresses, Load, NodeRecord, NodeState, Role};
use sluicegate_cluster::rest::{self, RestParts, StreamControl};
use sluicegate_cluster::store::{ClusterStore, StoreError};
use sluicegate_cluster::timeline::{self, Timeline};
use sluicegate_cluster::view::{self, Attention, ClusterView, Following, OwnFigures, Reader, SharedView};
use sluicegate_cluster::viewer::ViewerDoor;
use sluicegate_cluster::watched::Reread;
use sluicegate_cluster::{clock, telemetry};
use sluicegate_lb::{BalancerParts, Front};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::listeners::Listeners;
use self::roles::Roles;
use crate::lifecycle::Signals;
use crate::{say, upgrade};

mod files;
mod listeners;
mod memory;
mod roles;
mod serve;

/// For streams to be released and the node to be marked gone when the process ends.
const ENDING: Duration = Duration::from_secs(5);
/// For relays to tell origins that their streams end.
const GRACE_S: u64 = 1;

/// What the roles share.
struct Common {
    settings: Settings,
    registry: Registry,
    view: SharedView,
    hints: Arc<Hints>,
    attention: Arc<Attention>,
    figures: OwnFigures,
    store: Arc<dyn ClusterStore>,
    store_login: Option<Arc<dyn Reread>>,
    life: Arc<NodeLife>,
    admission: Arc<Admission>,
    access: Access,
    http_metrics: HttpMetrics,
    rtmp_metrics: RtmpMetrics,
    stop: CancellationToken,
    /// Cancelled when this node cannot go on.
    must_end: CancellationToken,
    tasks: TaskTracker,
}

/// Runs a node until it is told to stop.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    telemetry::start();
    // Somebody may have installed the same one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("node")
        .enable_all()
        .build()
        .context("starting the node's runtime")?;
    let listeners = upgrade::when_free(&runtime, settings.node.admin, || Listeners::bind(settings))?;
    let served = serve(settings, listeners, &runtime);
    runtime.shutdown_timeout(ENDING);
    served
}

fn serve(settings: &Settings, listeners: Listeners, runtime: &Runtime) -> anyhow::Result<()> {
    let Listeners { front, http, admin, rtmp, edge_udp, origin_udp } = listeners;
    let common = Common::new(settings, runtime)?;
    let roles = Roles::new(&common, edge_udp, origin_udp, runtime)?;
    files::watch(&common, front.as_ref().and_then(Front::certificates), runtime)?;
    let mut server = Server::new_with_opt_and_conf(None, server_conf(settings));
    let served = match front {
        Some(front) => {
            Some(front.serve(common.balancer_parts(&roles, runtime), &common.registry, &mut server)?)
        }
        None => None,
    };
    let (explains, sockets) = served.map(|served| (served.explains, served.sockets)).unzip();
    let parts = common.admin_parts(explains, runtime)?;
    let router = admin::router(Arc::clone(&parts), common.access.clone());
    common.start_router("node.admin", router, admin, runtime);
    common.start_http(&roles, parts, sockets, http, runtime)?;
    if let (Some(origin), Some(rtmp)) = (&roles.origin, rtmp) {
        let ingest = Arc::clone(origin).ingest(rtmp, common.stop.clone());
        common.tasks.spawn_on(ingest, runtime.handle());
        common.tasks.spawn_on(Arc::clone(origin).keep_records(common.stop.clone()), runtime.handle());
        let origin = Arc::clone(origin);
        common.tasks.spawn_blocking_on(move || origin.measure_capacity(), runtime.handle());
    }
    common.start_membership(roles, runtime)?;
    tracing::info!(node = %settings.node.id, version = env!("CARGO_PKG_VERSION"), "serving");
    server.run(RunArgs {
        shutdown_signal: Box::new(Signals {
            life: Arc::clone(&common.life),
            must_end: common.must_end.clone(),
        }),
    });
    common.end(runtime);
    Ok(())
}

impl Common {
    fn new(settings: &Settings, runtime: &Runtime) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process))?;
        let view = ClusterView::shared();
        let (store, store_login) = runtime.block_on(memory::open(&settings.cluster.store, &registry))?;
        Ok(Self {
            settings: settings.clone(),
            hints: Hints::of(Arc::clone(&view)),
            view,
            attention: Arc::default(),
            figures: OwnFigures::default(),
            store,
            store_login,
            life: Arc::new(NodeLife::new(Incarnation::random())),
            admission: Admission::new(&settings.apps, &registry)?,
            access: open_access(settings)?,
            http_metrics: HttpMetrics::register(&registry)?,
            rtmp_metrics: RtmpMetrics::register(&registry)?,
            registry,
            stop: CancellationToken::new(),
            must_end: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    fn balancer_parts(&self, roles: &Roles, runtime: &Runtime) -> BalancerParts {
        BalancerParts {
            node: self.settings.node.id.clone(),
            group: self.settings.node.group.clone(),
            key: self.settings.cluster.key.clone(),
            apps: self.settings.apps.clone(),
            admission: Arc::clone(&self.admission),
            limits: self.settings.limits.clone(),
            hints: Arc::clone(&self.hints),
            store: Arc::clone(&self.store),
            node_http: loopback_if_any(self.settings.node.http),
            ams_roles: self.settings.lb.roles.clone(),
            trusted_proxies: self.settings.lb.trusted_proxies.clone(),
            node_runtime: runtime.handle().clone(),
            life: Arc::clone(&self.life),
            ice_servers: self.settings.webrtc.ice_servers.clone(),
            own_edge: roles.edge.clone().map(|edge| edge as Arc<dyn ViewerDoor>),
            http_metrics: self.http_metrics.clone(),
            rtmp_metrics: self.rtmp_metrics.clone(),
        }
    }

    fn admin_parts(
        &self,
        explains: Option<Arc<dyn Explains>>,
        runtime: &Runtime,
    ) -> anyhow::Result<Arc<AdminParts>> {
        let timeline = Arc::<Timeline>::default();
        let following = timeline::follow(Arc::clone(&self.view), Arc::clone(&timeline), self.stop.clone());
        self.tasks.spawn_on(following, runtime.handle());
        Ok(Arc::new(AdminParts {
            explains,
            timeline,
            ams_roles: self.settings.lb.roles.clone(),
            node: self.settings.node.id.clone(),
            player_base: player_base(&self.settings),
            view: Arc::clone(&self.view),
            attention: Arc::clone(&self.attention),
            store: Arc::clone(&self.store),
            life: Arc::clone(&self.life),
            registry: self.registry.clone(),
            cluster_metrics: ClusterMetrics::register(&self.registry, Arc::clone(&self.view))?,
        }))
    }

    /// What this node serves to balancers and other nodes.
    fn start_http(
        &self,
        roles: &Roles,
        admin: Arc<AdminParts>,
        sockets: Option<Router>,
        listener: TcpListener,
        runtime: &Runtime,
    ) -> anyhow::Result<()> {
        let key = &self.settings.cluster.key;
        let rest = RestParts {
            node: self.settings.node.id.clone(),
            view: Arc::clone(&self.view),
            attention: Arc::clone(&self.attention),
            store: Arc::clone(&self.store),
            apps: self.settings.apps.iter().map(|a| a.name.clone()).collect(),
            origin: roles.origin.clone().map(|origin| origin as Arc<dyn StreamControl>),
            client: rest::client()?,
            access: self.access.clone(),
        };
        let mut router =
            Router::new().route("/healthz", get(|| async { "ok\n" })).merge(rest::router(Arc::new(rest)));
        router = router.merge(admin::public(admin, self.access.clone()));
        if let Some(sockets) = sockets {
            router = router.merge(sockets);
        }
        if let Some(origin) = &roles.origin {
            router = router.merge(Arc::clone(origin).router(key.clone()));
        }
        if let Some(relay) = &roles.relay {
            router = router.merge(relay.router());
        }
        if let Some(edge) = &roles.edge {
            router = router.merge(sluicegate_edge::front::router(edge.clone(), key.clone()));
        }
        self.start_router("node.http", router, listener, runtime);
        Ok(())
    }

    fn start_router(&self, name: &'static str, router: Router, listener: TcpListener, runtime: &Runtime) {
        let serving = serve::serve(name, router, self.settings.limits.node_connections, listener);
        let stop = self.stop.clone();
        // Connections that are still open when the node stops are cut with the runtime.
        let serving = async move { stop.run_until_cancelled(serving).await };
        self.tasks.spawn_on(serving, runtime.handle());
    }

    /// Joins the cluster. A store that does not answer is tried again while the node is not ready.
    fn start_membership(&self, roles: Roles, runtime: &Runtime) -> anyhow::Result<()> {
        let (store, record) = (Arc::clone(&self.store), self.record());
        let joined = runtime.block_on(memory::join(&store, &record));
        let life = Arc::clone(&self.life);
        let stop = self.stop.clone();
        let must_end = self.must_end.clone();
        let heartbeats = metrics::heartbeats(&self.registry)?;
        self.follow_the_cluster(runtime);
        let member = match joined {
            Ok(member) => Some(member),
            Err(taken @ JoinError::Taken { .. }) => return Err(taken.into()),
            Err(JoinError::Store(
                error @ (StoreError::Refused(_) | StoreError::Address(_) | StoreError::Password(_)),
            )) => {
                return Err(JoinError::Store(error).into());
            }
            Err(error) => {
                tracing::warn!(%error, "the cluster cannot be joined yet; trying again");
                None
            }
        };
        let living = async move {
            let member = match member {
                Some(member) => member,
                None => tokio::select! {
                    member = memory::join_by_retrying(store, record) => member,
                    () = stop.cancelled() => return,
                },
            };
            life.joined();
            if let Err(displaced) = member.run(life, Arc::new(roles), heartbeats, stop).await {
                tracing::error!(%displaced, "this node must end");
                must_end.cancel();
            }
        };
        self.tasks.spawn_on(living, runtime.handle());
        Ok(())
    }

    /// Keeps the view. Balancers, who read all heartbeats, also say who is dead.
    fn follow_the_cluster(&self, runtime: &Runtime) {
        let own = &self.settings.node.id;
        let balances = self.settings.roles.contains(&Role::Lb);
        let following = Following {
            store: Arc::clone(&self.store),
            reader: Reader::new(own.clone(), balances),
            ams: self.start_ams(runtime),
            own: Arc::clone(&self.figures),
            attention: Arc::clone(&self.attention),
            hints: Arc::clone(&self.hints),
        };
        self.tasks.spawn_on(view::follow(following, self.stop.clone()), runtime.handle());
        if balances {
            let (store, view) = (Arc::clone(&self.store), Arc::clone(&self.view));
            let burying = membership::bury_the_silent(store, view, own.clone(), self.stop.clone());
            self.tasks.spawn_on(burying, runtime.handle());
        }
    }

    /// What is shared with AMS: mirrors of ours, and its own nodes as they are known.
    fn start_ams(&self, runtime: &Runtime) -> SharedAmsView {
        let known = AmsView::shared();
        let apps: Vec<_> = self.settings.apps.iter().map(|a| a.name.clone()).collect();
        let (store, view, stop) = (Arc::clone(&self.store), Arc::clone(&self.view), self.stop.clone());
        let mirror = Mirror::new(self.settings.node.id.clone());
        let keeping = mirror::keep(Arc::clone(&store), Arc::clone(&view), mirror, apps.clone(), stop.clone());
        self.tasks.spawn_on(keeping, runtime.handle());
        self.tasks.spawn_on(peers::follow(store, view, apps, Arc::clone(&known), stop), runtime.handle());
        known
    }

    fn record(&self) -> NodeRecord {
        let settings = &self.settings;
        let reached = |at: SocketAddr| SocketAddr::new(settings.node.advertise, at.port());
        let is_origin = settings.roles.contains(&Role::Origin);
        NodeRecord {
            id: settings.node.id.clone(),
            incarnation: self.life.incarnation(),
            rev: 0,
            roles: settings.roles.clone(),
            group: settings.node.group.clone(),
            addresses: Addresses {
                http: reached(settings.node.http),
                rtmp: is_origin.then(|| reached(settings.origin.rtmp)),
            },
            state: NodeState::Joining,
            drain: false,
            found_dead_by: None,
            serving_since: clock::UnixMs::default(),
            heartbeat: clock::cluster_ms(),
            capacity_mpx: 0.0,
            free_mpx: 0.0,
            reservations: Vec::new(),
            load: Load::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Ends what runs on the node's runtime: streams are released, the node marked gone.
    fn end(&self, runtime: &Runtime) {
        self.stop.cancel();
        self.tasks.close();
        let ended = runtime.block_on(async { tokio::time::timeout(ENDING, self.tasks.wait()).await });
        if ended.is_err() {
            tracing::warn!("not everything ended in time");
        }
    }
}

/// Who may do what operators do. A password that is made now is told now, and never again.
fn open_access(settings: &Settings) -> anyhow::Result<Access> {
    let open = |file: &std::path::PathBuf| {
        let failed = |why| ConfigError::Invalid {
            key: "node.admin_password_file",
            why: format!("{}: {why}", file.display()),
        };
        let (login, told) = Login::open(file).map_err(failed)?;
        if let Some(password) = told {
            say::tell(&format!("the operator's password is {password} (told once)"));
        }
        anyhow::Ok(login)
    };
    let login = settings.node.admin_password_file.as_ref().map(open).transpose()?;
    Ok(Access::new(settings.cluster.key.clone(), &settings.apps, login))
}

fn server_conf(settings: &Settings) -> ServerConf {
    let balances = settings.roles.contains(&Role::Lb);
    ServerConf {
        threads: settings.lb.threads,
        grace_period_seconds: Some(if balances { GRACE_S } else { 0 }),
        graceful_shutdown_timeout_seconds: Some(GRACE_S),
        ..ServerConf::default()
    }
}

/// Where this process reaches a listener of its own.
fn loopback_if_any(listener: SocketAddr) -> SocketAddr {
    match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, listener.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, listener.port()).into(),
        _ => listener,
    }
}

/// Where a browser on this machine finds the player.
fn player_base(settings: &Settings) -> Option<String> {
    let first = settings.lb.http.first().filter(|_| settings.roles.contains(&Role::Lb))?;
    let host = if first.ip().is_unspecified() { "127.0.0.1".to_owned() } else { first.ip().to_string() };
    Some(format!("http://{host}:{}", first.port()))
}
