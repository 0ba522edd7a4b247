//! How long `sluicegate standalone` takes until it is ready.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluicegate_cluster::clock;
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeConfig, START};

use crate::Run;
use crate::figure::Figure;
use crate::stats::{median, ms};

/// What it may take.
const AIM_MS: f64 = 1_000.0;
/// Starts; the median counts.
const STARTS: usize = 5;
/// Between two looks: a small part of what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(2);

pub(super) fn measure(_: &Run) -> anyhow::Result<Vec<Figure>> {
    let took = (0..STARTS).map(|_| start()).collect::<anyhow::Result<Vec<f64>>>()?;
    let median = median(&took).context("nothing was started")?;
    Ok(vec![Figure::new("start_to_ready_ms", median).at_most(AIM_MS)])
}

fn start() -> anyhow::Result<f64> {
    let began = clock::now();
    let node = NodeConfig::standalone().launch();
    let url = node.admin_url("/readyz");
    while !http::try_get(&url).is_ok_and(|answer| answer.status == 200) {
        ensure!(began.elapsed() < START, "it is not ready after {START:?}");
        thread::park_timeout(LOOK_EVERY);
    }
    Ok(ms(began.elapsed()))
}
