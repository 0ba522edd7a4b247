//! AAC into Opus and Opus into AAC: decoded, resampled to 48 kHz stereo, encoded. What is in the wanted form
//! already is passed through.

use std::collections::VecDeque;

use ffmpeg_next::codec::{self, decoder, encoder};
use ffmpeg_next::format::Sample;
use ffmpeg_next::format::sample::Type;
use ffmpeg_next::software::resampling;
use ffmpeg_next::{ChannelLayout, Dictionary, Packet, frame};
use sluicegate_media::aac;
use sluicegate_media::frame::{AudioConfig, Frame, OPUS, Track, Unit};

use super::{AudioPlan, TranscodeError};
use crate::ffi;

mod clock;

use clock::SampleClock;

/// Samples a second of what comes out.
const RATE_HZ: u32 = 48_000;
/// Channels of what comes out.
const CHANNELS: usize = 2;
/// Bits a second of what comes out.
const BIT_RATE_BPS: usize = 128_000;
/// Interleaved samples that wait for the encoder at most: a second.
const WAITING_MAX: usize = RATE_HZ as usize * CHANNELS;

/// A stream's sound.
pub(super) struct Sound {
    plan: AudioPlan,
    source: Option<AudioConfig>,
    transcoder: Option<Transcoder>,
}

impl Sound {
    pub(super) fn new(plan: AudioPlan) -> Self {
        Self { plan, source: None, transcoder: None }
    }

    /// Takes a header or a frame of sound; what comes out. Sound that cannot be transcoded is left out, and
    /// said to be in the log.
    pub(super) fn push(&mut self, unit: Unit) -> Vec<Unit> {
        match unit {
            Unit::Audio(config) if self.is_passed(&config) => {
                (self.source, self.transcoder) = (Some(config.clone()), None);
                vec![Unit::Audio(config)]
            }
            Unit::Audio(config) if self.source.as_ref() == Some(&config) => Vec::new(),
            Unit::Audio(config) => self.open(config),
            Unit::Frame(frame) => {
                let passed = self.source.as_ref().is_some_and(|source| self.is_passed(source));
                match &mut self.transcoder {
                    Some(transcoder) => transcoder.push(&frame),
                    None if passed => vec![Unit::Frame(frame)],
                    None => Vec::new(),
                }
            }
            other => vec![other],
        }
    }

    /// What follows is no continuation.
    pub(super) fn restart(&mut self) {
        if let Some(transcoder) = &mut self.transcoder {
            transcoder.restart();
        }
    }

    fn is_passed(&self, config: &AudioConfig) -> bool {
        match self.plan {
            AudioPlan::Pass => true,
            AudioPlan::Opus => config.codec == OPUS,
            AudioPlan::Aac => config.codec != OPUS,
        }
    }

    fn open(&mut self, config: AudioConfig) -> Vec<Unit> {
        let opened = Transcoder::open(&config, self.plan);
        self.source = Some(config);
        match opened {
            Ok(transcoder) => {
                let header = Unit::Audio(transcoder.config.clone());
                self.transcoder = Some(transcoder);
                vec![header]
            }
            Err(error) => {
                tracing::warn!(%error, "a stream's sound cannot be transcoded; it is left out");
                self.transcoder = None;
                Vec::new()
            }
        }
    }
}

struct Transcoder {
    decoder: decoder::Audio,
    resampler: Option<resampling::Context>,
    encoder: encoder::audio::Encoder,
    config: AudioConfig,
    /// Interleaved samples that wait for the encoder.
    waiting: VecDeque<f32>,
    clock: Option<SampleClock>,
    /// When the frames began that the encoder has not given back yet.
    times_ms: VecDeque<i64>,
    /// Samples given to the encoder.
    encoded: i64,
    /// How much earlier what comes out is heard than it went in, samples.
    lead: i64,
}

impl Transcoder {
    fn open(source: &AudioConfig, plan: AudioPlan) -> Result<Self, TranscodeError> {
        let from_opus = source.codec == OPUS;
        let (id, what) =
            if from_opus { (codec::Id::OPUS, "Opus decoder") } else { (codec::Id::AAC, "AAC decoder") };
        let codec = decoder::find(id).ok_or(TranscodeError::NoCodec(what))?;
        let mut context = codec::Context::new_with_codec(codec);
        ffi::set_extradata(&mut context, &source.asc).map_err(TranscodeError::at(what))?;
        let opened = context.decoder().open_as(codec).and_then(|opened| opened.audio());
        let decoder = opened.map_err(TranscodeError::at(what))?;
        let encoder = open_encoder(plan)?;
        let config = header(plan, &ffi::extradata(&encoder))?;
        let lead = lead(plan, &config);
        Ok(Self {
            decoder,
            resampler: None,
            encoder,
            config,
            waiting: VecDeque::new(),
            clock: None,
            times_ms: VecDeque::new(),
            encoded: 0,
            lead,
        })
    }

    fn restart(&mut self) {
        self.waiting.clear();
        self.clock = None;
        self.resampler = None;
    }

    fn push(&mut self, frame: &Frame) -> Vec<Unit> {
        // A gap of the input is a gap of the output too.
        if self.clock.is_some_and(|clock| !clock.continues(frame.dts_ms)) {
            self.restart();
        }
        let begin = || SampleClock::new(frame.dts_ms, RATE_HZ);
        self.clock.get_or_insert_with(begin).follow(frame.dts_ms);
        match self.transcode(frame) {
            Ok(units) => units,
            Err(error) => {
                tracing::debug!(%error, "sound cannot be transcoded");
                self.restart();
                Vec::new()
            }
        }
    }

    fn transcode(&mut self, frame: &Frame) -> Result<Vec<Unit>, TranscodeError> {
        let packet = Packet::copy(&frame.payload);
        if let Err(error) = self.decoder.send_packet(&packet) {
            tracing::debug!(%error, "sound cannot be decoded");
        }
        let mut decoded = frame::Audio::empty();
        while self.decoder.receive_frame(&mut decoded).is_ok() {
            self.resample(&mut decoded)?;
        }
        let mut units = Vec::new();
        let frame_samples = self.config.frame_samples as usize * CHANNELS;
        while self.waiting.len() >= frame_samples {
            self.encode(frame_samples)?;
            units.extend(self.receive());
        }
        Ok(units)
    }

    fn resample(&mut self, decoded: &mut frame::Audio) -> Result<(), TranscodeError> {
        if decoded.channel_layout().is_empty() {
            decoded.set_channel_layout(ChannelLayout::default(i32::from(decoded.channels().max(1))));
        }
        let input = resampling::context::Definition {
            format: decoded.format(),
            channel_layout: decoded.channel_layout(),
            rate: decoded.rate(),
        };
        let resampler = match self.resampler.take().filter(|r| *r.input() == input) {
            Some(resampler) => resampler,
            None => resampling::Context::get(
                input.format,
                input.channel_layout,
                input.rate,
                Sample::F32(Type::Packed),
                ChannelLayout::STEREO,
                RATE_HZ,
            )
            .map_err(TranscodeError::at("resampler"))?,
        };
        let resampler = self.resampler.insert(resampler);
        // Room for all of it: what has none would wait in the resampler, and more with every frame.
        let samples = decoded.samples() * RATE_HZ as usize / (input.rate.max(1) as usize) + 256;
        let mut resampled = frame::Audio::new(Sample::F32(Type::Packed), samples, ChannelLayout::STEREO);
        resampler.run(decoded, &mut resampled).map_err(TranscodeError::at("resampler"))?;
        let count = resampled.samples() * CHANNELS;
        if count > 0 && self.waiting.len() + count <= WAITING_MAX {
            self.waiting
                .extend(resampled.plane::<(f32, f32)>(0).iter().flat_map(|(left, right)| [left, right]));
            if let Some(clock) = &mut self.clock {
                clock.take(resampled.samples());
            }
        }
        Ok(())
    }

    fn encode(&mut self, count: usize) -> Result<(), TranscodeError> {
        let samples: Vec<f32> = self.waiting.drain(..count).collect();
        let length = count / CHANNELS;
        let mut raw = frame::Audio::new(self.encoder.format(), length, ChannelLayout::STEREO);
        raw.set_rate(RATE_HZ);
        raw.set_pts(Some(self.encoded));
        if raw.is_packed() {
            for (sample, pair) in
                raw.plane_mut::<(f32, f32)>(0).iter_mut().zip(samples.chunks_exact(CHANNELS))
            {
                *sample = (pair[0], pair[1]);
            }
        } else {
            for channel in 0..CHANNELS {
                let own = samples.iter().skip(channel).step_by(CHANNELS);
                raw.plane_mut::<f32>(channel).iter_mut().zip(own).for_each(|(sample, own)| *sample = *own);
            }
        }
        let length = i64::try_from(length).unwrap_or(0);
        self.encoded += length;
        if let Some(clock) = &mut self.clock {
            self.times_ms.push_back(clock.give(length, self.lead));
        }
        self.encoder.send_frame(&raw).map_err(TranscodeError::at("audio encoder"))
    }

    fn receive(&mut self) -> Vec<Unit> {
        let mut units = Vec::new();
        let mut packet = Packet::empty();
        while self.encoder.receive_packet(&mut packet).is_ok() {
            let Some((dts_ms, payload)) = self.times_ms.pop_front().zip(packet.data()) else { continue };
            let payload = bytes::Bytes::copy_from_slice(payload);
            let frame = Frame { track: Track::Audio, dts_ms, pts_ms: dts_ms, keyframe: true, payload };
            units.push(Unit::Frame(frame));
        }
        units
    }
}

fn open_encoder(plan: AudioPlan) -> Result<encoder::audio::Encoder, TranscodeError> {
    let (name, format) = match plan {
        AudioPlan::Aac => ("aac", Sample::F32(Type::Planar)),
        AudioPlan::Opus | AudioPlan::Pass => ("libopus", Sample::F32(Type::Packed)),
    };
    let codec = encoder::find_by_name(name).ok_or(TranscodeError::NoCodec(name))?;
    let mut context = codec::Context::new_with_codec(codec);
    context.set_flags(codec::Flags::GLOBAL_HEADER);
    let mut audio = context.encoder().audio().map_err(TranscodeError::at(name))?;
    audio.set_rate(RATE_HZ as i32);
    audio.set_format(format);
    audio.set_channel_layout(ChannelLayout::STEREO);
    audio.set_bit_rate(BIT_RATE_BPS);
    let mut options = Dictionary::new();
    if plan == AudioPlan::Opus {
        options.set("frame_duration", "20");
    }
    audio.open_as_with(codec, options).map_err(TranscodeError::at(name))
}

/// How much later than it went in, in samples, what is encoded is heard: AAC's first frame is before the sound, Opus's
/// header says (RFC 7845, 5.1: pre-skip).
fn lead(plan: AudioPlan, config: &AudioConfig) -> i64 {
    match (plan, config.asc.get(10..12)) {
        (AudioPlan::Aac, _) => config.frame_samples.into(),
        (_, Some(&[low, high])) => u16::from_le_bytes([low, high]).into(),
        _ => 0,
    }
}

fn header(plan: AudioPlan, extradata: &[u8]) -> Result<AudioConfig, TranscodeError> {
    let asc = bytes::Bytes::copy_from_slice(extradata);
    if plan == AudioPlan::Aac {
        return Ok(aac::parse(asc)?);
    }
    Ok(AudioConfig {
        asc,
        codec: OPUS.to_owned(),
        sample_rate: RATE_HZ,
        channels: CHANNELS as u16,
        frame_samples: RATE_HZ / 50,
    })
}
