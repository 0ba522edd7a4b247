//! The list of a stream's renditions (RFC 8216, 4.3.4).

use hls_m3u8::MasterPlaylist;
use hls_m3u8::tags::VariantStream;
use hls_m3u8::types::{StreamData, UFloat};

use crate::names::FileName;

/// Why a playlist could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PlaylistError {
    /// A playlist lists at least one rendition.
    #[error("there is nothing to list yet")]
    Empty,
    /// The writer refused it.
    #[error("the playlist is not valid: {0}")]
    Invalid(#[from] hls_m3u8::Error),
    /// A number that this machine's `usize` cannot hold.
    #[error("a sequence number is too large")]
    TooLarge,
}

/// What a multivariant playlist says of a rendition.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Its media playlist.
    pub playlist: FileName,
    /// The highest rate of a segment, in bits a second.
    pub peak_bps: u64,
    /// The mean rate, in bits a second.
    pub average_bps: u64,
    /// Its tracks' codecs by RFC 6381.
    pub codecs: Vec<String>,
    /// Width and height in pixels, if it has video.
    pub resolution: Option<(u32, u32)>,
    /// Frames a second, if known.
    pub fps: Option<f64>,
}

/// The multivariant playlist of these renditions. Players begin with the first.
///
/// # Errors
/// [`PlaylistError::Empty`] without renditions.
pub fn multivariant(variants: &[Variant]) -> Result<String, PlaylistError> {
    if variants.is_empty() {
        return Err(PlaylistError::Empty);
    }
    let streams = variants.iter().map(variant_stream).collect::<Result<Vec<_>, _>>()?;
    Ok(MasterPlaylist::builder().variant_streams(streams).build()?.to_string())
}

fn variant_stream(variant: &Variant) -> Result<VariantStream<'static>, PlaylistError> {
    let mut stream_data = StreamData::builder();
    stream_data.bandwidth(variant.peak_bps).average_bandwidth(variant.average_bps);
    if !variant.codecs.is_empty() {
        stream_data.codecs(variant.codecs.clone());
    }
    if let Some((width, height)) = variant.resolution {
        stream_data.resolution((number(width.into())?, number(height.into())?));
    }
    let frame_rate = match variant.fps {
        Some(fps) => Some(UFloat::try_from(single(fps))?),
        None => None,
    };
    Ok(VariantStream::ExtXStreamInf {
        uri: variant.playlist.to_string().into(),
        frame_rate,
        audio: None,
        subtitles: None,
        closed_captions: None,
        stream_data: stream_data.build()?,
    })
}

#[expect(clippy::cast_possible_truncation, reason = "a frame rate is written with three decimals")]
fn single(fps: f64) -> f32 {
    fps as f32
}

fn number(value: u64) -> Result<usize, PlaylistError> {
    usize::try_from(value).map_err(|_| PlaylistError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Rung;

    #[test]
    fn nothing_to_list() {
        assert!(matches!(multivariant(&[]), Err(PlaylistError::Empty)));
    }

    #[test]
    fn renditions() {
        let stream = || "cam1".to_owned();
        let rung = Rung::Encoded { height: 360, kbps: 800 };
        let variants = [
            Variant {
                playlist: FileName::MediaPlaylist { stream: stream(), rung: Rung::Source },
                peak_bps: 4_400_000,
                average_bps: 4_000_000,
                codecs: vec!["avc1.64001f".to_owned(), "mp4a.40.2".to_owned()],
                resolution: Some((1280, 720)),
                fps: Some(30_000.0 / 1001.0),
            },
            Variant {
                playlist: FileName::MediaPlaylist { stream: stream(), rung },
                peak_bps: 900_000,
                average_bps: 800_000,
                codecs: vec!["mp4a.40.2".to_owned()],
                resolution: None,
                fps: None,
            },
        ];
        let text = multivariant(&variants).unwrap();
        let expect = [
            "#EXTM3U",
            "#EXT-X-STREAM-INF:BANDWIDTH=4400000,AVERAGE-BANDWIDTH=4000000,\
             CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.970",
            "cam1.m3u8",
            "#EXT-X-STREAM-INF:BANDWIDTH=900000,AVERAGE-BANDWIDTH=800000,CODECS=\"mp4a.40.2\"",
            "cam1_360p800kbps.m3u8",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expect);
        let read = MasterPlaylist::try_from(text.as_str()).unwrap();
        assert_eq!(read.variant_streams.len(), 2);
        assert_eq!(read.variant_streams[0].bandwidth(), 4_400_000);
    }
}
