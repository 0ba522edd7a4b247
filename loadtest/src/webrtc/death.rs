//! An origin is killed under its viewers: their connections stay, and the picture goes on when the stream has
//! another origin.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sluicegate_cluster::clock;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::until::until_true;

use super::viewers::{Seen, Viewers};
use super::{Film, KEY, pause, whep};
use crate::Run;
use crate::figure::Figure;
use crate::stats::ms;

const PICTURE_AIM_MS: f64 = 3_000.0;
const FILM: Film = Film { kbps: 600, keyframe_every_s: 1, b_frames: false };
/// For the stream to have another origin, and for all to see it.
const CARRIED: Duration = Duration::from_secs(30);
/// What was under way when the origin died is over after that.
const STILL: Duration = Duration::from_millis(200);
/// So many packets are a picture with its sound, and no leftover.
const GOES_ON: u64 = 30;

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let mut cluster = Cluster::start(&[1_000, 1_000]);
    let _publisher = FILM.publish_to(&how.folder, &cluster)?;
    let viewers = Viewers::new()?;
    let crowd = viewers.crowd(&whep(&cluster), if how.quick { 10 } else { 50 })?;
    let owner = origin(&cluster).context("the stream has no origin")?;
    cluster.origin_mut(&owner).kill();
    let killed = clock::now();
    pause(STILL);
    let before: Vec<u64> = crowd.iter().map(|seen| seen.packets()).collect();
    until_true("the stream has another origin", CARRIED, || origin(&cluster).is_some_and(|now| now != owner));
    let returned = clock::now();
    let goes_on = |(seen, before): (&Arc<Seen>, &u64)| seen.packets() >= before + GOES_ON;
    until_true("all see it again", CARRIED, || crowd.iter().zip(&before).all(goes_on));
    let lost = crowd.iter().filter(|seen| seen.has_ended()).count();
    Ok(vec![
        Figure::new("origin_killed_connections_lost", lost as f64).at_most(0.0),
        Figure::new("origin_killed_picture_after_return_ms", ms(returned.elapsed())).at_most(PICTURE_AIM_MS),
        Figure::new("origin_killed_picture_after_death_ms", ms(killed.elapsed())),
    ])
}

fn origin(cluster: &Cluster) -> Option<String> {
    cluster.lb.stream(KEY)?["origin"].as_str().map(str::to_owned)
}
