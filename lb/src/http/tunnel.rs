//! What goes through to AMS's own nodes as it is: their WebSocket signalling, their pages, everything below an
//! application that nothing of ours answers; and viewers' media where there is no edge of ours. Which nodes,
//! AMS's rule says: `?target=origin|edge`, else the port, 80 and 443 for origins (its nginx's `map $arg_target`).

use std::time::Duration;

use pingora::proxy::Session;
use sluicegate_cluster::clock;
use sluicegate_cluster::node::Role;
use sluicegate_cluster::view::ClusterView;

use super::route::Route;
use super::{EDGE_READ, EDGE_TRIES, viewer_address};
use crate::placement::{EdgeSeat, ams};
use crate::state::Balancer;

/// The longest silence of a WebSocket, either way. AMS's clients ping every 3 s.
const SOCKET_SILENCE: Duration = Duration::from_secs(3_600);

/// AMS's nodes for this request, best first; none where there are none.
pub(super) fn nodes(balancer: &Balancer, session: &Session, route: &Route) -> Vec<EdgeSeat> {
    let role = match route {
        Route::Ams(_) | Route::WebSocket => target(session.req_header().uri.query(), local_port(session)),
        // Viewers never land on origins.
        Route::Media { .. } | Route::Page(_) => Role::Edge,
        Route::Rest | Route::Signalling(_) | Route::NotFound(_) => return Vec::new(),
    };
    let (view, health) = (balancer.view.load(), balancer.health());
    // Which stream a socket is for is said on it only. Where origins are ours, so are the streams.
    let has_origin = |view: &ClusterView| view.nodes.values().any(|node| node.has(Role::Origin));
    if *route == Route::WebSocket && has_origin(&view) {
        return Vec::new();
    }
    let nodes = ams::nodes_of(&view, &health, &balancer.ams_roles, role);
    let mut nodes = ams::by_viewer(nodes, &viewer_address(session, balancer));
    if role == Role::Origin && session.is_upgrade_req() {
        // A publisher: it goes where there is room, and is counted there until the node says so.
        let now = clock::now();
        if let Some(first) = ams::less_loaded(&nodes, &balancer.ams_charges, now, &mut rand::rng()) {
            balancer.ams_charges.charge(&first.id, now);
            nodes.sort_by_key(|n| n.id != first.id);
        }
    }
    nodes.into_iter().take(EDGE_TRIES).map(|n| EdgeSeat { node: n.id.clone(), http: n.http() }).collect()
}

/// Lets a WebSocket be silent for longer than a request may be.
pub(super) fn prepare(session: &mut Session) {
    if session.is_upgrade_req() {
        session.as_downstream_mut().set_read_timeout(Some(SOCKET_SILENCE));
    }
}

/// How long the node may be silent.
pub(super) fn silence(session: &Session) -> Duration {
    if session.is_upgrade_req() { SOCKET_SILENCE } else { EDGE_READ }
}

fn local_port(session: &Session) -> u16 {
    let digest = session.digest().and_then(|d| d.socket_digest.as_ref());
    digest.and_then(|d| d.local_addr()).and_then(|a| a.as_inet()).map_or(0, std::net::SocketAddr::port)
}

fn target(query: Option<&str>, port: u16) -> Role {
    let named = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("target="));
    match (named, port) {
        (Some("origin"), _) => Role::Origin,
        (Some("edge"), _) => Role::Edge,
        (_, 80 | 443) => Role::Origin,
        _ => Role::Edge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: Option<&str>, port: u16, role: Role) {
        assert_eq!(target(query, port), role, "{query:?} at {port}");
    }

    #[test]
    fn the_target_outranks_the_port() {
        check(Some("target=origin"), 5080, Role::Origin);
        check(Some("token=x&target=edge"), 443, Role::Edge);
        check(None, 443, Role::Origin);
        check(None, 80, Role::Origin);
        check(None, 5443, Role::Edge);
        check(Some("target=elsewhere"), 5080, Role::Edge);
        check(Some("xtarget=origin"), 5080, Role::Edge);
    }
}
