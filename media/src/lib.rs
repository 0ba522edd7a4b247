//! The runtime-free media core: RTMP and FLV in, timelines and codecs' headers, fragmented MP4 and HLS
//! playlists out. Nothing here waits, reads a clock or opens a socket.

pub mod aac;
pub mod annexb;
pub mod avc;
pub mod cmaf;
pub mod flv;
pub mod frame;
pub mod limits;
pub mod names;
pub mod playlist;
pub mod reload;
pub mod rtmp;
pub mod segment;
pub mod segmenter;
pub mod timeline;
pub mod window;
