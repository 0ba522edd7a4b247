//! What a node knows of the cluster: one immutable [`ClusterView`], made anew twice a second by
//! [`follow`] and swapped in. Whoever decides reads one view and nothing else, so the store is on nobody's
//! path, and when it is gone the last view goes on serving and says how old it is.
//!
//! What is read grows with what changes ([`Reader`]): neither heartbeats nor the figures of streams are changes.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::ams::peers::AmsView;
use crate::clock::UnixMs;
use crate::ids::{Epoch, Incarnation, NodeId, StreamKey};
use crate::limits;
use crate::node::{NodeRecord, NodeState};
use crate::plausible;
use crate::store::{NodeRead, StreamPage, UnreadableDocument};
use crate::stream::{StreamFigures, StreamRecord};

mod attention;
mod follow;
mod reader;
mod streams;

pub use attention::Attention;
pub use follow::{Following, OwnFigures, follow};
pub use reader::Reader;
pub use streams::Streams;

/// The view that is current: load it once per decision.
pub type SharedView = Arc<ArcSwap<ClusterView>>;

/// What was known of the cluster at one moment.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    /// The nodes.
    pub nodes: Arc<HashMap<NodeId, Arc<NodeRecord>>>,
    /// Nodes whose documents cannot be understood.
    pub unreadable: Arc<[UnreadableDocument]>,
    /// Streams whose documents cannot be understood, and why. What was known of them before goes on counting.
    pub unreadable_streams: Arc<BTreeMap<StreamKey, String>>,
    /// The streams, live and ended.
    pub streams: Arc<Streams>,
    /// Claims that the store does not have, as their origins tell them ([`crate::hints`]).
    pub hinted: Arc<HashMap<StreamKey, Arc<StreamRecord>>>,
    /// AMS's own nodes and their streams.
    pub ams: Arc<AmsView>,
    /// The store's time when this was read; `UnixMs(0)` before the first reading.
    pub read_at: UnixMs,
    /// When that was, by this machine's monotonic clock.
    pub read_instant: Option<Instant>,
    /// The store's time when the nodes' heartbeats and load were read: those of other nodes say how it was then.
    pub loads_at: UnixMs,
    /// When figures of other nodes' streams were last read, by this machine's monotonic clock.
    pub figures_at: Option<Instant>,
    /// Whether the last reading worked.
    pub store_ok: bool,
}

/// Where a stream comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The origin.
    pub node: NodeId,
    /// The run of its process that holds the claim.
    pub incarnation: Incarnation,
    /// Its `node.http`.
    pub http: SocketAddr,
    /// The claim; with AMS's nodes, the run of the publish.
    pub epoch: Epoch,
    /// Whether it is AMS's own: it is told nothing of this cluster, and names its files by its own rules.
    pub is_ams: bool,
}

impl ClusterView {
    /// An empty one, shared.
    #[must_use]
    pub fn shared() -> SharedView {
        Arc::new(ArcSwap::from_pointee(Self::default()))
    }

    /// The store's time at `now`, carried on from the last reading.
    #[must_use]
    pub fn now(&self, now: Instant) -> UnixMs {
        let passed = self.read_instant.map_or(Duration::ZERO, |read| now.saturating_duration_since(read));
        self.read_at.plus(passed)
    }

    /// Whether anything has been read yet.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.read_at != UnixMs::default()
    }

    /// What is known of a stream: what the store has of it, or a hint of a higher epoch.
    #[must_use]
    pub fn stream(&self, key: &StreamKey) -> Option<&Arc<StreamRecord>> {
        self.hint(key).or_else(|| self.streams.get(key))
    }

    /// What is known of a stream by a hint only: the store has nothing of it, or of an earlier claim.
    #[must_use]
    pub fn hint(&self, key: &StreamKey) -> Option<&Arc<StreamRecord>> {
        let hint = self.hinted.get(key)?;
        let stored = self.streams.get(key);
        stored.is_none_or(|stored| stored.epoch < hint.epoch).then_some(hint)
    }

    /// All streams, each once, as [`ClusterView::stream`] knows it.
    pub fn all_streams(&self) -> impl Iterator<Item = &Arc<StreamRecord>> {
        let stored = self.streams.values().filter(|s| self.hint(&s.key).is_none());
        stored.chain(self.hinted.keys().filter_map(|key| self.hint(key)))
    }

    /// A stream's origin: the one that holds it, AMS's own if it is there, or the last, which serves the end of
    /// it for a while. `None` when the stream never was, or that run of the origin is no more.
    #[must_use]
    pub fn upstream(&self, key: &StreamKey) -> Option<Upstream> {
        if self.is_ams(key) { self.ams_upstream(key) } else { self.own_upstream(key) }
    }

    /// Whether a stream comes from one of AMS's own nodes: it is there, and none of ours has it live.
    #[must_use]
    pub fn is_ams(&self, key: &StreamKey) -> bool {
        let is_ours = || self.stream(key).is_some_and(|s| s.is_live() && self.owner_of(s).is_some());
        self.ams.stream(key).is_some() && !is_ours()
    }

    fn ams_upstream(&self, key: &StreamKey) -> Option<Upstream> {
        let (stream, node) = self.ams.stream(key)?;
        let incarnation = stream.run.to_string().as_str().into();
        let (node, http) = (node.id.clone(), node.http());
        Some(Upstream { node, incarnation, http, epoch: stream.run, is_ams: true })
    }

    fn own_upstream(&self, key: &StreamKey) -> Option<Upstream> {
        self.origin_of(self.stream(key)?)
    }

    /// The origin that holds a stream by this record of it, which may be newer than the view's.
    pub(crate) fn origin_of(&self, record: &StreamRecord) -> Option<Upstream> {
        let (owner, node) = (&record.owner, self.owner_of(record)?);
        Some(Upstream {
            node: owner.node.clone(),
            incarnation: owner.incarnation.clone(),
            http: node.addresses.http,
            epoch: record.epoch,
            is_ams: false,
        })
    }

    /// The node whose claim `stream` is, while that run of it is known.
    pub(crate) fn owner_of(&self, stream: &StreamRecord) -> Option<&Arc<NodeRecord>> {
        let owner = &stream.owner;
        self.nodes.get(&owner.node).filter(|n| n.incarnation == owner.incarnation)
    }

    /// Whether `stream` has an origin that lives: the run of it that made the claim, not found dead. One that
    /// has not may still be served from there: a claim decides who may take a stream, not whether it plays.
    #[must_use]
    pub fn is_live(&self, stream: &StreamRecord) -> bool {
        stream.is_live() && self.owner_of(stream).is_some_and(|n| n.state != NodeState::Gone)
    }

    /// Whether `node`, as it was read, lives: its heartbeat was recent when heartbeats were read.
    #[must_use]
    pub fn lives(&self, node: &NodeRecord) -> bool {
        node.is_alive(self.loads_at)
    }

    /// The view after a reading at `now` (store's time) of all nodes and of the streams that changed.
    #[must_use]
    pub fn fold(&self, reads: Vec<NodeRead>, changed: Vec<StreamRecord>, now: UnixMs) -> Self {
        self.after(News { nodes: NodesRead::All(reads), streams: changed, ..News::at(now) })
    }

    /// The view after a reading.
    #[must_use]
    pub fn after(&self, news: News) -> Self {
        let unreadable_streams = fold_unreadable(&self.unreadable_streams, &news);
        let (nodes, unreadable, loads_at) = match news.nodes {
            NodesRead::All(reads) => {
                let (nodes, unreadable) = fold_nodes(HashMap::with_capacity(reads.len()), Vec::new(), reads);
                (Arc::new(nodes), unreadable.into(), news.now)
            }
            NodesRead::Changed(reads) if reads.is_empty() => {
                (Arc::clone(&self.nodes), Arc::clone(&self.unreadable), self.loads_at)
            }
            NodesRead::Changed(reads) => {
                let (nodes, unreadable) =
                    fold_nodes(HashMap::clone(&self.nodes), self.unreadable.to_vec(), reads);
                (Arc::new(nodes), unreadable.into(), self.loads_at)
            }
        };
        let streams = fold_streams(&self.streams, news.streams, news.now);
        Self {
            nodes,
            unreadable,
            unreadable_streams,
            streams: fold_figures(streams, &news.figures),
            hinted: Arc::clone(&self.hinted),
            ams: Arc::clone(&self.ams),
            read_at: news.now,
            read_instant: self.read_instant,
            loads_at,
            figures_at: self.figures_at,
            store_ok: true,
        }
    }

    fn without_store(&self) -> Self {
        Self { store_ok: false, ..self.clone() }
    }

    /// The view with figures that are known without the store.
    fn with_figures(&self, figures: &[StreamFigures]) -> Self {
        Self { streams: fold_figures(Arc::clone(&self.streams), figures), ..self.clone() }
    }
}

/// What one reading of the store brought.
#[derive(Debug)]
pub struct News {
    /// Nodes.
    pub nodes: NodesRead,
    /// Streams that changed.
    pub streams: Vec<StreamRecord>,
    /// Streams that changed and cannot be understood.
    pub unreadable: Vec<UnreadableDocument>,
    /// Figures of streams.
    pub figures: Vec<StreamFigures>,
    /// The store's time when it was read.
    pub now: UnixMs,
}

/// Nodes as read.
#[derive(Debug)]
pub enum NodesRead {
    /// All that there are.
    All(Vec<NodeRead>),
    /// Those that changed, and maybe others.
    Changed(Vec<NodeRead>),
}

impl News {
    /// Nothing new at `now`, the store's time.
    #[must_use]
    pub fn at(now: UnixMs) -> Self {
        let (streams, unreadable) = (Vec::new(), Vec::new());
        Self { nodes: NodesRead::Changed(Vec::new()), streams, unreadable, figures: Vec::new(), now }
    }

    /// What was read at `now`, the store's time, from documents that may say anything: those that cannot be true
    /// are told apart.
    #[must_use]
    pub fn read(nodes: NodesRead, page: StreamPage, figures: Vec<StreamFigures>, now: UnixMs) -> Self {
        let unreadable =
            |id: String, why: plausible::Implausible| UnreadableDocument { id, why: why.to_string() };
        let check = |reads: Vec<NodeRead>| -> Vec<NodeRead> {
            let check = |node: NodeRecord| match plausible::node(&node, now) {
                Ok(()) => Ok(node),
                Err(why) => Err(unreadable(node.id.to_string(), why)),
            };
            reads.into_iter().map(|read| read.and_then(check)).collect()
        };
        let nodes = match nodes {
            NodesRead::All(reads) => NodesRead::All(check(reads)),
            NodesRead::Changed(reads) => NodesRead::Changed(check(reads)),
        };
        let mut news = Self { nodes, unreadable: page.unreadable, figures, ..Self::at(now) };
        news.figures.retain(|figures| plausible::figures(figures, now).is_ok());
        for stream in page.streams {
            match plausible::stream(&stream, now) {
                Ok(()) => news.streams.push(stream),
                Err(why) => news.unreadable.push(unreadable(stream.key.to_string(), why)),
            }
        }
        news
    }
}

type Nodes = HashMap<NodeId, Arc<NodeRecord>>;

/// `nodes` with `reads` folded in. A node is readable or not, never both.
fn fold_nodes(
    mut nodes: Nodes,
    mut unreadable: Vec<UnreadableDocument>,
    reads: Vec<NodeRead>,
) -> (Nodes, Vec<UnreadableDocument>) {
    for read in reads {
        let id = read.as_ref().map_or_else(|bad| bad.id.as_str(), |node| node.id.as_str());
        unreadable.retain(|known| known.id != id);
        match read {
            Ok(node) => drop(nodes.insert(node.id.clone(), Arc::new(node))),
            Err(bad) => {
                nodes.retain(|id, _| id.as_str() != bad.id);
                unreadable.push(bad);
            }
        }
    }
    (nodes, unreadable)
}

/// Unreadable streams that are told of. Beyond it they are only left out.
const UNREADABLE_TOLD_MAX: usize = 1_000;

/// The unreadable streams after `news`: each is readable or not. Those whose `_id` is no stream's are nobody's.
fn fold_unreadable(
    known: &Arc<BTreeMap<StreamKey, String>>,
    news: &News,
) -> Arc<BTreeMap<StreamKey, String>> {
    let mut told = Arc::clone(known);
    for stream in news.streams.iter().filter(|_| !known.is_empty()) {
        if told.contains_key(&stream.key) {
            Arc::make_mut(&mut told).remove(&stream.key);
        }
    }
    for bad in &news.unreadable {
        let Ok(key) = bad.id.parse::<StreamKey>() else { continue };
        if told.get(&key) != Some(&bad.why) && (told.len() < UNREADABLE_TOLD_MAX || told.contains_key(&key)) {
            tracing::warn!(stream = %key, why = bad.why, "a stream's document cannot be read");
            Arc::make_mut(&mut told).insert(key, bad.why.clone());
        }
    }
    told
}

/// The streams with `changed` folded in. An older epoch never replaces a newer one; those that ended long
/// ago are forgotten here, not in the store.
fn fold_streams(known: &Arc<Streams>, changed: Vec<StreamRecord>, now: UnixMs) -> Arc<Streams> {
    let is_news = |new: &StreamRecord| {
        known.get(&new.key).is_none_or(|old| {
            (new.epoch, new.changed) > (old.epoch, old.changed) || (new.epoch == old.epoch && *new != **old)
        })
    };
    let news: Vec<StreamRecord> = changed.into_iter().filter(is_news).collect();
    if news.is_empty() {
        return Arc::clone(known);
    }
    let mut streams = Streams::clone(known);
    streams.sweep(|s| s.is_live() || s.notes.is_some() || s.changed.age(now) < limits::ENDED_KNOWN);
    for record in news {
        if streams.len() < limits::STREAMS_KNOWN || streams.contains_key(&record.key) {
            streams.put(record);
        }
    }
    Arc::new(streams)
}

/// The streams with figures folded in, as far as these are of the present claim and newer.
fn fold_figures(mut known: Arc<Streams>, figures: &[StreamFigures]) -> Arc<Streams> {
    let is_news = |new: &&StreamFigures| {
        known
            .get(&new.key)
            .is_some_and(|old| old.is_live() && old.epoch == new.epoch && new.sequence_at > old.sequence_at)
    };
    let news: Vec<&StreamFigures> = figures.iter().filter(is_news).collect();
    if news.is_empty() {
        return known;
    }
    let streams = Arc::make_mut(&mut known);
    for figures in news {
        if let Some(record) = streams.get_mut(&figures.key) {
            record.sequence_at = figures.sequence_at;
            record.bitrate_bps = figures.bitrate_bps;
            record.viewers = figures.viewers;
            record.webrtc_viewers = figures.webrtc_viewers;
            record.ladder.clone_from(&figures.ladder);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, stream_held_by};

    const NOW: UnixMs = UnixMs(1_000_000);

    fn view_of(nodes: &[&str], streams: Vec<StreamRecord>) -> ClusterView {
        let nodes = nodes.iter().map(|id| Ok(node(id, NOW))).collect();
        ClusterView::default().fold(nodes, streams, NOW)
    }

    #[test]
    fn a_live_stream_has_an_upstream() {
        let view = view_of(&["o1"], vec![stream_held_by("live/a", "o1", "s", NOW)]);
        assert_eq!(view.upstream(&"live/a".parse().unwrap()).unwrap().node.as_str(), "o1");
        assert_eq!(view.upstream(&"live/b".parse().unwrap()), None);
    }

    #[test]
    fn a_restarted_origin_has_not_the_streams_of_its_last_run() {
        let mut view = view_of(&[], vec![stream_held_by("live/a", "o1", "s", NOW)]);
        let restarted = NodeRecord { incarnation: "o1-2".into(), ..node("o1", NOW) };
        view = view.fold(vec![Ok(restarted)], Vec::new(), NOW);
        assert_eq!(view.upstream(&"live/a".parse().unwrap()), None);
    }

    #[test]
    fn an_older_epoch_never_replaces_a_newer_one() {
        let newer = StreamRecord { epoch: Epoch(9), ..stream_held_by("live/a", "o2", "s", NOW) };
        let older = StreamRecord { epoch: Epoch(8), ..stream_held_by("live/a", "o1", "s", NOW) };
        let view = view_of(&["o1", "o2"], vec![newer]).fold(Vec::new(), vec![older], NOW);
        assert_eq!(view.streams.get(&"live/a".parse().unwrap()).unwrap().epoch, Epoch(9));
    }

    #[test]
    fn reading_the_same_again_copies_nothing() {
        let record = stream_held_by("live/a", "o1", "s", NOW);
        let view = view_of(&["o1"], vec![record.clone()]);
        let again = view.fold(Vec::new(), vec![record], NOW);
        assert!(Arc::ptr_eq(&view.streams, &again.streams));
    }

    #[test]
    fn figures_are_folded_in_under_the_claim_they_are_of() {
        let live = stream_held_by("live/a", "o1", "s", NOW);
        let view = view_of(&["o1"], vec![live.clone()]);
        let figures = |epoch, at_ms, viewers| StreamFigures {
            epoch,
            sequence_at: UnixMs(NOW.0 + at_ms),
            viewers,
            ..StreamFigures::from(&live)
        };
        let after = |view: &ClusterView, figures| {
            view.after(News { figures: vec![figures], ..News::at(NOW) })
                .streams
                .get(&live.key)
                .unwrap()
                .viewers
        };
        assert_eq!(after(&view, figures(live.epoch, 5, 7)), 7);
        assert_eq!(after(&view, figures(Epoch(live.epoch.0 - 1), 5, 7)), 0, "another claim's");
        assert_eq!(after(&view, figures(live.epoch, 0, 7)), 0, "no newer than what is known");
        let changed = StreamRecord { epoch: Epoch(live.epoch.0 + 1), ..live.clone() };
        let later = view.with_figures(&[figures(live.epoch, 5, 7)]).fold(Vec::new(), vec![changed], NOW);
        assert_eq!(later.streams.get(&live.key).unwrap().viewers, 0);
    }

    #[test]
    fn nodes_that_changed_leave_the_others_as_they_were() {
        let view = view_of(&["o1", "o2"], Vec::new());
        let later = UnixMs(NOW.0 + 30_000);
        let drained = NodeRecord { state: NodeState::Draining, ..node("o1", later) };
        let bad = UnreadableDocument { id: "o2".to_owned(), why: "state".to_owned() };
        let reads = NodesRead::Changed(vec![Ok(drained), Err(bad)]);
        let after = view.after(News { nodes: reads, ..News::at(later) });
        assert_eq!(after.nodes[&"o1".parse().unwrap()].state, NodeState::Draining);
        assert_eq!((after.nodes.len(), after.unreadable.len()), (1, 1));
        let mended = NodesRead::Changed(vec![Ok(node("o2", later))]);
        let after = after.after(News { nodes: mended, ..News::at(later) });
        assert_eq!((after.nodes.len(), after.unreadable.len()), (2, 0));
        assert!(after.nodes.values().all(|n| after.lives(n)), "heartbeats are as old as their reading");
    }

    fn read(nodes: Vec<NodeRead>, streams: Vec<StreamRecord>) -> News {
        let page = StreamPage { streams, ..StreamPage::default() };
        News::read(NodesRead::All(nodes), page, Vec::new(), NOW)
    }

    #[test]
    fn absurd_figures_are_passed_over() {
        let live = stream_held_by("live/a", "o1", "s", NOW);
        let view = view_of(&["o1"], vec![live.clone()]);
        let later = UnixMs(NOW.0 + 1_000);
        let figures = |viewers| StreamFigures { viewers, sequence_at: later, ..StreamFigures::from(&live) };
        let news = |viewers| {
            News::read(NodesRead::Changed(Vec::new()), StreamPage::default(), vec![figures(viewers)], later)
        };
        assert_eq!(view.after(news(1 << 60)).streams.get(&live.key).unwrap().viewers, 0);
        assert_eq!(view.after(news(7)).streams.get(&live.key).unwrap().viewers, 7);
    }

    #[test]
    fn a_document_that_cannot_be_true_hides_no_other_and_what_was_known_goes_on() {
        let good = stream_held_by("live/a", "o1", "s", NOW);
        let view = view_of(&["o1"], vec![good.clone()]);
        let absurd = StreamRecord { viewers: 1 << 60, epoch: Epoch(NOW.0 + 1), ..good.clone() };
        let other = stream_held_by("live/b", "o1", "s", NOW);
        let full = NodeRecord { capacity_mpx: f64::NAN, ..node("o2", NOW) };
        let key = good.key.clone();
        let reads = || vec![Ok(node("o1", NOW)), Ok(full.clone())];
        let after = view.after(read(reads(), vec![absurd, other]));
        assert_eq!((after.nodes.len(), after.unreadable[0].id.as_str()), (1, "o2"));
        assert!(after.unreadable[0].why.starts_with("capacityMpx"), "{:?}", after.unreadable);
        assert_eq!(after.streams.get(&good.key).unwrap().epoch, good.epoch);
        assert!(after.upstream(&"live/b".parse().unwrap()).is_some());
        assert!(after.unreadable_streams[&key].starts_with("viewers"), "{:?}", after.unreadable_streams);
        let mended = after.after(read(reads(), vec![good]));
        assert!(mended.unreadable_streams.is_empty());
    }

    proptest::proptest! {
        /// Whatever numbers documents hold, the view is made, the rest of it is there, and nothing decides by them.
        #[test]
        fn arbitrary_documents_never_break_the_view(
            floats in proptest::collection::vec(proptest::num::f64::ANY, 4),
            integers in proptest::collection::vec(proptest::prelude::any::<i64>(), 8),
            counts in proptest::collection::vec(proptest::prelude::any::<u64>(), 4),
            sides in proptest::prelude::any::<(u32, u32)>(),
        ) {
            let mut bad = node("bad", UnixMs(integers[0]));
            (bad.capacity_mpx, bad.free_mpx, bad.load.cpu) = (floats[0], floats[1], floats[2]);
            (bad.rev, bad.serving_since) = (integers[1], UnixMs(integers[2]));
            (bad.load.viewers, bad.load.egress_bps, bad.load.publishes) = (counts[0], counts[1], counts[2]);
            let size = crate::stream::PictureSize { width: sides.0, height: sides.1, fps: floats[3] };
            let stream = StreamRecord {
                epoch: Epoch(integers[3]),
                claims: integers[4],
                sequence: integers[5],
                started_at: UnixMs(integers[6]),
                changed: UnixMs(integers[7]),
                viewers: counts[3],
                size: Some(size),
                ..stream_held_by("live/bad", "o1", "s", NOW)
            };
            let good = stream_held_by("live/good", "o1", "s", NOW);
            let nodes = vec![Ok(node("o1", NOW)), Ok(bad)];
            let view = ClusterView::default().after(read(nodes, vec![stream, good]));
            proptest::prop_assert_eq!(view.nodes.len() + view.unreadable.len(), 2);
            proptest::prop_assert_eq!(view.streams.len() + view.unreadable_streams.len(), 2);
            proptest::prop_assert!(view.upstream(&"live/good".parse().unwrap()).is_some());
            proptest::prop_assert!(view.nodes.values().all(|n| n.free_mpx <= n.capacity_mpx + 1.0));
            let viewers: u64 = view.nodes.values().map(|n| n.load.viewers).sum();
            proptest::prop_assert!(viewers <= 1_000_000_000);
        }
    }
}
