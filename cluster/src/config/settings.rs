//! The configuration as it is used: every value present, checked, with its default written here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use super::ladder::{self, RungSettings};
use super::raw::{Raw, RawApp, RawCapacity, RawCluster, RawLb, RawLimits, RawTokenKey};
use super::secret::Written;
use super::webrtc::{self, WebRtcSettings};
use crate::ams::roles::RoleRules;
use crate::ids::{AppName, NodeId};
use crate::node::Role;
use crate::store::MongoAddress;
use crate::token::TokenKeys;
use crate::trust::ClusterKey;

/// What a process is to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What it does.
    pub roles: Vec<Role>,
    /// Who and where it is.
    pub node: NodeSettings,
    /// The cluster's memory and its key.
    pub cluster: ClusterSettings,
    /// The applications it knows. Others are not there.
    pub apps: Vec<AppSettings>,
    /// Its balancer's listeners. Used with [`Role::Lb`].
    pub lb: LbSettings,
    /// Its edge. Used with [`Role::Edge`].
    pub edge: EdgeSettings,
    /// Its origin. Used with [`Role::Origin`].
    pub origin: OriginSettings,
    /// WebRTC of its edge and its origin.
    pub webrtc: WebRtcSettings,
    /// What it bounds.
    pub limits: Limits,
}

/// `[node]`
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Its id, unique in the cluster.
    pub id: NodeId,
    /// The address other nodes reach it at.
    pub advertise: IpAddr,
    /// Its region or site.
    pub group: String,
    /// What it serves to balancers and other nodes.
    pub http: SocketAddr,
    /// Console, metrics, health.
    pub admin: SocketAddr,
    /// Where the operator's password is kept. Without it, nobody logs in.
    pub admin_password_file: Option<PathBuf>,
}

/// `[cluster]`
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// Where the cluster's memory is.
    pub store: StoreSettings,
    /// What nodes trust each other by.
    pub key: ClusterKey,
}

/// Where the cluster's memory is.
#[derive(Debug, Clone)]
pub enum StoreSettings {
    /// In this process. Streams' numbers survive a restart when a file is named.
    Embedded {
        /// That file.
        data: Option<PathBuf>,
    },
    /// In MongoDB.
    Mongo(MongoAddress),
}

/// `[[app]]`
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// Its name, the first part of its streams' paths.
    pub name: AppName,
    /// How long a segment should be. Cut at the next keyframe.
    pub segment: Duration,
    /// How long a part of a segment should be: what low-latency players wait for.
    pub part: Duration,
    /// How many segments a playlist lists.
    pub window: usize,
    /// What is encoded beside the source. Rungs that are not smaller than it are left out.
    pub ladder: Vec<RungSettings>,
    /// Who may publish.
    pub publish: Gate,
    /// Who may watch.
    pub play: Gate,
    /// What tokens are checked with. The first signs.
    pub token_keys: TokenKeys,
    /// What tokens for its REST interface are checked with.
    pub rest_keys: TokenKeys,
}

/// Whom an application lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Anybody.
    #[default]
    Open,
    /// Whoever brings a token that one of its keys signed.
    Token,
}

/// `[lb]`
#[derive(Debug, Clone)]
pub struct LbSettings {
    /// Plain HTTP listeners.
    pub http: Vec<SocketAddr>,
    /// HTTPS listeners.
    pub https: Vec<SocketAddr>,
    /// RTMP listeners.
    pub rtmp: Vec<SocketAddr>,
    /// Certificates, chosen by the name the client asks for; the first is the default.
    pub certificates: Vec<CertificateFiles>,
    /// Threads that serve viewers and publishers.
    pub threads: usize,
    /// What AMS's own nodes do, which their documents do not say.
    pub roles: RoleRules,
}

/// A certificate and its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and the chain to its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `[edge]`
#[derive(Debug, Clone)]
pub struct EdgeSettings {
    /// Where WebRTC viewers send to.
    pub udp: SocketAddr,
    /// How much the cache may hold.
    pub cache_bytes: u64,
}

/// `[origin]`
#[derive(Debug, Clone)]
pub struct OriginSettings {
    /// Where balancers publish to.
    pub rtmp: SocketAddr,
    /// Where WebRTC publishers, and edges that pull, send to.
    pub udp: SocketAddr,
    /// What it can encode, Mpx/s. `None`: it is measured; until then [`Self::MPX_PER_CORE`] for each core.
    pub capacity_mpx: Option<f64>,
    /// Where what was measured is kept.
    pub capacity_file: Option<PathBuf>,
}

impl OriginSettings {
    /// What a core is taken to encode until it is measured: 1080p30.
    pub const MPX_PER_CORE: f64 = 62.0;

    /// What it can encode, Mpx/s, as far as it is known without measuring.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.capacity_mpx.unwrap_or_else(|| Self::MPX_PER_CORE * cores() as f64)
    }
}

/// `[limits]`: what an operator may widen or narrow.
#[derive(Debug, Clone)]
pub struct Limits {
    /// RTMP connections at once, per listener process.
    pub rtmp_connections: usize,
    /// From a connection's first byte to its `publish`.
    pub rtmp_handshake: Duration,
    /// The longest silence of a publisher.
    pub rtmp_idle: Duration,
    /// The longest RTMP message.
    pub rtmp_message_bytes: usize,
    /// For the TLS handshake.
    pub http_handshake: Duration,
    /// The longest silence of a viewer's connection, in a request or between two.
    pub http_idle: Duration,
    /// Viewers' connections at once.
    pub http_connections: usize,
    /// The largest object an edge caches.
    pub edge_object_bytes: usize,
    /// Fetches from origins at once, per edge.
    pub edge_fills: usize,
    /// Viewers' requests that an edge holds at once for a playlist or part that is about to come.
    pub edge_holds: usize,
    /// The longest fetch from an origin.
    pub edge_fill: Duration,
    /// Streams at once on an origin.
    pub streams_per_origin: usize,
    /// What a stream costs at least, Mpx/s: a pass-through stream takes room too.
    pub stream_floor_mpx: f64,
    /// From a node's first work to all of its part: newcomers get it gradually.
    pub slow_start: Duration,
    /// An origin whose machine's processors are busier, by a mean of some seconds, takes no more publishes;
    /// 100: it takes them.
    pub cpu_percent: f64,
    /// The same of its memory.
    pub memory_percent: f64,
    /// WebRTC sessions at once, of each role.
    pub webrtc_sessions: usize,
    /// Those of them that are not connected yet.
    pub webrtc_half_open: usize,
    /// From an offer to media that can flow.
    pub webrtc_handshake: Duration,
    /// How long a session outlives its last sign of life.
    pub webrtc_silence: Duration,
    /// ICE checks a second from one IP address, from ports that no session knows.
    pub webrtc_stun_per_source: u32,
}

/// The process's environment, for keys that name a variable.
type Variables = [(String, String)];

pub(super) fn resolve(raw: Raw, host_name: &str, variables: &Variables) -> Result<Settings, ConfigError> {
    let roles = raw.roles.unwrap_or_else(|| vec![Role::Lb, Role::Edge, Role::Origin]);
    if roles.is_empty() {
        return Err(ConfigError::invalid("roles", "name at least one of lb, edge, origin"));
    }
    let beside_lb = roles.contains(&Role::Lb);
    let cluster = resolve_cluster(raw.cluster)?;
    // Beside a balancer, what other nodes are to reach moves out of its ports' way; what none reaches stays
    // on loopback.
    let reached = matches!(cluster.store, StoreSettings::Mongo(_)) && roles.iter().any(|r| *r != Role::Lb);
    let own = if reached {
        raw.node.advertise.unwrap_or_else(|| Ipv4Addr::UNSPECIFIED.into())
    } else {
        Ipv4Addr::LOCALHOST.into()
    };
    let beside = |port: u16| SocketAddr::new(own, port);
    let http = raw.node.http.unwrap_or_else(|| if beside_lb { beside(5081) } else { any(5080) });
    let admin = raw.node.admin.unwrap_or_else(|| local(9180));
    let node = NodeSettings {
        id: resolve_id(raw.node.id, host_name)?,
        advertise: resolve_advertise(raw.node.advertise, http, &cluster.store)?,
        group: raw.node.group.unwrap_or_else(|| "default".to_owned()),
        http,
        admin,
        admin_password_file: raw.node.admin_password_file,
    };
    Ok(Settings {
        node,
        cluster,
        apps: resolve_apps(raw.app, variables)?,
        lb: resolve_lb(raw.lb, beside_lb)?,
        edge: EdgeSettings {
            udp: raw.edge.udp.unwrap_or_else(|| any(50_000)),
            cache_bytes: raw.edge.cache_bytes.unwrap_or(512 << 20),
        },
        origin: OriginSettings {
            rtmp: raw.origin.rtmp.unwrap_or_else(|| if beside_lb { beside(19350) } else { any(1935) }),
            udp: raw.origin.udp.unwrap_or_else(|| any(50_001)),
            capacity_mpx: resolve_capacity(raw.origin.capacity_mpx)?,
            capacity_file: raw.origin.capacity_file,
        },
        webrtc: webrtc::resolve(raw.webrtc, cores())?,
        limits: resolve_limits(raw.limits)?,
        roles,
    })
}

fn resolve_id(given: Option<NodeId>, host_name: &str) -> Result<NodeId, ConfigError> {
    given.map_or_else(
        || {
            host_name.parse().map_err(|why| {
                ConfigError::invalid(
                    "node.id",
                    format!("the host's name {host_name:?} cannot be it ({why}); set it"),
                )
            })
        },
        Ok,
    )
}

fn resolve_advertise(
    given: Option<IpAddr>,
    http: SocketAddr,
    store: &StoreSettings,
) -> Result<IpAddr, ConfigError> {
    match (given, store) {
        (Some(address), _) => Ok(address),
        (None, _) if !http.ip().is_unspecified() => Ok(http.ip()),
        (None, StoreSettings::Embedded { .. }) => Ok(Ipv4Addr::LOCALHOST.into()),
        (None, StoreSettings::Mongo(_)) => Err(ConfigError::invalid(
            "node.advertise",
            "node.http listens on every address: set the one that other nodes reach this node at",
        )),
    }
}

fn resolve_cluster(raw: RawCluster) -> Result<ClusterSettings, ConfigError> {
    let password = Written::text_or_file("cluster.password", raw.password, raw.password_file).read()?;
    let store = match raw.store.as_deref() {
        None | Some("embedded") => StoreSettings::Embedded { data: raw.data },
        Some(uri) if uri.starts_with("mongodb://") || uri.starts_with("mongodb+srv://") => {
            let (uri, user, tls_ca) = (uri.to_owned(), raw.user, raw.tls_ca);
            let address = MongoAddress { uri, user, password, tls_ca };
            address.check().map_err(|why| ConfigError::invalid("cluster.store", why))?;
            StoreSettings::Mongo(address)
        }
        Some(_) => {
            return Err(ConfigError::invalid(
                "cluster.store",
                "neither \"embedded\" nor an address that starts with mongodb:// or mongodb+srv://",
            ));
        }
    };
    let key = match (Written::text_or_file("cluster.key", raw.key, raw.key_file).read()?, &store) {
        (Some(key), _) => ClusterKey::new(&key).map_err(|why| ConfigError::invalid("cluster.key", why))?,
        (None, StoreSettings::Embedded { .. }) => ClusterKey::random(),
        (None, StoreSettings::Mongo(_)) => {
            return Err(ConfigError::invalid(
                "cluster.key",
                "a cluster needs one secret that all its nodes share: set key or key_file",
            ));
        }
    };
    Ok(ClusterSettings { store, key })
}

fn resolve_apps(raw: Vec<RawApp>, variables: &Variables) -> Result<Vec<AppSettings>, ConfigError> {
    let mut apps: Vec<AppSettings> = Vec::with_capacity(raw.len().max(1));
    for app in raw {
        if apps.iter().any(|a| a.name == app.name) {
            return Err(ConfigError::invalid("app.name", format!("{} is there twice", app.name)));
        }
        apps.push(resolve_app(app, variables)?);
    }
    if apps.is_empty() {
        let name = "live".parse().map_err(|why| ConfigError::invalid("app.name", why))?;
        let live = RawApp {
            name,
            segment_s: None,
            part_s: None,
            window: None,
            ladder: None,
            publish: None,
            play: None,
            token_keys: None,
            rest_keys: None,
        };
        apps.push(resolve_app(live, variables)?);
    }
    Ok(apps)
}

fn resolve_app(raw: RawApp, variables: &Variables) -> Result<AppSettings, ConfigError> {
    let segment_s = raw.segment_s.unwrap_or(1.0);
    if !(0.5..=10.0).contains(&segment_s) {
        return Err(ConfigError::invalid("app.segment_s", "between 0.5 and 10 seconds"));
    }
    let part_s = raw.part_s.unwrap_or(0.2);
    if !(0.1..=segment_s.min(2.0)).contains(&part_s) {
        return Err(ConfigError::invalid(
            "app.part_s",
            "between 0.1 and 2 seconds, and no longer than segment_s",
        ));
    }
    let window = raw.window.unwrap_or(6);
    if !(3..=100).contains(&window) {
        return Err(ConfigError::invalid("app.window", "between 3 and 100 segments (RFC 8216 6.2.2)"));
    }
    let (publish, play) = (raw.publish.unwrap_or_default(), raw.play.unwrap_or_default());
    let token_keys = resolve_keys("app.token_keys", raw.token_keys.unwrap_or_default(), variables)?;
    let rest_keys = resolve_keys("app.rest_keys", raw.rest_keys.unwrap_or_default(), variables)?;
    if token_keys.is_empty() && [publish, play].contains(&Gate::Token) {
        let why = format!("{} asks for tokens: give it a key to check them with", raw.name);
        return Err(ConfigError::invalid("app.token_keys", why));
    }
    Ok(AppSettings {
        name: raw.name,
        segment: Duration::from_secs_f64(segment_s),
        part: Duration::from_secs_f64(part_s),
        window,
        ladder: ladder::resolve(raw.ladder.unwrap_or_default())?,
        publish,
        play,
        token_keys,
        rest_keys,
    })
}

fn resolve_keys(
    name: &'static str,
    raw: Vec<RawTokenKey>,
    variables: &Variables,
) -> Result<TokenKeys, ConfigError> {
    let mut keys = TokenKeys::default();
    for RawTokenKey { id, key, key_file, key_env } in raw {
        let written = Written { name, text: key, file: key_file, variable: key_env.as_deref() };
        let secret = written.read_with(variables)?;
        let missing = || ConfigError::invalid(name, format!("{id}: set key, key_file or key_env"));
        keys.add(&id, &secret.ok_or_else(missing)?)
            .map_err(|why| ConfigError::invalid(name, format!("{id}: {why}")))?;
    }
    Ok(keys)
}

fn resolve_lb(raw: RawLb, used: bool) -> Result<LbSettings, ConfigError> {
    let certificates: Vec<CertificateFiles> = raw
        .certificates
        .unwrap_or_default()
        .into_iter()
        .map(|c| CertificateFiles { cert: c.cert, key: c.key })
        .collect();
    let https =
        raw.https.unwrap_or_else(|| if certificates.is_empty() { Vec::new() } else { vec![any(5443)] });
    if used && !https.is_empty() && certificates.is_empty() {
        return Err(ConfigError::invalid(
            "lb.https",
            "HTTPS needs lb.certificates; `sluicegate certs dev` makes one to try with",
        ));
    }
    let threads = raw.threads.unwrap_or_else(cores);
    if !(1..=256).contains(&threads) {
        return Err(ConfigError::invalid("lb.threads", "between 1 and 256"));
    }
    let rules = raw.roles.unwrap_or_default().into_iter().map(|rule| (rule.network, rule.role));
    Ok(LbSettings {
        roles: RoleRules::read(rules).map_err(|why| ConfigError::invalid("lb.roles", why))?,
        http: raw.http.unwrap_or_else(|| vec![any(5080)]),
        https,
        rtmp: raw.rtmp.unwrap_or_else(|| vec![any(1935)]),
        certificates,
        threads,
    })
}

fn resolve_capacity(raw: Option<RawCapacity>) -> Result<Option<f64>, ConfigError> {
    let wrong = || ConfigError::invalid("origin.capacity_mpx", "\"auto\" or a number above 0 (Mpx/s)");
    match raw {
        None => Ok(None),
        Some(RawCapacity::Word(word)) if word == "auto" => Ok(None),
        Some(RawCapacity::Mpx(mpx)) if mpx > 0.0 && mpx.is_finite() => Ok(Some(mpx)),
        Some(_) => Err(wrong()),
    }
}

fn resolve_limits(raw: RawLimits) -> Result<Limits, ConfigError> {
    let ms = |key: &'static str, given: Option<u64>, default: u64| {
        positive(key, given.unwrap_or(default)).map(Duration::from_millis)
    };
    let count =
        |key: &'static str, given: Option<usize>, default: usize| positive(key, given.unwrap_or(default));
    Ok(Limits {
        rtmp_connections: count("limits.rtmp_connections", raw.rtmp_connections, 2_000)?,
        rtmp_handshake: ms("limits.rtmp_handshake_ms", raw.rtmp_handshake_ms, 5_000)?,
        rtmp_idle: ms("limits.rtmp_idle_ms", raw.rtmp_idle_ms, 15_000)?,
        rtmp_message_bytes: count("limits.rtmp_message_bytes", raw.rtmp_message_bytes, 4 << 20)?,
        http_handshake: ms("limits.http_handshake_ms", raw.http_handshake_ms, 10_000)?,
        http_idle: ms("limits.http_idle_ms", raw.http_idle_ms, 60_000)?,
        http_connections: count("limits.http_connections", raw.http_connections, 20_000)?,
        edge_object_bytes: count("limits.edge_object_bytes", raw.edge_object_bytes, 64 << 20)?,
        edge_fills: count("limits.edge_fills", raw.edge_fills, 1_024)?,
        edge_holds: count("limits.edge_holds", raw.edge_holds, 20_000)?,
        edge_fill: ms("limits.edge_fill_ms", raw.edge_fill_ms, 15_000)?,
        streams_per_origin: count("limits.streams_per_origin", raw.streams_per_origin, 1_000)?,
        slow_start: ms("limits.slow_start_ms", raw.slow_start_ms, 30_000)?,
        stream_floor_mpx: raw.stream_floor_mpx.filter(|m| *m > 0.0).unwrap_or(2.0),
        cpu_percent: percent("limits.cpu_percent", raw.cpu_percent)?,
        memory_percent: percent("limits.memory_percent", raw.memory_percent)?,
        webrtc_sessions: count("limits.webrtc_sessions", raw.webrtc_sessions, 5_000)?,
        webrtc_half_open: count("limits.webrtc_half_open", raw.webrtc_half_open, 1_000)?,
        webrtc_handshake: ms("limits.webrtc_handshake_ms", raw.webrtc_handshake_ms, 15_000)?,
        webrtc_silence: ms("limits.webrtc_silence_ms", raw.webrtc_silence_ms, 10_000)?,
        webrtc_stun_per_source: positive(
            "limits.webrtc_stun_per_source",
            raw.webrtc_stun_per_source.unwrap_or(500),
        )?,
    })
}

/// A load's limit; Ant Media Server's default.
fn percent(key: &'static str, given: Option<f64>) -> Result<f64, ConfigError> {
    let value = given.unwrap_or(75.0);
    if (1.0..=100.0).contains(&value) {
        Ok(value)
    } else {
        Err(ConfigError::invalid(key, "between 1 and 100"))
    }
}

fn positive<T: Default + PartialEq>(key: &'static str, value: T) -> Result<T, ConfigError> {
    if value == T::default() { Err(ConfigError::invalid(key, "above 0")) } else { Ok(value) }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn any(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}
