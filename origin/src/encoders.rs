//! Which H.264 encoders work here. An encoder's name being listed says nothing: it is opened, for real.

use ffmpeg_next::codec::{self, encoder};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::{Rational, init, log};

/// Encoders that the transcoder knows, best first.
pub const KNOWN: [&str; 2] = ["h264_nvenc", "libx264"];

/// Whether an encoder works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderTrial {
    /// FFmpeg's name for it.
    pub name: &'static str,
    /// Why it does not; `None` when it does.
    pub why_not: Option<String>,
}

/// Opens each known encoder.
#[must_use]
pub fn try_all() -> Vec<EncoderTrial> {
    if let Err(error) = init() {
        return KNOWN.map(|name| EncoderTrial { name, why_not: Some(error.to_string()) }).to_vec();
    }
    // What does not work is reported here, not on standard error by the library.
    log::set_level(log::Level::Fatal);
    KNOWN.map(|name| EncoderTrial { name, why_not: open(name).err() }).to_vec()
}

fn open(name: &str) -> Result<(), String> {
    let codec = encoder::find_by_name(name).ok_or("FFmpeg was built without it")?;
    let context = codec::Context::new_with_codec(codec);
    let mut video = context.encoder().video().map_err(|e| e.to_string())?;
    video.set_width(320);
    video.set_height(240);
    video.set_format(Pixel::YUV420P);
    video.set_time_base(Rational(1, 30));
    video.open_as(codec).map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x264_works_wherever_this_is_built() {
        let trials = try_all();
        assert_eq!(trials.len(), KNOWN.len());
        let x264 = trials.iter().find(|t| t.name == "libx264").unwrap();
        assert_eq!(x264.why_not, None);
    }
}
