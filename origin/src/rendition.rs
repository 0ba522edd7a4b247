//! One rendition as HLS: its units cut into segments and parts, what of them may be asked for, and its playlist,
//! rendered when a part ends, not when it is asked for. Synchronous; who waits for the playlist to reach
//! further watches its [`Reach`].

use bytes::Bytes;
use sluicegate_media::cmaf::MuxError;
use sluicegate_media::frame::{Frame, Track, Unit, VideoConfig};
use sluicegate_media::names::FileName;
use sluicegate_media::playlist::{self, Report, Variant};
use sluicegate_media::reload::Reach;
use sluicegate_media::segment::Place;
use sluicegate_media::segmenter::{Cut, Promise, Segmenter, SegmenterConfig};
use sluicegate_media::window::{Window, WindowConfig};
use tokio::sync::watch;

/// A rendition of a live stream.
pub(crate) struct Rendition {
    segmenter: Segmenter,
    window: Window,
    frame_rate: FrameRate,
    playlist: Option<Playlist>,
    /// How far the playlist reaches; none before there is one.
    reach: watch::Sender<Option<Reach>>,
    last_sequence: u64,
    /// The wall clock's time at the timeline's zero.
    start_unix_ms: i64,
}

/// What a unit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing: the playlist is as it was.
    Nothing,
    /// A part of a segment.
    Part,
    /// A segment, and its last part.
    Segment,
}

/// A rendered playlist.
struct Playlist {
    full: Bytes,
    delta: Option<Bytes>,
}

impl Rendition {
    /// A rendition without segments.
    pub(crate) fn new(segmenter: SegmenterConfig, window: WindowConfig) -> Self {
        Self {
            last_sequence: segmenter.first_sequence,
            start_unix_ms: segmenter.start_unix_ms,
            segmenter: Segmenter::new(segmenter),
            window: Window::new(window),
            frame_rate: FrameRate::default(),
            playlist: None,
            reach: watch::Sender::new(None),
        }
    }

    /// Takes a unit. What it ended is in the playlist once that is rendered.
    ///
    /// # Errors
    /// [`MuxError`] when a part could not be written; it is lost.
    pub(crate) fn push(&mut self, unit: Unit) -> Result<Ended, MuxError> {
        let cut = match unit {
            Unit::Video(video) => self.segmenter.push_video_config(video)?,
            Unit::Audio(audio) => self.segmenter.push_audio_config(audio)?,
            Unit::Discontinuity => self.segmenter.push_discontinuity()?,
            Unit::Frame(frame) => {
                self.frame_rate.count(&frame);
                self.segmenter.push(frame)?
            }
        };
        Ok(self.take(cut))
    }

    /// Whether this unit is to be taken. A rung that was interrupted goes on with a keyframe, in the segment that
    /// `source` has there, and lists as gaps what it has missed: so all renditions are numbered, and begin anew,
    /// alike. How many segments became gaps.
    pub(crate) fn keeps_step(&mut self, unit: &Unit, source: &Self) -> Option<u64> {
        let keyframe = |f: &&Frame| f.track == Track::Video && f.keyframe;
        let Some(frame) = frame_of(unit).filter(keyframe).filter(|_| self.segmenter.is_interrupted()) else {
            return Some(0);
        };
        let place = source.place_of(frame.pts_ms).filter(|place| place.sequence >= self.next_sequence())?;
        let gaps = self.window.catch_up(&source.window, place.sequence);
        self.segmenter.go_on_at(place);
        Some(gaps)
    }

    /// Nothing is made of it for now: what `source` has is listed as gaps. How many there are more.
    pub(crate) fn pauses_beside(&mut self, source: &Self) -> u64 {
        let before = self.window.reach();
        let gaps = self.window.catch_up(&source.window, source.segmenter.sequence());
        if self.window.reach() != before {
            self.render(&[]);
        }
        gaps
    }

    /// The segment in which a picture of this time is shown.
    fn place_of(&self, pts_ms: i64) -> Option<Place> {
        let unix_ms = self.start_unix_ms.saturating_add(pts_ms);
        let begun = self.segmenter.place().filter(|place| place.starts_unix_ms <= unix_ms);
        begun.or_else(|| self.window.place_of(unix_ms))
    }

    /// The first media sequence number that it has not listed yet.
    fn next_sequence(&self) -> u64 {
        let listed = self.window.reach().map_or(0, |reach| reach.sequence.saturating_add(1));
        listed.max(self.segmenter.sequence())
    }

    /// Ends the rendition: its playlist says so, once it is rendered.
    pub(crate) fn finish(&mut self) {
        // What cannot be written now is lost with the stream.
        if let Ok(last) = self.segmenter.finish() {
            self.take(last);
        }
        self.window.end();
    }

    /// Writes the playlist anew, with reports of the stream's other renditions, and lets those know who wait for
    /// it.
    pub(crate) fn render(&mut self, others: &[Report]) {
        let Some(written) = playlist::media_playlist(&self.window, others) else { return };
        self.playlist =
            Some(Playlist { full: written.full.into(), delta: written.delta.map(|delta| delta.into()) });
        self.reach.send_replace(self.window.reach());
    }

    /// Its playlist, once there is a segment; `delta`: without what is old, where it can be left out.
    pub(crate) fn playlist(&self, delta: bool) -> Option<Bytes> {
        let playlist = self.playlist.as_ref()?;
        let short = playlist.delta.as_ref().filter(|_| delta);
        Some(short.unwrap_or(&playlist.full).clone())
    }

    /// How far its playlist reaches, and word when it reaches further.
    pub(crate) fn reach(&self) -> watch::Receiver<Option<Reach>> {
        self.reach.subscribe()
    }

    /// What other renditions' playlists say of it.
    pub(crate) fn report(&self) -> Option<Report> {
        let reach = (*self.reach.borrow())?;
        Some(Report { rung: self.window.config().rung, reach })
    }

    /// What its playlist promises, once there is one.
    pub(crate) fn promise(&self) -> Option<Promise> {
        self.segmenter.promise()
    }

    /// Promises what another rendition of the stream has promised.
    pub(crate) fn keep(&mut self, promise: Promise) {
        self.segmenter.keep(promise);
    }

    /// A segment, a part or an init segment.
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

    fn take(&mut self, cut: Cut) -> Ended {
        let ended = match (cut.ends_segment, &cut.part) {
            (true, _) => Ended::Segment,
            (false, Some(_)) => Ended::Part,
            (false, None) => return Ended::Nothing,
        };
        if let Some(part) = &cut.part {
            self.last_sequence = part.sequence;
        }
        if let Some(promise) = self.segmenter.promise() {
            self.window.promised(promise);
        }
        if let Err(error) = self.window.push(cut) {
            tracing::error!(%error, stream = self.window.config().stream, "a part was lost");
        }
        ended
    }
}

fn frame_of(unit: &Unit) -> Option<&Frame> {
    if let Unit::Frame(frame) = unit { Some(frame) } else { None }
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
