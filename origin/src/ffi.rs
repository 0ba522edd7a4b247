//! The one place of this crate where `unsafe` is allowed: calls into native libraries.
#![allow(unsafe_code, reason = "foreign functions; each call says why it is sound")]

#[cfg(feature = "ffmpeg")]
use ffmpeg_next::{codec, ffi};

#[cfg(feature = "ffmpeg")]
mod cuda;
#[cfg(feature = "ffmpeg")]
pub(crate) use cuda::{CardScaler, CudaDevice, share_frames};

/// Whether the CUDA driver's library can be loaded. Everything else of CUDA panics where it cannot.
pub(crate) fn cuda_is_there() -> bool {
    // SAFETY: it only tries to load the library by its name, and keeps nothing of it.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

/// Gives a codec that is not open yet its header.
#[cfg(feature = "ffmpeg")]
pub(crate) fn set_extradata(context: &mut codec::Context, header: &[u8]) -> Result<(), ffmpeg_next::Error> {
    const PADDING: usize = ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize;
    let Ok(length) = i32::try_from(header.len()) else { return Err(ffmpeg_next::Error::InvalidData) };
    // SAFETY: the context is ours alone and not open. What it had is freed by the allocator that made it; the
    // new buffer is made by that one too, zeroed, and has the padding that decoders read beyond its length.
    unsafe {
        let raw = context.as_mut_ptr();
        let buffer = ffi::av_mallocz(header.len() + PADDING).cast::<u8>();
        if buffer.is_null() {
            return Err(ffmpeg_next::Error::Other { errno: ffmpeg_next::error::ENOMEM });
        }
        std::ptr::copy_nonoverlapping(header.as_ptr(), buffer, header.len());
        ffi::av_freep((&raw mut (*raw).extradata).cast());
        (*raw).extradata = buffer;
        (*raw).extradata_size = length;
    }
    Ok(())
}

/// The header of a codec that is open; empty when it has none.
#[cfg(feature = "ffmpeg")]
pub(crate) fn extradata(context: &codec::Context) -> Vec<u8> {
    // SAFETY: an open codec does not change its header, which has as many bytes as it says.
    unsafe {
        let raw = context.as_ptr();
        let length = usize::try_from((*raw).extradata_size).unwrap_or(0);
        if (*raw).extradata.is_null() || length == 0 {
            return Vec::new();
        }
        std::slice::from_raw_parts((*raw).extradata, length).to_vec()
    }
}
