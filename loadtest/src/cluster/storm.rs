//! How a storm of publishes lies on the origins: the highest load by capacity, by the mean one.

use std::time::Duration;

use anyhow::ensure;
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::storm::{Outcome, Storm};
use sluicegate_e2e::until::until_true;

use crate::Run;
use crate::figure::Figure;

const AIM: f64 = 1.15;
const AIM_WITHOUT_STORE: f64 = 1.5;
/// For the nodes to forget the first storm, and to notice that the database is away.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn measure(_: &Run) -> anyhow::Result<Vec<Figure>> {
    let storm = Storm::gather();
    let mut publishers = Vec::new();
    let with = storm.publish("with", &mut publishers);
    publishers.drain(..).for_each(RtmpClient::end);
    until_true("the balancers know that all is free again", PATIENCE, || {
        let nodes = storm.balancers[0].cluster()["nodes"].clone();
        nodes.as_array().is_some_and(|nodes| nodes.iter().all(|n| n["free_mpx"] == n["capacity_mpx"]))
    });
    storm.relay.get_stuck();
    until_true("the balancers say that the store is away", PATIENCE, || {
        storm.balancers.iter().all(|lb| lb.cluster()["store_ok"] == false)
    });
    let without = storm.publish("without", &mut publishers);
    storm.relay.go_on();
    for outcome in [&with, &without] {
        ensure!(outcome.refused.is_empty(), "publishes were refused: {:?}", outcome.refused);
    }
    let figure = |what: &str, outcome: &Outcome, aim| {
        [
            Figure::new(format!("storm_{what}_highest_by_mean"), outcome.highest_by_mean()).at_most(aim),
            Figure::new(format!("storm_{what}_highest_load"), outcome.highest()).at_most(1.0),
        ]
    };
    let with = figure("with_store", &with, AIM);
    Ok(with.into_iter().chain(figure("without_store", &without, AIM_WITHOUT_STORE)).collect())
}
