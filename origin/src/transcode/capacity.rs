//! What this machine can encode: a few batches of pictures are encoded as a rung's would be, and the fastest
//! batch counts, so that what else runs at that moment matters little. Takes a few tenths of a second.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame;
use sluicegate_cluster::clock;

use super::TranscodeError;
use super::encoder::{EncoderSpec, PictureEncoder};
use super::engine::Engine;

/// What is encoded to measure.
pub(super) const SPEC: EncoderSpec = EncoderSpec { width: 1_280, height: 720, fps: 30.0, kbps: 2_500 };
const BATCHES: u32 = 6;
const PICTURES: u32 = 6;
/// The rest is for decoding, scaling, packaging and serving.
pub(super) const SHARE: f64 = 0.7;

/// Mpx/s that all cores together encode.
pub(super) fn measure() -> Result<f64, TranscodeError> {
    ffmpeg_next::init().map_err(TranscodeError::at("FFmpeg"))?;
    let mut pictures: Vec<frame::Video> = (0..PICTURES).map(picture).collect();
    let mut encoder = PictureEncoder::open(&SPEC, &Engine::cpu(), &picture(0), &picture(0))?;
    let mut best_s = f64::INFINITY;
    let mut time_ms = 0;
    for _ in 0..BATCHES {
        let began = clock::now();
        for picture in &mut pictures {
            encoder.push(picture, time_ms, time_ms == 0)?;
            time_ms += 33;
        }
        best_s = best_s.min(clock::now().duration_since(began).as_secs_f64());
    }
    let mpx = f64::from(SPEC.width * SPEC.height * PICTURES) / 1e6;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(mpx / best_s.max(1e-6) * cores as f64 * SHARE)
}

/// A texture that moves: neither flat nor noise, as most pictures are.
pub(super) fn picture(shift: u32) -> frame::Video {
    let mut picture = frame::Video::new(Pixel::YUV420P, SPEC.width, SPEC.height);
    for plane in 0..picture.planes() {
        let stride = picture.stride(plane).max(1);
        for (place, byte) in picture.data_mut(plane).iter_mut().enumerate() {
            let (x, y) = (place % stride + 3 * shift as usize, place / stride);
            let value = x / 8 + (x ^ y) % 16 + (x * y / 64) % 32;
            *byte = u8::try_from(value % 220 + 16).unwrap_or(128);
        }
    }
    picture
}
