//! The roles of this node that have a load: edge, its WebRTC relay, origin.

use std::sync::Arc;

use sluicegate_cluster::claims::Claims;
use sluicegate_cluster::config::IceServer;
use sluicegate_cluster::membership::{LoadSource, Room};
use sluicegate_cluster::node::{Load, Role};
use sluicegate_edge::relay::{Relay, RelayParts};
use sluicegate_edge::{Edge, EdgeParts};
use sluicegate_origin::{Origin, OriginParts, WebRtcParts};
use sluicegate_rtc::Bound;
use tokio::runtime::Runtime;

use super::Common;

/// The roles of this node that have a load.
pub(super) struct Roles {
    pub(super) edge: Option<Arc<Edge>>,
    pub(super) relay: Option<Arc<Relay>>,
    pub(super) origin: Option<Arc<Origin>>,
}

impl Roles {
    pub(super) fn new(
        common: &Common,
        edge_udp: Option<Bound>,
        origin_udp: Option<Bound>,
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let settings = &common.settings;
        let has = |role| settings.roles.contains(&role);
        let edge = if has(Role::Edge) {
            Some(Edge::new(EdgeParts {
                settings: settings.edge.clone(),
                limits: settings.limits.clone(),
                node: settings.node.id.clone(),
                key: settings.cluster.key.clone(),
                hints: Arc::clone(&common.hints),
                apps: settings.apps.clone(),
                admission: Arc::clone(&common.admission),
                runtime: runtime.handle().clone(),
                registry: &common.registry,
                http: common.http_metrics.clone(),
            })?)
        } else {
            None
        };
        let origin = if let Some(bound) = origin_udp {
            Some(Origin::new(OriginParts {
                settings: settings.origin.clone(),
                limits: settings.limits.clone(),
                node: settings.node.id.clone(),
                life: Arc::clone(&common.life),
                key: settings.cluster.key.clone(),
                webrtc: WebRtcParts {
                    bound,
                    ice_servers: settings.webrtc.ice_servers.clone(),
                    stop: common.stop.clone(),
                    tasks: common.tasks.clone(),
                },
                apps: settings.apps.clone(),
                view: Arc::clone(&common.view),
                claims: Claims::new(Arc::clone(&common.store)),
                store: Arc::clone(&common.store),
                figures: Arc::clone(&common.figures),
                registry: &common.registry,
                http: common.http_metrics.clone(),
                rtmp: common.rtmp_metrics.clone(),
            })?)
        } else {
            None
        };
        let relay = edge_udp.map(|bound| relay(common, bound, runtime)).transpose()?;
        Ok(Self { edge, relay, origin })
    }
}

impl LoadSource for Roles {
    fn add_to(&self, load: &mut Load) {
        if let Some(edge) = &self.edge {
            let own = edge.load();
            load.viewers += own.viewers;
            load.egress_bps += own.egress_bps;
        }
        if let Some(relay) = &self.relay {
            let own = relay.load();
            load.viewers += own.viewers;
            load.egress_bps += own.egress_bps;
        }
        if let Some(origin) = &self.origin {
            origin.note_load(load);
            load.publishes = origin.publishes();
            load.full = origin.full();
            load.gpus = origin.gpus();
        }
    }

    fn room(&self) -> Room {
        self.origin.as_ref().map(|origin| origin.room()).unwrap_or_default()
    }
}

/// The edge's WebRTC on its UDP port.
fn relay(common: &Common, bound: Bound, runtime: &Runtime) -> anyhow::Result<Arc<Relay>> {
    Ok(Relay::new(RelayParts {
        bound,
        ice_servers: common.settings.webrtc.ice_servers.iter().map(IceServer::link).collect(),
        node: common.settings.node.id.clone(),
        key: common.settings.cluster.key.clone(),
        hints: Arc::clone(&common.hints),
        apps: common.settings.apps.clone(),
        admission: Arc::clone(&common.admission),
        runtime: runtime.handle().clone(),
        registry: &common.registry,
        http: common.http_metrics.clone(),
        stop: common.stop.clone(),
        tasks: common.tasks.clone(),
    })?)
}
