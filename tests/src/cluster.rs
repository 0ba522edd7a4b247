//! A cluster: a balancer, an edge and origins as processes of their own, with MongoDB between them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::mongo::TestMongo;
use crate::node::{NodeConfig, NodeProcess, START};
use crate::store_relay::StoreRelay;
use crate::until::until_true;

/// The cluster's key.
pub const KEY: &str = "only-for-tests-0123456789";

/// A cluster that takes work. Its nodes are asked to end when this is dropped.
pub struct Cluster {
    /// The balancer, `lb-1`.
    pub lb: NodeProcess,
    /// The edge, `edge-1`.
    pub edge: NodeProcess,
    /// The origins, `origin-1` and so on.
    pub origins: Vec<NodeProcess>,
    mongo: TestMongo,
    uri: String,
    /// All clusters have the same database, which is one server where `SLUICEGATE_TEST_MONGODB` names it.
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts a cluster with an origin for each of `capacities_mpx`, and waits until all know each other.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    #[must_use]
    pub fn start(capacities_mpx: &[u32]) -> Self {
        Self::start_set(capacities_mpx, &[])
    }

    /// Starts one whose nodes all have these lines in their sections besides.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    #[must_use]
    pub fn start_set(capacities_mpx: &[u32], lines: &[(&'static str, &str)]) -> Self {
        let (mongo, alone) = database_alone();
        let uri = mongo.uri().to_owned();
        Self::start_with(&uri, mongo, alone, capacities_mpx, lines)
    }

    /// Starts one whose nodes reach their database through a relay, which the test may close.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    #[must_use]
    pub fn start_behind_a_relay(capacities_mpx: &[u32]) -> (StoreRelay, Self) {
        let (mongo, alone) = database_alone();
        let relay = StoreRelay::to(mongo.uri());
        relay.open();
        let cluster = Self::start_with(&relay.uri(), mongo, alone, capacities_mpx, &[]);
        (relay, cluster)
    }

    #[track_caller]
    fn start_with(
        uri: &str,
        mongo: TestMongo,
        alone: MutexGuard<'static, ()>,
        capacities_mpx: &[u32],
        lines: &[(&'static str, &str)],
    ) -> Self {
        let node = |role, id: &str| {
            let node = NodeConfig::role(role, id, uri, KEY);
            lines.iter().fold(node, |node, (section, line)| node.set(section, line))
        };
        let origins = capacities_mpx.iter().enumerate().map(|(index, mpx)| {
            node("origin", &format!("origin-{}", index + 1))
                .set("origin", &format!("capacity_mpx = {mpx}"))
                .launch()
        });
        let mut cluster = Self {
            origins: origins.collect(),
            lb: node("lb", "lb-1").launch(),
            edge: node("edge", "edge-1").launch(),
            mongo,
            uri: uri.to_owned(),
            _alone: alone,
        };
        cluster.nodes().for_each(NodeProcess::wait_until_ready);
        let known = capacities_mpx.len() + 2;
        until_true("the balancer knows all nodes", START, || {
            let nodes = cluster.lb.cluster()["nodes"].clone();
            nodes.as_array().is_some_and(|n| n.iter().filter(|n| n["state"] == "serving").count() == known)
        });
        cluster.lb.wait_for_an_edge();
        cluster
    }

    /// Starts one more node, and waits until the balancer knows it.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    #[must_use]
    pub fn join(&self, role: &'static str, id: &str) -> NodeProcess {
        self.join_by(&self.uri, role, id)
    }

    /// The same for a node that reaches the database at `uri`.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    #[must_use]
    pub fn join_by(&self, uri: &str, role: &'static str, id: &str) -> NodeProcess {
        let mut node = NodeConfig::role(role, id, uri, KEY).launch();
        node.wait_until_ready();
        until_true(&format!("the balancer knows {id}"), START, || {
            self.lb.node(id).is_some_and(|node| node["state"] == "serving")
        });
        node
    }

    /// The origin of this id.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn origin(&self, id: &str) -> &NodeProcess {
        self.origins.iter().find(|origin| origin.id() == id).unwrap_or_else(|| panic!("no origin {id}"))
    }

    /// The same, to do something to it.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn origin_mut(&mut self, id: &str) -> &mut NodeProcess {
        self.origins.iter_mut().find(|origin| origin.id() == id).unwrap_or_else(|| panic!("no origin {id}"))
    }

    /// Where its database is, `mongodb://…`.
    #[must_use]
    pub fn database(&self) -> &str {
        self.mongo.uri()
    }

    fn nodes(&mut self) -> impl Iterator<Item = &mut NodeProcess> {
        [&mut self.lb, &mut self.edge].into_iter().chain(&mut self.origins)
    }
}

/// A database, and the turn to use it: for a cluster, or for a node that is started by itself.
///
/// # Panics
/// When there is none.
pub fn database_alone() -> (TestMongo, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (TestMongo::start().unwrap_or_else(|error| panic!("{error:#}")), alone)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let asked: Vec<&mut NodeProcess> = self.nodes().filter_map(|n| n.ask_to_end().then_some(n)).collect();
        if thread::panicking() {
            return;
        }
        for node in asked {
            let status = node.wait_for_its_end();
            assert!(status.success(), "{} did not end well: {status}", node.id());
        }
    }
}
