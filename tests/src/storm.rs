//! A storm of publishes: balancers and many unequal origins as real processes, and publishers that all come at
//! once.

use std::net::SocketAddr;
use std::sync::MutexGuard;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{KEY, database_alone};
use crate::metrics;
use crate::mongo::TestMongo;
use crate::node::{NodeConfig, NodeProcess, START};
use crate::rtmp_client::{Refusal, RtmpClient};
use crate::store_relay::StoreRelay;
use crate::until::until_true;

/// Balancers, each with a third of the publishers.
pub const BALANCERS: usize = 3;
/// Origins, no two alike.
pub const ORIGINS: u32 = 16;
/// Publishes of a storm.
pub const PUBLISHES: usize = 90;
/// Between two of them: 20 a second.
const EVERY: Duration = Duration::from_millis(50);
/// What a publish costs: a twelfth of the smallest origin.
const COST_MPX: f64 = 2.0;
/// Origins have 24, 26 and so on to 54 Mpx/s.
const SMALLEST_MPX: u32 = 24;
const STEP_MPX: u32 = 2;
/// For a node to tell what it runs. One that waits for the store does so every few seconds.
const TOLD: Duration = Duration::from_secs(10);

/// A cluster of balancers and origins, without a stream.
pub struct Storm {
    /// Between the nodes and their database.
    pub relay: StoreRelay,
    /// The balancers.
    pub balancers: Vec<NodeProcess>,
    /// The origins.
    pub origins: Vec<NodeProcess>,
    _mongo: TestMongo,
    _alone: MutexGuard<'static, ()>,
}

/// How the load lies when all have been placed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Load by capacity, of each origin.
    pub ratios: Vec<f64>,
    /// Publishes that were refused.
    pub refused: Vec<Refusal>,
}

impl Outcome {
    /// The highest ratio by the mean one.
    #[must_use]
    pub fn highest_by_mean(&self) -> f64 {
        self.highest() * self.ratios.len() as f64 / self.ratios.iter().sum::<f64>()
    }

    /// The highest ratio; above 1 is over capacity.
    #[must_use]
    pub fn highest(&self) -> f64 {
        self.ratios.iter().copied().fold(0.0, f64::max)
    }
}

impl Storm {
    /// Starts all nodes and waits until the balancers know all origins.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    #[must_use]
    pub fn gather() -> Self {
        let (mongo, alone) = database_alone();
        let relay = StoreRelay::to(mongo.uri());
        relay.open();
        let uri = relay.uri();
        let node = |role, id: String| {
            let config = NodeConfig::role(role, &id, &uri, KEY);
            config.set("limits", &format!("stream_floor_mpx = {COST_MPX:.1}\nrtmp_idle_ms = 120000"))
        };
        let origin = |at| {
            let capacity = format!("capacity_mpx = {}", SMALLEST_MPX + STEP_MPX * at);
            node("origin", format!("origin-{at}")).set("origin", &capacity).launch()
        };
        let mut storm = Self {
            origins: (0..ORIGINS).map(origin).collect(),
            balancers: (0..BALANCERS).map(|at| node("lb", format!("lb-{at}")).launch()).collect(),
            relay,
            _mongo: mongo,
            _alone: alone,
        };
        storm.nodes().for_each(NodeProcess::wait_until_ready);
        for balancer in &storm.balancers {
            until_true("a balancer knows all origins and balancers", START, || {
                let nodes = balancer.cluster()["nodes"].clone();
                let serving = |n: &&serde_json::Value| n["state"] == "serving";
                nodes.as_array().is_some_and(|n| n.iter().filter(serving).count() == storm.size())
            });
        }
        storm
    }

    /// Lets the publishers come, as many a second as they do, whether the earlier ones are placed yet or not.
    /// They are held in `publishers`, and send nothing.
    ///
    /// # Panics
    /// When the origins do not come to tell of them.
    #[track_caller]
    pub fn publish(&self, name: &str, publishers: &mut Vec<RtmpClient>) -> Outcome {
        let balancers: Vec<SocketAddr> = self.balancers.iter().map(NodeProcess::rtmp).collect();
        let began = Instant::now();
        let coming: Vec<_> = (0..PUBLISHES)
            .map(|at| {
                let due = began + EVERY * u32::try_from(at).unwrap_or(u32::MAX);
                let (balancer, stream) = (balancers[at % BALANCERS], format!("{name}-{at}"));
                thread::spawn(move || {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    RtmpClient::publish(balancer, "live", &stream)
                })
            })
            .collect();
        let (mut refused, mut placed) = (Vec::new(), 0);
        for publish in coming {
            match publish.join().expect("a publisher's thread") {
                Ok(client) => {
                    placed += 1;
                    publishers.push(client);
                }
                Err(refusal) => refused.push(refusal),
            }
        }
        let streams = || self.told("sluicegate_origin_streams").iter().sum::<f64>() as usize;
        until_true(&format!("the origins tell of {placed} streams"), TOLD, || streams() == placed);
        Outcome { ratios: self.ratios(), refused }
    }

    fn ratios(&self) -> Vec<f64> {
        let (free, capacity) =
            (self.told("sluicegate_origin_free_mpx"), self.told("sluicegate_origin_capacity_mpx"));
        free.iter().zip(capacity).map(|(free, capacity)| (capacity - free) / capacity).collect()
    }

    /// What each origin says of itself, without the store.
    fn told(&self, metric: &str) -> Vec<f64> {
        self.origins.iter().map(|origin| metrics::sum(&origin.metrics(), metric, &[])).collect()
    }

    fn size(&self) -> usize {
        self.balancers.len() + self.origins.len()
    }

    fn nodes(&mut self) -> impl Iterator<Item = &mut NodeProcess> {
        self.balancers.iter_mut().chain(&mut self.origins)
    }
}
