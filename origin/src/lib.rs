//! The origin: takes publishes from balancers, makes segments and playlists of them, and serves those to
//! edges.
//!
//! [`ingest`] brings messages, [`depacketizer`] makes units of them, [`live`] is one stream: a [`hub`] that
//! hands its units out, and its renditions; [`rendition`] makes segments, parts and playlists, [`serve`] hands
//! those out, and [`hold`] keeps requests for what is about to come. Neither depacketizer nor rendition has sockets or clocks. FFmpeg is behind the feature `ffmpeg`.

mod depacketizer;
#[cfg(feature = "ffmpeg")]
pub mod encoders;
mod error;
mod ffi;
mod gpus;
mod hold;
mod hub;
mod ingest;
mod live;
mod origin;
mod rendition;
mod room;
mod serve;
mod slot;
mod streams;

pub use gpus::Gpus;
pub use origin::{Origin, OriginParts};
