//! What becomes of ladders on machines that can carry so much of them.

use proptest::prelude::*;
use sluicegate_cluster::clock;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const CALM: Duration = Duration::from_secs(10);
const IDLE: Machine = Machine { is_busy: false, has_room: true };
const BUSY: Machine = Machine { is_busy: true, has_room: true };

fn ladder(name: &str, began: i64, rungs: usize, lag_ms: u64) -> Ladder {
    let key = format!("live/{name}").parse().unwrap();
    Ladder { key, epoch: Epoch(began), began: UnixMs(began), rungs, lag_ms, losses: 0, newest_ms: None }
}

fn key(name: &str) -> StreamKey {
    format!("live/{name}").parse().unwrap()
}

#[test]
fn the_newest_stream_gives_up_first_and_what_was_given_up_last_comes_back_first() {
    let (mut overload, start) = (Overload::new(CALM), clock::now());
    let both = |lag| [ladder("old", 1, 2, lag), ladder("new", 2, 1, lag)];
    assert_eq!(overload.look(&both(LATE_MS), BUSY, start), None, "it may be a burst");
    assert!(overload.is_full(start));
    let mut at = start + SECOND;
    assert_eq!(overload.look(&both(LATE_MS), BUSY, at), Some(Order::GiveUp(key("new"))));
    at += SECOND;
    assert_eq!(overload.look(&both(LATE_MS), BUSY, at), None, "it may be enough");
    at += SETTLING;
    let left = |lag| [ladder("old", 1, 2, lag), ladder("new", 2, 0, lag)];
    assert_eq!(overload.look(&left(LATE_MS), BUSY, at), Some(Order::GiveUp(key("old"))));
    assert_eq!(overload.look(&left(0), BUSY, at + CALM / 2), None);
    let full = Machine { has_room: false, ..BUSY };
    assert_eq!(overload.look(&left(0), full, at + CALM), None);
    assert_eq!(overload.look(&left(0), BUSY, at + CALM), Some(Order::TakeBack(key("old"))));
    assert!(overload.is_full(at + CALM + RECOVERY), "something is still given up");
    assert_eq!(overload.look(&left(0), BUSY, at + CALM + SECOND), None);
    assert_eq!(overload.look(&left(0), BUSY, at + CALM * 2), Some(Order::TakeBack(key("new"))));
    assert!(!overload.is_full(at + CALM * 2));
}

#[test]
fn a_stream_that_is_late_by_itself_fills_no_machine() {
    let (mut overload, now) = (Overload::new(CALM), clock::now());
    let mut all = [ladder("heavy", 1, 1, 0), ladder("light", 2, 1, 0)];
    overload.look(&all, IDLE, now);
    for (looks, expect) in [(1, None), (2, Some(Order::GiveUp(key("heavy"))))] {
        all[0].losses += 1;
        assert_eq!(overload.look(&all, IDLE, now + SECOND * looks), expect);
    }
    assert!(!overload.is_full(now + SECOND * 2));
}

#[test]
fn a_publisher_whose_time_races_costs_nobody_a_rung() {
    let (mut overload, mut now) = (Overload::new(CALM), clock::now());
    let mut all = [ladder("steady", 1, 1, 0), ladder("racing", 2, 1, 2 * LATE_MS)];
    all[1].newest_ms = Some(0);
    overload.look(&all, BUSY, now);
    for look in 1..20 {
        now += SECOND;
        all[1].newest_ms = Some(look * 100_000);
        all[1].losses += 1;
        assert_eq!(overload.look(&all, BUSY, now), None);
    }
    assert!(!overload.is_full(now));
    // At the usual pace it counts as any other.
    let orders = (1..5).map(|look| {
        all[1].newest_ms = Some(2_000_000 + look * 1_000);
        overload.look(&all, BUSY, now + SECOND * look as u32)
    });
    assert!(orders.collect::<Vec<_>>().contains(&Some(Order::GiveUp(key("racing")))));
}

#[test]
fn what_comes_back_too_early_waits_longer_each_time() {
    let (mut overload, mut now) = (Overload::new(CALM), clock::now());
    let mut waits = Vec::new();
    for _ in 0..6 {
        while overload.look(&[ladder("a", 1, 1, LATE_MS)], BUSY, now).is_none() {
            now += SECOND;
        }
        let gave_up_at = now;
        while overload.look(&[ladder("a", 1, 0, 0)], BUSY, now).is_none() {
            now += SECOND;
        }
        waits.push(now.saturating_duration_since(gave_up_at).as_secs());
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300]);
    for _ in 0..TRIAL.as_secs() {
        now += SECOND;
        assert_eq!(overload.look(&[ladder("a", 1, 1, 0)], BUSY, now), None);
    }
    assert_eq!(overload.wait, CALM, "it stayed");
}

#[test]
fn what_an_ended_stream_gave_up_is_forgotten() {
    let (mut overload, now) = (Overload::new(CALM), clock::now());
    overload.look(&[ladder("a", 1, 1, LATE_MS)], BUSY, now);
    assert!(overload.look(&[ladder("a", 1, 1, LATE_MS)], BUSY, now + SECOND).is_some());
    let again = ladder("a", 2, 1, 0);
    assert_eq!(overload.look(&[again], BUSY, now + SECOND * 2), None);
    assert!(!overload.is_full(now + SECOND + RECOVERY));
    assert_eq!(overload.look(&[], BUSY, now + CALM * 2), None);
}

/// Streams on a machine that carries `capacity` rungs: while there are more, all are late.
struct World {
    overload: Overload,
    now: Instant,
    /// Rungs wanted and given up, the oldest stream first.
    streams: Vec<(usize, usize)>,
}

impl World {
    /// One second; what was ordered.
    fn step(&mut self, capacity: usize) -> Option<Order> {
        let made: usize = self.streams.iter().map(|(wanted, given_up)| wanted - given_up).sum();
        let lag_ms = if made > capacity { LATE_MS } else { 0 };
        let looks: Vec<Ladder> = (0_i64..)
            .zip(&self.streams)
            .map(|(n, (wanted, given_up))| ladder(&format!("s{n}"), n, wanted - given_up, lag_ms))
            .collect();
        let order = self.overload.look(&looks, BUSY, self.now);
        self.now += SECOND;
        let place = |wanted: &StreamKey| looks.iter().position(|ladder| ladder.key == *wanted).unwrap();
        match &order {
            Some(Order::GiveUp(key)) => self.streams[place(key)].1 += 1,
            Some(Order::TakeBack(key)) => self.streams[place(key)].1 -= 1,
            None => {}
        }
        order
    }

    fn given_up(&self) -> usize {
        self.streams.iter().map(|(_, given_up)| given_up).sum()
    }
}

proptest! {
    /// Whatever the machine can carry from one time to the next: rungs that are too many are gone within
    /// a bounded time, the newest streams' first, and all are back within a bounded time once there is room.
    #[test]
    fn load_is_shed_in_bounded_time_and_comes_back(
        rungs in proptest::collection::vec(0..4_usize, 1..8),
        capacities in proptest::collection::vec((0..20_usize, 1..120_u64), 1..6),
    ) {
        let mut world = World {
            overload: Overload::new(CALM),
            now: clock::now(),
            streams: rungs.iter().map(|wanted| (*wanted, 0)).collect(),
        };
        let all: usize = rungs.iter().sum();
        for (capacity, seconds) in capacities {
            for _ in 0..seconds {
                world.step(capacity);
                let (wanted, given_up): (Vec<_>, Vec<_>) = world.streams.iter().copied().unzip();
                prop_assert!(wanted.iter().zip(&given_up).all(|(wanted, given_up)| given_up <= wanted));
                // A stream gives up something only when all newer ones have nothing left.
                let oldest = given_up.iter().position(|n| *n > 0).unwrap_or(given_up.len());
                prop_assert!(world.streams.iter().skip(oldest + 1).all(|(wanted, given_up)| wanted == given_up));
            }
        }
        let bound = (SETTLING.as_secs() + 1) * (all as u64 + 1);
        let shed = (0..bound).any(|_| {
            world.step(0);
            world.given_up() == all
        });
        prop_assert!(shed, "nothing can be carried, and {} of {} are given up", world.given_up(), all);
        for _ in 0..(WAIT_MAX.as_secs() + 1) + TRIAL.as_secs() * all as u64 + WAIT_MAX.as_secs() * all as u64 {
            world.step(all);
        }
        prop_assert_eq!(world.given_up(), 0, "all are back");
        prop_assert!(!world.overload.is_full(world.now + RECOVERY));
    }

    /// A machine that carries one rung less than is wanted: the tries to take it back become rare.
    #[test]
    fn what_does_not_fit_is_not_tried_for_ever(fits in 0..6_usize) {
        let mut world = World { overload: Overload::new(CALM), now: clock::now(), streams: vec![(fits + 1, 0)] };
        let tries = (0..3_600).filter(|_| matches!(world.step(fits), Some(Order::TakeBack(_)))).count();
        prop_assert!((1..=17).contains(&tries), "{} tries in an hour", tries);
    }
}
