//! Pictures into H.264 without B-frames, as soon as they come.

use std::collections::VecDeque;

use ffmpeg_next::codec::{self, encoder, packet};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::util::picture;
use ffmpeg_next::{Dictionary, Packet, Rational, frame};
use sluicegate_media::annexb;
use sluicegate_media::frame::{Frame, Track, VideoConfig};

use super::engine::Engine;
use super::{TranscodeError, engine};
use crate::ffi;

/// Above this many pixels a second one core is not enough for the encoder.
const ONE_THREAD_PX_PER_S: f64 = 130e6;

/// What is encoded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EncoderSpec {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) fps: f64,
    pub(super) kbps: u32,
}

impl EncoderSpec {
    /// Encoded megapixels a second.
    pub(super) fn mpx(&self) -> f64 {
        f64::from(self.width) * f64::from(self.height) * self.fps / 1e6
    }
}

/// Encodes one rendition.
pub(super) struct PictureEncoder {
    encoder: encoder::video::Encoder,
    config: VideoConfig,
    /// What it was opened for.
    input: Pixel,
    /// Pictures are counted for the encoder, whose rate control wants even steps; these are their times.
    times_ms: VecDeque<(i64, i64)>,
    count: i64,
}

impl PictureEncoder {
    /// Opens NVENC on the engine's card, else x264, for pictures such as `input`, with their colours described as those
    /// of `like`.
    pub(super) fn open(
        spec: &EncoderSpec,
        engine: &Engine,
        input: &frame::Video,
        like: &frame::Video,
    ) -> Result<Self, TranscodeError> {
        let card = engine.encodes_on(spec.width, spec.height);
        let (name, options) = match card {
            Some(_) => ("h264_nvenc", nvenc_options(spec)),
            None => ("libx264", x264_options(spec)),
        };
        let codec = encoder::find_by_name(name).ok_or(TranscodeError::NoCodec(name))?;
        let mut context = codec::Context::new_with_codec(codec);
        context.set_flags(codec::Flags::GLOBAL_HEADER);
        if input.format() == Pixel::CUDA {
            ffi::share_frames(&mut context, input).map_err(TranscodeError::at(name))?;
        } else {
            engine::attach(card, &mut context, name)?;
        }
        let mut video = context.encoder().video().map_err(TranscodeError::at(name))?;
        video.set_width(spec.width);
        video.set_height(spec.height);
        video.set_format(input.format());
        let rate = frame_rate(spec.fps);
        video.set_time_base(rate.invert());
        video.set_frame_rate(Some(rate));
        if like.aspect_ratio().numerator() > 0 {
            video.set_aspect_ratio(like.aspect_ratio());
        }
        video.set_colorspace(like.color_space());
        video.set_color_primaries(like.color_primaries());
        video.set_color_transfer_characteristic(like.color_transfer_characteristic());
        let encoder = video.open_as_with(codec, options).map_err(TranscodeError::at(name))?;
        let config = annexb::video_config(&ffi::extradata(&encoder))?;
        let config = VideoConfig { fps: Some(spec.fps), ..config };
        Ok(Self { encoder, config, input: input.format(), times_ms: VecDeque::new(), count: 0 })
    }

    /// The header of what comes out.
    pub(super) fn config(&self) -> &VideoConfig {
        &self.config
    }

    /// Encodes a picture of the size that was opened.
    ///
    /// # Errors
    /// [`TranscodeError::Moved`] when it is of another format, or elsewhere.
    pub(super) fn push(
        &mut self,
        picture: &mut frame::Video,
        pts_ms: i64,
        keyframe: bool,
    ) -> Result<Vec<Frame>, TranscodeError> {
        if picture.format() != self.input {
            return Err(TranscodeError::Moved);
        }
        picture.set_pts(Some(self.count));
        picture.set_kind(if keyframe { picture::Type::I } else { picture::Type::None });
        self.times_ms.push_back((self.count, pts_ms));
        self.count += 1;
        self.encoder.send_frame(picture).map_err(TranscodeError::at("H.264 encoder"))?;
        Ok(self.receive())
    }

    fn receive(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut packet = Packet::empty();
        while self.encoder.receive_packet(&mut packet).is_ok() {
            frames.extend(self.frame(&packet));
        }
        frames
    }

    fn frame(&mut self, packet: &Packet) -> Option<Frame> {
        let count = packet.pts()?;
        while self.times_ms.front().is_some_and(|(earlier, _)| *earlier < count) {
            self.times_ms.pop_front();
        }
        let (_, pts_ms) = self.times_ms.pop_front()?;
        let keyframe = packet.flags().contains(packet::Flags::KEY);
        let payload = annexb::to_lengths(packet.data()?);
        Some(Frame { track: Track::Video, dts_ms: pts_ms, pts_ms, keyframe, payload })
    }
}

/// Superfast is where x264 gives most for a core: half the cost of veryfast for the same ladder, and without
/// look-ahead, which would hold pictures back. Keyframes come when they are asked for, and never otherwise.
fn x264_options(spec: &EncoderSpec) -> Dictionary<'static> {
    let threads =
        if f64::from(spec.width) * f64::from(spec.height) * spec.fps > ONE_THREAD_PX_PER_S { 4 } else { 1 };
    let kbps = spec.kbps;
    let mut options = Dictionary::new();
    for (name, value) in [
        ("preset", "superfast".to_owned()),
        ("tune", "zerolatency".to_owned()),
        ("profile", "high".to_owned()),
        ("b", format!("{kbps}k")),
        ("maxrate", format!("{kbps}k")),
        ("bufsize", format!("{kbps}k")),
        ("bf", "0".to_owned()),
        ("g", i32::MAX.to_string()),
        ("sc_threshold", "0".to_owned()),
        ("forced-idr", "1".to_owned()),
        ("threads", threads.to_string()),
    ] {
        options.set(name, &value);
    }
    options
}

/// As little delay as with x264: each picture comes out before the next goes in. NVENC counts pictures up to a
/// keyframe; so many never come, since a rung gets one at least every few seconds.
fn nvenc_options(spec: &EncoderSpec) -> Dictionary<'static> {
    let kbps = spec.kbps;
    let mut options = Dictionary::new();
    for (name, value) in [
        ("preset", "p4".to_owned()),
        ("tune", "ll".to_owned()),
        ("profile", "high".to_owned()),
        ("rc", "cbr".to_owned()),
        ("b", format!("{kbps}k")),
        ("maxrate", format!("{kbps}k")),
        ("bufsize", format!("{kbps}k")),
        ("bf", "0".to_owned()),
        ("g", "1000000".to_owned()),
        ("forced-idr", "1".to_owned()),
        ("delay", "0".to_owned()),
        ("zerolatency", "1".to_owned()),
    ] {
        options.set(name, &value);
    }
    options
}

/// A rate as a fraction: whole ones, and 29.97 and its like, as they are written.
fn frame_rate(fps: f64) -> Rational {
    let whole = fps.round();
    #[expect(clippy::cast_possible_truncation, reason = "rates are limited to a few hundred")]
    let (whole, thousandths) = (whole as i32, (fps * 1_000.0).round() as i32);
    if (f64::from(whole) - fps).abs() < 0.005 {
        Rational(whole.max(1), 1)
    } else if (f64::from(whole) * 1_000.0 / 1_001.0 - fps).abs() < 0.005 {
        Rational(whole.max(1) * 1_000, 1_001)
    } else {
        Rational(thousandths.max(1_000), 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_they_are_meant() {
        assert_eq!(frame_rate(30.0), Rational(30, 1));
        assert_eq!(frame_rate(29.97), Rational(30_000, 1_001));
        assert_eq!(frame_rate(12.5), Rational(12_500, 1_000));
    }
}
