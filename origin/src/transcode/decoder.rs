//! Encoded pictures into pictures. Damaged ones are concealed or left out by FFmpeg.

use ffmpeg_next::codec::{self, decoder};
use ffmpeg_next::{Dictionary, Packet, frame};
use sluicegate_media::frame::{Frame, VP8, VideoConfig};

use super::TranscodeError;
use crate::ffi;

/// Above this many megapixels a picture is decoded by several threads, each of which holds one back.
const ONE_THREAD_PX: u32 = 2_560 * 1_440;

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
}

impl PictureDecoder {
    /// A decoder for what `config` describes.
    pub(super) fn open(config: &VideoConfig) -> Result<Self, TranscodeError> {
        let (id, name) = if config.codec == VP8 {
            (codec::Id::VP8, "VP8 decoder")
        } else {
            (codec::Id::H264, "H.264 decoder")
        };
        let codec = decoder::find(id).ok_or(TranscodeError::NoCodec(name))?;
        let mut context = codec::Context::new_with_codec(codec);
        ffi::set_extradata(&mut context, &config.avcc).map_err(TranscodeError::at(name))?;
        let mut options = Dictionary::new();
        // A parameter set inside the stream may promise any size; memory for it would be taken at once.
        let with_margin = |px: u32| u64::from(px) + 64;
        options.set("max_pixels", &(with_margin(config.width) * with_margin(config.height)).to_string());
        let threads = if config.width.saturating_mul(config.height) > ONE_THREAD_PX { "4" } else { "1" };
        options.set("threads", threads);
        let opened = context.decoder().open_as_with(codec, options).and_then(|opened| opened.video());
        Ok(Self { decoder: opened.map_err(TranscodeError::at(name))?, last_pts_ms: None })
    }

    /// Takes a frame; the pictures that have come out.
    pub(super) fn push(&mut self, frame: &Frame) -> Vec<Picture> {
        let mut packet = Packet::copy(&frame.payload);
        packet.set_pts(Some(frame.pts_ms));
        packet.set_dts(Some(frame.dts_ms));
        if let Err(error) = self.decoder.send_packet(&packet) {
            tracing::debug!(%error, "a picture cannot be decoded");
        }
        self.receive()
    }

    /// The pictures that were held back. It goes on from the next keyframe.
    pub(super) fn drain(&mut self) -> Vec<Picture> {
        let rest = if self.decoder.send_eof().is_ok() { self.receive() } else { Vec::new() };
        self.decoder.flush();
        self.last_pts_ms = None;
        rest
    }

    fn receive(&mut self) -> Vec<Picture> {
        let mut pictures = Vec::new();
        loop {
            let mut frame = frame::Video::empty();
            if self.decoder.receive_frame(&mut frame).is_err() {
                return pictures;
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
}
