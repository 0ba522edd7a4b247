//! Encoded frames and what a decoder must know before the first of them.

use bytes::Bytes;

/// [`AudioConfig::codec`] of Opus, which HLS renditions do not carry.
pub const OPUS: &str = "opus";
/// [`VideoConfig::codec`] of VP8, likewise.
pub const VP8: &str = "vp8";

/// Which of a stream's two tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Track {
    /// H.264, or VP8 as browsers may publish it.
    Video,
    /// AAC, or Opus.
    Audio,
}

/// One encoded picture or one AAC access unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its track.
    pub track: Track,
    /// When it is decoded, in milliseconds on the stream's timeline. Rises strictly within a track.
    pub dts_ms: i64,
    /// When it is shown, in milliseconds on the stream's timeline.
    pub pts_ms: i64,
    /// Whether decoding can start here. Always so for audio.
    pub keyframe: bool,
    /// H.264: NAL units, each after its length in as many bytes as avcC says. AAC: one raw access unit. VP8: one
    /// frame (RFC 6386). Opus: one packet (RFC 6716).
    pub payload: Bytes,
}

/// What a stream is made of, in order: a header comes before the frames that need it.
#[derive(Debug, Clone, PartialEq)]
pub enum Unit {
    /// The video's header, at the beginning and when it changes. Frames count again from the next keyframe.
    Video(VideoConfig),
    /// The audio's header, likewise.
    Audio(AudioConfig),
    /// The publisher's clock jumped: what follows is no continuation of what came before.
    Discontinuity,
    /// A picture or an audio access unit.
    Frame(Frame),
}

/// What a decoder must know of a video track.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoConfig {
    /// The AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1), unchanged. Empty for VP8.
    pub avcc: Bytes,
    /// RFC 6381, such as `avc1.64001f`; [`VP8`].
    pub codec: String,
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
    /// Frames a second, if the header tells.
    pub fps: Option<f64>,
}

/// What a decoder must know of an audio track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioConfig {
    /// The AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1), unchanged. Opus: the identification header
    /// (RFC 7845, 5.1).
    pub asc: Bytes,
    /// RFC 6381, such as `mp4a.40.2`; [`OPUS`].
    pub codec: String,
    /// The AAC core's rate in Hz: half the rate heard where spectral band replication doubles it. Frames
    /// are counted at this rate.
    pub sample_rate: u32,
    /// Channels of the core. Parametric stereo makes two of one.
    pub channels: u16,
    /// Samples of the core in a frame: 1024 or 960; of 20 ms of Opus 960.
    pub frame_samples: u32,
}

impl AudioConfig {
    /// A moment of the timeline as a count of samples; none before zero.
    #[must_use]
    pub fn samples_at(&self, ms: i64) -> u64 {
        u64::try_from(ms).unwrap_or(0).saturating_mul(u64::from(self.sample_rate)).saturating_add(500) / 1000
    }
}
