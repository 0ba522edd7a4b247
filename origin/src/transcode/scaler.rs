//! Pictures of any size and format into those that an encoder takes: by swscale where they are in memory, by CUDA
//! where they are on a card.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame;
use ffmpeg_next::software::scaling;

use super::TranscodeError;
use crate::ffi::CardScaler;

/// Scales to one size.
pub(super) struct Scaler {
    width: u32,
    height: u32,
    /// Whether what comes out of a card stays there.
    stays: bool,
    in_memory: Option<scaling::Context>,
    on_card: Option<CardScaler>,
}

impl Scaler {
    /// To this size; `stays`: pictures that are on a card stay there.
    pub(super) fn new(width: u32, height: u32, stays: bool) -> Self {
        Self { width, height, stays, in_memory: None, on_card: None }
    }

    /// The source's pictures may change their size, format or place without a new header.
    pub(super) fn scale(&mut self, picture: &frame::Video) -> Result<frame::Video, TranscodeError> {
        if picture.format() == Pixel::CUDA {
            return self.scale_on_card(picture).map_err(TranscodeError::at("scaler on a graphics card"));
        }
        let input = scaling::context::Definition {
            format: picture.format(),
            width: picture.width(),
            height: picture.height(),
        };
        let scaler = match self.in_memory.take().filter(|scaler| *scaler.input() == input) {
            Some(scaler) => scaler,
            None => scaling::Context::get(
                input.format,
                input.width,
                input.height,
                Pixel::YUV420P,
                self.width,
                self.height,
                scaling::Flags::BICUBIC,
            )
            .map_err(TranscodeError::at("scaler"))?,
        };
        let scaler = self.in_memory.insert(scaler);
        let mut scaled = frame::Video::empty();
        scaler.run(picture, &mut scaled).map_err(TranscodeError::at("scaler"))?;
        Ok(scaled)
    }

    fn scale_on_card(&mut self, picture: &frame::Video) -> Result<frame::Video, ffmpeg_next::Error> {
        let scaler = match self.on_card.take().filter(|scaler| scaler.takes(picture)) {
            Some(scaler) => scaler,
            None => CardScaler::open(picture, self.width, self.height, self.stays)?,
        };
        self.on_card.insert(scaler).scale(picture)
    }
}
