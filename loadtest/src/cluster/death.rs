//! How long a balancer goes on with a node that was killed: the only edge, so that its viewers tell.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluicegate_cluster::clock;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::http;
use sluicegate_e2e::until::until_true;

use crate::Run;
use crate::figure::Figure;
use crate::stats::{ms, percentile};

const KILLS: usize = 50;
const AIM_MS: f64 = 3_000.0;
/// Between two looks: a small part of what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// For the death to be noticed at all, and for the next edge to serve.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a balancer without an edge says.
const NO_EDGE: u16 = 503;

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let mut cluster = Cluster::start(&[100]);
    let kills = if how.quick { 5 } else { KILLS };
    let took = (0..kills).map(|_| kill(&mut cluster)).collect::<anyhow::Result<Vec<f64>>>()?;
    let of = |percent| percentile(&took, percent).context("nothing was killed");
    Ok(vec![
        Figure::new("death_noticed_p50_ms", of(50.0)?),
        Figure::new("death_noticed_p99_ms", of(99.0)?).at_most(AIM_MS),
    ])
}

fn kill(cluster: &mut Cluster) -> anyhow::Result<f64> {
    let page = cluster.lb.url("/live/play.html");
    let began = clock::now();
    cluster.edge.kill();
    while http::try_get(&page).map_or(0, |answer| answer.status) != NO_EDGE {
        ensure!(began.elapsed() < PATIENCE, "it was not noticed within {PATIENCE:?}");
        thread::park_timeout(LOOK_EVERY);
    }
    let noticed = began.elapsed();
    cluster.edge.start_again();
    cluster.edge.wait_until_ready();
    until_true("viewers are served again", PATIENCE, || {
        http::try_get(&page).is_ok_and(|answer| answer.status == 200)
    });
    Ok(ms(noticed))
}
