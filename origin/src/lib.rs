//! The origin: takes publishes from balancers, makes segments and playlists of them, and serves those to
//! edges.
//!
//! [`publish`] is a publish, whichever protocol brings it: [`webrtc`] by WHIP, [`ingest`] by RTMP.
//!
//! [`ingest`] brings messages, [`depacketizer`] makes units of them, [`live`] is one stream: a [`hub`] that
//! hands its units out, and its renditions; [`rendition`] makes segments, parts and playlists, [`serve`] hands
//! those out, and [`hold`] keeps requests for what is about to come. Neither depacketizer nor rendition has
//! sockets or clocks. [`feeds`] says what is made of a stream beside its source, [`transcode`] makes it. FFmpeg
//! is behind the feature `ffmpeg`.

mod audience;
pub mod capacity;
mod depacketizer;
#[cfg(feature = "ffmpeg")]
pub mod encoders;
mod ends;
mod error;
mod feeds;
mod ffi;
#[cfg_attr(not(feature = "ffmpeg"), allow(dead_code, reason = "cards are only read without FFmpeg"))]
mod gpus;
mod hold;
mod hub;
mod ingest;
mod ladder_report;
mod live;
mod load;
mod metrics;
mod origin;
mod overload;
mod publish;
mod rendition;
pub mod room;
mod serve;
pub mod slot;
mod streams;
#[cfg_attr(
    not(feature = "ffmpeg"),
    allow(dead_code, reason = "plans that nobody carries out without FFmpeg")
)]
mod transcode;
mod webrtc;

pub use gpus::{CardReport, Gpus};
pub use origin::{Origin, OriginError, OriginParts};
pub use webrtc::WebRtcParts;
