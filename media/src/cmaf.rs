//! Fragmented MP4 as HLS wants it (ISO/IEC 14496-12, 23000-19): an init segment that says how to decode,
//! and media segments of one `moof` and one `mdat`, video and audio together.

mod init;
mod media;

pub use init::init_segment;
pub use media::{Run, Sample, media_segment};

use crate::avc::AvcError;
use crate::frame::Track;

/// Ticks a second of the video track. Milliseconds are a whole number of them.
pub const VIDEO_TIMESCALE: u32 = 90_000;

/// Why a segment could not be written.
#[derive(Debug, thiserror::Error)]
pub enum MuxError {
    /// A [`crate::frame::VideoConfig`] that did not come from [`crate::avc::parse`].
    #[error(transparent)]
    Avc(#[from] AvcError),
    /// A value that its field cannot hold.
    #[error("a segment cannot be written: {0}")]
    Encode(#[from] mp4_atom::Error),
    /// More than 2 GiB: offsets are signed 32 bits.
    #[error("a segment is too large")]
    TooLarge,
}

fn track_id(track: Track) -> u32 {
    match track {
        Track::Video => 1,
        Track::Audio => 2,
    }
}
