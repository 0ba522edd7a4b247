//! Viewers onto edges: consistent hashing with bounded loads, worked out once per snapshot rather than per
//! request. Each stream's demand fills the edges in the order that the hash gives them, none beyond
//! 1 + [`SLACK`] of its fair share; so few edges carry each stream, hot streams spill, and a viewer stays
//! with its edge from request to request.

use std::collections::HashMap;
use std::net::SocketAddr;

use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::node::{NodeRecord, Role};

use super::{SlowStart, hash};

/// How far above its fair share an edge may be loaded.
pub(super) const SLACK: f64 = 0.25;

/// An edge that takes viewers.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeSeat {
    /// The node.
    pub node: NodeId,
    /// Its `node.http`.
    pub http: SocketAddr,
}

/// Which edges serve which stream, until the next snapshot.
#[derive(Debug, Clone, Default)]
pub struct ViewerTable {
    edges: Vec<EdgeSeat>,
    /// Each edge's part of the viewers against that of others, above 0 and up to 1.
    weights: Vec<f64>,
    /// For streams in demand: edges and the cumulated share of viewers, up to 1.
    shares: HashMap<StreamKey, Vec<(usize, f64)>>,
}

impl ViewerTable {
    /// The table for `demand` (any unit) over the edges among `nodes`, which all take work; newcomers among
    /// them by and by. Edges of `group` are used while there are any.
    pub fn new<'a>(
        nodes: impl Iterator<Item = &'a NodeRecord>,
        group: &str,
        demand: &HashMap<StreamKey, f64>,
        slow_start: SlowStart,
    ) -> Self {
        let mut serving: Vec<&NodeRecord> = nodes.filter(|n| n.has(Role::Edge)).collect();
        if serving.iter().any(|n| n.group == group) {
            serving.retain(|n| n.group == group);
        }
        serving.sort_by(|a, b| a.id.cmp(&b.id));
        let seat = |n: &&NodeRecord| EdgeSeat { node: n.id.clone(), http: n.addresses.http };
        let (edges, weights) = (serving.iter().map(seat).collect(), slow_start.shares(&serving));
        let mut table = Self { edges, weights, shares: HashMap::new() };
        table.assign(demand);
        table
    }

    /// The edges for one viewer of `key`, the best first: the one of its share, then, should that fail, the
    /// others in the hash's order.
    pub fn place(&self, key: &StreamKey, viewer: &str) -> impl Iterator<Item = &EdgeSeat> + use<'_> {
        let first = self.share_of(key, viewer);
        let mut order = self.by_score(key);
        if let Some(first) = first
            && let Some(at) = order.iter().position(|e| *e == first)
        {
            order.remove(at);
            order.insert(0, first);
        }
        order.into_iter().filter_map(|index| self.edges.get(index))
    }

    /// The first of [`ViewerTable::place`].
    pub fn best(&self, key: &StreamKey, viewer: &str) -> Option<&EdgeSeat> {
        let best = self.share_of(key, viewer).or_else(|| {
            let scored = self.scored(key);
            // Of equal ones the first, as in the order of all.
            scored.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, index)| index)
        });
        self.edges.get(best?)
    }

    /// The edges there are.
    #[must_use]
    pub fn edges(&self) -> &[EdgeSeat] {
        &self.edges
    }

    /// The edges' indices, highest score first.
    fn by_score(&self, key: &StreamKey) -> Vec<usize> {
        let mut scored: Vec<(f64, usize)> = self.scored(key).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().map(|(_, index)| index).collect()
    }

    fn scored(&self, key: &StreamKey) -> impl Iterator<Item = (f64, usize)> {
        let weighted = self.edges.iter().zip(&self.weights).enumerate();
        weighted.map(move |(index, (edge, weight))| (hash::score(key, edge.node.as_str(), *weight), index))
    }

    fn assign(&mut self, demand: &HashMap<StreamKey, f64>) {
        let total: f64 = demand.values().sum();
        if total <= 0.0 || self.edges.is_empty() {
            return;
        }
        let weights: f64 = self.weights.iter().sum();
        let mut room: Vec<f64> = self.weights.iter().map(|w| (1.0 + SLACK) * total * w / weights).collect();
        let mut streams: Vec<(&StreamKey, f64)> = demand.iter().map(|(k, d)| (k, *d)).collect();
        // Every balancer must go through them alike.
        streams.sort_by_key(|(key, _)| *key);
        let shares = streams
            .into_iter()
            .map(|(key, wanted)| (key.clone(), shares(&self.by_score(key), &mut room, wanted)));
        self.shares = shares.collect();
    }

    fn share_of(&self, key: &StreamKey, viewer: &str) -> Option<usize> {
        let shares = self.shares.get(key).filter(|s| !s.is_empty())?;
        let point = hash::unit(&(viewer, key));
        shares.iter().find(|(_, upto)| point < *upto).or_else(|| shares.last()).map(|(edge, _)| *edge)
    }
}

/// Fills `wanted` into the edges of `order`, and gives the cumulated shares.
fn shares(order: &[usize], room: &mut [f64], wanted: f64) -> Vec<(usize, f64)> {
    let mut left = wanted;
    let mut shares = Vec::new();
    for &edge in order {
        let Some(free) = room.get_mut(edge) else { continue };
        let part = left.min(*free);
        if part > 0.0 {
            *free -= part;
            left -= part;
            shares.push((edge, 1.0 - left / wanted));
        }
        if left <= wanted * 1e-9 {
            break;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock::UnixMs;

    use super::*;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn nodes(count: usize) -> Vec<NodeRecord> {
        (0..count).map(|n| sluicegate_cluster::testing::node(&format!("e{n}"), NOW)).collect()
    }

    fn table(nodes: &[NodeRecord], demand: &[(&str, f64)]) -> ViewerTable {
        let demand = demand.iter().map(|(k, d)| (k.parse().unwrap(), *d)).collect();
        table_at(NOW, nodes, &demand)
    }

    fn table_at(now: UnixMs, nodes: &[NodeRecord], demand: &HashMap<StreamKey, f64>) -> ViewerTable {
        let slow_start = SlowStart { now, ramp: std::time::Duration::from_secs(30) };
        ViewerTable::new(nodes.iter(), "default", demand, slow_start)
    }

    #[test]
    fn an_edge_that_joins_wins_streams_by_and_by_and_others_lose_none_to_each_other() {
        let mut nodes = nodes(4);
        nodes[3].serving_since = NOW;
        let streams: Vec<String> = (0..1_000).map(|s| format!("live/s{s}")).collect();
        let at = |seconds: u64| {
            let table = table_at(NOW.plus(std::time::Duration::from_secs(seconds)), &nodes, &HashMap::new());
            streams.iter().map(|key| first(&table, key, "v")).collect::<Vec<_>>()
        };
        let mut before = at(0);
        let mut won = Vec::new();
        for seconds in [0, 10, 20, 30] {
            let now = at(seconds);
            assert!(now.iter().zip(&before).all(|(now, before)| now == before || now == "e3"));
            won.push(now.iter().filter(|edge| *edge == "e3").count());
            before = now;
        }
        // A tenth of a quarter, or thereabouts, at first; a quarter at last.
        assert!((10..70).contains(&won[0]) && won.is_sorted() && (200..300).contains(&won[3]), "{won:?}");
    }

    #[test]
    fn an_edge_that_joins_is_bounded_by_its_share_of_a_hot_stream() {
        let mut nodes = nodes(2);
        nodes[1].serving_since = NOW;
        let demand = HashMap::from([("live/hot".parse().unwrap(), 100.0)]);
        let table = table_at(NOW.plus(std::time::Duration::from_secs(15)), &nodes, &demand);
        let on_newcomer = (0..1_000).filter(|v| first(&table, "live/hot", &format!("v{v}")) == "e1").count();
        // Half a share beside a whole one is a third, and a quarter above that.
        assert!(on_newcomer <= 460, "{on_newcomer}");
    }

    fn first(table: &ViewerTable, key: &str, viewer: &str) -> String {
        let key = key.parse().unwrap();
        let first = table.place(&key, viewer).next().unwrap();
        assert_eq!(table.best(&key, viewer), Some(first));
        first.node.to_string()
    }

    #[test]
    fn a_quiet_stream_stays_on_one_edge() {
        let nodes = nodes(10);
        let table = table(&nodes, &[]);
        let edge = first(&table, "live/a", "v0");
        assert!((1..50).all(|v| first(&table, "live/a", &format!("v{v}")) == edge));
    }

    #[test]
    fn no_edge_is_loaded_beyond_its_bound_and_a_hot_stream_spills() {
        let nodes = nodes(4);
        let demand: Vec<(String, f64)> =
            (0..40).map(|s| (format!("live/s{s}"), if s == 7 { 400.0 } else { 10.0 })).collect();
        let demand: Vec<(&str, f64)> = demand.iter().map(|(k, d)| (k.as_str(), *d)).collect();
        let table = table(&nodes, &demand);
        let total: f64 = demand.iter().map(|(_, d)| d).sum();
        let mut load: HashMap<String, f64> = HashMap::new();
        for (key, wanted) in &demand {
            for viewer in 0..200 {
                *load.entry(first(&table, key, &format!("v{viewer}"))).or_default() += wanted / 200.0;
            }
        }
        let most = load.values().copied().fold(0.0, f64::max);
        // Viewers are whole, shares are not: a little over the bound is the sampling.
        assert!(most <= (1.0 + SLACK) * total / 4.0 * 1.1, "{load:?}");
        let hot: std::collections::HashSet<String> =
            (0..200).map(|v| first(&table, "live/s7", &format!("v{v}"))).collect();
        assert!(hot.len() > 1, "it spills");
    }

    #[test]
    fn a_viewer_stays_with_its_edge() {
        let nodes = nodes(5);
        let table = table(&nodes, &[("live/a", 100.0)]);
        for viewer in ["v1", "v2", "v3"] {
            assert_eq!(first(&table, "live/a", viewer), first(&table, "live/a", viewer));
        }
    }

    #[test]
    fn an_edge_that_goes_moves_only_its_own_streams() {
        let mut nodes = nodes(10);
        let before = table(&nodes, &[]);
        let lost = nodes.remove(3).id.to_string();
        let after = table(&nodes, &[]);
        for stream in 0..200 {
            let key = format!("live/s{stream}");
            let was = first(&before, &key, "v");
            if was != lost {
                assert_eq!(first(&after, &key, "v"), was);
            }
        }
    }

    #[test]
    fn streams_spread_evenly() {
        let nodes = nodes(4);
        let table = table(&nodes, &[]);
        let mut count: HashMap<String, usize> = HashMap::new();
        for stream in 0..2_000 {
            *count.entry(first(&table, &format!("live/s{stream}"), "v")).or_default() += 1;
        }
        assert!(count.values().all(|c| (400..600).contains(c)), "{count:?}");
    }

    #[test]
    fn the_near_edges_are_used_while_there_are_any() {
        let mut nodes = nodes(3);
        for far in &mut nodes[..2] {
            far.group = "far".to_owned();
        }
        assert!((0..20).all(|s| first(&table(&nodes, &[]), &format!("live/s{s}"), "v") == "e2"));
        nodes.pop();
        assert_ne!(first(&table(&nodes, &[]), "live/a", "v"), "e2");
    }
}
