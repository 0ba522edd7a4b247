//! The transcoder: a function from encoded units to encoded units over bounded channels, on threads of its
//! own, with no other tie to its origin. What breaks in it costs its own stream a discontinuity.
//!
//! [`pipeline`] takes units and decodes; each [`rung`] scales and encodes on a thread of its own; [`engine`] says
//! whether that is done by a graphics card or by the processors, and [`trial`] what a card can; [`order`] keeps
//! sound and pictures in the order they came in, so that all renditions are cut at the same places; [`sound`] turns
//! AAC into Opus and back. `supervise` starts it and starts it again.

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
mod freshness;
#[cfg(feature = "ffmpeg")]
mod order;
mod orders;
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
mod work;

pub(crate) use orders::{Intake, Orders};
pub(crate) use supervise::{Sink, start};
#[cfg(feature = "ffmpeg")]
pub(crate) use trial::try_device;

pub(crate) use work::{Done, Stage};

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

/// What broke a transcoder down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A codec refused.
    Codec,
    /// A header could not be read.
    Header,
    /// A thread could not be started.
    Thread,
    /// A thread broke down.
    Broken,
    /// A graphics card was lost, or has no room.
    Card,
}

impl Cause {
    /// All there are.
    pub(crate) const ALL: [Self; 5] = [Self::Codec, Self::Header, Self::Thread, Self::Broken, Self::Card];

    /// Its label in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::Header => "header",
            Self::Thread => "thread",
            Self::Broken => "broken",
            Self::Card => "card",
        }
    }
}

impl TranscodeError {
    fn cause(&self) -> Cause {
        match self {
            #[cfg(feature = "ffmpeg")]
            Self::NoCodec(_) | Self::Codec { .. } => Cause::Codec,
            #[cfg(feature = "ffmpeg")]
            Self::Header(_) | Self::AudioHeader(_) => Cause::Header,
            #[cfg(feature = "ffmpeg")]
            Self::Unwanted => Cause::Broken,
            #[cfg(feature = "ffmpeg")]
            Self::Moved => Cause::Card,
            Self::NoCard | Self::CardLost => Cause::Card,
            Self::Thread(_) => Cause::Thread,
            Self::Broken => Cause::Broken,
            #[cfg(not(feature = "ffmpeg"))]
            Self::NotBuilt => Cause::Codec,
        }
    }
}

#[cfg(feature = "ffmpeg")]
impl TranscodeError {
    fn at(what: &'static str) -> impl FnOnce(ffmpeg_next::Error) -> Self {
        move |why| Self::Codec { what, why }
    }
}
