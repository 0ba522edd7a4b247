//! The part that is being filled.

use super::media_ms;
use crate::cmaf::{Run, Sample, VIDEO_TIMESCALE};
use crate::frame::{AudioConfig, Frame, Track};
use crate::limits;

/// How long a lone picture is taken to be shown.
const LONE_PICTURE_MS: i64 = 40;

/// Frames that await the part's end.
#[derive(Debug)]
pub(super) struct Open {
    start_ms: i64,
    video: Vec<Frame>,
    audio: Vec<(u64, Frame)>,
    bytes: usize,
}

/// Where a part ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// The time of what follows; none if nothing does.
    pub(super) at_ms: Option<i64>,
    /// When the next picture is decoded, if one follows at once.
    pub(super) picture_ms: Option<i64>,
    /// It lasts no longer than this.
    pub(super) longest_ms: i64,
}

/// What became of the frames.
pub(super) struct Closed {
    pub(super) runs: Vec<Run>,
    pub(super) end_ms: i64,
    pub(super) duration_ms: u64,
    pub(super) begins_independent: bool,
    pub(super) independent: bool,
    pub(super) first_pts_ms: i64,
}

impl Open {
    pub(super) fn new(start_ms: i64) -> Self {
        Self { start_ms, video: Vec::new(), audio: Vec::new(), bytes: limits::PART_OVERHEAD_BYTES }
    }

    /// The time at which it begins, in milliseconds: its first frame's, or where the part before ended.
    pub(super) fn start_ms(&self) -> i64 {
        self.start_ms
    }

    /// When its first picture is shown, in milliseconds; without one, when its sound begins.
    pub(super) fn first_pts_ms(&self) -> i64 {
        self.video.iter().map(|frame| frame.pts_ms).min().unwrap_or(self.start_ms)
    }

    /// What it holds, counted as [`limits::FRAME_OVERHEAD_BYTES`] and [`limits::PART_OVERHEAD_BYTES`] say.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it has sound only.
    pub(super) fn is_without_picture(&self) -> bool {
        self.video.is_empty()
    }

    pub(super) fn push_video(&mut self, frame: Frame) {
        self.count(&frame);
        self.video.push(frame);
    }

    /// `at` is the frame's first sample.
    pub(super) fn push_audio(&mut self, at: u64, frame: Frame) {
        self.count(&frame);
        self.audio.push((at, frame));
    }

    fn count(&mut self, frame: &Frame) {
        self.bytes += frame.payload.len() + limits::FRAME_OVERHEAD_BYTES;
    }

    /// Ends it. `has_picture`: the stream has one, if this part does not.
    pub(super) fn close(self, end: End, audio: Option<&AudioConfig>, has_picture: bool) -> Closed {
        let latest_ms = self.start_ms.saturating_add(end.longest_ms.max(1));
        let end_ms = end.at_ms.unwrap_or_else(|| self.natural_end_ms(audio, end.longest_ms));
        let end_ms = end_ms.clamp(self.start_ms.saturating_add(1), latest_ms);
        let video_end_ms = end.picture_ms.unwrap_or_else(|| self.video_end_ms(end.longest_ms));
        let first_pts_ms = self.first_pts_ms();
        let begins_independent = self.video.first().map_or(!has_picture, |frame| frame.keyframe);
        let independent = begins_independent || self.video.iter().any(|frame| frame.keyframe);
        let runs =
            [video_run(self.video, video_end_ms), audio.and_then(|audio| audio_run(self.audio, audio))];
        Closed {
            runs: runs.into_iter().flatten().collect(),
            end_ms,
            duration_ms: u64::try_from(end_ms.saturating_sub(self.start_ms)).unwrap_or(1),
            begins_independent,
            independent,
            first_pts_ms,
        }
    }

    fn natural_end_ms(&self, audio: Option<&AudioConfig>, longest_ms: i64) -> i64 {
        let frame_ms = audio.map_or(0, |audio| {
            i64::from(audio.frame_samples.saturating_mul(1000) / audio.sample_rate.max(1))
        });
        let audio_end_ms = self.audio.last().map(|(_, frame)| frame.dts_ms.saturating_add(frame_ms));
        audio_end_ms.unwrap_or(i64::MIN).max(self.video_end_ms(longest_ms))
    }

    /// The end of the last picture if it is shown as long as the one before, but no longer than a part lasts.
    fn video_end_ms(&self, longest_ms: i64) -> i64 {
        match &self.video[..] {
            [] => i64::MIN,
            [lone] => lone.dts_ms.saturating_add(LONE_PICTURE_MS),
            [.., before, last] => {
                let shown_ms = last.dts_ms.saturating_sub(before.dts_ms).min(longest_ms);
                last.dts_ms.saturating_add(shown_ms)
            }
        }
    }
}

fn video_run(frames: Vec<Frame>, end_ms: i64) -> Option<Run> {
    let base_ms = media_ms(frames.first()?.dts_ms);
    let ends: Vec<i64> = frames.iter().skip(1).map(|frame| frame.dts_ms).chain([end_ms]).collect();
    let sample = |(frame, end_ms): (Frame, i64)| Sample {
        duration: ticks(end_ms.saturating_sub(frame.dts_ms).max(1)),
        composition_offset: signed_ticks(frame.pts_ms.saturating_sub(frame.dts_ms)),
        keyframe: frame.keyframe,
        payload: frame.payload,
    };
    Some(Run {
        track: Track::Video,
        base_decode_time: u64::try_from(base_ms).unwrap_or(0).saturating_mul(TICKS_A_MS.unsigned_abs()),
        samples: frames.into_iter().zip(ends).map(sample).collect(),
    })
}

fn audio_run(frames: Vec<(u64, Frame)>, audio: &AudioConfig) -> Option<Run> {
    let base_decode_time = frames.first()?.0;
    let last = frames.last()?.0.saturating_add(audio.frame_samples.into());
    let ends: Vec<u64> = frames.iter().skip(1).map(|(at, _)| *at).chain([last]).collect();
    let sample = |((at, frame), end): ((u64, Frame), u64)| Sample {
        duration: u32::try_from(end.saturating_sub(at)).unwrap_or(u32::MAX),
        composition_offset: 0,
        keyframe: true,
        payload: frame.payload,
    };
    let samples = frames.into_iter().zip(ends).map(sample).collect();
    Some(Run { track: Track::Audio, base_decode_time, samples })
}

const TICKS_A_MS: i64 = VIDEO_TIMESCALE as i64 / 1000;

fn ticks(ms: i64) -> u32 {
    u32::try_from(ms.saturating_mul(TICKS_A_MS)).unwrap_or(u32::MAX)
}

fn signed_ticks(ms: i64) -> i32 {
    let ticks = ms.saturating_mul(TICKS_A_MS);
    i32::try_from(ticks).unwrap_or(if ticks < 0 { i32::MIN } else { i32::MAX })
}
