//! WebRTC at an origin, all of it on one UDP port: publishers by WHIP (RFC 9725), and edges that pull a
//! rendition by WHEP (draft-ietf-wish-whep). Both are signalled on `node.http`, where only nodes of the cluster
//! ask: a balancer in the name of a publisher, an edge for itself.
//!
//! [`http`] is what both have in common: sessions' addresses, PATCH, DELETE, and which status says what.

mod http;
mod intake;
mod outgo;
mod resources;
mod sender_clock;
mod whep;
mod whip;

use std::io;
use std::sync::Arc;

use ::http::HeaderValue;
use prometheus::Registry;
use sluicegate_cluster::config::IceServer;
use sluicegate_rtc::{Bound, Channels, Mux};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use http::routes;

use crate::origin::OriginError;
use resources::Resources;

/// What an origin's WebRTC is made of.
pub struct WebRtcParts {
    /// Its UDP port.
    pub bound: Bound,
    /// STUN and TURN servers that publishers are told of.
    pub ice_servers: Vec<IceServer>,
    /// Ends it.
    pub stop: CancellationToken,
    /// Where its tasks are waited for.
    pub tasks: TaskTracker,
}

/// An origin's WebRTC.
pub(crate) struct WebRtc {
    mux: Mux<Channels>,
    resources: Arc<Resources>,
    /// Values of `Link` headers.
    links: Vec<HeaderValue>,
    /// Publishers of a drained origin leave one by one.
    leaving: Semaphore,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl WebRtc {
    pub(crate) fn start(parts: WebRtcParts, registry: &Registry) -> Result<Self, OriginError> {
        let WebRtcParts { bound, ice_servers, stop, tasks } = parts;
        let mux = Mux::start(bound, |_| Channels::default(), &stop)?;
        mux.register("origin", registry)?;
        let links = ice_servers.iter().map(|server| HeaderValue::try_from(server.link()));
        let links = links.collect::<Result<_, _>>().map_err(io::Error::other)?;
        Ok(Self { mux, resources: Arc::default(), links, leaving: Semaphore::new(1), stop, tasks })
    }
}
