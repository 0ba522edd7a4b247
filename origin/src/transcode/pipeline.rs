//! A job at work: units in, units out, until the input ends or nobody takes the output.

use std::sync::Arc;

use sluicegate_cluster::clock;
use sluicegate_media::avc;
use sluicegate_media::frame::{Frame, Track, Unit, VP8, VideoConfig};
use sluicegate_media::names::Rung;
use tokio::sync::mpsc;

use super::decoder::{Picture, PictureDecoder};
use super::engine::{Engine, Engines};
use super::freshness::{Freshness, Verdict};
use super::order::Order;
use super::rung::{self, RungThread, Target, ToRung, targets};
use super::sound::Sound;
use super::work::Stage;
use super::{Job, Made, Orders, TranscodeError, VideoPlan};
use crate::hub::Units;

/// Units that wait for the second picture, from which the rate is known.
const OPENING_MAX: usize = 256;

/// Does `job` on one of its `engines` until `input` ends.
///
/// # Errors
/// [`TranscodeError`] when it cannot go on. Input that cannot be decoded is no error.
pub(super) fn run(
    job: &Job,
    orders: &Arc<Orders>,
    engines: &Engines,
    mut input: Units,
    output: mpsc::Sender<Made>,
) -> Result<(), TranscodeError> {
    ffmpeg_next::init().map_err(TranscodeError::at("FFmpeg"))?;
    ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Fatal);
    let mut pipeline = Pipeline {
        plan: job.video.clone(),
        sound: Sound::new(job.audio),
        orders: Arc::clone(orders),
        engines,
        engine: Engine::cpu(),
        output,
        source: None,
        audio_header: None,
        mode: Mode::NoVideo,
        interrupted: false,
        freshness: Freshness::default(),
    };
    let mut ended = Ok(());
    while ended.is_ok()
        && let Some(unit) = input.blocking_recv()
    {
        ended = pipeline.take_if_fresh(unit);
    }
    let ended = ended.and_then(|()| pipeline.leave_mode());
    if !matches!(ended, Ok(()) | Err(TranscodeError::Unwanted)) {
        engines.failed(&pipeline.engine);
    }
    ended
}

struct Pipeline<'a> {
    plan: VideoPlan,
    sound: Sound,
    orders: Arc<Orders>,
    engines: &'a Engines,
    /// What works on pictures now.
    engine: Engine,
    output: mpsc::Sender<Made>,
    source: Option<VideoConfig>,
    /// The sound's header as it goes out.
    audio_header: Option<Unit>,
    mode: Mode,
    /// The source begins anew, as its rungs must, whose headers may be what they were.
    interrupted: bool,
    freshness: Freshness,
}

/// What happens to pictures.
enum Mode {
    /// There are none yet.
    NoVideo,
    /// They are passed through. `watched`: until one turns out to be reordered.
    Pass { watched: bool },
    /// They are kept until their rate is known.
    Opening(Vec<Unit>),
    /// They are encoded.
    Encode(Encoding),
    /// Nothing is made of them: they are smaller than all rungs.
    Nothing,
}

struct Encoding {
    decoder: PictureDecoder,
    order: Order,
    /// All that may be made, the most expensive first.
    targets: Vec<Target>,
    /// Those that are made: all but the first `given_up`.
    rungs: Vec<RungThread>,
    given_up: usize,
}

impl Pipeline<'_> {
    /// Takes a unit, unless it is a frame that has become too old.
    fn take_if_fresh(&mut self, unit: Unit) -> Result<(), TranscodeError> {
        let Unit::Frame(frame) = unit else { return self.take(unit) };
        let (dts_ms, may_begin) = (frame.dts_ms, self.may_begin_with(&frame));
        match self.freshness.verdict(self.orders.behind_ms(dts_ms), may_begin) {
            Verdict::Take => self.take(Unit::Frame(frame))?,
            Verdict::Resume => {
                self.take(Unit::Discontinuity)?;
                self.take(Unit::Frame(frame))?;
            }
            Verdict::PassOver { first } => self.orders.intake.lose(first),
        }
        self.orders.done(dts_ms);
        Ok(())
    }

    fn take(&mut self, unit: Unit) -> Result<(), TranscodeError> {
        match unit {
            Unit::Video(config) => self.video_header(config),
            Unit::Audio(_) => self.sound(unit),
            Unit::Discontinuity => {
                self.sound.restart();
                self.discontinuity()
            }
            Unit::Frame(frame) if frame.track == Track::Audio => self.sound(Unit::Frame(frame)),
            Unit::Frame(frame) => self.picture(frame),
        }
    }

    /// Whether decoding can begin with this frame.
    fn may_begin_with(&self, frame: &Frame) -> bool {
        self.source.is_none() || (frame.track == Track::Video && frame.keyframe)
    }

    fn video_header(&mut self, config: VideoConfig) -> Result<(), TranscodeError> {
        if self.source.as_ref() == Some(&config) {
            return Ok(());
        }
        self.interrupted |= matches!(self.mode, Mode::Encode(_));
        self.leave_mode()?;
        let is_h264 = config.codec != VP8;
        let reorders = if is_h264 { avc::reorders(&config) } else { None };
        self.mode = match &self.plan {
            VideoPlan::H264 if is_h264 => Mode::Pass { watched: false },
            VideoPlan::InOrder if is_h264 && reorders != Some(true) => {
                Mode::Pass { watched: reorders.is_none() }
            }
            VideoPlan::H264 | VideoPlan::InOrder | VideoPlan::Ladder(_) => Mode::Opening(Vec::new()),
        };
        self.source = Some(config.clone());
        if matches!(self.mode, Mode::Pass { .. }) { self.emit(Unit::Video(config)) } else { Ok(()) }
    }

    fn sound(&mut self, unit: Unit) -> Result<(), TranscodeError> {
        for unit in self.sound.push(unit) {
            if matches!(unit, Unit::Audio(_)) {
                self.audio_header = Some(unit.clone());
            }
            self.pass_on(unit)?;
        }
        Ok(())
    }

    /// Something that is no picture, in its place among them.
    fn pass_on(&mut self, unit: Unit) -> Result<(), TranscodeError> {
        match &mut self.mode {
            Mode::Nothing => Ok(()),
            Mode::NoVideo if matches!(self.plan, VideoPlan::Ladder(_)) => Ok(()),
            Mode::NoVideo | Mode::Pass { .. } => self.emit(unit),
            Mode::Opening(units) => {
                units.push(unit);
                if units.len() > OPENING_MAX { self.open() } else { Ok(()) }
            }
            Mode::Encode(encoding) => {
                let mut free = encoding.order.other_in(unit).into_iter();
                free.try_for_each(|unit| encoding.spread(&ToRung::Unit(unit)))
            }
        }
    }

    fn discontinuity(&mut self) -> Result<(), TranscodeError> {
        if let Mode::Encode(encoding) = &mut self.mode {
            return encoding.drain().and_then(|()| encoding.spread(&ToRung::Unit(Unit::Discontinuity)));
        }
        self.pass_on(Unit::Discontinuity)
    }

    fn picture(&mut self, frame: Frame) -> Result<(), TranscodeError> {
        match &mut self.mode {
            Mode::NoVideo | Mode::Nothing => Ok(()),
            Mode::Pass { watched: true } if frame.pts_ms != frame.dts_ms => {
                self.mode = Mode::Opening(vec![Unit::Frame(frame)]);
                Ok(())
            }
            Mode::Pass { .. } => self.emit(Unit::Frame(frame)),
            Mode::Opening(units) => {
                let second = units.iter().any(is_picture);
                units.push(Unit::Frame(frame));
                if second { self.open() } else { Ok(()) }
            }
            Mode::Encode(_) => self.encode(&frame),
        }
    }

    fn encode(&mut self, frame: &Frame) -> Result<(), TranscodeError> {
        self.engine.check()?;
        let Mode::Encode(encoding) = &mut self.mode else { return Ok(()) };
        let wanted = self.orders.given_up().min(encoding.targets.len());
        if wanted > encoding.given_up {
            encoding.give_up(wanted)?;
            let left = encoding.left();
            self.output.blocking_send(Made::Rungs(left)).map_err(|_| TranscodeError::Unwanted)?;
        } else if wanted < encoding.given_up && frame.keyframe {
            let back = encoding.take_back(wanted);
            let made = encoding.targets.iter().skip(wanted).map(|target| target.rung).collect();
            self.take_back(back, made)?;
        }
        let Mode::Encode(encoding) = &mut self.mode else { return Ok(()) };
        encoding.push(frame, &self.orders)
    }

    /// Has these made again, so that they are `made`; they begin with the keyframe that comes.
    fn take_back(&mut self, back: Vec<Target>, made: Vec<Rung>) -> Result<(), TranscodeError> {
        self.tell(Made::Rungs(made))?;
        let started =
            back.into_iter().map(|target| self.start_rung(target)).collect::<Result<Vec<_>, _>>()?;
        for rung in &started {
            self.audio_header.as_ref().map(|header| rung.give(ToRung::Unit(header.clone())));
        }
        if let Mode::Encode(encoding) = &mut self.mode {
            encoding.rungs.splice(0..0, started).for_each(drop);
        }
        Ok(())
    }

    fn start_rung(&self, target: Target) -> Result<RungThread, TranscodeError> {
        let work = Arc::clone(&self.orders.work);
        let queue = self.source.as_ref().map_or(1, rung::queue);
        RungThread::start(target, queue, self.engine.clone(), self.output.clone(), work)
    }

    /// The rate is known: decoder and rungs start, and get what was kept.
    fn open(&mut self) -> Result<(), TranscodeError> {
        let Mode::Opening(units) = std::mem::replace(&mut self.mode, Mode::Nothing) else { return Ok(()) };
        let Some(config) = &self.source else { return Ok(()) };
        let fps = rate(config.fps, &units);
        let targets = targets(&self.plan, config, fps);
        let given_up = self.orders.given_up().min(targets.len());
        if matches!(self.plan, VideoPlan::Ladder(_)) {
            let made = targets.iter().skip(given_up).map(|target| target.rung).collect();
            self.tell(Made::Rungs(made))?;
        }
        if targets.is_empty() {
            return Ok(());
        }
        self.engine = self.engines.take(targets.iter().map(|target| target.spec.mpx()).sum())?;
        let decoder = PictureDecoder::open(config, &self.engine)?;
        let start = |target: &Target| self.start_rung(target.clone());
        let rungs = targets.iter().skip(given_up).map(start).collect::<Result<Vec<_>, _>>()?;
        let mut encoding = Encoding { decoder, order: Order::default(), targets, rungs, given_up };
        if std::mem::take(&mut self.interrupted) {
            encoding.spread(&ToRung::Unit(Unit::Discontinuity))?;
        }
        let announced = units.iter().any(|unit| matches!(unit, Unit::Audio(_)));
        if let Some(header) = self.audio_header.as_ref().filter(|_| !announced) {
            encoding.spread(&ToRung::Unit(header.clone()))?;
        }
        self.mode = Mode::Encode(encoding);
        for unit in units {
            match unit {
                Unit::Frame(frame) if frame.track == Track::Video => self.picture(frame)?,
                other => self.pass_on(other)?,
            }
        }
        Ok(())
    }

    /// Ends what is being done with pictures, with all that came so far.
    fn leave_mode(&mut self) -> Result<(), TranscodeError> {
        if matches!(self.mode, Mode::Opening(_)) {
            self.open()?;
        }
        if let Mode::Encode(encoding) = std::mem::replace(&mut self.mode, Mode::NoVideo) {
            encoding.finish()?;
        }
        self.engine = self.engines.leave();
        Ok(())
    }

    fn emit(&self, unit: Unit) -> Result<(), TranscodeError> {
        self.tell(Made::Unit(Rung::Source, unit))
    }

    fn tell(&self, made: Made) -> Result<(), TranscodeError> {
        self.output.blocking_send(made).map_err(|_| TranscodeError::Unwanted)
    }
}

impl Encoding {
    fn push(&mut self, frame: &Frame, orders: &Orders) -> Result<(), TranscodeError> {
        if self.rungs.is_empty() {
            return Ok(());
        }
        for lost in self.order.picture_in(frame) {
            self.spread(&ToRung::Unit(lost))?;
        }
        let began = clock::now();
        let pictures = self.decoder.push(frame)?;
        orders.work.add(Stage::Decode, pictures.len(), began);
        let asked = !pictures.is_empty() && orders.take_keyframe();
        self.encode(pictures, asked)
    }

    fn encode(&mut self, pictures: Vec<Picture>, asked: bool) -> Result<(), TranscodeError> {
        let mut asked = asked;
        for mut picture in pictures {
            let released = self.order.picture_out(picture.pts_ms);
            for unit in released.before {
                self.spread(&ToRung::Unit(unit))?;
            }
            picture.keyframe = released.keyframe || std::mem::take(&mut asked);
            self.spread(&ToRung::Picture(Arc::new(picture)))?;
            for unit in released.after {
                self.spread(&ToRung::Unit(unit))?;
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), TranscodeError> {
        let rest = self.decoder.drain()?;
        self.encode(rest, false)?;
        for unit in self.order.drain() {
            self.spread(&ToRung::Unit(unit))?;
        }
        Ok(())
    }

    /// Gives up rungs until so many are given up. Without any, nothing is decoded.
    fn give_up(&mut self, wanted: usize) -> Result<(), TranscodeError> {
        let leaving = (wanted - self.given_up).min(self.rungs.len());
        self.rungs.drain(..leaving).try_for_each(RungThread::finish)?;
        self.given_up = wanted;
        if self.rungs.is_empty() {
            self.decoder.drain()?;
            self.order.drain();
        }
        Ok(())
    }

    /// Only so many are given up from now on: those that are to be made again.
    fn take_back(&mut self, wanted: usize) -> Vec<Target> {
        let back = self.targets.get(wanted..self.given_up).unwrap_or_default().to_vec();
        self.given_up = wanted;
        back
    }

    fn left(&self) -> Vec<Rung> {
        self.rungs.iter().map(|rung| rung.rung).collect()
    }

    fn spread(&mut self, what: &ToRung) -> Result<(), TranscodeError> {
        match self.rungs.iter().position(|rung| !rung.give(what.clone())) {
            None => Ok(()),
            // It ended by itself: its own word says why.
            Some(ended) => {
                Err(self.rungs.swap_remove(ended).finish().err().unwrap_or(TranscodeError::Broken))
            }
        }
    }

    fn finish(mut self) -> Result<(), TranscodeError> {
        self.drain()?;
        self.rungs.into_iter().try_for_each(RungThread::finish)
    }
}

fn is_picture(unit: &Unit) -> bool {
    matches!(unit, Unit::Frame(frame) if frame.track == Track::Video)
}

/// Pictures a second: what the header says, unless the first two pictures say that it lies.
fn rate(header: Option<f64>, units: &[Unit]) -> f64 {
    const USUAL: f64 = 30.0;
    let mut times = units.iter().filter_map(|unit| match unit {
        Unit::Frame(frame) if frame.track == Track::Video => Some(frame.dts_ms),
        _ => None,
    });
    let step_ms = times.next().zip(times.next()).map(|(first, second)| second.saturating_sub(first));
    let measured = step_ms.filter(|step| (1..=1_000).contains(step)).map(|step| {
        #[expect(clippy::cast_precision_loss, reason = "at most 1000")]
        let step = step as f64;
        (1_000.0 / step).round()
    });
    match (header, measured) {
        (Some(header), Some(measured)) if (0.6..=1.7).contains(&(header / measured)) => header,
        (_, Some(measured)) => measured,
        (Some(header), None) => header,
        (None, None) => USUAL,
    }
}

#[cfg(test)]
mod tests;
