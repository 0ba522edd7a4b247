//! A publisher's RTMP messages into units on one timeline. Synchronous: the arrival time is an argument.

use sluicegate_cluster::clock::UnixMs;
use sluicegate_media::flv::{self, FlvError, Packet};
use sluicegate_media::frame::{Frame, Unit};
use sluicegate_media::rtmp::{MediaKind, MediaMessage};
use sluicegate_media::timeline::Timeline;

/// Messages in a row that may be unusable before the publish is ended. One may be damaged; many are not media.
const BAD_MESSAGES_MAX: u32 = 50;

/// Reads one publisher's messages.
pub(crate) struct Depacketizer {
    timeline: Timeline,
    bad_in_a_row: u32,
}

impl Depacketizer {
    /// One whose timeline begins at `start`.
    pub(crate) fn new(start: UnixMs) -> Self {
        Self { timeline: Timeline::new(start.0), bad_in_a_row: 0 }
    }

    /// Takes a message; the units in it, of which there are two at most.
    ///
    /// # Errors
    /// [`FlvError`] when the stream cannot go on: a codec, a size or a rate that is not supported, or one bad message
    /// after another. A single damaged one is passed over.
    pub(crate) fn push(
        &mut self,
        message: &MediaMessage,
        arrival: UnixMs,
    ) -> Result<impl Iterator<Item = Unit> + use<>, FlvError> {
        let parsed = match message.kind {
            MediaKind::Video => flv::parse_video(&message.payload),
            MediaKind::Audio => flv::parse_audio(&message.payload),
            MediaKind::Data => Ok(Packet::Nothing),
        };
        let units = match parsed {
            Ok(packet) => {
                self.bad_in_a_row = 0;
                self.place(packet, message.timestamp_ms, arrival)
            }
            Err(error) => {
                self.forgive(error)?;
                [None, None]
            }
        };
        Ok(units.into_iter().flatten())
    }

    fn place(&mut self, packet: Packet, timestamp_ms: u32, arrival: UnixMs) -> [Option<Unit>; 2] {
        match packet {
            Packet::VideoHeader(video) => [Some(Unit::Video(video)), None],
            Packet::AudioHeader(audio) => [Some(Unit::Audio(audio)), None],
            Packet::Frame { track, keyframe, composition_ms, payload } => {
                let stamp = self.timeline.stamp(track, timestamp_ms, composition_ms, arrival.0);
                let frame = Frame { track, dts_ms: stamp.dts_ms, pts_ms: stamp.pts_ms, keyframe, payload };
                [stamp.discontinuity.then_some(Unit::Discontinuity), Some(Unit::Frame(frame))]
            }
            Packet::EndOfSequence | Packet::Nothing => [None, None],
        }
    }

    fn forgive(&mut self, error: FlvError) -> Result<(), FlvError> {
        self.bad_in_a_row += 1;
        if error.is_final() || self.bad_in_a_row > BAD_MESSAGES_MAX {
            return Err(error);
        }
        tracing::debug!(%error, "a message was passed over");
        Ok(())
    }
}
