//! One encoded rendition, on a thread of its own: pictures are thinned out, scaled and encoded there, and
//! everything else is passed on between them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use sluicegate_cluster::clock;
use sluicegate_cluster::config::RungSettings;
use sluicegate_media::frame::{Unit, VideoConfig};
use sluicegate_media::names::Rung;
use tokio::sync::mpsc;

use super::decoder::Picture;
use super::encoder::{EncoderSpec, PictureEncoder};
use super::engine::Engine;
use super::scaler::Scaler;
use super::work::{Stage, Work};
use super::{Made, TranscodeError, VideoPlan};

/// Pictures and units that wait for a rung's encoder. Then its decoder waits.
pub(super) const QUEUE: usize = 8;
/// Pictures that wait have no more bytes, those of one size being counted as 8 bits deep with a quarter of the colours:
/// fewer of them wait where they are large.
const QUEUE_BYTES_MAX: u64 = 128 << 20;
/// The largest picture that is decoded, pixels: that of H.264's level 6. A decoder may hold 16 of them.
const SOURCE_PX_MAX: u64 = 139_264 * 256;
/// A rung without a keyframe for so long gets one, so that no viewer waits longer: the longest segment.
const KEYFRAME_MS_MAX: i64 = 12_000;

/// What a rung is to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub(super) rung: Rung,
    pub(super) spec: EncoderSpec,
}

/// What `plan` makes of pictures like these, `fps` being their rate. The largest first; nothing of pictures that
/// are too large to be decoded.
pub(super) fn targets(plan: &VideoPlan, source: &VideoConfig, fps: f64) -> Vec<Target> {
    if u64::from(source.width) * u64::from(source.height) > SOURCE_PX_MAX {
        tracing::warn!(width = source.width, height = source.height, "pictures are too large to be decoded");
        return Vec::new();
    }
    let even = |px: f64| ((px / 2.0).round() * 2.0).clamp(2.0, f64::from(u16::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 2..=65535")]
    let whole = |px: f64| even(px) as u32;
    let VideoPlan::Ladder(rungs) = plan else {
        let fps = fps.min(RungSettings::FPS_MAX);
        let (width, height) = (whole(f64::from(source.width)), whole(f64::from(source.height)));
        let spec = EncoderSpec { width, height, fps, kbps: good_kbps(width, height, fps) };
        return vec![Target { rung: Rung::Source, spec }];
    };
    let smaller = rungs.iter().filter(|rung| rung.height < source.height);
    let mut targets: Vec<Target> = smaller
        .map(|rung| {
            let scale = f64::from(rung.height) / f64::from(source.height.max(1));
            let spec = EncoderSpec {
                width: whole(f64::from(source.width) * scale),
                height: whole(f64::from(rung.height)),
                fps: fps.min(rung.fps_max()),
                kbps: rung.kbps,
            };
            Target { rung: Rung::Encoded { height: rung.height, kbps: rung.kbps }, spec }
        })
        .collect();
    targets.sort_by_key(|target| std::cmp::Reverse((target.spec.height, target.spec.kbps)));
    targets
}

/// How many of the source's pictures may wait for a rung, with what belongs between them.
pub(super) fn queue(source: &VideoConfig) -> usize {
    let picture_bytes = u64::from(source.width) * u64::from(source.height) * 3 / 2;
    let fit = QUEUE_BYTES_MAX / picture_bytes.max(1);
    usize::try_from(fit).unwrap_or(QUEUE).clamp(1, QUEUE)
}

/// A rate at which superfast looks well: 0.07 bits a pixel, 4.4 Mbit/s for 1080p30.
fn good_kbps(width: u32, height: u32, fps: f64) -> u32 {
    let kbps = f64::from(width) * f64::from(height) * fps * 0.07 / 1_000.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let kbps = kbps.clamp(200.0, 20_000.0) as u32;
    kbps
}

/// What a rung is given.
#[derive(Clone)]
pub(super) enum ToRung {
    Picture(Arc<Picture>),
    Unit(Unit),
}

/// A rung at work.
pub(super) struct RungThread {
    pub(super) rung: Rung,
    input: SyncSender<ToRung>,
    thread: JoinHandle<Result<(), TranscodeError>>,
}

impl RungThread {
    /// Starts one for which so many pictures and units may wait, whose units go to `output`, and that counts what it
    /// does in `work`.
    pub(super) fn start(
        target: Target,
        queue: usize,
        engine: Engine,
        output: mpsc::Sender<Made>,
        work: Arc<Work>,
    ) -> Result<Self, TranscodeError> {
        let (input, given) = sync_channel(queue);
        let rung = target.rung;
        let run = move || run(rung, Encoding::new(target.spec, engine, work), &given, &output);
        let thread = Builder::new().name(rung.to_string()).spawn(run)?;
        Ok(Self { rung, input, thread })
    }

    /// Gives it something; waits while it has enough to do. `false`: it has ended.
    pub(super) fn give(&self, what: ToRung) -> bool {
        self.input.send(what).is_ok()
    }

    /// Lets it do what it was given, and waits for that.
    pub(super) fn finish(self) -> Result<(), TranscodeError> {
        drop(self.input);
        self.thread.join().unwrap_or(Err(TranscodeError::Broken))
    }
}

fn run(
    rung: Rung,
    mut encoding: Encoding,
    given: &Receiver<ToRung>,
    output: &mpsc::Sender<Made>,
) -> Result<(), TranscodeError> {
    while let Ok(what) = given.recv() {
        let units = match what {
            ToRung::Unit(unit) => {
                if unit == Unit::Discontinuity {
                    encoding.pace.restart();
                }
                vec![unit]
            }
            ToRung::Picture(picture) => encoding.push(&picture)?,
        };
        for unit in units {
            if output.blocking_send(Made::Unit(rung, unit)).is_err() {
                return Err(TranscodeError::Unwanted);
            }
        }
    }
    Ok(())
}

struct Encoding {
    spec: EncoderSpec,
    engine: Engine,
    scaler: Scaler,
    encoder: Option<PictureEncoder>,
    pace: Pace,
    last_keyframe_ms: i64,
    work: Arc<Work>,
}

impl Encoding {
    fn new(spec: EncoderSpec, engine: Engine, work: Arc<Work>) -> Self {
        let pace = Pace::new(spec.fps);
        let scaler =
            Scaler::new(spec.width, spec.height, engine.encodes_on(spec.width, spec.height).is_some());
        Self { spec, engine, scaler, encoder: None, pace, last_keyframe_ms: i64::MIN, work }
    }

    fn push(&mut self, picture: &Picture) -> Result<Vec<Unit>, TranscodeError> {
        let overdue = picture.pts_ms.saturating_sub(self.last_keyframe_ms) >= KEYFRAME_MS_MAX;
        let keyframe = picture.keyframe || overdue;
        // It begins where all renditions have a keyframe.
        if self.encoder.is_none() && !picture.keyframe {
            return Ok(Vec::new());
        }
        if !self.pace.admits(picture.pts_ms) && !keyframe {
            return Ok(Vec::new());
        }
        if keyframe {
            self.last_keyframe_ms = picture.pts_ms;
        }
        let began = clock::now();
        let mut scaled = self.scaler.scale(&picture.frame)?;
        self.work.add(Stage::Scale, 1, began);
        let mut units = Vec::new();
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => {
                let encoder = PictureEncoder::open(&self.spec, &self.engine, &scaled, &picture.frame)?;
                units.push(Unit::Video(encoder.config().clone()));
                self.encoder.insert(encoder)
            }
        };
        let began = clock::now();
        let frames = encoder.push(&mut scaled, picture.pts_ms, keyframe)?;
        self.work.add(Stage::Encode, frames.len(), began);
        units.extend(frames.into_iter().map(Unit::Frame));
        Ok(units)
    }
}

/// Thins pictures out to a rate.
#[derive(Debug)]
struct Pace {
    gap_ms: f64,
    next_ms: Option<f64>,
}

impl Pace {
    fn new(fps: f64) -> Self {
        Self { gap_ms: 1_000.0 / fps.max(1.0), next_ms: None }
    }

    fn restart(&mut self) {
        self.next_ms = None;
    }

    fn admits(&mut self, pts_ms: i64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a timeline's milliseconds have less than 53 bits")]
        let pts_ms = pts_ms as f64;
        let next_ms = self.next_ms.unwrap_or(pts_ms);
        // Milliseconds are rounded and publishers' clocks uneven.
        let tolerance_ms = self.gap_ms * 0.3;
        if pts_ms + tolerance_ms < next_ms {
            return false;
        }
        let on_grid = next_ms + self.gap_ms;
        self.next_ms = Some(if pts_ms > on_grid { pts_ms + self.gap_ms } else { on_grid });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn source(width: u32, height: u32) -> VideoConfig {
        VideoConfig { avcc: Bytes::new(), codec: "avc1.64001f".to_owned(), width, height, fps: None }
    }

    fn sizes(source: &VideoConfig) -> Vec<(u32, u32)> {
        let rung = |height| RungSettings { height, kbps: height, fps: None };
        let ladder = VideoPlan::Ladder([360, 1080, 720, 480].map(rung).to_vec());
        targets(&ladder, source, 30.0).iter().map(|t| (t.spec.width, t.spec.height)).collect()
    }

    #[test]
    fn nothing_is_scaled_up_and_shapes_are_kept() {
        assert_eq!(sizes(&source(1920, 1080)), [(1280, 720), (854, 480), (640, 360)]);
        assert_eq!(sizes(&source(720, 1280)), [(608, 1080), (406, 720), (270, 480), (202, 360)]);
        assert_eq!(sizes(&source(640, 360)), []);
        assert_eq!((sizes(&source(7_680, 4_320)).len(), sizes(&source(8_192, 8_192)).len()), (4, 0));
        assert!(targets(&VideoPlan::InOrder, &source(8_192, 8_192), 30.0).is_empty(), "nor for WebRTC");
        let own = targets(&VideoPlan::InOrder, &source(641, 361), 120.0);
        let EncoderSpec { width, height, fps, .. } = own[0].spec;
        assert_eq!((width, height, fps.round() as i64), (642, 362, 60));
    }

    #[test]
    fn few_large_pictures_wait() {
        let waiting = |(width, height)| queue(&source(width, height));
        assert_eq!([(0, 0), (1_920, 1_080), (3_840, 2_160)].map(waiting), [8, 8, 8]);
        assert_eq!([(7_680, 4_320), (8_192, 8_192)].map(waiting), [2, 1]);
    }

    #[test]
    fn pictures_are_thinned_out_evenly() {
        let admitted = |fps: f64, step_ms: f64| {
            let mut pace = Pace::new(fps);
            (0..600).filter(|n| pace.admits((f64::from(*n) * step_ms).round() as i64)).count()
        };
        assert_eq!(admitted(30.0, 1_000.0 / 60.0), 300);
        assert_eq!(admitted(30.0, 1_000.0 / 30.0), 600);
        assert_eq!(admitted(60.0, 1.0), 37, "one in 16.7 ms, of 600 ms");
        assert_eq!(admitted(60.0, 40.0), 600);
    }
}
