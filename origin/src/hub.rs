//! One rendition's units, to whoever works on them beside the packager: transcoders, and nodes that pull it
//! over WebRTC. A subscriber that does not keep up loses pictures up to the next keyframe, and disturbs
//! nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluicegate_media::frame::{AudioConfig, Frame, Track, Unit, VideoConfig};

use crate::transcode::Intake;

mod queue;

pub(crate) use queue::Units;
#[cfg(test)]
pub(crate) use queue::queue as units;
use queue::{UnitSender, queue};

/// Units that a new subscriber is given at most, so that it can begin before the next keyframe.
const GOP_UNITS_MAX: usize = 1_024;
/// Their payload at most, bytes.
const GOP_BYTES_MAX: usize = 16 << 20;
/// What waits for one subscriber at most beside those, bytes: 4 s at 32 Mbit/s. Subscribers share it, and the packager
/// has most of it too.
pub(crate) const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Hands out a rendition's units.
#[derive(Default)]
pub(crate) struct Hub(Mutex<State>);

#[derive(Default)]
struct State {
    video: Option<VideoConfig>,
    audio: Option<AudioConfig>,
    gop: Gop,
    subscribers: Vec<Subscriber>,
    closed: bool,
}

/// The frames since the last keyframe. Empty when they became too many.
#[derive(Default)]
struct Gop {
    frames: Vec<Frame>,
    bytes: usize,
}

struct Subscriber {
    units: UnitSender,
    /// It lost something, or has just come: nothing is sent to it before the next keyframe.
    behind: bool,
    /// It has been given something.
    begun: bool,
    /// What it is given and what it loses is told there.
    intake: Option<Arc<Intake>>,
}

impl Hub {
    /// The units from here on: the headers, the group of pictures that runs, then what comes, `queue` of
    /// them and [`QUEUE_BYTES_MAX`] waiting at most. A receiver that is dropped is forgotten. The channel of a closed
    /// hub is closed.
    pub(crate) fn subscribe(&self, units: usize) -> Units {
        self.open(units, None).unwrap_or_else(|| queue(1, 1).1)
    }

    /// The same; `None` when the hub is closed. What comes after the group of pictures that runs is told `intake`.
    pub(crate) fn open(&self, units: usize, intake: Option<&Arc<Intake>>) -> Option<Units> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let (units, receiver) = queue(units.saturating_add(GOP_UNITS_MAX), QUEUE_BYTES_MAX + GOP_BYTES_MAX);
        let behind = state.video.is_some() && state.gop.frames.is_empty();
        if !behind {
            for unit in state.beginning() {
                // The channel holds more than a beginning has.
                let _ = units.try_send(unit);
            }
        }
        state.subscribers.push(Subscriber { units, behind, begun: !behind, intake: intake.cloned() });
        Some(receiver)
    }

    /// The units from the next keyframe on, for whoever must not fall behind: no more than `units` of them, and
    /// [`QUEUE_BYTES_MAX`], wait. `None` when the hub is closed.
    pub(crate) fn follow(&self, units: usize, intake: &Arc<Intake>) -> Option<Units> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let (units, receiver) = queue(units, QUEUE_BYTES_MAX);
        let behind = state.video.is_some() || state.audio.is_some();
        state.subscribers.push(Subscriber {
            units,
            behind,
            begun: !behind,
            intake: Some(Arc::clone(intake)),
        });
        Some(receiver)
    }

    /// Whether nobody subscribes.
    pub(crate) fn is_deserted(&self) -> bool {
        self.lock().subscribers.iter().all(|subscriber| subscriber.units.is_closed())
    }

    /// Ends all subscriptions, once they have taken what waits for them. There are none afterwards.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.subscribers.clear();
        state.gop.clear();
    }

    /// Hands out a unit.
    pub(crate) fn publish(&self, unit: &Unit) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.remember(unit);
        let headers = [state.video.clone().map(Unit::Video), state.audio.clone().map(Unit::Audio)];
        let has_video = state.video.is_some();
        state.subscribers.retain_mut(|subscriber| subscriber.send(unit, &headers, has_video));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn beginning(&self) -> impl Iterator<Item = Unit> {
        let headers = self.video.clone().map(Unit::Video).into_iter();
        let headers = headers.chain(self.audio.clone().map(Unit::Audio));
        headers.chain(self.gop.frames.iter().cloned().map(Unit::Frame))
    }

    fn remember(&mut self, unit: &Unit) {
        match unit {
            Unit::Video(video) => {
                self.video = Some(video.clone());
                self.gop.clear();
            }
            Unit::Audio(audio) => self.audio = Some(audio.clone()),
            Unit::Discontinuity => self.gop.clear(),
            Unit::Frame(frame) => self.gop.push(frame),
        }
    }
}

impl Gop {
    fn push(&mut self, frame: &Frame) {
        let begins = frame.track == Track::Video && frame.keyframe;
        if begins {
            self.clear();
        }
        if !begins && self.frames.is_empty() {
            return;
        }
        self.bytes += frame.payload.len();
        self.frames.push(frame.clone());
        // Two headers come before them.
        if self.frames.len() + 2 > GOP_UNITS_MAX || self.bytes > GOP_BYTES_MAX {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }
}

impl Subscriber {
    /// Whether it is still there.
    fn send(&mut self, unit: &Unit, headers: &[Option<Unit>; 2], has_video: bool) -> bool {
        if self.behind {
            let resumes =
                matches!(unit, Unit::Frame(f) if !has_video || (f.track == Track::Video && f.keyframe));
            let again = std::iter::once(Unit::Discontinuity).chain(headers.iter().flatten().cloned());
            if !resumes || !again.into_iter().all(|unit| self.units.try_send(unit).is_ok()) {
                self.tell_of(unit, false);
                return !self.units.is_closed();
            }
        }
        let sent = self.units.try_send(unit.clone()).is_ok();
        self.tell_of(unit, sent);
        (self.behind, self.begun) = (!sent, true);
        !self.units.is_closed()
    }

    fn tell_of(&self, unit: &Unit, sent: bool) {
        if let (Some(intake), Unit::Frame(frame)) = (&self.intake, unit) {
            if sent {
                intake.gave(frame.dts_ms);
            } else if self.begun {
                intake.lose(!self.behind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(track: Track, dts_ms: i64, keyframe: bool) -> Unit {
        Unit::Frame(Frame { track, dts_ms, pts_ms: dts_ms, keyframe, payload: Bytes::from_static(b"x") })
    }

    fn video() -> Unit {
        let avcc = Bytes::from_static(b"avcc");
        let codec = "avc1.64001f".to_owned();
        Unit::Video(VideoConfig { avcc, codec, width: 640, height: 360, fps: None })
    }

    fn drain(units: &mut Units) -> Vec<String> {
        let name = |unit: &Unit| match unit {
            Unit::Video(_) => "video".to_owned(),
            Unit::Audio(_) => "audio".to_owned(),
            Unit::Discontinuity => "jump".to_owned(),
            Unit::Frame(f) => format!("{}{}", if f.keyframe { "key" } else { "" }, f.dts_ms),
        };
        std::iter::from_fn(|| units.try_recv()).map(|unit| name(&unit)).collect()
    }

    #[test]
    fn a_late_subscriber_begins_at_the_last_keyframe() {
        let hub = Hub::default();
        hub.publish(&video());
        for (dts, key) in [(0, true), (40, false), (80, true), (120, false)] {
            hub.publish(&frame(Track::Video, dts, key));
        }
        let mut units = hub.subscribe(8);
        hub.publish(&frame(Track::Video, 160, false));
        assert_eq!(drain(&mut units), ["video", "key80", "120", "160"]);
    }

    #[test]
    fn who_follows_begins_at_the_next_keyframe_and_a_closed_hub_has_no_more() {
        let hub = Hub::default();
        hub.publish(&video());
        hub.publish(&frame(Track::Video, 0, true));
        let intake = Arc::default();
        let mut units = hub.follow(8, &intake).unwrap();
        hub.publish(&frame(Track::Video, 40, false));
        hub.publish(&frame(Track::Video, 80, true));
        assert!(!hub.is_deserted());
        hub.close();
        hub.publish(&frame(Track::Video, 120, false));
        assert_eq!(drain(&mut units), ["jump", "video", "key80"]);
        assert!(units.blocking_recv().is_none() && hub.follow(8, &intake).is_none() && hub.is_deserted());
        assert!(hub.subscribe(8).blocking_recv().is_none());
    }

    #[test]
    fn a_slow_subscriber_goes_on_at_a_keyframe_and_a_gone_one_is_forgotten() {
        let hub = Hub::default();
        hub.publish(&video());
        let mut units = hub.subscribe(1);
        hub.publish(&frame(Track::Video, 0, true));
        for dts in 1..=i64::try_from(GOP_UNITS_MAX).unwrap() + 50 {
            hub.publish(&frame(Track::Video, dts, false));
        }
        let first = drain(&mut units);
        assert_eq!(first[..3], ["jump", "video", "key0"]);
        hub.publish(&frame(Track::Video, 5_000, false));
        hub.publish(&frame(Track::Video, 5_040, true));
        assert_eq!(drain(&mut units), ["jump", "video", "key5040"]);
        drop(units);
        hub.publish(&frame(Track::Video, 5_080, false));
        assert!(hub.lock().subscribers.is_empty());
    }

    #[test]
    fn who_is_late_by_bytes_goes_on_at_a_keyframe() {
        const PICTURE_BYTES: usize = 1 << 20;
        let large = |dts_ms, keyframe| {
            let payload = Bytes::from(vec![0; PICTURE_BYTES]);
            Unit::Frame(Frame { track: Track::Video, dts_ms, pts_ms: dts_ms, keyframe, payload })
        };
        let hub = Hub::default();
        let intake = Arc::default();
        let mut units = hub.follow(1_000, &intake).unwrap();
        hub.publish(&video());
        hub.publish(&large(0, true));
        (1..100).for_each(|n| hub.publish(&large(n, false)));
        let fit = QUEUE_BYTES_MAX / PICTURE_BYTES - 1;
        assert_eq!(drain(&mut units).len(), 1 + fit);
        assert_eq!((intake.losses(), intake.lost()), (1, 100 - fit as u64));
        hub.publish(&large(100, false));
        hub.publish(&large(101, true));
        assert_eq!(drain(&mut units), ["jump", "video", "key101"]);
    }
}
