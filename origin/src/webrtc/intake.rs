//! A WebRTC publisher's frames into units on one timeline, headers made of what is in the stream itself.
//! Synchronous: the arrival time is an argument.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sluicegate_cluster::clock::UnixMs;
use sluicegate_media::annexb;
use sluicegate_media::flv::FlvError;
use sluicegate_media::frame::{AudioConfig, Frame, OPUS, Unit, VP8, VideoConfig};
use sluicegate_media::timeline::Timeline;
use sluicegate_rtc::{Codec, ReceivedFrame, SenderReport};

use super::sender_clock::SenderClock;

/// Keyframes in a row whose headers may be unusable before the publish is ended.
const BAD_KEYFRAMES_MAX: u32 = 50;

/// How long pictures wait for the sound that was agreed on. A stream that begins without it gets a new init
/// segment when it comes, which not every player follows; one whose microphone stays silent must begin too.
const SOUND_WAIT: Duration = Duration::from_millis(500);

/// Reads one publisher's frames.
pub(super) struct Intake {
    clock: SenderClock,
    timeline: Timeline,
    video: Option<VideoConfig>,
    sound: Sound,
    /// Something was lost: pictures are of no use before the next keyframe.
    broken: bool,
    bad_in_a_row: u32,
    last_keyframe: Option<Instant>,
    /// A browser sends a keyframe only when it is asked; segments are cut at them.
    keyframe_every: Duration,
}

/// The sound that was agreed on.
#[derive(Debug, Clone, Copy)]
enum Sound {
    /// Not here yet; since when the first picture waits for it.
    Awaited(Option<Instant>),
    /// Not agreed on, or waited for long enough.
    Settled,
    /// Here, and its header was given out.
    Announced,
}

impl Intake {
    /// One whose timeline begins at `start`, and which wants a keyframe as often as `keyframe_every`.
    /// `with_sound`: the publisher said that it sends sound.
    pub(super) fn new(start: UnixMs, keyframe_every: Duration, with_sound: bool) -> Self {
        Self {
            clock: SenderClock::default(),
            timeline: Timeline::new(start.0),
            video: None,
            sound: if with_sound { Sound::Awaited(None) } else { Sound::Settled },
            broken: true,
            bad_in_a_row: 0,
            last_keyframe: None,
            keyframe_every,
        }
    }

    /// Takes a sender report.
    pub(super) fn report(&mut self, report: &SenderReport) {
        self.clock.report(report);
    }

    /// Takes a frame; what comes of it.
    ///
    /// # Errors
    /// [`FlvError`] when one keyframe after another has no usable header.
    pub(super) fn take(&mut self, frame: &ReceivedFrame, arrival: UnixMs) -> Result<Vec<Unit>, FlvError> {
        let mut units = Vec::new();
        let payload = match frame.codec {
            Codec::Opus => {
                if !matches!(std::mem::replace(&mut self.sound, Sound::Announced), Sound::Announced) {
                    units.push(Unit::Audio(opus()));
                }
                Bytes::copy_from_slice(&frame.payload)
            }
            Codec::H264 | Codec::Vp8 => match self.picture(frame, &mut units)? {
                Some(payload) => payload,
                None => return Ok(units),
            },
        };
        let (track, hz) = (frame.codec.track(), frame.codec.clock_hz());
        let at_us = self.clock.at(track, hz, frame.timestamp, arrival.0.saturating_mul(1_000));
        // Timelines are made for RTMP's timestamps, which are milliseconds modulo 2^32.
        let timestamp_ms = u32::try_from((at_us / 1_000).rem_euclid(1 << 32)).unwrap_or(0);
        let stamp = self.timeline.stamp(track, timestamp_ms, 0, arrival.0);
        if stamp.discontinuity {
            units.push(Unit::Discontinuity);
        }
        let (dts_ms, pts_ms, keyframe) = (stamp.dts_ms, stamp.pts_ms.max(stamp.dts_ms), frame.keyframe);
        units.push(Unit::Frame(Frame { track, dts_ms, pts_ms, keyframe, payload }));
        Ok(units)
    }

    /// Whether the publisher should be asked for a keyframe. Asking too often is prevented elsewhere.
    pub(super) fn wants_keyframe(&self, now: Instant) -> bool {
        let old = |at: Instant| now.saturating_duration_since(at) >= self.keyframe_every;
        self.broken || self.last_keyframe.is_none_or(old)
    }

    /// A picture as units carry it, its header before it when that is new; none when it cannot be shown.
    fn picture(&mut self, frame: &ReceivedFrame, units: &mut Vec<Unit>) -> Result<Option<Bytes>, FlvError> {
        let too_early = self.waits_for_sound(frame.received);
        self.broken |= too_early || !frame.contiguous;
        if too_early || (self.broken && !frame.keyframe) {
            return Ok(None);
        }
        if frame.keyframe {
            match self.header(frame) {
                Ok(new) => units.extend(new.map(Unit::Video)),
                Err(error) => {
                    self.broken = true;
                    self.bad_in_a_row += 1;
                    tracing::debug!(%error, "a keyframe's header cannot be used");
                    return if self.bad_in_a_row > BAD_KEYFRAMES_MAX { Err(error) } else { Ok(None) };
                }
            }
            (self.broken, self.bad_in_a_row, self.last_keyframe) = (false, 0, Some(frame.received));
        }
        let payload = match frame.codec {
            Codec::H264 => annexb::to_lengths(&frame.payload),
            _ => Bytes::copy_from_slice(&frame.payload),
        };
        Ok(Some(payload).filter(|payload| !payload.is_empty()))
    }

    /// Whether a picture received at `now` comes too early.
    fn waits_for_sound(&mut self, now: Instant) -> bool {
        let Sound::Awaited(since) = &mut self.sound else { return false };
        let since = *since.get_or_insert(now);
        let waits = now.saturating_duration_since(since) < SOUND_WAIT;
        if !waits {
            self.sound = Sound::Settled;
        }
        waits
    }

    /// The header in a keyframe, if it is another than the last.
    fn header(&mut self, frame: &ReceivedFrame) -> Result<Option<VideoConfig>, FlvError> {
        let video = match frame.codec {
            Codec::H264 => annexb::video_config(&frame.payload)?,
            _ => vp8(&frame.payload).ok_or(FlvError::Truncated)?,
        };
        let new = self.video.as_ref() != Some(&video);
        self.video = Some(video.clone());
        Ok(new.then_some(video))
    }
}

/// Opus as WebRTC has it: 48 kHz, two channels (RFC 7587 section 7), packets of 20 ms unless the publisher
/// takes others. The identification header is that of RFC 7845, 5.1, without a pre-skip.
fn opus() -> AudioConfig {
    const HEADER: &[u8; 19] = b"OpusHead\x01\x02\x00\x00\x80\xbb\x00\x00\x00\x00\x00";
    AudioConfig {
        asc: Bytes::from_static(HEADER),
        codec: OPUS.to_owned(),
        sample_rate: 48_000,
        channels: 2,
        frame_samples: 960,
    }
}

/// What a VP8 keyframe says of itself (RFC 6386, 9.1).
fn vp8(frame: &[u8]) -> Option<VideoConfig> {
    let &[_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = frame else { return None };
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    let (width, height) = (side(w0, w1), side(h0, h1));
    let possible = width > 0 && height > 0;
    possible.then(|| VideoConfig { avcc: Bytes::new(), codec: VP8.to_owned(), width, height, fps: None })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sluicegate_cluster::clock;
    use sluicegate_media::frame::Track;

    use super::*;

    /// 1280x720, High profile, as x264 writes it.
    const PARAMETER_SETS: &[u8] = &[
        0, 0, 0, 1, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03,
        0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60, 0, 0, 0, 1, 0x68, 0xeb, 0xe3, 0xcb,
        0x22, 0xc0,
    ];
    const SECOND: Duration = Duration::from_secs(1);

    fn frame(codec: Codec, timestamp: u64, keyframe: bool, contiguous: bool) -> ReceivedFrame {
        let slice = [0, 0, 0, 1, if keyframe { 0x65 } else { 0x41 }, 7];
        let payload = match codec {
            Codec::H264 if keyframe => [PARAMETER_SETS, &slice].concat(),
            Codec::H264 => slice.to_vec(),
            _ => vec![0xfc, 1, 2],
        };
        let received = clock::now();
        ReceivedFrame { codec, timestamp, keyframe, contiguous, payload: payload.into(), received }
    }

    fn names(units: &[Unit]) -> Vec<String> {
        let name = |unit: &Unit| match unit {
            Unit::Video(video) => format!("{} {}x{}", video.codec, video.width, video.height),
            Unit::Audio(audio) => audio.codec.clone(),
            Unit::Discontinuity => "jump".to_owned(),
            Unit::Frame(f) => format!("{:?} {} {}", f.track, f.dts_ms, f.payload.len()),
        };
        units.iter().map(name).collect()
    }

    #[test]
    fn headers_come_before_frames_and_only_when_they_are_new() {
        let mut intake = Intake::new(UnixMs(1_000), SECOND, true);
        let mut take = |frame: &ReceivedFrame, at| names(&intake.take(frame, UnixMs(at)).unwrap());
        assert_eq!(take(&frame(Codec::Opus, 9_600, true, true), 1_100), ["opus", "Audio 100 3"]);
        let key = frame(Codec::H264, 90_000, true, true);
        assert_eq!(take(&key, 1_110), ["avc1.64001f 1280x720", "Video 110 6"]);
        assert_eq!(take(&frame(Codec::H264, 93_600, false, true), 1_170), ["Video 150 6"]);
        assert_eq!(take(&frame(Codec::H264, 97_200, true, true), 1_190), ["Video 190 6"]);
        assert_eq!(take(&frame(Codec::Opus, 10_560, true, true), 1_130), ["Audio 120 3"]);
    }

    #[test]
    fn pictures_wait_for_the_sound_that_was_agreed_on_but_not_for_ever() {
        let mut intake = Intake::new(UnixMs(0), SECOND, true);
        let key = frame(Codec::H264, 3_000, true, true);
        assert!(intake.take(&key, UnixMs(33)).unwrap().is_empty());
        assert!(intake.wants_keyframe(key.received), "the one that was left out is asked for again");
        let later = |received| ReceivedFrame { timestamp: 48_000, received, ..key.clone() };
        let waited = later(key.received + SOUND_WAIT);
        assert_eq!(intake.take(&waited, UnixMs(533)).unwrap().len(), 2);
        let sound = intake.take(&frame(Codec::Opus, 9_600, true, true), UnixMs(600)).unwrap();
        assert_eq!(names(&sound)[0], "opus", "late, but not left out");

        let mut intake = Intake::new(UnixMs(0), SECOND, true);
        assert!(intake.take(&key, UnixMs(33)).unwrap().is_empty());
        intake.take(&frame(Codec::Opus, 9_600, true, true), UnixMs(40)).unwrap();
        assert_eq!(intake.take(&later(key.received), UnixMs(50)).unwrap().len(), 2);
    }

    #[test]
    fn after_a_loss_pictures_begin_again_at_a_keyframe_which_is_asked_for() {
        let mut intake = Intake::new(UnixMs(0), SECOND, false);
        assert!(intake.wants_keyframe(clock::now()), "none came yet");
        assert!(intake.take(&frame(Codec::H264, 0, false, true), UnixMs(0)).unwrap().is_empty());
        let key = frame(Codec::H264, 3_000, true, true);
        intake.take(&key, UnixMs(33)).unwrap();
        assert!(!intake.wants_keyframe(key.received));
        assert!(intake.wants_keyframe(key.received + SECOND), "segments are cut at keyframes");
        assert!(intake.take(&frame(Codec::H264, 9_000, false, false), UnixMs(99)).unwrap().is_empty());
        assert!(intake.wants_keyframe(key.received));
        assert!(intake.take(&frame(Codec::H264, 12_000, false, true), UnixMs(132)).unwrap().is_empty());
        assert_eq!(intake.take(&frame(Codec::H264, 15_000, true, true), UnixMs(165)).unwrap().len(), 1);
    }

    #[test]
    fn keyframes_without_a_usable_header_end_the_publish_in_the_end() {
        let mut intake = Intake::new(UnixMs(0), SECOND, false);
        let mut bad = frame(Codec::H264, 0, true, true);
        bad.payload = vec![0, 0, 0, 1, 0x65, 7].into();
        for _ in 0..BAD_KEYFRAMES_MAX {
            assert!(intake.take(&bad, UnixMs(0)).unwrap().is_empty());
        }
        assert!(matches!(intake.take(&bad, UnixMs(0)), Err(FlvError::Avc(_))));
    }

    #[test]
    fn a_vp8_keyframe_tells_its_size() {
        let video = vp8(&[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0xe0, 0x01, 0]).unwrap();
        assert_eq!((video.width, video.height, video.codec.as_str()), (640, 480, VP8));
        assert_eq!(vp8(&[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0, 0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn any_frames_are_survived_and_time_rises(frames in proptest::collection::vec(
            (0..3_u8, any::<u32>(), any::<bool>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)),
            0..60,
        )) {
            let mut intake = Intake::new(UnixMs(0), SECOND, false);
            let mut last = [None::<i64>; 2];
            for (kind, timestamp, keyframe, contiguous, payload) in frames {
                let codec = [Codec::H264, Codec::Vp8, Codec::Opus][usize::from(kind)];
                let mut frame = frame(codec, timestamp.into(), keyframe, contiguous);
                if payload.len() > 20 {
                    frame.payload = payload.into();
                }
                for unit in intake.take(&frame, UnixMs(i64::from(timestamp) / 90)).unwrap_or_default() {
                    let Unit::Frame(frame) = unit else { continue };
                    let last = &mut last[usize::from(frame.track == Track::Video)];
                    prop_assert!(last.is_none_or(|last| frame.dts_ms > last));
                    *last = Some(frame.dts_ms);
                }
            }
        }
    }
}
