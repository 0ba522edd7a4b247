//! `app.ladder`: what is encoded beside a stream's source, and what that costs.

use serde::Deserialize;

use super::ConfigError;
use crate::stream::PictureSize;

/// Rungs of one ladder.
const RUNGS_MAX: usize = 8;

/// One of `app.ladder`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RungSettings {
    /// Lines of the picture; its width follows from the source's shape.
    pub height: u32,
    /// Kilobits a second of its pictures. The sound is the source's.
    pub kbps: u32,
    /// Frames a second at most; 60 unless set.
    pub fps: Option<f64>,
}

impl RungSettings {
    /// Frames a second of a rung that names none.
    pub const FPS_MAX: f64 = 60.0;

    /// Frames a second at most.
    #[must_use]
    pub fn fps_max(&self) -> f64 {
        self.fps.unwrap_or(Self::FPS_MAX)
    }

    /// What it costs to encode of a source of this size, Mpx/s; nothing when it is not smaller.
    #[must_use]
    pub fn cost_mpx(&self, source: PictureSize) -> f64 {
        if self.height >= source.height {
            return 0.0;
        }
        let scale = f64::from(self.height) / f64::from(source.height.max(1));
        let width = f64::from(source.width) * scale;
        width * f64::from(self.height) * source.fps.min(self.fps_max()) / 1e6
    }
}

/// What a stream costs its origin, Mpx/s: what is encoded of it through `ladder`, and `floor_mpx` at least.
/// `size` is its picture, if it is known; else it is taken for 1080p30.
#[must_use]
pub fn stream_cost_mpx(ladder: &[RungSettings], size: Option<PictureSize>, floor_mpx: f64) -> f64 {
    const USUAL: PictureSize = PictureSize { width: 1_920, height: 1_080, fps: 30.0 };
    let known = size.filter(|size| size.width > 0 && size.height > 0);
    let size = known
        .map_or(USUAL, |size| if size.fps > 0.0 { size } else { PictureSize { fps: USUAL.fps, ..size } });
    ladder.iter().map(|rung| rung.cost_mpx(size)).sum::<f64>().max(floor_mpx)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRung {
    height: u32,
    kbps: u32,
    fps: Option<f64>,
}

pub(super) fn resolve(raw: Vec<RawRung>) -> Result<Vec<RungSettings>, ConfigError> {
    let wrong = |why: String| Err(ConfigError::invalid("app.ladder", why));
    if raw.len() > RUNGS_MAX {
        return wrong(format!("at most {RUNGS_MAX} rungs"));
    }
    for (index, rung) in raw.iter().enumerate() {
        if !(90..=4_320).contains(&rung.height) || rung.height % 2 != 0 {
            return wrong(format!("height {}: an even number between 90 and 4320", rung.height));
        }
        if !(50..=100_000).contains(&rung.kbps) {
            return wrong(format!("kbps {}: between 50 and 100000", rung.kbps));
        }
        if rung.fps.is_some_and(|fps| !(1.0..=120.0).contains(&fps)) {
            return wrong("fps: between 1 and 120".to_owned());
        }
        if raw.iter().take(index).any(|other| (other.height, other.kbps) == (rung.height, rung.kbps)) {
            return wrong(format!("{}p with {} kbit/s is there twice", rung.height, rung.kbps));
        }
    }
    let settings = |r: RawRung| RungSettings { height: r.height, kbps: r.kbps, fps: r.fps };
    Ok(raw.into_iter().map(settings).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_costs_what_is_encoded_of_it_and_never_less_than_the_floor() {
        let rung = |height, fps| RungSettings { height, kbps: 500, fps };
        let ladder = [rung(1_080, None), rung(720, None), rung(360, Some(15.0))];
        let of = |width, height, fps| stream_cost_mpx(&ladder, Some(PictureSize { width, height, fps }), 2.0);
        let close = |cost: f64, to: f64| assert!((cost - to).abs() < 1e-9, "{cost} is not {to}");
        close(of(1_920, 1_080, 60.0), 1_280.0 * 720.0 * 60e-6 + 640.0 * 360.0 * 15e-6);
        close(of(640, 360, 30.0), 2.0);
        close(stream_cost_mpx(&ladder, None, 2.0), 1_280.0 * 720.0 * 30e-6 + 640.0 * 360.0 * 15e-6);
        close(of(1_920, 1_080, 0.0), stream_cost_mpx(&ladder, None, 2.0));
        close(stream_cost_mpx(&[], None, 2.0), 2.0);
    }
}
