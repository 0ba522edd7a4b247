//! A feed's units into frames for WebRTC. Synchronous: the time is an argument.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_cluster::clock::UnixMs;
use sluicegate_media::avc;
use sluicegate_media::frame::{Frame, OPUS, Track, Unit};
use sluicegate_rtc::{Codec, FrameToSend};

/// Turns units of one feed.
pub(super) struct Outgo {
    started_at: UnixMs,
    /// How far a frame came before its moment, at most: publishers send in bursts, and clocks differ.
    ahead_ms: i64,
    /// The parameter sets as a byte stream, and the bytes of a NAL unit's length; none before the first header.
    video: Option<(Vec<u8>, usize)>,
    audio: bool,
}

impl Outgo {
    /// One for a stream whose timeline began at `started_at`.
    pub(super) fn new(started_at: UnixMs) -> Self {
        Self { started_at, ahead_ms: 0, video: None, audio: false }
    }

    /// The frame to send for a unit, at `now` by both clocks. None for what WebRTC cannot carry.
    pub(super) fn take(&mut self, unit: &Unit, now: Instant, wall: UnixMs) -> Option<FrameToSend> {
        match unit {
            Unit::Video(video) => {
                self.video = avc::parameter_sets(video).ok();
                None
            }
            Unit::Audio(audio) => {
                self.audio = audio.codec == OPUS;
                None
            }
            Unit::Discontinuity => None,
            Unit::Frame(frame) => self.frame(frame, now, wall),
        }
    }

    fn frame(&mut self, frame: &Frame, now: Instant, wall: UnixMs) -> Option<FrameToSend> {
        let (payload, codec): (Arc<[u8]>, _) = match frame.track {
            Track::Video => {
                let (headers, length_bytes) = self.video.as_ref()?;
                let headers: &[u8] = if frame.keyframe { headers } else { &[] };
                (avc::to_byte_stream(&frame.payload, *length_bytes, headers).into(), Codec::H264)
            }
            Track::Audio => (Arc::from(&frame.payload[..]), Codec::Opus),
        };
        if payload.is_empty() || (frame.track == Track::Audio && !self.audio) {
            return None;
        }
        let pts_ms = u64::try_from(frame.pts_ms).ok()?;
        let timestamp = pts_ms.saturating_mul(u64::from(codec.clock_hz()) / 1_000);
        // Sender reports are about the moment of capture: both tracks lie on one timeline, which is moved back for
        // both where one of them would lie in the future.
        let captured_ms = self.started_at.0.saturating_add(frame.pts_ms);
        self.ahead_ms = self.ahead_ms.max(captured_ms.saturating_sub(wall.0));
        let age: Duration = UnixMs(captured_ms.saturating_sub(self.ahead_ms)).age(wall);
        let moment = now.checked_sub(age).unwrap_or(now);
        Some(FrameToSend { track: frame.track, timestamp, moment, payload })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sluicegate_cluster::clock;
    use sluicegate_media::annexb;
    use sluicegate_media::frame::AudioConfig;

    use super::*;

    const SPS: &[u8] = &[
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10,
        0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
    ];
    const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

    fn picture(pts_ms: i64, keyframe: bool) -> Unit {
        let payload = Bytes::from_static(&[0, 0, 0, 2, 0x65, 9]);
        Unit::Frame(Frame { track: Track::Video, dts_ms: pts_ms, pts_ms, keyframe, payload })
    }

    #[test]
    fn keyframes_carry_their_parameter_sets_and_both_tracks_one_clock() {
        let start = [0, 0, 0, 1];
        let video = annexb::video_config(&[&start, SPS, &start, PPS].concat()).unwrap();
        let (now, wall) = (clock::now(), UnixMs(10_000));
        let mut outgo = Outgo::new(UnixMs(5_000));
        assert!(outgo.take(&picture(0, true), now, wall).is_none(), "no header yet");
        assert!(outgo.take(&Unit::Video(video), now, wall).is_none());
        let key = outgo.take(&picture(4_000, true), now, wall).unwrap();
        assert_eq!(&key.payload[..], [&start, SPS, &start, PPS, &start, &[0x65, 9]].concat());
        assert_eq!((key.timestamp, now - key.moment), (360_000, Duration::from_secs(1)));
        let next = outgo.take(&picture(4_040, false), now, wall).unwrap();
        assert_eq!(&next.payload[..], [0, 0, 0, 1, 0x65, 9]);
        // One that comes 300 ms early moves all that follow, so that their distances stay.
        let early = outgo.take(&picture(5_300, false), now, wall).unwrap();
        let before = outgo.take(&picture(5_200, false), now, wall).unwrap();
        assert_eq!((early.moment, now - before.moment), (now, Duration::from_millis(100)));
    }

    #[test]
    fn sound_goes_out_only_as_opus() {
        let sound = |codec: &str| {
            let asc = Bytes::new();
            let codec = codec.to_owned();
            Unit::Audio(AudioConfig { asc, codec, sample_rate: 48_000, channels: 2, frame_samples: 960 })
        };
        let payload = Bytes::from_static(&[1]);
        let unit =
            Unit::Frame(Frame { track: Track::Audio, dts_ms: 20, pts_ms: 20, keyframe: true, payload });
        let (now, wall) = (clock::now(), UnixMs(0));
        let mut outgo = Outgo::new(UnixMs(0));
        outgo.take(&sound("mp4a.40.2"), now, wall);
        assert!(outgo.take(&unit, now, wall).is_none());
        outgo.take(&sound(OPUS), now, wall);
        assert_eq!(outgo.take(&unit, now, wall).map(|f| f.timestamp), Some(960));
    }
}
