//! What is done to the cluster, one harm after another, all by the dice.

use std::sync::Arc;

use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::membership::set_drain;
use sluicegate_cluster::node::{NodeRecord, NodeState};

use crate::balancer::{Balancer, Balancers, Publisher, RAMP};
use crate::node::{Cluster, Shared, ms};
use crate::origin::{LOOK_MS, Origin};
use crate::store::{Link, STORE, Weather};

/// Capacities, Mpx/s: unequal, as machines are.
pub(crate) const ORIGINS: [(&str, f64); 4] =
    [("origin-1", 6.0), ("origin-2", 10.0), ("origin-3", 14.0), ("origin-4", 24.0)];
pub(crate) const BALANCERS: [&str; 3] = ["lb-1", "lb-2", "lb-3"];

/// From everything's being well again to a drain for good, ms.
const DRAINED_AFTER_MS: u64 = 5_000;

/// The origin that comes back again and again: the largest.
const RETURNING: (&str, f64) = ORIGINS[3];
/// What it is away, and what is published as it comes back: so many, one after another, ms.
const AWAY_MS: u64 = 1_500;
const WAVE: u64 = 8;
const WAVE_EVERY_MS: u64 = 200;
/// From one return to the next, ms.
const CALM_MS: u64 = 2_000;

/// Who publishes, and who is meant to.
pub(crate) type Publishers = Shared<Vec<Arc<Publisher>>>;

pub(crate) struct Chaos {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) balancers: Arc<Balancers>,
    pub(crate) publishers: Arc<Publishers>,
    /// Streams that may be published.
    pub(crate) streams: u64,
}

impl Chaos {
    /// Everything runs, and a few publish.
    pub(crate) fn begin(&self) {
        for (id, capacity_mpx) in ORIGINS {
            Origin::start(&self.cluster, id, capacity_mpx);
        }
        for id in BALANCERS {
            self.start_balancer(id);
        }
    }

    fn start_balancer(&self, id: &str) {
        let balancer = Balancer::start(&self.cluster, id);
        self.balancers.lock().insert(id.to_owned(), balancer);
    }

    /// Publishes come and go; a stream may have two publishers at once.
    pub(crate) async fn crowd(self: Arc<Self>, until_ms: u64) {
        let world = &self.cluster.world;
        world.sleep(2_500).await;
        while world.ms() < until_ms {
            self.come_or_go();
            world.sleep(world.between(20, 400)).await;
        }
    }

    fn come_or_go(&self) {
        let world = &self.cluster.world;
        let mut publishers = self.publishers.lock();
        if publishers.len() > 3 && world.chance(25) {
            let at = usize::try_from(world.between(0, publishers.len() as u64 - 1)).unwrap();
            let gone = publishers.swap_remove(at);
            gone.stop();
            return world.note(format!("the publisher of {} ends", gone.key));
        }
        let key = format!("live/s{}", world.between(1, self.streams));
        let taken = publishers.iter().filter(|p| p.key.to_string() == key).count();
        if taken == 0 || (taken == 1 && world.chance(10)) {
            world.note(format!("a publisher of {key} comes"));
            publishers.push(Publisher::start(&self.cluster, &self.balancers, &key));
        }
    }

    pub(crate) async fn harm(self: Arc<Self>, until_ms: u64) {
        let world = &self.cluster.world;
        world.sleep(5_000).await;
        while world.ms() < until_ms {
            self.harm_something();
            world.sleep(world.between(300, 2_500)).await;
        }
    }

    /// One origin comes back again and again, once all have taken work for long enough, and each time many publish.
    pub(crate) async fn return_often(self: Arc<Self>, until_ms: u64) {
        let (world, (id, capacity_mpx)) = (&self.cluster.world, RETURNING);
        world.sleep(ms(RAMP) + CALM_MS).await;
        let node: NodeId = id.parse().unwrap();
        for round in 0.. {
            if world.ms() >= until_ms {
                return;
            }
            let died = world.unix();
            self.crash_origin(id, capacity_mpx, AWAY_MS);
            let is_back = |node: NodeRecord| node.state == NodeState::Serving && node.serving_since > died;
            while !self.cluster.database.node(&node).is_some_and(is_back) {
                world.sleep(LOOK_MS).await;
            }
            let mut wave = Vec::new();
            for at in 0..WAVE {
                let key = format!("live/wave{round}-{at}");
                wave.push(Publisher::start(&self.cluster, &self.balancers, &key));
                world.sleep(WAVE_EVERY_MS).await;
            }
            world.sleep(CALM_MS).await;
            wave.iter().for_each(|publisher| publisher.stop());
            world.sleep(CALM_MS).await;
        }
    }

    fn harm_something(&self) {
        let world = self.cluster.world.clone();
        let (origin, capacity_mpx) = world.pick(&ORIGINS);
        let lb = world.pick(&BALANCERS);
        let for_ms = world.between(500, 9_000);
        match world.between(0, 10) {
            0 | 1 => self.crash_origin(origin, capacity_mpx, for_ms),
            2 => self.crash_balancer(lb, for_ms),
            3 => {
                world.note(format!("{origin} hangs for {for_ms} ms"));
                world.freeze(origin, for_ms);
            }
            4 => {
                world.note(format!("{lb} hangs for {for_ms} ms"));
                world.freeze(lb, for_ms);
            }
            5 => {
                let who = world.pick(&[origin, lb]);
                world.note(format!("{who} is cut off from the store for {for_ms} ms"));
                world.cut(who, STORE, for_ms);
            }
            6 => {
                world.note(format!("{lb} and {origin} are cut off from each other for {for_ms} ms"));
                world.cut(lb, origin, for_ms);
            }
            7 | 8 => self.drain_for_a_while(origin, for_ms),
            _ => self.change_weather(for_ms),
        }
    }

    fn crash_origin(&self, id: &'static str, capacity_mpx: f64, for_ms: u64) {
        if self.cluster.run_of(id).is_none() {
            return;
        }
        self.cluster.world.note(format!("{id} dies for {for_ms} ms"));
        self.cluster.crash(id);
        let cluster = Arc::clone(&self.cluster);
        self.cluster.world.spawn("", async move {
            cluster.world.sleep(for_ms).await;
            cluster.world.note(format!("{id} starts again"));
            Origin::start(&cluster, id, capacity_mpx);
        });
    }

    fn crash_balancer(&self, id: &'static str, for_ms: u64) {
        if self.cluster.run_of(id).is_none() {
            return;
        }
        self.cluster.world.note(format!("{id} dies for {for_ms} ms"));
        self.cluster.crash(id);
        self.balancers.lock().remove(id);
        let (cluster, balancers) = (Arc::clone(&self.cluster), Arc::clone(&self.balancers));
        self.cluster.world.spawn("", async move {
            cluster.world.sleep(for_ms).await;
            cluster.world.note(format!("{id} starts again"));
            let balancer = Balancer::start(&cluster, id);
            balancers.lock().insert(id.to_owned(), balancer);
        });
    }

    fn drain_for_a_while(&self, id: &'static str, for_ms: u64) {
        let (cluster, operator) = (Arc::clone(&self.cluster), self.cluster.link("operator"));
        self.cluster.world.spawn("", async move {
            let id: NodeId = id.parse().unwrap();
            // An order that is not confirmed may be obeyed all the same.
            let ordered = set_drain(operator.as_ref(), &id, true).await.is_ok();
            cluster.world.note(format!("{id} is drained for {for_ms} ms: {ordered}"));
            cluster.world.sleep(for_ms).await;
            order(&cluster, operator.as_ref(), &id, false).await;
        });
    }

    /// Drains an origin, and leaves it so.
    pub(crate) async fn drain_for_good(self: Arc<Self>, id: &'static str) {
        let operator = self.cluster.link("operator");
        // Orders of before have been carried out by then.
        self.cluster.world.sleep(DRAINED_AFTER_MS).await;
        order(&self.cluster, operator.as_ref(), &id.parse().unwrap(), true).await;
    }

    fn change_weather(&self, for_ms: u64) {
        let world = &self.cluster.world;
        let weather = world.pick(&[Weather::Stopped, Weather::Hung, Weather::Slow, Weather::Muddled]);
        world.note(format!("the store is {weather:?} for {for_ms} ms"));
        self.cluster.database.set_weather(weather);
        let cluster = Arc::clone(&self.cluster);
        self.cluster.world.spawn("", async move {
            cluster.world.sleep(for_ms).await;
            cluster.database.set_weather(Weather::Fine);
        });
    }
}

/// Orders until it is so. A node that is gone is asked again: it may come back as it was.
async fn order(cluster: &Cluster, operator: &Link, id: &NodeId, drain: bool) {
    while let Err(error) = set_drain(operator, id, drain).await {
        cluster.world.note(format!("{id} is not told to drain ({drain}): {error}"));
        cluster.world.sleep(1_000).await;
    }
    cluster.world.note(format!("{id} is told to drain ({drain})"));
}
