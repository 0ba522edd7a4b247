//! What a graphics card has to be able to do. Behind it is a real one, or one that fails when a test says so.

use std::sync::Arc;

use sluicegate_cluster::node::Gpu;

use super::Ability;

/// Why a card is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CardError {
    /// It cannot be opened, or answers no more.
    #[error("CUDA: {0}")]
    Cuda(String),
    /// FFmpeg cannot use it.
    #[cfg(feature = "ffmpeg")]
    #[error("FFmpeg: {0}")]
    Ffmpeg(#[from] ffmpeg_next::Error),
    /// It fails at a few pictures.
    #[cfg(feature = "ffmpeg")]
    #[error("{0}")]
    Trial(#[from] crate::transcode::TranscodeError),
    /// This program was built without FFmpeg.
    #[cfg(not(feature = "ffmpeg"))]
    #[error("this program was built without FFmpeg")]
    NotBuilt,
}

/// A graphics card. All of it may hang with its driver, but for [`Card::device`].
pub(crate) trait Card: Send + Sync + 'static {
    /// How it is used now.
    ///
    /// # Errors
    /// When it answers no more: what works on it has to go elsewhere.
    fn read(&self) -> Result<Gpu, CardError>;

    /// Has it decode, scale and encode a few pictures: what it can.
    ///
    /// # Errors
    /// When it can do nothing.
    fn try_out(&self) -> Result<Ability, CardError>;

    /// What codecs work on; `None` while it is closed.
    fn device(&self) -> Option<Arc<dyn Device>>;
}

/// A card that is open. All codecs and scalers on a card share one.
pub(crate) trait Device: Send + Sync + 'static {
    /// Has a codec that is not open yet work on it.
    ///
    /// # Errors
    /// When it cannot.
    #[cfg(feature = "ffmpeg")]
    fn attach(&self, codec: &mut ffmpeg_next::codec::Context) -> Result<(), ffmpeg_next::Error>;
}
