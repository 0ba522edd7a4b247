//! From the kill of an origin to the first segment of the next one that viewers are told of; the publisher's
//! connection stays all the while.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::until::{timed, until, until_true};
use sluicegate_e2e::viewer::{Viewer, newest_epoch};

use crate::Run;
use crate::figure::Figure;
use crate::stats::{ms, percentile};

const KILLS: usize = 50;
const AIM_MS: f64 = 3_000.0;
/// For the next origin's first segment, and for the killed one to take work again.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let mut cluster = Cluster::start(&[100, 100]);
    let mut publisher = publish(cluster.lb.rtmp(), "live/carried");
    let mut viewer = Viewer::watch(&cluster.lb.url("/live/streams/carried.m3u8"));
    // It is connected by now.
    let sockets = publisher.sockets();
    let kills = if how.quick { 5 } else { KILLS };
    let took: Vec<f64> = (0..kills).map(|_| kill(&mut cluster, &mut viewer)).collect();
    ensure!(publisher.is_running() && publisher.sockets() == sockets, "the publisher had to connect again");
    let of = |percent| percentile(&took, percent).context("nothing was killed");
    Ok(vec![
        Figure::new("carried_over_p50_ms", of(50.0)?).at_most(AIM_MS),
        Figure::new("carried_over_p99_ms", of(99.0)?).at_most(AIM_MS),
    ])
}

fn kill(cluster: &mut Cluster, viewer: &mut Viewer) -> f64 {
    let (owner, epoch) = until("the stream's record", PATIENCE, || {
        let record = cluster.lb.stream("live/carried")?;
        Some((record["origin"].as_str()?.to_owned(), record["epoch"].as_i64()?))
    });
    let (gap, _) = timed(|| {
        cluster.origin_mut(&owner).kill();
        viewer.until("a segment of the next claim", PATIENCE, |p| newest_epoch(p) > epoch)
    });
    let origin = cluster.origin_mut(&owner);
    origin.start_again();
    origin.wait_until_ready();
    let lb = &cluster.lb;
    until_true("the balancer uses it again", PATIENCE, || {
        lb.node(&owner)
            .is_some_and(|n| n["state"] == "serving" && n["heartbeat_age_ms"].as_u64() < Some(2_000))
    });
    let enough = viewer.last_sequence() + 2;
    viewer.until("it goes on", PATIENCE, |p| p.last_sequence() >= enough);
    ms(gap)
}
