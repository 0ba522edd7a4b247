//! AMS's own nodes and their live streams, as they are known: read every two seconds, and never written. A
//! node of ours is told from one of theirs by its mirror's `_id`, which is known whatever others saved there.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::broadcast::STALE_AFTER;
use super::cluster_node::{is_mirrored, mirror_id};
use super::{AmsDocuments, Broadcast, ClusterNode};
use crate::clock::UnixMs;
use crate::ids::{AppName, Epoch, NodeId, StreamKey};
use crate::node::NodeRecord;
use crate::store::{ClusterStore, StoreError};
use crate::view::{ClusterView, SharedView};

/// Where AMS's nodes serve HTTP on the internal network.
const HTTP: u16 = 5080;
/// Where they take publishers.
const RTMP: u16 = 1935;

/// How often their documents are read. They write every 5 and 10 s.
const READ_EVERY: Duration = Duration::from_secs(2);
/// A document that nobody has written for so long is of a node that is no more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// What is known of them.
#[derive(Debug, Clone, Default)]
pub struct AmsView {
    /// Their nodes.
    pub nodes: HashMap<NodeId, AmsNode>,
    /// The streams that those have.
    pub streams: HashMap<StreamKey, AmsStream>,
}

/// The AMS view that is current.
pub type SharedAmsView = Arc<ArcSwap<AmsView>>;

/// A node of theirs.
#[derive(Debug, Clone, PartialEq)]
pub struct AmsNode {
    /// What it is called here: `ams-10.0.1.5`.
    pub id: NodeId,
    /// Its address.
    pub ip: IpAddr,
    /// What it wrote.
    pub document: ClusterNode,
}

impl AmsNode {
    /// Where it serves HTTP.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        SocketAddr::new(self.ip, HTTP)
    }

    /// Where it takes publishers.
    #[must_use]
    pub fn rtmp(&self) -> SocketAddr {
        SocketAddr::new(self.ip, RTMP)
    }
}

/// A live stream of theirs.
#[derive(Debug, Clone, PartialEq)]
pub struct AmsStream {
    /// The node that has it.
    pub node: NodeId,
    /// When its publish began: the same name published again is another run, whose files have the same names.
    pub run: Epoch,
    /// What its node wrote.
    pub broadcast: Broadcast,
}

impl AmsView {
    /// An empty one, shared.
    #[must_use]
    pub fn shared() -> SharedAmsView {
        Arc::new(ArcSwap::from_pointee(Self::default()))
    }

    /// The view of what was read at `now`, the database's time, in a cluster whose own nodes are `ours`.
    pub fn new<'a>(
        nodes: Vec<ClusterNode>,
        ours: impl Iterator<Item = &'a NodeRecord>,
        streams: Vec<(AppName, Broadcast)>,
        now: UnixMs,
    ) -> Self {
        let nodes = theirs(nodes, ours, now);
        let by_ip: HashMap<IpAddr, &NodeId> = nodes.values().map(|n| (n.ip, &n.id)).collect();
        let stream = |(app, broadcast): (AppName, Broadcast)| {
            let key = StreamKey { app, stream: broadcast.stream_id.parse().ok()? };
            let ip: IpAddr = broadcast.origin_adress.as_deref()?.trim().parse().ok()?;
            let node = (*by_ip.get(&ip)?).clone();
            let run = Epoch(broadcast.start_time.or(broadcast.date).unwrap_or(0));
            broadcast.is_live(now).then_some((key, AmsStream { node, run, broadcast }))
        };
        let streams = streams.into_iter().filter_map(stream).collect();
        Self { nodes, streams }
    }

    /// A stream and the node that has it.
    #[must_use]
    pub fn stream(&self, key: &StreamKey) -> Option<(&AmsStream, &AmsNode)> {
        let stream = self.streams.get(key)?;
        Some((stream, self.nodes.get(&stream.node)?))
    }
}

fn theirs<'a>(
    documents: Vec<ClusterNode>,
    ours: impl Iterator<Item = &'a NodeRecord>,
    now: UnixMs,
) -> HashMap<NodeId, AmsNode> {
    let mirrors: HashSet<String> = ours.filter(|n| is_mirrored(n)).map(mirror_id).collect();
    let is_theirs = |document: &ClusterNode| {
        let recent = document.last_update_time.is_some_and(|at| UnixMs(at).age(now) < FORGOTTEN_AFTER);
        document.sluicegate_node.is_none() && !mirrors.contains(&document.id) && recent
    };
    let node = |document: ClusterNode| {
        let ip = document.address()?;
        // A name has no colons.
        let id: NodeId = format!("ams-{}", ip.to_string().replace(':', "-")).parse().ok()?;
        Some((id.clone(), AmsNode { id, ip, document }))
    };
    documents.into_iter().filter(is_theirs).filter_map(node).collect()
}

/// Reads them and swaps views in, until cancelled. Ends at once with a store that AMS does not share. `own` is
/// what is known of this cluster's nodes: before it is, mirrors of them could be taken for AMS's.
pub async fn follow(
    store: Arc<dyn ClusterStore>,
    own: SharedView,
    apps: Vec<AppName>,
    view: SharedAmsView,
    stop: CancellationToken,
) {
    let Some(ams) = store.ams() else { return };
    let mut ticks = tokio::time::interval(READ_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let seen = own.load_full();
        if !seen.is_ready() {
            continue;
        }
        match read(store.as_ref(), &seen, ams, &apps).await {
            Ok(next) => {
                view.store(Arc::new(next));
                failing = false;
            }
            Err(error) if !failing => {
                tracing::warn!(%error, "AMS's documents cannot be read; what is known of its nodes stays");
                failing = true;
            }
            Err(_) => {}
        }
    }
}

async fn read(
    store: &dyn ClusterStore,
    seen: &ClusterView,
    ams: &dyn AmsDocuments,
    apps: &[AppName],
) -> Result<AmsView, StoreError> {
    let (now, nodes) = tokio::try_join!(store.now(), ams.cluster_nodes())?;
    let ours = || seen.nodes.values().map(AsRef::as_ref);
    let found = AmsView::new(nodes.clone(), ours(), Vec::new(), now);
    if found.nodes.is_empty() {
        // Without nodes of theirs there are no streams of theirs, and nothing is read in vain.
        return Ok(found);
    }
    let mut streams = Vec::new();
    let since = UnixMs(now.0.saturating_sub(i64::try_from(STALE_AFTER.as_millis()).unwrap_or(0)));
    for app in apps {
        streams.extend(ams.live_broadcasts(app, since).await?.into_iter().map(|b| (app.clone(), b)));
    }
    Ok(AmsView::new(nodes, ours(), streams, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::node;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn document(id: &str, ip: &str, age_s: i64) -> ClusterNode {
        ClusterNode {
            id: id.to_owned(),
            ip: Some(ip.to_owned()),
            last_update_time: Some(NOW.0 - age_s * 1_000),
            ..ClusterNode::default()
        }
    }

    fn live(stream: &str, origin: &str) -> (AppName, Broadcast) {
        let broadcast = Broadcast {
            stream_id: stream.to_owned(),
            status: Some("broadcasting".to_owned()),
            origin_adress: Some(origin.to_owned()),
            update_time: Some(NOW.0 - 3_000),
            start_time: Some(NOW.0 - 60_000),
            ..Broadcast::default()
        };
        ("live".parse().unwrap(), broadcast)
    }

    #[test]
    fn a_mirror_of_ours_is_no_node_of_theirs_even_when_ams_saved_over_it() {
        let ours = node("edge-1", NOW);
        let saved_over = document(&mirror_id(&ours), "127.0.0.1", 1);
        let marked = ClusterNode::of(&node("edge-2", NOW), Duration::ZERO);
        let documents = vec![saved_over, marked, document("10.0.1.5", "10.0.1.5", 1)];
        let view = AmsView::new(documents, [&ours].into_iter(), Vec::new(), NOW);
        let ids: Vec<&str> = view.nodes.keys().map(NodeId::as_str).collect();
        assert_eq!(ids, ["ams-10.0.1.5"]);
        assert_eq!(view.nodes[&"ams-10.0.1.5".parse().unwrap()].rtmp(), "10.0.1.5:1935".parse().unwrap());
    }

    #[test]
    fn a_late_node_is_kept_to_be_probed_and_one_that_is_no_more_is_forgotten() {
        let documents = vec![document("a", "10.0.1.5", 120), document("b", "fd00::5", 4_000)];
        let view = AmsView::new(documents, std::iter::empty(), Vec::new(), NOW);
        assert_eq!(view.nodes.len(), 1);
        assert!(!view.nodes.values().any(|n| n.document.is_alive(NOW)));
    }

    #[test]
    fn streams_belong_to_the_node_of_their_address() {
        let documents = vec![document("a", "10.0.1.5", 1)];
        let mut stale = live("stale", "10.0.1.5");
        stale.1.update_time = Some(NOW.0 - 20_000);
        let streams =
            vec![live("cam1", "10.0.1.5"), live("lost", "10.0.9.9"), live("a b", "10.0.1.5"), stale];
        let view = AmsView::new(documents, std::iter::empty(), streams, NOW);
        assert_eq!(view.streams.len(), 1, "{:?}", view.streams);
        let (stream, node) = view.stream(&"live/cam1".parse().unwrap()).unwrap();
        assert_eq!((stream.run, node.http()), (Epoch(NOW.0 - 60_000), "10.0.1.5:5080".parse().unwrap()));
    }
}
