//! One rendition as HLS: its units cut into segments, the segments that may be asked for, and its playlist,
//! rendered when a segment ends, not when it is asked for. Synchronous.

use bytes::Bytes;
use sluicegate_media::cmaf::MuxError;
use sluicegate_media::frame::{Frame, Track, Unit, VideoConfig};
use sluicegate_media::names::FileName;
use sluicegate_media::playlist::{self, PlaylistError, Variant};
use sluicegate_media::segmenter::{Segment, Segmenter, SegmenterConfig};
use sluicegate_media::window::{Window, WindowConfig};

/// A rendition of a live stream.
pub(crate) struct Rendition {
    segmenter: Segmenter,
    window: Window,
    frame_rate: FrameRate,
    playlist: Option<Bytes>,
    last_sequence: u64,
}

impl Rendition {
    /// A rendition without segments.
    pub(crate) fn new(segmenter: SegmenterConfig, window: WindowConfig) -> Self {
        Self {
            last_sequence: segmenter.first_sequence,
            segmenter: Segmenter::new(segmenter),
            window: Window::new(window),
            frame_rate: FrameRate::default(),
            playlist: None,
        }
    }

    /// Takes a unit; whether it ended a segment.
    ///
    /// # Errors
    /// [`MuxError`] when a segment could not be written; it is lost.
    pub(crate) fn push(&mut self, unit: Unit) -> Result<bool, MuxError> {
        let ended = match unit {
            Unit::Video(video) => self.segmenter.push_video_config(video)?,
            Unit::Audio(audio) => self.segmenter.push_audio_config(audio)?,
            Unit::Discontinuity => self.segmenter.push_discontinuity()?,
            Unit::Frame(frame) => {
                self.frame_rate.count(&frame);
                self.segmenter.push(frame)?
            }
        };
        let Some(segment) = ended else { return Ok(false) };
        self.list(segment);
        Ok(true)
    }

    /// Ends the rendition: its playlist says so.
    pub(crate) fn finish(&mut self) {
        // What cannot be written now is lost with the stream.
        let last = self.segmenter.finish().ok().flatten();
        self.window.end();
        match last {
            Some(segment) => self.list(segment),
            None => self.render(),
        }
    }

    /// Its playlist, once there is a segment.
    pub(crate) fn playlist(&self) -> Option<Bytes> {
        self.playlist.clone()
    }

    /// A segment or an init segment.
    pub(crate) fn file(&self, name: &FileName) -> Option<Bytes> {
        self.window.file(name)
    }

    /// The media sequence number of its newest segment, or the one that its first will have.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// The video's header, once it is known.
    pub(crate) fn video(&self) -> Option<&VideoConfig> {
        self.segmenter.video()
    }

    /// Frames a second, from the header or counted.
    pub(crate) fn fps(&self) -> Option<f64> {
        self.video().and_then(|v| v.fps).or(self.frame_rate.fps)
    }

    /// What a multivariant playlist says of it.
    pub(crate) fn variant(&self) -> Variant {
        let (video, audio) = (self.segmenter.video(), self.segmenter.audio());
        let codecs = [video.map(|v| v.codec.clone()), audio.map(|a| a.codec.clone())];
        let WindowConfig { stream, rung, .. } = self.window.config();
        Variant {
            playlist: FileName::MediaPlaylist { stream: stream.clone(), rung: *rung },
            peak_bps: self.window.peak_bps(),
            average_bps: self.window.average_bps(),
            codecs: codecs.into_iter().flatten().collect(),
            resolution: video.map(|v| (v.width, v.height)),
            fps: self.fps(),
        }
    }

    fn list(&mut self, segment: Segment) {
        self.last_sequence = segment.sequence;
        if let Err(error) = self.window.push(segment) {
            tracing::error!(%error, stream = self.window.config().stream, "a segment was lost");
        }
        self.render();
    }

    fn render(&mut self) {
        match playlist::media_playlist(&self.window) {
            Ok(text) => self.playlist = Some(text.into()),
            // A stream that ended before its first segment has nothing to list.
            Err(PlaylistError::Empty) => {}
            Err(error) => {
                tracing::error!(%error, stream = self.window.config().stream, "a playlist could not be written");
            }
        }
    }
}

/// The frames a second, when the header does not tell: counted over two seconds of the timeline.
#[derive(Debug, Default)]
struct FrameRate {
    frames: u32,
    since_ms: Option<i64>,
    fps: Option<f64>,
}

impl FrameRate {
    fn count(&mut self, frame: &Frame) {
        if frame.track != Track::Video {
            return;
        }
        let since_ms = *self.since_ms.get_or_insert(frame.dts_ms);
        let passed_ms = u32::try_from(frame.dts_ms.saturating_sub(since_ms)).unwrap_or(0);
        if passed_ms >= 2_000 {
            self.fps = Some((f64::from(self.frames) * 1_000.0 / f64::from(passed_ms)).round());
            (self.frames, self.since_ms) = (0, Some(frame.dts_ms));
        }
        self.frames += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_by_their_own_time() {
        let mut rate = FrameRate::default();
        let payload = Bytes::new();
        for n in 0..60 {
            let dts_ms = n * 40;
            rate.count(&Frame {
                track: Track::Video,
                dts_ms,
                pts_ms: dts_ms,
                keyframe: n == 0,
                payload: payload.clone(),
            });
        }
        assert_eq!(rate.fps, Some(25.0));
    }
}
