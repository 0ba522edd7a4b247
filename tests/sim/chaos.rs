//! What is done to the cluster, one harm after another, all by the dice.

use std::sync::Arc;

use crate::balancer::{Balancer, Balancers, Publisher};
use crate::node::{Cluster, Shared};
use crate::origin::Origin;
use crate::store::{STORE, Weather};

/// Capacities, Mpx/s: unequal, as machines are.
pub(crate) const ORIGINS: [(&str, f64); 4] =
    [("origin-1", 6.0), ("origin-2", 10.0), ("origin-3", 14.0), ("origin-4", 24.0)];
pub(crate) const BALANCERS: [&str; 3] = ["lb-1", "lb-2", "lb-3"];

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

    fn harm_something(&self) {
        let world = self.cluster.world.clone();
        let (origin, capacity_mpx) = world.pick(&ORIGINS);
        let lb = world.pick(&BALANCERS);
        let for_ms = world.between(500, 9_000);
        match world.between(0, 8) {
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
