//! One stream's messages into segments. Synchronous: the arrival time is an argument.

use sluicegate_cluster::clock::UnixMs;
use sluicegate_media::cmaf::MuxError;
use sluicegate_media::flv::{self, FlvError, Packet};
use sluicegate_media::frame::{AudioConfig, Frame, VideoConfig};
use sluicegate_media::rtmp::{MediaKind, MediaMessage};
use sluicegate_media::segmenter::{Segment, Segmenter, SegmenterConfig};
use sluicegate_media::timeline::Timeline;

/// Messages in a row that may be unusable before the publish is ended. One may be damaged; many are not media.
const BAD_MESSAGES_MAX: u32 = 50;

/// Why a stream's media cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// A codec that is not supported, or media that is none.
    #[error(transparent)]
    Flv(#[from] FlvError),
    /// A segment that cannot be written.
    #[error("a segment cannot be written: {0}")]
    Mux(#[from] MuxError),
}

/// Makes segments of a stream.
pub(crate) struct Packager {
    timeline: Timeline,
    segmenter: Segmenter,
    bad_in_a_row: u32,
}

impl Packager {
    /// A packager whose timeline begins at `start`.
    pub(crate) fn new(config: SegmenterConfig, start: UnixMs) -> Self {
        Self { timeline: Timeline::new(start.0), segmenter: Segmenter::new(config), bad_in_a_row: 0 }
    }

    /// Takes a message; the segments that it ended.
    ///
    /// # Errors
    /// [`PackError`] when the stream cannot go on.
    pub(crate) fn push(
        &mut self,
        message: &MediaMessage,
        arrival: UnixMs,
    ) -> Result<Vec<Segment>, PackError> {
        let parsed = match message.kind {
            MediaKind::Video => flv::parse_video(&message.payload),
            MediaKind::Audio => flv::parse_audio(&message.payload),
            MediaKind::Data => return Ok(Vec::new()),
        };
        let packet = match parsed {
            Ok(packet) => packet,
            Err(error) => return self.forgive(error),
        };
        self.bad_in_a_row = 0;
        let ended = match packet {
            Packet::VideoHeader(video) => [self.segmenter.push_video_config(video)?, None],
            Packet::AudioHeader(audio) => [self.segmenter.push_audio_config(audio)?, None],
            Packet::Frame { track, keyframe, composition_ms, payload } => {
                let stamp = self.timeline.stamp(track, message.timestamp_ms, composition_ms, arrival.0);
                let jumped = if stamp.discontinuity { self.segmenter.push_discontinuity()? } else { None };
                let frame = Frame { track, dts_ms: stamp.dts_ms, pts_ms: stamp.pts_ms, keyframe, payload };
                [jumped, self.segmenter.push(frame)?]
            }
            Packet::EndOfSequence | Packet::Nothing => [None, None],
        };
        Ok(ended.into_iter().flatten().collect())
    }

    /// Ends the stream; its last segment.
    pub(crate) fn finish(&mut self) -> Option<Segment> {
        // What cannot be written now is lost with the stream.
        self.segmenter.finish().ok().flatten()
    }

    /// The video's header, once it is known.
    pub(crate) fn video(&self) -> Option<&VideoConfig> {
        self.segmenter.video()
    }

    /// The audio's header, once it is known.
    pub(crate) fn audio(&self) -> Option<&AudioConfig> {
        self.segmenter.audio()
    }

    /// A damaged message is passed over; a codec that is not supported, or one bad message after another,
    /// ends the publish.
    fn forgive(&mut self, error: FlvError) -> Result<Vec<Segment>, PackError> {
        self.bad_in_a_row += 1;
        if matches!(error, FlvError::NotSupported { .. }) || self.bad_in_a_row > BAD_MESSAGES_MAX {
            return Err(error.into());
        }
        tracing::debug!(%error, "a message was passed over");
        Ok(Vec::new())
    }
}

/// The frames a second, when the header does not tell: counted.
#[derive(Debug, Default)]
pub(crate) struct FrameRate {
    frames: u32,
    since: Option<UnixMs>,
    fps: Option<f64>,
}

impl FrameRate {
    /// Counts a message; audio does not count.
    pub(crate) fn count(&mut self, message: &MediaMessage, arrival: UnixMs) {
        if message.kind != MediaKind::Video {
            return;
        }
        let since = *self.since.get_or_insert(arrival);
        self.frames += 1;
        let seconds = since.age(arrival).as_secs_f64();
        if seconds >= 2.0 {
            self.fps = Some((f64::from(self.frames) / seconds).round());
            (self.frames, self.since) = (0, Some(arrival));
        }
    }

    /// Frames a second over the last two seconds.
    pub(crate) fn get(&self) -> Option<f64> {
        self.fps
    }
}
