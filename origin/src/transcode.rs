//! The transcoder: a function from encoded units to encoded units over bounded channels, on threads of its
//! own, with no other tie to its origin. What breaks in it costs its own stream a discontinuity.
//!
//! [`pipeline`] takes units and decodes; each [`rung`] scales and encodes on a thread of its own; [`engine`] says
//! whether that is done by a graphics card or by the processors, and [`trial`] what a card can; [`order`] keeps
//! sound and pictures in the order they came in, so that all renditions are cut at the same places; [`sound`] turns
//! AAC into Opus and back. `supervise` starts it and starts it again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sluicegate_cluster::config::RungSettings;
use sluicegate_media::frame::Unit;
use sluicegate_media::names::Rung;

#[cfg(feature = "ffmpeg")]
mod capacity;
#[cfg(feature = "ffmpeg")]
mod decoder;
#[cfg(feature = "ffmpeg")]
mod encoder;
mod engine;
#[cfg(feature = "ffmpeg")]
mod order;
#[cfg(feature = "ffmpeg")]
mod pipeline;
#[cfg(feature = "ffmpeg")]
mod rung;
#[cfg(feature = "ffmpeg")]
mod scaler;
#[cfg(feature = "ffmpeg")]
mod sound;
mod supervise;
#[cfg(test)]
#[cfg(feature = "ffmpeg")]
pub(crate) mod testing;
#[cfg(feature = "ffmpeg")]
mod trial;

pub(crate) use supervise::{Sink, start};
#[cfg(feature = "ffmpeg")]
pub(crate) use trial::try_device;

/// Decoded pictures that are in use at once, however many rungs there are: in a queue, at work, and on their way. A
/// card's decoder is told. It has 32 in all and needs those that the stream refers to; where that is not enough, the
/// processors decode.
#[cfg(feature = "ffmpeg")]
pub(crate) const PICTURES_KEPT: i32 = rung::QUEUE as i32 + 2;

/// What this machine can encode, Mpx/s; `None` without FFmpeg, or when it has no encoder. Takes a few tenths of a
/// second.
#[must_use]
pub(crate) fn measure_capacity() -> Option<f64> {
    #[cfg(feature = "ffmpeg")]
    match capacity::measure() {
        Ok(mpx) => return Some(mpx),
        Err(error) => tracing::warn!(%error, "what can be encoded cannot be measured"),
    }
    None
}

/// What is to be made of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// For logs and threads' names.
    pub(crate) name: String,
    /// Its pictures.
    pub(crate) video: VideoPlan,
    /// Its sound.
    pub(crate) audio: AudioPlan,
}

/// What is made of the pictures.
#[derive(Debug, Clone)]
pub(crate) enum VideoPlan {
    /// These rungs, encoded; those that are not smaller than the source are left out.
    Ladder(Vec<RungSettings>),
    /// H.264 in which pictures are shown in the order they are decoded in, as WebRTC needs it: passed through
    /// if it is that, else encoded in its own size.
    InOrder,
    /// H.264: passed through if it is that.
    H264,
}

/// What is made of the sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AudioPlan {
    /// Nothing.
    Pass,
    /// Opus, packets of 20 ms.
    Opus,
    /// AAC-LC.
    Aac,
}

/// What comes out.
#[derive(Debug)]
pub(crate) enum Made {
    /// A unit of a rendition. Jobs that make one only call it the source.
    Unit(Rung, Unit),
    /// From here on these renditions are made, and no others.
    Rungs(Vec<Rung>),
}

/// What is asked of a running job, read before each picture, and how it keeps up.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    keyframe: AtomicBool,
    dropped: AtomicUsize,
    waiting: AtomicUsize,
}

impl Orders {
    /// Asks for a keyframe, where pictures are encoded.
    pub(crate) fn keyframe(&self) {
        self.keyframe.store(true, Ordering::Relaxed);
    }

    /// Asks for one rung less, the most expensive one.
    pub(crate) fn drop_a_rung(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Units that wait for the job.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    #[cfg(feature = "ffmpeg")]
    fn set_waiting(&self, units: usize) {
        self.waiting.store(units, Ordering::Relaxed);
    }

    #[cfg(feature = "ffmpeg")]
    fn take_keyframe(&self) -> bool {
        self.keyframe.swap(false, Ordering::Relaxed)
    }

    #[cfg(feature = "ffmpeg")]
    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Why a transcoder stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TranscodeError {
    /// A codec that FFmpeg was built without.
    #[cfg(feature = "ffmpeg")]
    #[error("FFmpeg has no {0}")]
    NoCodec(&'static str),
    /// FFmpeg refused.
    #[cfg(feature = "ffmpeg")]
    #[error("{what}: {why}")]
    Codec {
        /// What it was to do.
        what: &'static str,
        /// What it said.
        why: ffmpeg_next::Error,
    },
    /// An encoder's header cannot be read.
    #[cfg(feature = "ffmpeg")]
    #[error("an encoder wrote a header that cannot be read: {0}")]
    Header(#[from] sluicegate_media::avc::AvcError),
    /// Likewise, of sound.
    #[cfg(feature = "ffmpeg")]
    #[error("an encoder wrote a header that cannot be read: {0}")]
    AudioHeader(#[from] sluicegate_media::aac::AacError),
    /// One of its threads could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// Nobody takes what it makes.
    #[cfg(feature = "ffmpeg")]
    #[error("nobody takes it")]
    Unwanted,
    /// Only a graphics card may encode, and none has room.
    #[error("no graphics card has room, and nothing else may encode")]
    NoCard,
    /// The graphics card that it works on answers no more.
    #[error("the graphics card answers no more")]
    CardLost,
    /// Pictures are no longer where they were: on a graphics card, or in memory.
    #[cfg(feature = "ffmpeg")]
    #[error("pictures are no longer where they were")]
    Moved,
    /// One of its threads broke down.
    #[error("a thread of the transcoder broke down")]
    Broken,
    /// This program was built without FFmpeg.
    #[cfg(not(feature = "ffmpeg"))]
    #[error("this program was built without FFmpeg")]
    NotBuilt,
}

#[cfg(feature = "ffmpeg")]
impl TranscodeError {
    fn at(what: &'static str) -> impl FnOnce(ffmpeg_next::Error) -> Self {
        move |why| Self::Codec { what, why }
    }
}
