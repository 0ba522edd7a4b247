//! The balancer: TLS, HTTP and RTMP listeners on Pingora, and the placement of publishers on origins and of
//! viewers on edges.
//!
//! [`placement`] decides, from one immutable snapshot, without sockets or clocks; [`http`], [`rtmp`] and
//! [`listen`] are the shell around it. Edges and origins are met over the network, or, for the edge in this
//! process, through [`sluicegate_cluster::viewer::ViewerDoor`].

use std::net::TcpListener;
use std::sync::Arc;

use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::Acceptor;
use pingora::proxy::http_proxy;
use pingora::server::Server;
use pingora::services::background::background_service;
use prometheus::{IntCounterVec, Opts, Registry};
use sluicegate_cluster::admin::Explains;
use sluicegate_cluster::config::LbSettings;
use sluicegate_cluster::watched::Reread;
use tokio::sync::Semaphore;

mod error;
pub mod health;
mod http;
mod listen;
mod origins;
pub mod placement;
mod rtmp;
mod state;
#[cfg(test)]
mod testing;
mod tls;
pub mod websocket;
pub mod why;

pub use error::StartError;
pub use listen::bind;
pub use state::BalancerParts;

use health::Prober;
use listen::doors::Doors;
use listen::{Http, Listeners};
use state::{Balancer, TableKeeper};
use tls::Tls;

/// The balancer's listeners, bound, and its TLS configuration, read: what can go wrong has gone wrong.
pub struct Front {
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    rtmp: Vec<TcpListener>,
    tls: Option<Tls>,
    threads: usize,
}

/// What a balancer that serves has for the rest of its process.
pub struct Served {
    /// Its reasons, for the admin plane.
    pub explains: Arc<dyn Explains>,
    /// AMS's signalling, which it passes on to `node.http`.
    pub sockets: axum::Router,
}

impl Front {
    /// Binds and reads everything.
    ///
    /// # Errors
    /// [`StartError`], one line that names what is wrong.
    pub fn open(settings: &LbSettings) -> Result<Self, StartError> {
        let all = |key: &'static str, addresses: &[std::net::SocketAddr]| {
            addresses.iter().map(|a| bind(key, *a)).collect::<Result<Vec<_>, _>>()
        };
        let tls = if settings.https.is_empty() { None } else { Some(tls::open(&settings.certificates)?) };
        Ok(Self {
            http: all("lb.http", &settings.http)?,
            https: all("lb.https", &settings.https)?,
            rtmp: all("lb.rtmp", &settings.rtmp)?,
            tls,
            threads: settings.threads,
        })
    }

    /// Its certificates, to be read again when their files change.
    #[must_use]
    pub fn certificates(&self) -> Option<Arc<dyn Reread>> {
        self.tls.as_ref().map(|tls| Arc::clone(&tls.certificates) as Arc<dyn Reread>)
    }

    /// Adds the balancer's services to `server`. What is returned is for the admin plane, and for `node.http`.
    ///
    /// # Errors
    /// [`StartError::Metrics`] when its metrics are registered already.
    pub fn serve(
        self,
        parts: BalancerParts,
        registry: &Registry,
        server: &mut Server,
    ) -> Result<Served, StartError> {
        let refused = refused_connections(registry)?;
        let balancer = Balancer::new(parts, registry)?;
        let limits = balancer.limits.clone();
        let doors = |name| Doors::new(name, balancer.trusted_proxies.clone(), &limits, refused.clone());
        let mut viewers = http_proxy(&server.configuration, http::Viewers::new(Arc::clone(&balancer)));
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(limits.http_idle);
        viewers.server_options = Some(options);
        let viewers = Arc::new(http::at_hand::AtHand::before(Arc::new(viewers), Arc::clone(&balancer)));
        let connections = Arc::new(Semaphore::new(limits.http_connections));
        server.add_service(background_service("viewers' table", TableKeeper(Arc::clone(&balancer))));
        server.add_service(background_service("probes", Prober(Arc::clone(&balancer))));
        let http_doors = doors("http");
        let http = |tls| Http {
            app: Arc::clone(&viewers),
            tls,
            doors: Arc::clone(&http_doors),
            head: limits.http_head,
            idle: limits.http_idle,
        };
        server.add_service(Listeners {
            name: "http",
            listeners: self.http,
            speaks: Arc::new(http(None)),
            doors: Arc::clone(&http_doors),
            connections: Arc::clone(&connections),
            threads: self.threads,
        });
        if let Some(tls) = self.tls {
            registry.register(Box::new(tls.certificates.expiry_s.clone()))?;
            let acceptor = Arc::new(Acceptor::from_server_config(tls.config));
            server.add_service(Listeners {
                name: "https",
                listeners: self.https,
                speaks: Arc::new(http(Some((acceptor, limits.http_handshake)))),
                doors: Arc::clone(&http_doors),
                connections,
                threads: self.threads,
            });
        }
        server.add_service(Listeners {
            name: "rtmp",
            listeners: self.rtmp,
            speaks: Arc::new(rtmp::Publishers { balancer: Arc::clone(&balancer) }),
            doors: doors("rtmp"),
            connections: Arc::new(Semaphore::new(limits.rtmp_connections)),
            threads: self.threads,
        });
        Ok(Served { sockets: http::websocket::router(Arc::clone(&balancer)), explains: balancer })
    }
}

fn refused_connections(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let name = "sluicegate_connections_refused_total";
    let opts = Opts::new(name, "Connections closed before they came to anything");
    let refused = IntCounterVec::new(opts, &["listeners", "reason"])?;
    registry.register(Box::new(refused.clone()))?;
    Ok(refused)
}
