//! A few pictures through a graphics card, by the code that streams go through: what it can, and how fast.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ffmpeg_next::format::Pixel;
use sluicegate_cluster::clock;
use sluicegate_media::frame::{Frame, VideoConfig};

use super::TranscodeError;
use super::capacity::{SHARE, SPEC, picture};
use super::decoder::{Picture, PictureDecoder};
use super::encoder::PictureEncoder;
use super::engine::Engine;
use super::scaler::Scaler;
use crate::gpus::{Ability, Device, Work};

/// Pictures that go through it.
const PICTURES: u32 = 12;
/// Streams at once while it is measured, so that its parts work side by side.
const STREAMS: usize = 4;
/// How long it is measured.
const MEASURING: Duration = Duration::from_millis(400);

/// Has a card decode, scale and encode a few pictures; measures how many it can, unless `known_mpx` says.
///
/// # Errors
/// What it failed at, if it can neither decode nor encode.
pub(crate) fn try_device(
    device: &Arc<dyn Device>,
    known_mpx: Option<f64>,
) -> Result<Ability, TranscodeError> {
    ffmpeg_next::init().map_err(TranscodeError::at("FFmpeg"))?;
    ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Fatal);
    let source = Source::make()?;
    let ability = source.ability(device)?;
    let work = Work { decodes: ability.decodes, encodes: ability.encodes };
    let capacity_mpx = known_mpx.map_or_else(|| source.measure(&Engine::on(device, work)), Ok)?;
    Ok(Ability { capacity_mpx, ..ability })
}

/// What goes through it.
struct Source {
    config: VideoConfig,
    frames: Vec<Frame>,
}

/// What came of it.
#[derive(Debug, PartialEq)]
struct Passed {
    /// Pictures that came out.
    pictures: usize,
    /// Whether they were decoded on the card.
    decoded_there: bool,
}

impl Source {
    /// Encoded by the processors.
    fn make() -> Result<Self, TranscodeError> {
        let first = picture(0);
        let mut encoder = PictureEncoder::open(&SPEC, &Engine::cpu(), &first, &first)?;
        let mut frames = Vec::new();
        for n in 0..PICTURES {
            frames.extend(encoder.push(&mut picture(n), i64::from(n) * 33, n == 0)?);
        }
        Ok(Self { config: encoder.config().clone(), frames })
    }

    /// Whether a card does all of it, else one half of it.
    fn ability(&self, device: &Arc<dyn Device>) -> Result<Ability, TranscodeError> {
        let mut failed = TranscodeError::CardLost;
        for (decodes, encodes) in [(true, true), (true, false), (false, true)] {
            match self.passed(&Engine::on(device, Work { decodes, encodes })) {
                Ok(passed) if passed.pictures == self.frames.len() && (passed.decoded_there || encodes) => {
                    return Ok(Ability { decodes: passed.decoded_there, encodes, capacity_mpx: 0.0 });
                }
                Ok(_) => {}
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// What comes of it once.
    fn passed(&self, engine: &Engine) -> Result<Passed, TranscodeError> {
        let mut passage = Passage::open(self, engine, true)?;
        passage.push(self)?;
        let rest = passage.decoder.drain()?;
        passage.take(rest)?;
        Ok(passage.passed)
    }

    /// Mpx/s that go through an engine's card; what the processors would encode is left out.
    fn measure(&self, engine: &Engine) -> Result<f64, TranscodeError> {
        let rate = || self.pictures_per_s(engine);
        let rates = thread::scope(|scope| {
            let streams: Vec<_> = (0..STREAMS).map(|_| scope.spawn(rate)).collect();
            streams.into_iter().map(|s| s.join().unwrap_or(Err(TranscodeError::Broken))).collect::<Vec<_>>()
        });
        let pictures_per_s: f64 = rates.into_iter().sum::<Result<f64, _>>()?;
        Ok(f64::from(SPEC.width * SPEC.height) / 1e6 * pictures_per_s * SHARE)
    }

    fn pictures_per_s(&self, engine: &Engine) -> Result<f64, TranscodeError> {
        let encode = engine.encodes_on(SPEC.width, SPEC.height).is_some();
        let mut passage = Passage::open(self, engine, encode)?;
        // The first round opens everything.
        passage.push(self)?;
        let (before, began) = (passage.passed.pictures, clock::now());
        while clock::now().duration_since(began) < MEASURING {
            passage.push(self)?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let pictures = (passage.passed.pictures - before) as f64;
        Ok(pictures / clock::now().duration_since(began).as_secs_f64())
    }
}

/// A decoder, a scaler and an encoder at work, as in a stream's transcoder.
struct Passage<'a> {
    engine: &'a Engine,
    encode: bool,
    decoder: PictureDecoder,
    scaler: Scaler,
    encoder: Option<PictureEncoder>,
    passed: Passed,
    time_ms: i64,
}

impl<'a> Passage<'a> {
    fn open(source: &Source, engine: &'a Engine, encode: bool) -> Result<Self, TranscodeError> {
        let stays = encode && engine.encodes_on(SPEC.width, SPEC.height).is_some();
        Ok(Self {
            engine,
            encode,
            decoder: PictureDecoder::open(&source.config, engine)?,
            scaler: Scaler::new(SPEC.width, SPEC.height, stays),
            encoder: None,
            passed: Passed { pictures: 0, decoded_there: true },
            time_ms: 0,
        })
    }

    /// All of the source, in its own size, behind what came before.
    fn push(&mut self, source: &Source) -> Result<(), TranscodeError> {
        for frame in &source.frames {
            let frame = Frame { dts_ms: self.time_ms, pts_ms: self.time_ms, ..frame.clone() };
            self.time_ms += 33;
            let pictures = self.decoder.push(&frame)?;
            self.take(pictures)?;
        }
        Ok(())
    }

    fn take(&mut self, pictures: Vec<Picture>) -> Result<(), TranscodeError> {
        for picture in pictures {
            self.passed.decoded_there &= picture.frame.format() == Pixel::CUDA;
            let mut scaled = self.scaler.scale(&picture.frame)?;
            if !self.encode {
                self.passed.pictures += 1;
                continue;
            }
            let encoder = match &mut self.encoder {
                Some(encoder) => encoder,
                None => {
                    let encoder = PictureEncoder::open(&SPEC, self.engine, &scaled, &picture.frame)?;
                    self.encoder.insert(encoder)
                }
            };
            self.passed.pictures += encoder.push(&mut scaled, picture.pts_ms, picture.pts_ms == 0)?.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A card that leaves all work to the processors.
    struct Idle;

    impl Device for Idle {
        fn attach(&self, _: &mut ffmpeg_next::codec::Context) -> Result<(), ffmpeg_next::Error> {
            Ok(())
        }
    }

    #[test]
    fn all_pictures_pass_and_it_is_seen_that_no_card_decoded_them() {
        let source = Source::make().unwrap();
        let passed = source.passed(&Engine::cpu()).unwrap();
        assert_eq!(passed, Passed { pictures: 12, decoded_there: false });
        let mpx = source.measure(&Engine::cpu()).unwrap();
        assert!((1.0..1e6).contains(&mpx), "{mpx}");
    }

    #[test]
    fn a_card_that_does_nothing_itself_is_no_card() {
        let idle: Arc<dyn Device> = Arc::new(Idle);
        assert!(try_device(&idle, None).is_err());
    }
}
