//! From frames to parts and segments: where to cut, what each begins with, how long it is.
//!
//! A segment begins at a keyframe once the target duration is reached. It is sent in parts, each as soon as
//! the frame after it has come. Parts follow each other on the timeline without a gap: one begins where the one
//! before ended, so that a playlist's durations add up to the media's time. The picture leads; sound ends a
//! part only where there is no picture, or when the picture is a whole part late.

mod grid;
mod open;
mod pace;

use crate::cmaf::{MuxError, init_segment, media_segment};
use crate::frame::{AudioConfig, Frame, Track, VideoConfig};
use crate::limits;
use crate::segment::{InitSegment, Part, Place};
use grid::AudioGrid;
use open::{End, Open};
use pace::Pace;
pub use pace::Promise;

/// How a rendition is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmenterConfig {
    /// The duration that segments are to have, in milliseconds.
    pub target_duration_ms: i64,
    /// The duration that parts are to have, in milliseconds; no longer than a segment's.
    pub part_target_ms: i64,
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
    pub fn new(target_duration_ms: i64, part_target_ms: i64, start_unix_ms: i64) -> Self {
        Self {
            target_duration_ms,
            part_target_ms,
            start_unix_ms,
            first_sequence: 0,
            continues_another: false,
            max_duration_ms: limits::SEGMENT_MS,
            max_bytes: limits::SEGMENT_BYTES,
        }
    }
}

/// What ended before a frame or a header, the part first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cut {
    /// The part.
    pub part: Option<Part>,
    /// Whether the segment of the last part is complete.
    pub ends_segment: bool,
}

/// Cuts one rendition into segments and parts.
#[derive(Debug)]
pub struct Segmenter {
    config: SegmenterConfig,
    video: Option<VideoConfig>,
    audio: Option<AudioConfig>,
    last_dts_ms: [Option<i64>; 2],
    /// Since when a keyframe is waited for, if one is.
    waiting: Waiting,
    grid: AudioGrid,
    pace: Pace,
    open: Option<Open>,
    /// The segment of the open part.
    segment: Option<Progress>,
    /// Where the last part ended, as long as the next one continues it.
    last_end_ms: Option<i64>,
    /// What the last part needed, as long as nothing has changed since.
    init: Option<InitSegment>,
    next_init: u32,
    next_sequence: u64,
    /// When the segment that comes next would have begun, if it was interrupted.
    next_start_ms: Option<i64>,
    parts_made: u32,
    discontinuity: bool,
}

/// A segment some of whose parts are still to come.
#[derive(Debug)]
struct Progress {
    start_ms: i64,
    parts: u32,
    duration_ms: u64,
    bytes: usize,
    /// Whether its first picture is a keyframe.
    first_picture: Option<bool>,
}

/// Whether the video can be decoded from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// A keyframe has come.
    No,
    /// None yet; the first frame since is at this time.
    Since(Option<i64>),
}

/// What ends before a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boundary {
    Nothing,
    Part,
    Segment,
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
            pace: Pace::new(&config),
            open: None,
            segment: None,
            last_end_ms: None,
            init: None,
            next_init: 0,
            next_sequence: config.first_sequence,
            next_start_ms: None,
            parts_made: 0,
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

    /// What is promised of the lengths of parts and segments, once the first segment has ended.
    #[must_use]
    pub fn promise(&self) -> Option<Promise> {
        self.pace.promise()
    }

    /// Keeps to what another rendition of the stream has promised, unless something is promised already.
    pub fn keep(&mut self, promise: Promise) {
        self.pace.keep(promise);
    }

    /// Whether the next frame continues nothing: it is the first, or the first after an interruption.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.segment.is_none() && self.open.is_none()
    }

    /// The media sequence number of the open segment, or of the one that comes next.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The place of a segment that has begun and of which no part has ended yet.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let begun = self.segment.as_ref().filter(|segment| segment.parts == 0);
        let open = begun.and(self.open.as_ref())?;
        Some(Place {
            sequence: self.next_sequence,
            starts_unix_ms: self.config.start_unix_ms.saturating_add(open.first_pts_ms()),
            discontinuity: self.discontinuity,
        })
    }

    /// After an interruption, goes on at the place of another rendition's segment, and ends this one where that
    /// one ends.
    pub fn go_on_at(&mut self, place: Place) {
        self.next_sequence = place.sequence;
        self.next_start_ms = Some(place.starts_unix_ms.saturating_sub(self.config.start_unix_ms));
        self.discontinuity = place.discontinuity;
    }

    /// Takes a video header. If it differs from the last one it ends the open segment; a new init segment and
    /// a discontinuity follow, and frames count again from the next keyframe.
    ///
    /// # Errors
    /// [`MuxError`] if the part could not be written; it is lost.
    pub fn push_video_config(&mut self, video: VideoConfig) -> Result<Cut, MuxError> {
        if self.video.as_ref() == Some(&video) {
            return Ok(Cut::default());
        }
        if self.video.is_none() && self.init.is_none() {
            // The beginning of an audio track whose video is only now announced is no segment of its own.
            (self.open, self.segment, self.last_end_ms) = (None, None, None);
        }
        let done = self.interrupt();
        self.video = Some(video);
        self.renew();
        done
    }

    /// Takes an audio header, with the same consequences as a video header's. At the beginning of a stream
    /// it may come after the first keyframe, before the first part has ended: it then ends nothing.
    ///
    /// # Errors
    /// [`MuxError`] if the part could not be written; it is lost.
    pub fn push_audio_config(&mut self, audio: AudioConfig) -> Result<Cut, MuxError> {
        if self.audio.as_ref() == Some(&audio) {
            return Ok(Cut::default());
        }
        let joins = self.audio.is_none() && self.init.is_none();
        let done = if joins { Ok(Cut::default()) } else { self.interrupt() };
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
    /// [`MuxError`] if the part could not be written; it is lost.
    pub fn push_discontinuity(&mut self) -> Result<Cut, MuxError> {
        let done = self.interrupt();
        self.waiting = Waiting::Since(None);
        self.discontinuity |= self.init.is_some();
        done
    }

    /// Takes a frame, and returns what ended before it. Frames without a header, video frames before the
    /// first keyframe, audio before the video can be decoded, frames whose time does not rise and frames
    /// larger than a segment may be are left out.
    ///
    /// # Errors
    /// [`MuxError`] if the part could not be written; it is lost.
    pub fn push(&mut self, frame: Frame) -> Result<Cut, MuxError> {
        if !self.admits(&frame) {
            return Ok(Cut::default());
        }
        if frame.track == Track::Video {
            self.pace.picture(frame.dts_ms);
        }
        let done = match self.boundary(&frame) {
            Boundary::Nothing => Ok(Cut::default()),
            Boundary::Part => Ok(Cut { part: self.close(Some(&frame))?, ends_segment: false }),
            Boundary::Segment => self.end_segment(Some(&frame)),
        };
        if frame.track == Track::Video && frame.keyframe {
            self.waiting = Waiting::No;
        }
        self.add(frame);
        done
    }

    /// Ends the open segment. The last frame is taken to last as long as the one before it.
    ///
    /// # Errors
    /// [`MuxError`] if the part could not be written; it is lost.
    pub fn finish(&mut self) -> Result<Cut, MuxError> {
        self.end_segment(None)
    }

    fn add(&mut self, frame: Frame) {
        match (frame.track, &self.audio) {
            (Track::Video, _) => {
                let keyframe = frame.keyframe;
                let (open, segment) = self.opened(frame.dts_ms);
                segment.first_picture.get_or_insert(keyframe);
                open.push_video(frame);
            }
            (Track::Audio, Some(audio)) => {
                if let Some(at) = self.grid.place(audio, media_ms(frame.dts_ms)) {
                    self.opened(frame.dts_ms).0.push_audio(at, frame);
                }
            }
            (Track::Audio, None) => {}
        }
    }

    /// The open part and its segment, begun for a frame of this time if there are none. A part begins where the
    /// one before ended, unless media is missing there.
    fn opened(&mut self, dts_ms: i64) -> (&mut Open, &mut Progress) {
        let missing_ms = self.pace.missing_ms();
        let follows = self.last_end_ms.filter(|end_ms| dts_ms.saturating_sub(*end_ms) < missing_ms);
        let open = self.open.get_or_insert_with(|| Open::new(follows.unwrap_or(dts_ms)));
        let start_ms = self.next_start_ms.take().unwrap_or_else(|| open.start_ms());
        let segment = self.segment.get_or_insert_with(|| Progress::new(start_ms));
        (open, segment)
    }

    fn admits(&mut self, frame: &Frame) -> bool {
        if alone_bytes(frame) > self.config.max_bytes {
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

    fn boundary(&self, frame: &Frame) -> Boundary {
        let Some(segment) = &self.segment else { return Boundary::Nothing };
        let taken = segment.bytes + self.open.as_ref().map_or(0, Open::bytes);
        if taken.saturating_add(alone_bytes(frame)) > self.config.max_bytes
            || self.begins_segment(frame, segment)
        {
            return Boundary::Segment;
        }
        let Some(open) = &self.open else { return Boundary::Nothing };
        if !self.ends_part(open, frame) {
            return Boundary::Nothing;
        }
        let part_ms = self.pace.part_ms();
        let end_ms = frame.dts_ms.min(open.start_ms().saturating_add(part_ms));
        let with_another_ms = end_ms.saturating_sub(segment.start_ms).saturating_add(part_ms);
        if with_another_ms > self.pace.longest_ms() { Boundary::Segment } else { Boundary::Part }
    }

    fn begins_segment(&self, frame: &Frame, segment: &Progress) -> bool {
        /// Timestamps are whole milliseconds and keyframes not exact: 1.999 s are 2 s.
        const TOLERANCE_MS: i64 = 50;
        let passed_ms = frame.dts_ms.saturating_sub(segment.start_ms);
        let no_picture = self.waiting != Waiting::No;
        let (may, at_once) = match frame.track {
            // A segment that had to be begun inside a group of pictures is a short one: the next has a keyframe.
            Track::Video => (frame.keyframe, no_picture || segment.first_picture == Some(false)),
            Track::Audio => (no_picture, false),
        };
        may && (at_once || passed_ms.saturating_add(TOLERANCE_MS) >= self.config.target_duration_ms)
    }

    fn ends_part(&self, open: &Open, frame: &Frame) -> bool {
        let part_ms = self.pace.part_ms();
        // Timestamps are not exact; the next part is the longer for it.
        let tolerance_ms = part_ms / 20;
        let passed_ms = frame.dts_ms.saturating_sub(open.start_ms());
        let picture_leads = frame.track == Track::Audio && self.waiting == Waiting::No;
        let due_ms = if picture_leads { part_ms.saturating_mul(2) } else { part_ms - tolerance_ms };
        passed_ms >= due_ms
    }

    /// Ends the open segment, which nothing continues.
    fn interrupt(&mut self) -> Result<Cut, MuxError> {
        let done = self.end_segment(None);
        self.last_end_ms = None;
        self.pace.interrupted();
        done
    }

    /// Ends the open segment before `next`. Sound that has come since its last part goes with the picture that
    /// begins the next segment.
    fn end_segment(&mut self, next: Option<&Frame>) -> Result<Cut, MuxError> {
        let has_parts = self.segment.as_ref().is_some_and(|segment| segment.parts > 0);
        let only_sound = self.open.as_ref().is_some_and(Open::is_without_picture);
        let stays_open =
            has_parts && only_sound && next.is_some_and(|next| next.track == Track::Video && next.keyframe);
        let part = if stays_open { None } else { self.close(next)? };
        let Some(ended) = self.segment.take().filter(|segment| segment.parts > 0) else {
            return Ok(Cut::default());
        };
        self.segment = self.open.as_ref().map(|open| Progress::new(open.start_ms()));
        self.next_sequence += 1;
        self.pace.segment(ended.duration_ms);
        Ok(Cut { part, ends_segment: true })
    }

    /// Ends the open part before `next`.
    fn close(&mut self, next: Option<&Frame>) -> Result<Option<Part>, MuxError> {
        let (Some(open), Some(segment)) = (self.open.take(), self.segment.as_mut()) else { return Ok(None) };
        segment.bytes += open.bytes();
        let longest_ms = self.pace.part_ms();
        let follows = |next: &&Frame| {
            let passed_ms = next.dts_ms.saturating_sub(open.start_ms());
            next.track == Track::Video && passed_ms < longest_ms.saturating_add(self.pace.missing_ms())
        };
        let end = End {
            at_ms: next.map(|next| next.dts_ms),
            picture_ms: next.filter(follows).map(|next| next.dts_ms),
            longest_ms,
        };
        let closed = open.close(end, self.audio.as_ref(), self.waiting == Waiting::No);
        let index = segment.parts;
        segment.parts += 1;
        segment.duration_ms += closed.duration_ms;
        self.last_end_ms = Some(closed.end_ms);
        self.parts_made = self.parts_made.wrapping_add(1);
        let part = Part {
            sequence: self.next_sequence,
            index,
            init: self.current_init()?,
            discontinuity: std::mem::take(&mut self.discontinuity),
            begins_independent: closed.begins_independent,
            independent: closed.independent,
            duration_ms: closed.duration_ms,
            program_date_time_unix_ms: self.config.start_unix_ms.saturating_add(closed.first_pts_ms),
            bytes: media_segment(self.parts_made, &closed.runs)?,
        };
        Ok(Some(part))
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

impl Progress {
    fn new(start_ms: i64) -> Self {
        Self { start_ms, parts: 0, duration_ms: 0, bytes: 0, first_picture: None }
    }
}

/// What a frame alone in a part takes.
fn alone_bytes(frame: &Frame) -> usize {
    frame.payload.len().saturating_add(limits::FRAME_OVERHEAD_BYTES + limits::PART_OVERHEAD_BYTES)
}

/// Media time in the files. It begins a second after the timeline's zero, because an encoder's first frames
/// may lie a little before its first input, and the field has no sign.
fn media_ms(ms: i64) -> i64 {
    ms.saturating_add(1000)
}

#[cfg(test)]
mod tests;
