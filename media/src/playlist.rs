//! HLS playlists (RFC 8216) of a window and of a stream's renditions.

use std::time::Duration;

use hls_m3u8::tags::{ExtXMap, ExtXProgramDateTime, VariantStream};
use hls_m3u8::types::{StreamData, UFloat};
use hls_m3u8::{MasterPlaylist, MediaPlaylist, MediaSegment};

use crate::names::FileName;
use crate::segmenter::Segment;
use crate::window::{Window, WindowConfig};

/// Why a playlist could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PlaylistError {
    /// A playlist lists at least one segment or rendition.
    #[error("there is nothing to list yet")]
    Empty,
    /// The writer refused it.
    #[error("the playlist is not valid: {0}")]
    Invalid(#[from] hls_m3u8::Error),
    /// A number that this machine's `usize` cannot hold.
    #[error("a sequence number is too large")]
    TooLarge,
}

/// The media playlist of a window. Addresses are relative: files lie beside their playlist.
///
/// # Errors
/// [`PlaylistError::Empty`] before the first segment.
pub fn media_playlist(window: &Window) -> Result<String, PlaylistError> {
    let first = window.listed().next().ok_or(PlaylistError::Empty)?;
    let mut builder = MediaPlaylist::builder();
    builder
        .target_duration(Duration::from_secs(window.target_duration_s()))
        .media_sequence(number(first.sequence)?)
        .discontinuity_sequence(number(window.discontinuity_sequence())?)
        // A group of pictures that had to be cut inside makes the promise false until it has left.
        .has_independent_segments(window.listed().all(|segment| segment.independent))
        .has_end_list(window.is_ended());
    let mut init = None;
    for segment in window.listed() {
        let map = (init != Some(segment.init.index)).then_some(segment.init.index);
        builder.push_segment(media_segment(window.config(), segment, map)?);
        init = Some(segment.init.index);
    }
    Ok(builder.build()?.to_string())
}

fn number(value: u64) -> Result<usize, PlaylistError> {
    usize::try_from(value).map_err(|_| PlaylistError::TooLarge)
}

fn media_segment(
    window: &WindowConfig,
    segment: &Segment,
    map: Option<u32>,
) -> Result<MediaSegment<'static>, PlaylistError> {
    let WindowConfig { stream, rung, epoch, .. } = window;
    let (rung, epoch) = (*rung, *epoch);
    let uri = FileName::Segment { stream: stream.clone(), rung, epoch, sequence: segment.sequence };
    let mut builder = MediaSegment::builder();
    builder
        .duration(Duration::from_millis(segment.duration_ms))
        .has_discontinuity(segment.discontinuity)
        .program_date_time(ExtXProgramDateTime::new(rfc3339(segment.program_date_time_unix_ms)))
        .uri(uri.to_string());
    if let Some(index) = map {
        let uri = FileName::Init { stream: stream.clone(), rung, epoch, index };
        builder.map(ExtXMap::new(uri.to_string()));
    }
    Ok(builder.build()?)
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

/// A moment in UTC with milliseconds, such as `2026-11-05T07:08:09.012Z`.
fn rfc3339(unix_ms: i64) -> String {
    let (day, ms) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(day);
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1000)
}

/// Year, month and day of the Gregorian calendar, from days since 1970. Years are counted from March, so
/// that the leap day is a year's last and months' lengths follow a pattern of five.
fn civil(day: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    const MARCH_0000_TO_1970: i64 = 719_468;
    let day = day + MARCH_0000_TO_1970;
    let (era, day) = (day.div_euclid(DAYS_IN_400_YEARS), day.rem_euclid(DAYS_IN_400_YEARS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let january_or_february = month >= 10;
    let month = if january_or_february { month - 9 } else { month + 3 };
    (era * 400 + year + i64::from(january_or_february), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::names::Rung;
    use crate::segmenter::InitSegment;
    use crate::window::tests::{segment, window};

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(951_868_799_001), "2000-02-29T23:59:59.001Z");
        assert_eq!(rfc3339(1_762_326_489_012), "2025-11-05T07:08:09.012Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_live_playlist() {
        let mut window = window(3);
        for sequence in 41..45 {
            window.push(segment(sequence, 2000 + sequence % 2)).unwrap();
        }
        let text = media_playlist(&window).unwrap();
        let expect = [
            "#EXTM3U",
            "#EXT-X-VERSION:6",
            "#EXT-X-TARGETDURATION:2",
            "#EXT-X-MEDIA-SEQUENCE:42",
            "#EXT-X-DISCONTINUITY-SEQUENCE:3",
            "#EXT-X-INDEPENDENT-SEGMENTS",
            "#EXT-X-MAP:URI=\"cam1_source__7_init0.mp4\"",
            "#EXT-X-PROGRAM-DATE-TIME:2025-10-09T08:54:44.000Z",
            "#EXTINF:2,",
            "cam1_source__7_42.m4s",
            "#EXT-X-PROGRAM-DATE-TIME:2025-10-09T08:54:46.000Z",
            "#EXTINF:2.001,",
            "cam1_source__7_43.m4s",
            "#EXT-X-PROGRAM-DATE-TIME:2025-10-09T08:54:48.000Z",
            "#EXTINF:2,",
            "cam1_source__7_44.m4s",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expect);
        let read = MediaPlaylist::try_from(text.as_str()).unwrap();
        assert_eq!((read.media_sequence, read.discontinuity_sequence), (42, 3));
        assert_eq!(read.segments.values().map(|segment| segment.number()).collect::<Vec<_>>(), [42, 43, 44]);
        assert!(!read.has_end_list);
    }

    #[test]
    fn a_change_of_headers_and_the_end() {
        let mut window = window(3);
        window.push(Segment { discontinuity: true, ..segment(0, 2000) }).unwrap();
        let init = InitSegment { index: 1, bytes: Bytes::from_static(b"init1") };
        let changed = Segment { discontinuity: true, independent: false, init, ..segment(1, 5000) };
        window.push(changed.clone()).unwrap();
        window.push(Segment { sequence: 2, discontinuity: false, ..changed }).unwrap();
        window.end();
        let text = media_playlist(&window).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let count = |line: &str| lines.iter().filter(|other| **other == line).count();
        assert_eq!(count("#EXT-X-DISCONTINUITY"), 2);
        assert_eq!(count("#EXT-X-MAP:URI=\"cam1_source__7_init0.mp4\""), 1);
        assert_eq!(count("#EXT-X-MAP:URI=\"cam1_source__7_init1.mp4\""), 1);
        assert_eq!(count("#EXT-X-INDEPENDENT-SEGMENTS"), 0);
        assert_eq!(count("#EXT-X-TARGETDURATION:5"), 1);
        assert_eq!(lines.last(), Some(&"#EXT-X-ENDLIST"));
        let read = MediaPlaylist::try_from(text.as_str()).unwrap();
        let marks: Vec<_> = read.segments.values().map(|segment| segment.has_discontinuity).collect();
        assert_eq!(marks, [true, true, false]);
        assert!(read.has_end_list);
    }

    #[test]
    fn nothing_to_list() {
        assert!(matches!(media_playlist(&window(3)), Err(PlaylistError::Empty)));
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
