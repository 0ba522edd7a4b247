//! The one place of this crate where `unsafe` is allowed: calls into native libraries.
#![allow(unsafe_code, reason = "foreign functions; each call says why it is sound")]

/// Whether the CUDA driver's library can be loaded. Everything else of CUDA panics where it cannot.
pub(crate) fn cuda_is_there() -> bool {
    // SAFETY: it only tries to load the library by its name, and keeps nothing of it.
    unsafe { cudarc::driver::sys::is_culib_present() }
}
