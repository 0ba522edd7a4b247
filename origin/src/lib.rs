//! The origin: takes publishes from balancers, makes segments and playlists of them, and serves those to
//! edges.
//!
//! [`ingest`] brings messages, [`packager`] makes segments of them without sockets or clocks, [`live`] holds
//! what is made of one stream, [`serve`] hands it out. FFmpeg is behind the feature `ffmpeg`.

#[cfg(feature = "ffmpeg")]
pub mod encoders;
mod error;
mod ffi;
mod gpus;
mod ingest;
mod live;
mod origin;
mod packager;
mod room;
mod serve;
mod slot;
mod streams;

pub use gpus::Gpus;
pub use origin::{Origin, OriginParts};
