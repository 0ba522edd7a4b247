//! The first comparison: how soon a server is up and shows a picture, how far the player is behind the camera,
//! and what many viewers at once cost an origin.

use anyhow::Context as _;

use crate::figure::Figure;
use crate::stats::percentile;
use crate::{Measurement, Run, camera};

mod herd;
mod picture;
mod start;

/// Everything that is measured.
pub(crate) const MEASUREMENTS: &[Measurement] = &[
    Measurement { title: "From the start to ready", measure: start::measure },
    Measurement {
        title: "From the start to the first picture (`make demo` times what comes before: packages and the build)",
        measure: picture::measure,
    },
    Measurement { title: "From the camera to the player", measure: camera_to_player },
    Measurement { title: "200 viewers ask for the same at once", measure: herd::measure },
];

/// What the median and the 95th percentile may be: plain HLS with segments of a second.
const CAMERA_TO_PLAYER_AIM_MS: f64 = 5_000.0;

fn camera_to_player(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let behind_ms = camera::look(how, camera::Engine::Hls)?.behind_ms;
    let figure = |name, percent| {
        let behind_ms = percentile(&behind_ms, percent).context("no picture was seen")?;
        anyhow::Ok(Figure::new(name, behind_ms).at_most(CAMERA_TO_PLAYER_AIM_MS))
    };
    Ok(vec![figure("camera_to_player_p50_ms", 50.0)?, figure("camera_to_player_p95_ms", 95.0)?])
}
