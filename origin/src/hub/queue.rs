//! What waits for one follower of a hub, bounded by its number and by its bytes: units of a publisher that sends large
//! pictures would otherwise be as many as small ones.

use std::sync::Arc;

use sluicegate_media::frame::Unit;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A queue of `units` at most, of `bytes` together.
pub(crate) fn queue(units: usize, bytes: usize) -> (UnitSender, Units) {
    let bytes = bytes.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
    let (sender, receiver) = mpsc::channel(units.max(1));
    let room = Arc::new(Semaphore::new(bytes));
    (UnitSender { units: sender, room, bytes }, Units(receiver))
}

/// Where units go in.
pub(crate) struct UnitSender {
    units: mpsc::Sender<Waiting>,
    /// A permit for each byte that does not wait yet.
    room: Arc<Semaphore>,
    bytes: usize,
}

/// Where they come out.
pub(crate) struct Units(mpsc::Receiver<Waiting>);

/// A unit, and its bytes' room for as long as it waits.
struct Waiting {
    unit: Unit,
    _room: OwnedSemaphorePermit,
}

/// There is no room for a unit, or nobody to take it.
#[derive(Debug, thiserror::Error)]
#[error("there is no room for a unit")]
pub(crate) struct NoRoom;

impl UnitSender {
    /// Puts a unit in. One that is larger than the whole queue is taken when nothing else waits.
    ///
    /// # Errors
    /// [`NoRoom`] when the queue is full by either measure, or when its receiver is gone.
    pub(crate) fn try_send(&self, unit: Unit) -> Result<(), NoRoom> {
        let bytes = u32::try_from(payload_bytes(&unit).min(self.bytes)).map_err(|_| NoRoom)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| NoRoom)?;
        self.units.try_send(Waiting { unit, _room: room }).map_err(|_| NoRoom)
    }

    /// Whether nobody takes what comes.
    pub(crate) fn is_closed(&self) -> bool {
        self.units.is_closed()
    }
}

impl Units {
    /// The next unit; `None` when there are no more. Safe to cancel.
    pub(crate) async fn recv(&mut self) -> Option<Unit> {
        self.0.recv().await.map(|waiting| waiting.unit)
    }

    /// The same, on a thread that may wait: a transcoder's.
    #[cfg(any(test, feature = "ffmpeg"))]
    pub(crate) fn blocking_recv(&mut self) -> Option<Unit> {
        self.0.blocking_recv().map(|waiting| waiting.unit)
    }

    /// The next unit, if one waits.
    #[cfg(test)]
    pub(crate) fn try_recv(&mut self) -> Option<Unit> {
        self.0.try_recv().ok().map(|waiting| waiting.unit)
    }
}

fn payload_bytes(unit: &Unit) -> usize {
    match unit {
        Unit::Frame(frame) => frame.payload.len(),
        Unit::Video(video) => video.avcc.len(),
        Unit::Audio(audio) => audio.asc.len(),
        Unit::Discontinuity => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sluicegate_media::frame::{Frame, Track};

    use super::*;

    fn picture(bytes: usize) -> Unit {
        let payload = Bytes::from(vec![0; bytes]);
        Unit::Frame(Frame { track: Track::Video, dts_ms: 0, pts_ms: 0, keyframe: true, payload })
    }

    #[test]
    fn a_queue_is_full_by_its_bytes_or_by_its_number() {
        let (sender, mut units) = queue(3, 100);
        sender.try_send(picture(60)).unwrap();
        assert!(sender.try_send(picture(41)).is_err());
        sender.try_send(picture(40)).unwrap();
        assert!(sender.try_send(picture(1)).is_err());
        sender.try_send(Unit::Discontinuity).unwrap();
        assert!(sender.try_send(Unit::Discontinuity).is_err(), "three wait");
        assert_eq!(units.try_recv(), Some(picture(60)));
        sender.try_send(picture(60)).unwrap();
        assert!(sender.try_send(picture(0)).is_err());
    }

    #[test]
    fn what_is_larger_than_the_queue_waits_alone() {
        let (sender, mut units) = queue(3, 100);
        sender.try_send(picture(1_000)).unwrap();
        assert!(sender.try_send(picture(1)).is_err());
        assert_eq!(units.try_recv(), Some(picture(1_000)));
        sender.try_send(picture(1)).unwrap();
        assert!(sender.try_send(picture(1_000)).is_err());
        drop(units);
        assert!(sender.is_closed() && sender.try_send(picture(1)).is_err());
    }
}
