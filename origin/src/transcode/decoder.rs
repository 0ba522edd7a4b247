//! Encoded pictures into pictures. Damaged ones are concealed or left out by FFmpeg.

use ffmpeg_next::codec::{self, decoder};
use ffmpeg_next::{Dictionary, Packet, frame};
use sluicegate_media::frame::{Frame, VP8, VideoConfig};

use super::engine::Engine;
use super::{TranscodeError, engine};
use crate::ffi;

/// Above this many megapixels a picture is decoded by several threads, each of which holds one back.
const ONE_THREAD_PX: u32 = 2_560 * 1_440;

/// Frames in a row of which a card makes no picture: some of what goes wrong there looks like damage. Then the
/// processors are asked.
const UNANSWERED_MAX: u32 = 90;

/// A decoded picture.
pub(super) struct Picture {
    pub(super) frame: frame::Video,
    pub(super) pts_ms: i64,
    /// Whether it is to be a keyframe in every rendition.
    pub(super) keyframe: bool,
}

/// Decodes one video track.
pub(super) struct PictureDecoder {
    decoder: decoder::Video,
    last_pts_ms: Option<i64>,
    /// Frames that went in since a picture came out of a card; `None`: no card decodes.
    unanswered: Option<u32>,
}

impl PictureDecoder {
    /// A decoder for what `config` describes. Pictures come out on the engine's card; in memory, if there is none, or
    /// if it does not know such pictures.
    pub(super) fn open(config: &VideoConfig, engine: &Engine) -> Result<Self, TranscodeError> {
        let (id, name) = if config.codec == VP8 {
            (codec::Id::VP8, "VP8 decoder")
        } else {
            (codec::Id::H264, "H.264 decoder")
        };
        let codec = decoder::find(id).ok_or(TranscodeError::NoCodec(name))?;
        let mut context = codec::Context::new_with_codec(codec);
        ffi::set_extradata(&mut context, &config.avcc).map_err(TranscodeError::at(name))?;
        let card = engine.decodes_on();
        engine::attach(card, &mut context, name)?;
        let mut options = Dictionary::new();
        // A parameter set inside the stream may promise any size; memory for it would be taken at once.
        let with_margin = |px: u32| u64::from(px) + 64;
        options.set("max_pixels", &(with_margin(config.width) * with_margin(config.height)).to_string());
        let is_large = config.width.saturating_mul(config.height) > ONE_THREAD_PX;
        options.set("threads", if is_large && card.is_none() { "4" } else { "1" });
        let opened = context.decoder().open_as_with(codec, options).and_then(|opened| opened.video());
        let decoder = opened.map_err(TranscodeError::at(name))?;
        Ok(Self { decoder, last_pts_ms: None, unanswered: card.map(|_| 0) })
    }

    /// Takes a frame; the pictures that have come out.
    ///
    /// # Errors
    /// When it is the card that fails. A frame that cannot be decoded is no error.
    pub(super) fn push(&mut self, frame: &Frame) -> Result<Vec<Picture>, TranscodeError> {
        let mut packet = Packet::copy(&frame.payload);
        packet.set_pts(Some(frame.pts_ms));
        packet.set_dts(Some(frame.dts_ms));
        if let Err(error) = self.decoder.send_packet(&packet) {
            tracing::debug!(%error, "a picture cannot be decoded");
            self.blame_card(error)?;
        }
        let pictures = self.receive()?;
        if let Some(unanswered) = &mut self.unanswered {
            *unanswered = if pictures.is_empty() { *unanswered + 1 } else { 0 };
            if *unanswered > UNANSWERED_MAX {
                return Err(TranscodeError::CardLost);
            }
        }
        Ok(pictures)
    }

    /// The pictures that were held back. It goes on from the next keyframe.
    ///
    /// # Errors
    /// When it is the card that fails.
    pub(super) fn drain(&mut self) -> Result<Vec<Picture>, TranscodeError> {
        let rest = if self.decoder.send_eof().is_ok() { self.receive()? } else { Vec::new() };
        self.decoder.flush();
        self.last_pts_ms = None;
        Ok(rest)
    }

    fn receive(&mut self) -> Result<Vec<Picture>, TranscodeError> {
        let mut pictures = Vec::new();
        loop {
            let mut frame = frame::Video::empty();
            if let Err(error) = self.decoder.receive_frame(&mut frame) {
                self.blame_card(error)?;
                return Ok(pictures);
            }
            // Before it knows how far pictures are reordered, a decoder may give one too late.
            let Some(pts_ms) = frame.pts().filter(|pts| self.last_pts_ms.is_none_or(|last| *pts > last))
            else {
                continue;
            };
            self.last_pts_ms = Some(pts_ms);
            pictures.push(Picture { frame, pts_ms, keyframe: false });
        }
    }

    fn blame_card(&self, error: ffmpeg_next::Error) -> Result<(), TranscodeError> {
        if self.unanswered.is_some() && engine::is_of_card(error) {
            return Err(TranscodeError::at("decoder on a graphics card")(error));
        }
        Ok(())
    }
}
