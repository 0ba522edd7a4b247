//! HLS playlists: of a window (RFC 8216bis, with low latency) and of a stream's renditions.

mod media;
mod multivariant;
mod time;

pub use media::{MediaPlaylist, Report, media_playlist};
pub use multivariant::{PlaylistError, Variant, multivariant};
