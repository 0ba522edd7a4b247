//! AMS's own nodes. They keep no room that could be reserved: a publish goes to the less loaded of two at
//! random, by what they say of their processors and what was just sent there. Viewers stay with a node by hash.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom as _;
use sluicegate_cluster::ams::peers::AmsNode;
use sluicegate_cluster::ams::roles::RoleRules;
use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::node::Role;
use sluicegate_cluster::view::ClusterView;

use super::hash;
use crate::health::Health;

/// What a publish is taken to cost until the node says so itself, percent of its processors.
const CHARGE_PERCENT: f64 = 5.0;
/// A node says what its processors do every 5 s, and AMS takes the mean of some: until then a publish counts.
const CHARGED_FOR: Duration = Duration::from_secs(10);

/// AMS's nodes of `role` that may be sent work: probes say so, or, before the first probe, their document.
#[must_use]
pub fn nodes_of<'a>(
    view: &'a ClusterView,
    health: &Health,
    rules: &RoleRules,
    role: Role,
) -> Vec<&'a AmsNode> {
    let works = |n: &&AmsNode| {
        rules.role_of(n.ip) == Some(role)
            && !health.is_down(&n.id)
            && (health.is_up(&n.id) || n.document.is_alive(view.read_at))
    };
    let mut nodes: Vec<&AmsNode> = view.ams.nodes.values().filter(works).collect();
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    nodes
}

/// The node for a publish: of two of `nodes` at random, the less loaded.
pub fn less_loaded<'a>(
    nodes: &[&'a AmsNode],
    charges: &Charges,
    now: Instant,
    rng: &mut impl rand::Rng,
) -> Option<&'a AmsNode> {
    let load = |n: &AmsNode| n.document.cpu_percent() + charges.percent(&n.id, now);
    nodes.choose_multiple(rng, 2).min_by(|a, b| load(a).total_cmp(&load(b))).copied()
}

/// The nodes for a viewer, its own first: sessions and cookies of AMS's are good on one node only.
#[must_use]
pub fn by_viewer<'a>(mut nodes: Vec<&'a AmsNode>, viewer: &str) -> Vec<&'a AmsNode> {
    let score = |n: &AmsNode| hash::score(&viewer, n.id.as_str(), 1.0);
    nodes.sort_by(|a, b| score(b).total_cmp(&score(a)));
    nodes
}

/// What this balancer has just sent to AMS's nodes, which they do not say yet.
#[derive(Debug, Default)]
pub struct Charges(Mutex<HashMap<NodeId, Vec<Instant>>>);

impl Charges {
    /// Counts a publish that goes to `node`.
    pub fn charge(&self, node: &NodeId, now: Instant) {
        let mut charged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        charged.retain(|_, times| {
            times.retain(|at| counts(*at, now));
            !times.is_empty()
        });
        charged.entry(node.clone()).or_default().push(now);
    }

    fn percent(&self, node: &NodeId, now: Instant) -> f64 {
        let charged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = charged.get(node).map_or(0, |times| times.iter().filter(|at| counts(**at, now)).count());
        CHARGE_PERCENT * count as f64
    }
}

fn counts(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < CHARGED_FOR
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluicegate_cluster::ams::ClusterNode;
    use sluicegate_cluster::ams::peers::AmsView;
    use sluicegate_cluster::clock::{self, UnixMs};

    use super::*;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn view(nodes: &[(&str, &str)]) -> ClusterView {
        let document = |(ip, cpu): &(&str, &str)| ClusterNode {
            id: (*ip).to_owned(),
            ip: Some((*ip).to_owned()),
            cpu: Some((*cpu).to_owned()),
            last_update_time: Some(NOW.0),
            ..ClusterNode::default()
        };
        let documents = nodes.iter().map(document).collect();
        let ams = Arc::new(AmsView::new(documents, std::iter::empty(), Vec::new(), NOW));
        ClusterView { ams, read_at: NOW, ..ClusterView::default() }
    }

    fn rules() -> RoleRules {
        let rule = |network: &str, role| (network.to_owned(), role);
        RoleRules::read([rule("10.0.1.0/24", Role::Origin), rule("10.0.2.0/24", Role::Edge)]).unwrap()
    }

    fn origins<'a>(view: &'a ClusterView, health: &Health) -> Vec<&'a AmsNode> {
        nodes_of(view, health, &rules(), Role::Origin)
    }

    #[test]
    fn the_less_loaded_of_two_takes_a_publish_until_it_is_charged_enough() {
        let view = view(&[("10.0.1.1", "30"), ("10.0.1.2", "41"), ("10.0.2.1", "0"), ("10.0.9.1", "0")]);
        let origins = origins(&view, &Health::default());
        let (charges, now, mut rng) = (Charges::default(), clock::now(), rand::rng());
        let place = |now| {
            let node = less_loaded(&origins, &charges, now, &mut rng.clone()).unwrap();
            charges.charge(&node.id, now);
            node.id.to_string()
        };
        let placed: Vec<String> = (0..5).map(|_| place(now)).collect();
        assert_eq!(placed, ["ams-10.0.1.1", "ams-10.0.1.1", "ams-10.0.1.1", "ams-10.0.1.2", "ams-10.0.1.1"]);
        assert_eq!(place(now + CHARGED_FOR), "ams-10.0.1.1", "by then the node says it itself");
        assert_eq!(charges.0.lock().unwrap().len(), 1);
        assert!(less_loaded(&[], &charges, now, &mut rng).is_none());
    }

    #[test]
    fn probes_outrank_documents_and_a_node_without_a_role_gets_nothing() {
        let view = view(&[("10.0.1.1", "0"), ("10.0.1.2", "0"), ("10.0.9.1", "0")]);
        let down: NodeId = "ams-10.0.1.1".parse().unwrap();
        let health = Health::default().after([(down.clone(), false)]).after([(down.clone(), false)]);
        let ids: Vec<&str> = origins(&view, &health).iter().map(|n| n.id.as_str()).collect();
        assert_eq!(ids, ["ams-10.0.1.2"]);
        let late = ClusterView { read_at: NOW.plus(Duration::from_secs(60)), ..view };
        assert!(origins(&late, &Health::default()).is_empty());
        let answers = Health::default().after([(down, true)]);
        assert_eq!(origins(&late, &answers).len(), 1, "it answers, however late its document");
    }

    #[test]
    fn a_viewer_stays_with_its_node() {
        let view = view(&[("10.0.1.1", "0"), ("10.0.1.2", "0"), ("10.0.1.3", "0")]);
        let first = |viewer: &str| by_viewer(origins(&view, &Health::default()), viewer)[0].id.clone();
        let all: std::collections::HashSet<NodeId> = (0..50).map(|v| first(&format!("v{v}"))).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(first("v1"), first("v1"));
    }
}
