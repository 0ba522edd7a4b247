//! Where a transcoder's pictures are worked on: by a graphics card, by the processors, or partly by each. Chosen
//! when it is known how many there are to be encoded, and anew each time the transcoder is started again.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluicegate_cluster::config::EncoderChoice;
use tokio::sync::watch;

use super::TranscodeError;
use crate::gpus::{Device, Gpus, Lease, Place, Work};

/// Cards that may fail under one stream. Then it is taken to be the stream, and the processors go on with it.
const CARDS_TRIED_MAX: usize = 2;
/// What NVENC takes of each generation of cards; what is smaller or larger is encoded by the processors.
const NVENC_WIDTHS: RangeInclusive<u32> = 160..=4_096;
const NVENC_HEIGHTS: RangeInclusive<u32> = 64..=4_096;

/// The choice for one job, which remembers what failed under it.
pub(crate) struct Engines {
    gpus: Arc<Gpus>,
    failures: Mutex<Failures>,
    /// The card that it is on, and what tells that the card is lost.
    on: watch::Sender<Option<(usize, watch::Receiver<u64>)>>,
}

#[derive(Default)]
struct Failures {
    /// The cards.
    on: Vec<usize>,
    /// The last was followed by no engine yet.
    moving: bool,
}

/// Where pictures are worked on.
#[derive(Clone)]
pub(super) struct Engine {
    /// The card that takes part.
    device: Option<Arc<dyn Device>>,
    work: Work,
    seat: Option<Arc<Seat>>,
}

/// A transcoder's place, for as long as one of its threads works.
struct Seat {
    gpus: Arc<Gpus>,
    lease: Option<Lease>,
    place: Place,
}

impl Engines {
    /// On these cards, or none of them.
    pub(crate) fn new(gpus: Arc<Gpus>) -> Self {
        Self { gpus, failures: Mutex::default(), on: watch::Sender::new(None) }
    }

    /// An engine for pictures of which `mpx` Mpx/s are encoded.
    ///
    /// # Errors
    /// [`TranscodeError::NoCard`] when only a card may encode, and none has room.
    pub(super) fn take(&self, mpx: f64) -> Result<Engine, TranscodeError> {
        let mut failures = self.lock();
        let may_use_cards = failures.on.len() < CARDS_TRIED_MAX;
        let lease = if may_use_cards { self.gpus.place(mpx, &failures.on) } else { None };
        if lease.is_none() && self.gpus.encoder() == EncoderChoice::Nvenc {
            return Err(TranscodeError::NoCard);
        }
        self.on.send_replace(lease.as_ref().map(|lease| (lease.index, lease.losses())));
        let work = lease.as_ref().map_or(Work::NONE, |lease| lease.work);
        let place = match work {
            Work { decodes: true, encodes: true } => Place::Card,
            Work { decodes: false, encodes: false } => Place::Cpu,
            _ => Place::Both,
        };
        if std::mem::take(&mut failures.moving) {
            self.gpus.moved(place);
        }
        self.gpus.working(place, 1);
        let device = lease.as_ref().map(|lease| Arc::clone(&lease.device));
        Ok(Engine { device, work, seat: Some(Arc::new(Seat { gpus: Arc::clone(&self.gpus), lease, place })) })
    }

    /// The job broke down with this engine.
    pub(super) fn failed(&self, engine: &Engine) {
        if let Some(lease) = engine.lease() {
            lease.failed();
            self.note_failure(lease.index);
        }
    }

    /// The job works on no pictures from here on.
    pub(super) fn leave(&self) -> Engine {
        self.on.send_replace(None);
        Engine::cpu()
    }

    /// Waits until the card that the job is on answers no more.
    pub(super) async fn card_lost(&self) {
        let mut on = self.on.subscribe();
        loop {
            let losses = on.borrow_and_update().as_ref().map(|(_, losses)| losses.clone());
            let lost = async {
                match losses {
                    Some(mut losses) => losses.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = lost => return,
                _ = on.changed() => {}
            }
        }
    }

    /// The job hangs in the driver of its card: it goes on without what hangs.
    pub(super) fn left_behind(&self) {
        if let Some((index, _)) = self.on.send_replace(None) {
            self.note_failure(index);
        }
    }

    /// The job was well for long: only what failed last counts.
    pub(super) fn forgive(&self) {
        let mut failures = self.lock();
        let earlier = failures.on.len().saturating_sub(1);
        failures.on.drain(..earlier);
    }

    fn note_failure(&self, index: usize) {
        let mut failures = self.lock();
        failures.on.push(index);
        failures.moving = true;
    }

    fn lock(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// The processors, without being counted.
    pub(super) fn cpu() -> Self {
        Self { device: None, work: Work::NONE, seat: None }
    }

    /// A card, without being counted, to see what it can.
    pub(super) fn on(device: &Arc<dyn Device>, work: Work) -> Self {
        Self { device: Some(Arc::clone(device)), work, seat: None }
    }

    /// The card to decode on, and to scale what it decoded.
    pub(super) fn decodes_on(&self) -> Option<&dyn Device> {
        self.device.as_deref().filter(|_| self.work.decodes)
    }

    /// The card to encode pictures of this size on.
    pub(super) fn encodes_on(&self, width: u32, height: u32) -> Option<&dyn Device> {
        let takes = NVENC_WIDTHS.contains(&width) && NVENC_HEIGHTS.contains(&height);
        self.device.as_deref().filter(|_| self.work.encodes && takes)
    }

    /// # Errors
    /// [`TranscodeError::CardLost`] when its card answers no more.
    pub(super) fn check(&self) -> Result<(), TranscodeError> {
        if self.lease().is_some_and(Lease::is_lost) { Err(TranscodeError::CardLost) } else { Ok(()) }
    }

    fn lease(&self) -> Option<&Lease> {
        self.seat.as_ref()?.lease.as_ref()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gpus.working(self.place, -1);
    }
}

/// Whether it was the card, and not what it was given to decode: FFmpeg calls damaged pictures by other names.
#[cfg(feature = "ffmpeg")]
pub(super) fn is_of_card(error: ffmpeg_next::Error) -> bool {
    use ffmpeg_next::Error::{Bug, External, Other, Unknown};
    matches!(error, External | Unknown | Bug | Other { errno: ffmpeg_next::error::ENOMEM })
}

/// Has a codec that is not open yet work on a card, if there is one.
#[cfg(feature = "ffmpeg")]
pub(super) fn attach(
    device: Option<&dyn Device>,
    codec: &mut ffmpeg_next::codec::Context,
    what: &'static str,
) -> Result<(), TranscodeError> {
    device.map_or(Ok(()), |device| device.attach(codec)).map_err(TranscodeError::at(what))
}

#[cfg(test)]
#[cfg(feature = "ffmpeg")]
mod tests;
