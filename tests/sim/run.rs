//! One run: harm for a while, then rest, and what must hold after each step and at rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sluicegate_cluster::ids::{Epoch, NodeId, StreamKey};

use crate::balancer::Balancers;
use crate::chaos::{BALANCERS, Chaos, ORIGINS, Publishers};
use crate::node::{COST_MPX, Cluster, Shared};
use crate::origin::{LOOK_MS, Origin};
use crate::store::{STORE, Weather};
use crate::world::{Executor, World};

/// Harm ends then.
const HARM_MS: u64 = 30_000;
/// What was begun by then has an end: the longest harm, and starting again.
const HEALED_MS: u64 = HARM_MS + 10_000;
/// For everything to come to rest: reservations expire, publishers that gave up come back.
const REST_MS: u64 = HEALED_MS + 30_000;
/// For an origin to see that another has its stream: a call that hangs, a reading of the view, a look.
const YIELDS_MS: u64 = 8_000;
/// Lines of what happened that a failure shows.
const LINES_SHOWN: usize = 120;

/// A bug that is planted, to see it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    NoEpochGuard,
    NoRevGuard,
    TakesFromTheLiving,
    NeverYields,
    CountsNothing,
    BuriesTheLiving,
    ComesBackAsItWas,
    DrainedGetWork,
    LeavesFirst,
    NewcomersGetAll,
    OwnClock,
}

/// What a run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) harm: bool,
    /// One origin dies and comes back, again and again, and much new work comes with it.
    pub(crate) returns: bool,
    pub(crate) streams: u64,
    pub(crate) bug: Option<Bug>,
}

impl Plan {
    /// A few streams, and every harm there is.
    pub(crate) const HARM: Self = Self { harm: true, returns: false, streams: 6, bug: None };
    /// More streams than there is room for, and no harm.
    pub(crate) const CROWD: Self = Self { harm: false, returns: false, streams: 40, bug: None };
    /// Origins that are half full, and one that comes back empty.
    pub(crate) const RETURNS: Self = Self { harm: false, returns: true, streams: 10, bug: None };
}

/// A run.
pub(crate) struct Run {
    plan: Plan,
    world: World,
    cluster: Arc<Cluster>,
    chaos: Arc<Chaos>,
    executor: Executor,
    /// Since when an origin could know that another has its stream.
    outdated: BTreeMap<(NodeId, StreamKey, Epoch), u64>,
    looked_ms: u64,
    /// The origin that is drained at rest.
    drained: Option<&'static str>,
}

impl Run {
    pub(crate) fn new(plan: Plan, seed: u64) -> Self {
        let world = World::new(seed);
        let cluster = Cluster::new(world.clone(), plan.bug);
        let balancers: Arc<Balancers> = Arc::new(Shared::new(BTreeMap::new()));
        let publishers: Arc<Publishers> = Arc::new(Shared::new(Vec::new()));
        let chaos =
            Arc::new(Chaos { cluster: Arc::clone(&cluster), balancers, publishers, streams: plan.streams });
        chaos.begin();
        world.spawn("", Arc::clone(&chaos).crowd(HARM_MS));
        if plan.harm {
            world.spawn("", Arc::clone(&chaos).harm(HARM_MS));
        }
        if plan.returns {
            cluster.database.ledger.lock().unwrap().judges_newcomers = true;
            world.spawn("", Arc::clone(&chaos).return_often(HARM_MS));
        }
        let (executor, outdated) = (Executor::default(), BTreeMap::new());
        Self { plan, world, cluster, chaos, executor, outdated, looked_ms: 0, drained: None }
    }

    /// Runs to the end; what happened.
    pub(crate) fn trace(mut self) -> Vec<String> {
        let _ = self.run();
        self.world.trace()
    }

    /// Runs to the end. `Err`: what did not hold, and what had happened.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        self.run().map_err(|why| {
            let trace = self.world.trace();
            let shown = &trace[trace.len().saturating_sub(LINES_SHOWN)..];
            format!("{why}\nat {} ms, after\n{}", self.world.ms(), shown.join("\n"))
        })
    }

    fn run(&mut self) -> Result<(), String> {
        self.run_until(HEALED_MS)?;
        self.world.note("everything is well again");
        self.world.heal();
        self.cluster.database.set_weather(Weather::Fine);
        if self.plan.harm && self.world.chance(50) {
            let (drained, _) = self.world.pick(&ORIGINS);
            self.drained = Some(drained);
            self.world.spawn("", Arc::clone(&self.chaos).drain_for_good(drained));
        }
        self.run_until(REST_MS)?;
        self.check_rest()
    }

    fn run_until(&mut self, end_ms: u64) -> Result<(), String> {
        while self.executor.step(&self.world, end_ms) {
            let broken = self.cluster.database.ledger.lock().unwrap().broken.take();
            if let Some(why) = broken {
                return Err(why);
            }
            let changed = self.cluster.database.changed.swap(false, Ordering::Relaxed);
            // What lasts too long shows when time passes.
            if changed || self.world.ms() >= self.looked_ms + LOOK_MS {
                self.looked_ms = self.world.ms();
                self.check_origins()?;
            }
        }
        Ok(())
    }

    fn check_origins(&mut self) -> Result<(), String> {
        let origins = self.cluster.origins.get();
        let mut outdated = BTreeMap::new();
        for origin in origins.values() {
            let playing = origin.playing();
            let running_mpx = playing.len() as f64 * COST_MPX;
            if !self.plan.harm && running_mpx > origin.capacity_mpx + 1e-6 {
                return Err(format!("{} is over its capacity: {running_mpx} Mpx/s", origin.id));
            }
            for playing in playing {
                let claim = &playing.claim;
                let Some(stored) = self.cluster.database.stream(&claim.key) else { continue };
                let ledger = self.cluster.database.ledger.lock().unwrap();
                let same = stored.epoch == claim.epoch && stored.owner.node != origin.id;
                // Without the store, two may make the same epoch; one of them yields then.
                if same && !ledger.was_minted(&claim.key, claim.epoch) {
                    let other = &stored.owner.node;
                    return Err(format!("{}: {other} and {} have the same claim", claim.key, origin.id));
                }
                if stored.supersedes(claim.epoch, &origin.id) && self.hears(origin.id.as_str()) {
                    let id = (origin.id.clone(), claim.key.clone(), claim.epoch);
                    let since = self.outdated.get(&id).copied().unwrap_or(self.looked_ms);
                    outdated.insert(id, since);
                }
            }
        }
        self.outdated = outdated;
        self.check_moves(&origins)?;
        let late = self.outdated.iter().find(|(_, since)| self.looked_ms - **since > YIELDS_MS);
        match late {
            Some(((node, key, epoch), _)) => Err(format!(
                "{node} plays {key} of epoch {epoch} on, though another has it: {:?}",
                self.cluster.database.stream(key)
            )),
            None => Ok(()),
        }
    }

    /// A stream that is moved is left only when the next origin plays it.
    fn check_moves(&self, origins: &BTreeMap<NodeId, Arc<Origin>>) -> Result<(), String> {
        for (key, moving) in self.cluster.moving.get() {
            let plays = |origin: &Arc<Origin>| origin.playing().iter().any(|p| p.claim.key == key);
            if moving.connection.handed_over.get() && !origins.values().any(plays) {
                return Err(format!("{key} plays nowhere while it is moved"));
            }
        }
        Ok(())
    }

    /// Whether a node could hear from the store now.
    fn hears(&self, node: &str) -> bool {
        let fine = self.cluster.database.weather() == Weather::Fine;
        fine && self.world.reaches(node, STORE) && !self.world.is_frozen(node)
    }

    /// At rest: each stream that is wanted plays once, as everyone knows, and nothing else does; room is what it is.
    fn check_rest(&self) -> Result<(), String> {
        let origins = self.cluster.origins.get();
        if origins.len() != ORIGINS.len() || self.chaos.balancers.lock().len() != BALANCERS.len() {
            return Err("not everything runs again".to_owned());
        }
        let mut wanted: Vec<StreamKey> = self.chaos.publishers.lock().iter().map(|p| p.key.clone()).collect();
        wanted.sort();
        wanted.dedup();
        let mut played = Vec::new();
        for origin in origins.values() {
            let playing = origin.playing();
            if self.drained == Some(origin.id.as_str()) && !playing.is_empty() {
                return Err(format!("{} is drained, and {} streams play there", origin.id, playing.len()));
            }
            for playing in &playing {
                self.check_owner(origin.id.as_str(), &playing.claim.key, playing.claim.epoch)?;
                played.push(playing.claim.key.clone());
            }
            let stored = self.cluster.database.node(&origin.id).ok_or("a node without a document")?;
            // An outage lets others use what was reserved: then more is used than there is, and none is free.
            let free_mpx = (origin.capacity_mpx - playing.len() as f64 * COST_MPX).max(0.0);
            let counted = stored.free_mpx + stored.reservations.iter().map(|r| r.mpx).sum::<f64>();
            if (counted - free_mpx).abs() > 1e-6 || stored.incarnation != origin.incarnation() {
                return Err(format!("{} has {free_mpx} Mpx/s of room, and says {stored:?}", origin.id));
            }
        }
        played.sort();
        // A crowd is more than there is room for.
        let missing = wanted.iter().find(|key| !played.contains(key)).filter(|_| self.plan.harm);
        let extra = played.iter().find(|key| !wanted.contains(key));
        match missing.or(extra) {
            Some(key) => Err(format!(
                "{key} does not play though it should, or does though it should not: {wanted:?}, {played:?}"
            )),
            None => Ok(()),
        }
    }

    fn check_owner(&self, node: &str, key: &StreamKey, epoch: Epoch) -> Result<(), String> {
        let stored = self.cluster.database.stream(key);
        let owns = |s: &sluicegate_cluster::stream::StreamRecord| {
            s.owner.node.as_str() == node && s.epoch == epoch && s.is_live()
        };
        if !stored.as_ref().is_some_and(owns) {
            return Err(format!("{key} plays on {node} under epoch {epoch}, and the store has {stored:?}"));
        }
        for (id, balancer) in self.chaos.balancers.get() {
            let view = balancer.view();
            if !view.streams.get(key).is_some_and(|s| owns(s)) {
                return Err(format!(
                    "{id} does not know that {key} is on {node}: {:?}",
                    view.streams.get(key)
                ));
            }
        }
        Ok(())
    }
}
