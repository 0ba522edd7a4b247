//! Ninety publishes at twenty a second, over three balancers and sixteen unequal origins.

use std::time::Duration;

use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::storm::{PUBLISHES, Storm};
use sluicegate_e2e::until::until_true;

/// For what the nodes say of their room to be settled: reservations become streams, or are given back.
const SETTLED: Duration = Duration::from_secs(25);
/// For a node to notice that the database is away.
const NOTICED: Duration = Duration::from_secs(8);

#[test]
fn a_storm_of_publishes_is_spread_by_capacity_with_the_store_and_without_it() {
    let storm = Storm::gather();
    let mut publishers = Vec::new();
    let outcome = storm.publish("with", &mut publishers);
    eprintln!("with the store: highest by mean {:.3}: {outcome:?}", outcome.highest_by_mean());
    assert!(outcome.refused.is_empty(), "{outcome:?}");
    assert!(outcome.highest() <= 1.0, "over capacity: {outcome:?}");
    assert!(outcome.highest_by_mean() <= 1.15, "{:.3}: {outcome:?}", outcome.highest_by_mean());
    nothing_is_counted_twice(&storm);

    publishers.drain(..).for_each(RtmpClient::end);
    until_true("the origins are empty again", SETTLED, || free_mpx(&storm) >= capacity_mpx(&storm) - 1e-6);
    storm.relay.get_stuck();
    until_true("the balancers say that the store is away", NOTICED, || {
        storm.balancers.iter().all(|lb| lb.cluster()["store_ok"] == false)
    });
    let outcome = storm.publish("without", &mut publishers);
    eprintln!("without the store: highest by mean {:.3}: {outcome:?}", outcome.highest_by_mean());
    assert!(outcome.refused.is_empty(), "{outcome:?}");
    assert!(outcome.highest_by_mean() <= 1.5, "{:.3}: {outcome:?}", outcome.highest_by_mean());
    storm.relay.go_on();
    nothing_is_counted_twice(&storm);
    publishers.into_iter().for_each(RtmpClient::end);
}

/// What the nodes' documents say is left is what the streams leave.
fn nothing_is_counted_twice(storm: &Storm) {
    let left = capacity_mpx(storm) - PUBLISHES as f64 * 2.0;
    until_true(&format!("{left} Mpx/s are left"), SETTLED, || (free_mpx(storm) - left).abs() < 1e-6);
}

fn free_mpx(storm: &Storm) -> f64 {
    sum(storm, "free_mpx")
}

fn capacity_mpx(storm: &Storm) -> f64 {
    sum(storm, "capacity_mpx")
}

/// Of all origins, as a balancer read it from the store.
fn sum(storm: &Storm, field: &str) -> f64 {
    let cluster = storm.balancers[0].cluster();
    cluster["nodes"].as_array().unwrap().iter().filter_map(|node| node[field].as_f64()).sum()
}
