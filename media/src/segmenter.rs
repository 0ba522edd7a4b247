//! From frames to segments: where to cut, what a segment begins with, how long it is.
//!
//! A segment begins at a keyframe once the target duration is reached. Its duration is the distance of its
//! first frame to the next one's first frame, so that a playlist's durations add up to the media's time.

mod grid;
mod open;

use bytes::Bytes;

use crate::cmaf::{MuxError, init_segment, media_segment};
use crate::frame::{AudioConfig, Frame, Track, VideoConfig};
use crate::limits;
use grid::AudioGrid;
use open::Open;

/// How a rendition is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmenterConfig {
    /// The duration that segments are to have, in milliseconds.
    pub target_duration_ms: i64,
    /// The wall clock's time at the timeline's zero, in Unix milliseconds.
    pub start_unix_ms: i64,
    /// The first segment's media sequence number.
    pub first_sequence: u64,
    /// Whether viewers may have seen other segments of this rendition before the first one.
    pub continues_another: bool,
    /// No segment is longer, in milliseconds: [`limits::SEGMENT_MS`].
    pub max_duration_ms: i64,
    /// No segment has more payload: [`limits::SEGMENT_BYTES`].
    pub max_bytes: usize,
}

impl SegmenterConfig {
    /// A rendition that nobody has seen before, with the limits of [`limits`].
    #[must_use]
    pub fn new(target_duration_ms: i64, start_unix_ms: i64) -> Self {
        Self {
            target_duration_ms,
            start_unix_ms,
            first_sequence: 0,
            continues_another: false,
            max_duration_ms: limits::SEGMENT_MS,
            max_bytes: limits::SEGMENT_BYTES,
        }
    }
}

/// What a player loads before the segments that refer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitSegment {
    /// Counts from 0 within a segmenter.
    pub index: u32,
    /// The file.
    pub bytes: Bytes,
}

/// A media segment and what a playlist says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its media sequence number.
    pub sequence: u64,
    /// The init segment that it needs.
    pub init: InitSegment,
    /// Whether it is no continuation of the one before.
    pub discontinuity: bool,
    /// Whether it can be decoded without the one before.
    pub independent: bool,
    /// In milliseconds, at least 1.
    pub duration_ms: u64,
    /// When its first picture (or sound) was published, in Unix milliseconds.
    pub program_date_time_unix_ms: i64,
    /// The file.
    pub bytes: Bytes,
}

impl Segment {
    /// Its bits a second.
    #[must_use]
    pub fn bitrate_bps(&self) -> u64 {
        (self.bytes.len() as u64).saturating_mul(8000) / self.duration_ms.max(1)
    }
}

/// Cuts one rendition into segments.
#[derive(Debug)]
pub struct Segmenter {
    config: SegmenterConfig,
    video: Option<VideoConfig>,
    audio: Option<AudioConfig>,
    last_dts_ms: [Option<i64>; 2],
    /// Since when a keyframe is waited for, if one is.
    waiting: Waiting,
    grid: AudioGrid,
    open: Option<Open>,
    /// What the last segment needed, as long as nothing has changed since.
    init: Option<InitSegment>,
    next_init: u32,
    next_sequence: u64,
    discontinuity: bool,
}

/// Whether the video can be decoded from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// A keyframe has come.
    No,
    /// None yet; the first frame since is at this time.
    Since(Option<i64>),
}

impl Segmenter {
    /// Nothing can be pushed before a header.
    #[must_use]
    pub fn new(config: SegmenterConfig) -> Self {
        Self {
            config,
            video: None,
            audio: None,
            last_dts_ms: [None; 2],
            waiting: Waiting::Since(None),
            grid: AudioGrid::default(),
            open: None,
            init: None,
            next_init: 0,
            next_sequence: config.first_sequence,
            discontinuity: config.continues_another,
        }
    }

    /// The video track's header as last pushed.
    #[must_use]
    pub fn video(&self) -> Option<&VideoConfig> {
        self.video.as_ref()
    }

    /// The audio track's header as last pushed.
    #[must_use]
    pub fn audio(&self) -> Option<&AudioConfig> {
        self.audio.as_ref()
    }

    /// Takes a video header. If it differs from the last one it ends the open segment, which is returned; a
    /// new init segment and a discontinuity follow, and frames count again from the next keyframe.
    ///
    /// # Errors
    /// [`MuxError`] if the segment could not be written; it is lost.
    pub fn push_video_config(&mut self, video: VideoConfig) -> Result<Option<Segment>, MuxError> {
        if self.video.as_ref() == Some(&video) {
            return Ok(None);
        }
        if self.video.is_none() && self.init.is_none() {
            // The beginning of an audio track whose video is only now announced is no segment of its own.
            self.open = None;
        }
        let done = self.cut(None);
        self.video = Some(video);
        self.renew();
        done
    }

    /// Takes an audio header, with the same consequences as a video header's. At the beginning of a stream
    /// it may come after the first keyframe: it then ends nothing.
    ///
    /// # Errors
    /// [`MuxError`] if the segment could not be written; it is lost.
    pub fn push_audio_config(&mut self, audio: AudioConfig) -> Result<Option<Segment>, MuxError> {
        if self.audio.as_ref() == Some(&audio) {
            return Ok(None);
        }
        let joins = self.audio.is_none() && self.init.is_none();
        let done = if joins { Ok(None) } else { self.cut(None) };
        self.audio = Some(audio);
        self.grid = AudioGrid::default();
        if !joins {
            self.renew();
        }
        done
    }

    /// The publisher's clock jumped before the next frame: ends the open segment and marks the next one.
    ///
    /// # Errors
    /// [`MuxError`] if the segment could not be written; it is lost.
    pub fn push_discontinuity(&mut self) -> Result<Option<Segment>, MuxError> {
        let done = self.cut(None);
        self.waiting = Waiting::Since(None);
        self.discontinuity |= self.init.is_some();
        done
    }

    /// Takes a frame, and returns a segment if one ended before it. Frames without a header, video frames
    /// before the first keyframe, audio before the video can be decoded, frames whose time does not rise
    /// and frames larger than a segment may be are left out.
    ///
    /// # Errors
    /// [`MuxError`] if the segment could not be written; it is lost.
    pub fn push(&mut self, frame: Frame) -> Result<Option<Segment>, MuxError> {
        if !self.admits(&frame) {
            return Ok(None);
        }
        let ends = self.open.as_ref().is_some_and(|open| self.ends(open, &frame));
        let done = if ends { self.cut(Some(&frame)) } else { Ok(None) };
        if frame.track == Track::Video && frame.keyframe {
            self.waiting = Waiting::No;
        }
        self.add(frame);
        done
    }

    /// Ends the open segment. The last frame is taken to last as long as the one before it.
    ///
    /// # Errors
    /// [`MuxError`] if the segment could not be written; it is lost.
    pub fn finish(&mut self) -> Result<Option<Segment>, MuxError> {
        self.cut(None)
    }

    fn add(&mut self, frame: Frame) {
        let start_ms = frame.dts_ms;
        match (frame.track, &self.audio) {
            (Track::Video, _) => {
                self.open.get_or_insert_with(|| Open::new(start_ms)).push_video(frame);
            }
            (Track::Audio, Some(audio)) => {
                if let Some(at) = self.grid.place(audio, media_ms(start_ms)) {
                    self.open.get_or_insert_with(|| Open::new(start_ms)).push_audio(at, frame);
                }
            }
            (Track::Audio, None) => {}
        }
    }

    fn admits(&mut self, frame: &Frame) -> bool {
        if frame.payload.len().saturating_add(limits::FRAME_OVERHEAD_BYTES) > self.config.max_bytes {
            return false;
        }
        let last = &mut self.last_dts_ms[frame.track as usize];
        if last.is_some_and(|last| frame.dts_ms <= last) {
            return false;
        }
        *last = Some(frame.dts_ms);
        match frame.track {
            Track::Video => self.video.is_some() && (self.waiting == Waiting::No || frame.keyframe),
            Track::Audio => self.audio.is_some() && (self.video.is_none() || self.audio_may_go_on(frame)),
        }
    }

    /// Audio waits for the video's keyframe, but not for ever: a camera may be off.
    fn audio_may_go_on(&mut self, frame: &Frame) -> bool {
        match &mut self.waiting {
            Waiting::No => true,
            Waiting::Since(since) => {
                let since = *since.get_or_insert(frame.dts_ms);
                frame.dts_ms.saturating_sub(since) >= self.config.max_duration_ms
            }
        }
    }

    fn ends(&self, open: &Open, frame: &Frame) -> bool {
        /// Timestamps are whole milliseconds and keyframes not exact: 1.999 s are 2 s.
        const TOLERANCE_MS: i64 = 50;
        let passed_ms = frame.dts_ms.saturating_sub(open.start_ms());
        let room = self.config.max_bytes.saturating_sub(open.bytes());
        if passed_ms >= self.config.max_duration_ms
            || frame.payload.len().saturating_add(limits::FRAME_OVERHEAD_BYTES) > room
        {
            return true;
        }
        let no_picture = self.waiting != Waiting::No;
        let (starts_here, at_once) = match frame.track {
            Track::Video => (frame.keyframe, no_picture),
            Track::Audio => (no_picture, false),
        };
        starts_here && (at_once || passed_ms.saturating_add(TOLERANCE_MS) >= self.config.target_duration_ms)
    }

    /// Ends the open segment before `next`.
    fn cut(&mut self, next: Option<&Frame>) -> Result<Option<Segment>, MuxError> {
        let Some(open) = self.open.take() else { return Ok(None) };
        let init = self.current_init()?;
        let closed = open.close(next, self.audio.as_ref(), self.config.max_duration_ms);
        // The field has 32 bits; players look at its order within a file only.
        let fragment = u32::try_from(self.next_sequence & u64::from(u32::MAX)).unwrap_or(0);
        let segment = Segment {
            sequence: self.next_sequence,
            init,
            discontinuity: self.discontinuity,
            independent: closed.independent,
            duration_ms: closed.duration_ms,
            program_date_time_unix_ms: self.config.start_unix_ms.saturating_add(closed.first_pts_ms),
            bytes: media_segment(fragment, &closed.runs)?,
        };
        self.next_sequence += 1;
        self.discontinuity = false;
        Ok(Some(segment))
    }

    fn current_init(&mut self) -> Result<InitSegment, MuxError> {
        if let Some(init) = &self.init {
            return Ok(init.clone());
        }
        let bytes = init_segment(self.video.as_ref(), self.audio.as_ref())?;
        let init = InitSegment { index: self.next_init, bytes };
        self.next_init += 1;
        self.init = Some(init.clone());
        Ok(init)
    }

    /// A header changed: what was sent before cannot be continued.
    fn renew(&mut self) {
        self.waiting = Waiting::Since(None);
        self.discontinuity |= self.init.take().is_some();
    }
}

/// Media time in the files. It begins a second after the timeline's zero, because an encoder's first frames
/// may lie a little before its first input, and the field has no sign.
fn media_ms(ms: i64) -> i64 {
    ms.saturating_add(1000)
}

#[cfg(test)]
mod tests;
