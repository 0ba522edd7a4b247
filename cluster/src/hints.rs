//! Claims that the store does not have, as their origins told them. Balancers hear of them when they probe origins
//! ([`crate::report`]); edges hear of them from balancers, with the requests for those streams. They become part of
//! the view, below what the store says: a stored claim of the same or a higher epoch is the one that counts.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};

use crate::ids::{Epoch, NodeId, StreamKey};
use crate::stream::StreamRecord;
use crate::view::{ClusterView, SharedView};

/// The header by which a balancer tells a node of a claim. Only what comes with a token of the cluster is believed.
pub const HEADER: &str = "sluicegate-claim";

/// How long a hint is good that nobody repeats: longer than any player waits between two requests.
const KEPT: Duration = Duration::from_secs(30);
/// Hints at once. Beyond it new ones are not taken.
const HINTS_MAX: usize = 10_000;

/// The value of [`HEADER`] that tells of `claim`.
#[must_use]
pub fn header(claim: &StreamRecord) -> Option<HeaderValue> {
    HeaderValue::try_from(serde_json::to_string(claim).ok()?).ok()
}

/// The claim on `key` that a node's request tells of. The caller has checked that it comes from a node.
#[must_use]
pub fn told_in(headers: &HeaderMap, key: &StreamKey) -> Option<StreamRecord> {
    let claim: StreamRecord = serde_json::from_slice(headers.get(HEADER)?.as_bytes()).ok()?;
    (claim.key == *key).then_some(claim)
}

/// The hints of this process, and the view that they are part of. Whoever writes the view does so through this, so
/// that no hint is lost between two writers.
pub struct Hints {
    view: SharedView,
    told: Mutex<HashMap<StreamKey, Hint>>,
}

struct Hint {
    claim: Arc<StreamRecord>,
    at: Instant,
}

impl Hints {
    /// None yet, for `view`.
    #[must_use]
    pub fn of(view: SharedView) -> Arc<Self> {
        Arc::new(Self { view, told: Mutex::default() })
    }

    /// The view that they are part of.
    #[must_use]
    pub fn view(&self) -> &SharedView {
        &self.view
    }

    /// What origins say at `now`: each names all claims that it has and the store has not.
    pub fn told_by_origins(&self, origins: Vec<(NodeId, Vec<StreamRecord>)>, now: Instant) {
        let mut told = self.lock();
        let mut changed = false;
        for (node, claims) in origins {
            let named: HashSet<&StreamKey> = claims.iter().map(|claim| &claim.key).collect();
            let before = told.len();
            told.retain(|key, hint| hint.claim.owner.node != node || named.contains(key));
            changed |= told.len() != before;
            for claim in claims {
                changed |= take(&mut told, claim, now, |old, new| old != new);
            }
        }
        if changed {
            self.publish(&told, ClusterView::clone(&self.view.load()));
        }
    }

    /// A balancer tells of a claim at `now`, with a request for its stream.
    pub fn told(&self, claim: StreamRecord, now: Instant) {
        let mut told = self.lock();
        let is_news = |old: &StreamRecord, new: &StreamRecord| {
            (old.epoch, &old.owner, old.is_live(), &old.renditions)
                != (new.epoch, &new.owner, new.is_live(), &new.renditions)
        };
        if take(&mut told, claim, now, is_news) {
            self.publish(&told, ClusterView::clone(&self.view.load()));
        }
    }

    /// What plays by a hint proves it: it stays.
    pub fn keep(&self, key: &StreamKey, now: Instant) {
        if let Some(hint) = self.lock().get_mut(key) {
            hint.at = now;
        }
    }

    /// Swaps in the `next` view at `now`, without the hints that are old or that it has outrun.
    pub fn swap_in(&self, next: ClusterView, now: Instant) {
        let mut told = self.lock();
        told.retain(|key, hint| {
            let stored = next.streams.get(key);
            now.saturating_duration_since(hint.at) < KEPT && stored.is_none_or(|s| s.epoch < hint.claim.epoch)
        });
        self.publish(&told, next);
    }

    fn publish(&self, told: &HashMap<StreamKey, Hint>, next: ClusterView) {
        let hinted = told.iter().map(|(key, hint)| (key.clone(), Arc::clone(&hint.claim))).collect();
        self.view.store(Arc::new(ClusterView { hinted: Arc::new(hinted), ..next }));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamKey, Hint>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a claim in unless a higher one is known: the higher epoch wins, and of equal ones the later name. Whether
/// that `is_news`.
fn take(
    told: &mut HashMap<StreamKey, Hint>,
    claim: StreamRecord,
    now: Instant,
    is_news: impl Fn(&StreamRecord, &StreamRecord) -> bool,
) -> bool {
    let room = told.len() < HINTS_MAX;
    match told.get_mut(&claim.key) {
        Some(known) if rank(&known.claim) > rank(&claim) => false,
        Some(known) => {
            known.at = now;
            let news = is_news(&known.claim, &claim);
            if news {
                known.claim = Arc::new(claim);
            }
            news
        }
        None => {
            if room {
                told.insert(claim.key.clone(), Hint { claim: Arc::new(claim), at: now });
            }
            room
        }
    }
}

fn rank(claim: &StreamRecord) -> (Epoch, &NodeId) {
    (claim.epoch, &claim.owner.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{self, UnixMs};
    use crate::testing::{node, stream_held_by};

    const NOW: UnixMs = UnixMs(1_000_000);

    fn key() -> StreamKey {
        "live/a".parse().unwrap()
    }

    fn claim(node: &str, epoch: i64) -> StreamRecord {
        StreamRecord { epoch: Epoch(epoch), ..stream_held_by("live/a", node, "", NOW) }
    }

    /// Hints of a view that knows two origins, and `stored` streams.
    fn hints(stored: Vec<StreamRecord>) -> Arc<Hints> {
        let view = ClusterView::shared();
        let nodes = ["o1", "o2"].map(|id| Ok(node(id, NOW))).to_vec();
        view.store(Arc::new(ClusterView::default().fold(nodes, stored, NOW)));
        Hints::of(view)
    }

    #[track_caller]
    fn check(hints: &Hints, upstream: Option<(&str, i64)>) {
        let found = hints.view().load().upstream(&key());
        assert_eq!(found.as_ref().map(|u| (u.node.as_str(), u.epoch.0)), upstream);
    }

    #[test]
    fn a_hint_counts_until_the_store_knows_as_much() {
        let (hints, now) = (hints(vec![claim("o2", 5)]), clock::now());
        hints.told(claim("o1", 5), now);
        check(&hints, Some(("o2", 5)));
        hints.told(claim("o1", 7), now);
        check(&hints, Some(("o1", 7)));
        assert!(hints.view().load().hint(&key()).is_some());
        let stored = |claim| hints.view().load().fold(Vec::new(), vec![claim], NOW);
        let nodes = |view: ClusterView| ClusterView { nodes: Arc::clone(&hints.view().load().nodes), ..view };
        hints.swap_in(nodes(stored(claim("o2", 6))), now);
        check(&hints, Some(("o1", 7)));
        hints.swap_in(nodes(stored(claim("o2", 7))), now);
        check(&hints, Some(("o2", 7)));
        assert!(hints.view().load().hinted.is_empty(), "it is forgotten");
    }

    #[test]
    fn a_lower_epoch_never_takes_the_place_of_a_higher_one() {
        let (hints, now) = (hints(Vec::new()), clock::now());
        hints.told(claim("o1", 7), now);
        hints.told(claim("o2", 6), now);
        check(&hints, Some(("o1", 7)));
        hints.told_by_origins(vec![("o2".parse().unwrap(), vec![claim("o2", 6)])], now);
        check(&hints, Some(("o1", 7)));
        hints.told(claim("o2", 8), now);
        check(&hints, Some(("o2", 8)));
    }

    #[test]
    fn an_origin_takes_its_word_back_and_what_nobody_repeats_is_forgotten() {
        let (hints, now) = (hints(Vec::new()), clock::now());
        let word = |claims| vec![("o1".parse().unwrap(), claims)];
        hints.told_by_origins(word(vec![claim("o1", 7)]), now);
        check(&hints, Some(("o1", 7)));
        hints.told_by_origins(word(Vec::new()), now);
        check(&hints, None);
        hints.told(claim("o1", 7), now);
        hints.keep(&key(), now + KEPT / 2);
        let same = || ClusterView::clone(&hints.view().load());
        hints.swap_in(same(), now + KEPT);
        check(&hints, Some(("o1", 7)));
        hints.swap_in(same(), now + KEPT * 2);
        check(&hints, None);
    }

    #[test]
    fn a_claim_by_a_run_or_a_node_that_nobody_knows_leads_nowhere() {
        let (hints, now) = (hints(Vec::new()), clock::now());
        hints.told(claim("o9", 7), now);
        check(&hints, None);
    }

    #[test]
    fn hints_are_bounded() {
        let (hints, now) = (hints(Vec::new()), clock::now());
        let many = (0..=HINTS_MAX).map(|n| stream_held_by(&format!("live/s{n}"), "o1", "", NOW));
        hints.told_by_origins(vec![("o1".parse().unwrap(), many.collect())], now);
        assert_eq!(hints.view().load().hinted.len(), HINTS_MAX);
    }

    #[test]
    fn a_header_tells_of_its_own_stream_only() {
        let mut headers = HeaderMap::new();
        assert_eq!(told_in(&headers, &key()), None);
        headers.insert(HEADER, header(&claim("o1", 7)).unwrap());
        assert_eq!(told_in(&headers, &key()), Some(claim("o1", 7)));
        assert_eq!(told_in(&headers, &"live/b".parse().unwrap()), None);
        for bad in ["", "{}", "o1 7"] {
            headers.insert(HEADER, HeaderValue::from_static(bad));
            assert_eq!(told_in(&headers, &key()), None, "{bad}");
        }
    }
}
