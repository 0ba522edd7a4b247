//! What an origin is judged by: what a ladder costs and looks like beside ffmpeg's, what a stream costs that is passed
//! through, hours of one, how soon a part is on the wire, and how far a low-latency player is behind.

use anyhow::Context as _;

use crate::figure::Figure;
use crate::stats::percentile;
use crate::{Measurement, Run, camera};

mod hours;
mod ladder;
mod strict;
mod through;
mod wire;

/// Everything that is measured.
pub(crate) const MEASUREMENTS: &[Measurement] = &[
    Measurement { title: "A ladder of four rungs, beside ffmpeg's", measure: ladder::measure },
    Measurement { title: "Streams that are passed through, beside nginx-rtmp", measure: through::measure },
    Measurement { title: "Hours of a stream in a minute, passed through", measure: hours::passed_through },
    Measurement {
        title: "Minutes of a stream through a ladder, at six times its speed",
        measure: hours::through_a_ladder,
    },
    Measurement { title: "A strict low-latency player", measure: strict::measure },
    Measurement { title: "From a frame by RTMP to its part on the wire", measure: wire::measure },
    Measurement { title: "From the camera to hls.js, with parts of 200 ms", measure: low_latency },
];

/// What a low-latency player may be behind, with segments of a second and parts of 200 ms.
const LOW_LATENCY_AIM_MS: f64 = 1_500.0;

fn low_latency(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let seen = camera::look(how, camera::Engine::Hls)?;
    let at = |percent| percentile(&seen.behind_ms, percent).context("no picture was seen");
    Ok(vec![
        Figure::new("ll_hls_camera_to_player_p50_ms", at(50.0)?).at_most(LOW_LATENCY_AIM_MS),
        Figure::new("ll_hls_camera_to_player_p95_ms", at(95.0)?),
        Figure::new("ll_hls_stalls", f64::from(seen.stalls)).at_most(0.0),
    ])
}
