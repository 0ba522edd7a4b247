//! Bounds of the container half: codecs' headers, timelines, segments and windows. RTMP has its own in
//! [`crate::rtmp`].

/// The longest codec header (avcC, AudioSpecificConfig) that is read. Real ones have 2 to 200 bytes.
pub const CODEC_HEADER_BYTES: usize = 16 << 10;
/// The largest picture, in either direction. H.264 level 6.2 ends a little above.
pub const PICTURE_PX: u32 = 8192;
/// A higher frame rate in a header is taken for a mistake and left out.
pub const FRAMES_PER_SECOND: f64 = 300.0;
/// The lowest AAC sampling rate, the last of the standard's table.
pub const SAMPLE_RATE_HZ_MIN: u32 = 7_350;
/// The highest AAC sampling rate, the first of the standard's table.
pub const SAMPLE_RATE_HZ_MAX: u32 = 96_000;

/// The longest frame of sound by RTMP: AAC has 768 bytes a channel at most (ISO/IEC 14496-3, 4.5.3), and 8 channels.
pub const AUDIO_FRAME_BYTES: usize = 8 << 10;

/// A track's timestamp may step forward by this much; more is a jump.
pub const FORWARD_STEP_MS: i64 = 10_000;
/// A track's timestamp may step back by this much and is then held; more is a jump.
pub const BACKWARD_STEP_MS: i64 = 1_000;

/// The longest segment. A group of pictures that is longer is cut inside.
pub const SEGMENT_MS: i64 = 12_000;
/// The largest segment. 12 s at 30 Mbit/s have 45 MB.
pub const SEGMENT_BYTES: usize = 48 << 20;
/// What a frame counts towards a segment's bytes beside its payload, so that empty frames are bounded too.
pub const FRAME_OVERHEAD_BYTES: usize = 64;
/// What a part counts towards a segment's bytes beside its frames: its headers.
pub const PART_OVERHEAD_BYTES: usize = 192;

/// Segments held for one rendition, listed or not.
pub const WINDOW_SEGMENTS: usize = 256;
/// Bytes of segments held for one rendition.
pub const WINDOW_BYTES: usize = 192 << 20;

/// The longest name of a stream, the same as the cluster's.
pub const NAME_BYTES: usize = 128;

const _: () = assert!(SEGMENT_BYTES < WINDOW_BYTES);
