//! The first comparison: how soon a server is up and shows a picture, how far the player is behind the camera,
//! and what many viewers at once cost an origin.

use crate::Measurement;

mod camera;
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
    Measurement { title: "From the camera to the player", measure: camera::measure },
    Measurement { title: "200 viewers ask for the same at once", measure: herd::measure },
];
