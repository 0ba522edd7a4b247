//! What happens if a node dies now: who would carry its streams, and do they fit; who would serve its viewers.
//! Decided from what is shown of the cluster, as balancers would place the streams, one after the other.

use serde::{Deserialize, Serialize};

use super::model::{ClusterModel, NodeModel};
use crate::node::Role;
use crate::store::LoadAfter;

/// What would happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Without {
    /// The node that would be gone.
    pub node: String,
    /// Its streams, and who would carry them.
    pub streams: Vec<Carried>,
    /// Whether all of them fit.
    pub fits: bool,
    /// Mpx/s that its streams take, and that the other origins have now.
    pub needed_mpx: f64,
    /// See `needed_mpx`.
    pub free_mpx: f64,
    /// Its viewers.
    pub viewers: u64,
    /// The edges that would serve them.
    pub edges: Vec<String>,
    /// Viewers on each of those then, on the mean.
    pub viewers_per_edge: f64,
}

/// A stream and who would carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// `app/stream`
    pub stream: String,
    /// Its cost, Mpx/s.
    pub mpx: f64,
    /// The origin; none has room when there is none.
    pub by: Option<String>,
    /// What that would have left, Mpx/s.
    pub left_mpx: f64,
}

/// What happens if `node` dies now. `None`: there is no such node.
#[must_use]
pub(super) fn without(cluster: &ClusterModel, node: &str) -> Option<Without> {
    let lost = cluster.nodes.iter().find(|n| n.id == node)?;
    let serving = |role: Role| {
        let takes = move |n: &&NodeModel| n.state == "serving" && n.roles.contains(&role) && n.id != node;
        cluster.nodes.iter().filter(takes)
    };
    let mut room: Vec<Room<'_>> = serving(Role::Origin).map(Room::of).collect();
    let free_mpx = room.iter().fold(0.0, |sum, origin| sum + origin.free_mpx);
    let own: Vec<&str> =
        cluster.streams.iter().filter(|s| s.live && s.origin == node).map(|s| s.key.as_str()).collect();
    // A node says what all of its streams take, not what each does.
    let needed_mpx = if own.is_empty() { 0.0 } else { (lost.capacity_mpx - lost.free_mpx).max(0.0) };
    let mpx = needed_mpx / own.len().max(1) as f64;
    let streams: Vec<Carried> = own.into_iter().map(|stream| carry(stream, mpx, &mut room)).collect();
    let edges: Vec<&NodeModel> = serving(Role::Edge).collect();
    let all_viewers: u64 = edges.iter().map(|e| e.viewers).sum::<u64>() + lost.viewers;
    Some(Without {
        node: node.to_owned(),
        fits: streams.iter().all(|s| s.by.is_some()) && (lost.viewers == 0 || !edges.is_empty()),
        streams,
        needed_mpx,
        free_mpx,
        viewers: lost.viewers,
        viewers_per_edge: all_viewers as f64 / edges.len().max(1) as f64,
        edges: edges.into_iter().map(|e| e.id.clone()).collect(),
    })
}

/// An origin, and what it has left.
struct Room<'a> {
    node: &'a str,
    capacity_mpx: f64,
    free_mpx: f64,
}

impl<'a> Room<'a> {
    fn of(node: &'a NodeModel) -> Self {
        Self { node: &node.id, capacity_mpx: node.capacity_mpx, free_mpx: node.free_mpx }
    }
}

/// The origin that would be the least loaded takes it, as in `take_room`.
fn carry(stream: &str, mpx: f64, room: &mut [Room<'_>]) -> Carried {
    let after = |origin: &Room<'_>| LoadAfter::new(origin.capacity_mpx, origin.free_mpx, mpx);
    let fits = room.iter_mut().filter(|origin| origin.free_mpx >= mpx);
    match fits.min_by(|a, b| after(a).order(&after(b)).then_with(|| a.node.cmp(b.node))) {
        Some(origin) => {
            origin.free_mpx -= mpx;
            let by = Some(origin.node.to_owned());
            Carried { stream: stream.to_owned(), mpx, by, left_mpx: origin.free_mpx }
        }
        None => Carried { stream: stream.to_owned(), mpx, by: None, left_mpx: 0.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::About;
    use crate::ams::roles::RoleRules;
    use crate::clock::UnixMs;
    use crate::node::NodeRecord;
    use crate::testing::{node, stream_held_by};
    use crate::view::ClusterView;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn cluster(free: &[(&str, f64)], streams: usize) -> ClusterModel {
        let nodes = free.iter().map(|(id, free_mpx)| {
            let mut record = NodeRecord { free_mpx: *free_mpx, capacity_mpx: 100.0, ..node(id, NOW) };
            record.load.viewers = 30;
            Ok(record)
        });
        let streams = (0..streams).map(|n| stream_held_by(&format!("live/s{n}"), "o1", "s", NOW)).collect();
        let view = ClusterView::default().fold(nodes.collect(), streams, NOW);
        let about = About {
            cluster: "mongodb",
            node: "lb-1".parse().unwrap(),
            player_base: None,
            ams_roles: RoleRules::default(),
        };
        ClusterModel::new(about, &view, NOW)
    }

    #[test]
    fn its_streams_go_to_the_least_loaded_one_after_the_other() {
        let cluster = cluster(&[("o1", 70.0), ("o2", 25.0), ("o3", 32.0)], 3);
        let without = without(&cluster, "o1").unwrap();
        let by: Vec<_> = without.streams.iter().map(|s| s.by.as_deref().unwrap()).collect();
        assert_eq!((by, without.fits), (vec!["o3", "o2", "o3"], true));
        assert_eq!((without.viewers, without.edges.len()), (30, 2));
        assert!((without.viewers_per_edge - 45.0).abs() < 1e-9 && (without.needed_mpx - 30.0).abs() < 1e-9);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let cluster = cluster(&[("o1", 0.0), ("o2", 60.0)], 2);
        let without = without(&cluster, "o1").unwrap();
        assert_eq!((without.streams[1].by.as_deref(), without.fits), (None, false));
        assert!(super::without(&cluster, "nobody").is_none());
    }
}
