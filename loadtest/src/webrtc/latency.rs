//! How much later a packet is at a viewer of an edge with a full house than at one who pulls it from the origin
//! itself. Both are in this process and get the same packets, so what the origin and the client take cancels out.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_e2e::cluster::{self, Cluster};
use sluicegate_rtc::{Delivery, Event};

use super::viewers::Viewers;
use super::{Film, pause, whep};
use crate::Run;
use crate::figure::Figure;
use crate::stats::{ms, percentile};

const P50_MS: f64 = 5.0;
const P99_MS: f64 = 20.0;
const FILM: Film = Film { kbps: 1_200, keyframe_every_s: 2, b_frames: false };

/// When packets came, by what is in them.
#[derive(Default, Clone)]
struct Arrivals(Arc<Mutex<HashMap<u64, Instant>>>);

impl Arrivals {
    fn note(&self, event: &Event) {
        let Event::Packet(packet) = event else { return };
        let mut hasher = DefaultHasher::new();
        packet.payload.hash(&mut hasher);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(hasher.finish()).or_insert(packet.received);
    }

    fn take(&self) -> HashMap<u64, Instant> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let crowd = if how.quick { 20 } else { 100 };
    let window = Duration::from_secs(if how.quick { 5 } else { 15 });
    let cluster = Cluster::start(&[1_000]);
    let _publisher = FILM.publish_to(&how.folder, &cluster)?;
    let viewers = Viewers::new()?;
    let (direct, relayed) = (Arrivals::default(), Arrivals::default());
    watch(&viewers, &cluster.origins[0].node_url("/origin/live/whep/film"), &direct)?;
    watch(&viewers, &whep(&cluster), &relayed)?;
    let alone = added_ms(&direct, &relayed, window);
    let _crowd = viewers.crowd(&whep(&cluster), crowd)?;
    let crowded = added_ms(&direct, &relayed, window);
    let at = |added: &[f64], percent| percentile(added, percent).context("no packet came both ways");
    Ok(vec![
        Figure::new(format!("edge_adds_{crowd}_viewers_p50_ms"), at(&crowded, 50.0)?).at_most(P50_MS),
        Figure::new(format!("edge_adds_{crowd}_viewers_p99_ms"), at(&crowded, 99.0)?).at_most(P99_MS),
        Figure::new("edge_adds_1_viewer_p50_ms", at(&alone, 50.0)?),
        Figure::new("edge_adds_1_viewer_p99_ms", at(&alone, 99.0)?),
    ])
}

fn watch(viewers: &Viewers, url: &str, arrivals: &Arrivals) -> anyhow::Result<()> {
    let key = ClusterKey::new(cluster::KEY).map_err(|why| anyhow!("{why}"))?;
    let token = key.token(&"edge-1".parse()?)?;
    let arrivals = arrivals.clone();
    let on = move |event| arrivals.note(&event);
    viewers.watch(url, &[(trust::HEADER, &token)], Delivery::Packets, on).map(|_| ())
}

/// By how much packets of the next `window` come later over the edge, ms.
fn added_ms(direct: &Arrivals, relayed: &Arrivals, window: Duration) -> Vec<f64> {
    let _before = (direct.take(), relayed.take());
    pause(window);
    let relayed = relayed.take();
    let added = |(packet, at): (u64, Instant)| {
        let later = relayed.get(&packet)?;
        Some(ms(later.saturating_duration_since(at)) - ms(at.saturating_duration_since(*later)))
    };
    direct.take().into_iter().filter_map(added).collect()
}
