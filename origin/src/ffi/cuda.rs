//! FFmpeg on a CUDA context that is not its own: a device for its codecs, and a scaler for pictures there.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use cudarc::driver::CudaContext;
use ffmpeg_next::filter::{self, Graph};
use ffmpeg_next::{Error, codec, ffi, frame};

use crate::gpus::Device;
use crate::transcode::PICTURES_KEPT;

/// One card as FFmpeg's device, in a context that cudarc made. Codecs that work on it, and pictures that are there,
/// hold it too; the last of them lets the context go.
pub(crate) struct CudaDevice {
    device: Buffer,
}

impl CudaDevice {
    /// A device in `context`.
    ///
    /// # Errors
    /// When FFmpeg was built without CUDA, or cannot load the driver.
    pub(crate) fn new(context: &Arc<CudaContext>) -> Result<Self, Error> {
        Self::in_context(context.cu_ctx().cast(), Arc::clone(context))
    }

    /// A device in the context at `raw_context`, which lives as long as `owner` does.
    fn in_context<T: Send + Sync>(raw_context: ffi::CUcontext, owner: Arc<T>) -> Result<Self, Error> {
        // SAFETY: a device that is allocated is an `AVHWDeviceContext`, whose `hwctx` is, for this type, an
        // `AVCUDADeviceContext`; both are ours alone until it is initialised, and what may be set of them before
        // that, and only then, is set here. FFmpeg does not destroy a context that it did not make. The context is
        // kept by the reference that `user_opaque` owns, which `release` takes back when FFmpeg frees the device,
        // after all that used it: also when it cannot be initialised, as `Buffer` then lets it go.
        unsafe {
            let device = Buffer::own(ffi::av_hwdevice_ctx_alloc(ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA))?;
            let raw = device.data().cast::<ffi::AVHWDeviceContext>();
            let cuda = (*raw).hwctx.cast::<ffi::AVCUDADeviceContext>();
            (*cuda).cuda_ctx = raw_context;
            (*raw).user_opaque = Arc::into_raw(owner).cast_mut().cast::<c_void>();
            (*raw).free = Some(release::<T>);
            check(ffi::av_hwdevice_ctx_init(device.0.as_ptr()))?;
            Ok(Self { device })
        }
    }
}

/// FFmpeg's last word on a device: nothing uses its context any more.
///
/// # Safety
/// For FFmpeg to call, once, on a device that [`CudaDevice::in_context`] made for this owner.
unsafe extern "C" fn release<T>(raw: *mut ffi::AVHWDeviceContext) {
    // SAFETY: `user_opaque` is what `Arc::into_raw` gave, and is taken back once.
    drop(unsafe { Arc::from_raw((*raw).user_opaque.cast::<T>()) });
}

impl Device for CudaDevice {
    fn attach(&self, codec: &mut codec::Context) -> Result<(), Error> {
        // SAFETY: the codec is ours alone and not open, and owns the reference that it is given; one that it had is
        // let go first. Encoders take no notice of the number of frames.
        unsafe {
            let raw = codec.as_mut_ptr();
            ffi::av_buffer_unref(&raw mut (*raw).hw_device_ctx);
            (*raw).hw_device_ctx = self.device.another()?;
            (*raw).extra_hw_frames = PICTURES_KEPT;
        }
        Ok(())
    }
}

/// Has an encoder that is not open yet take pictures where `picture` is.
///
/// # Errors
/// When memory is gone, or `picture` is on no card.
pub(crate) fn share_frames(codec: &mut codec::Context, picture: &frame::Video) -> Result<(), Error> {
    // SAFETY: the codec is ours alone and not open, and owns the reference that it is given. The picture's own
    // reference is only read, and lives as long as the picture does.
    unsafe {
        let frames = (*picture.as_ptr()).hw_frames_ctx;
        if frames.is_null() {
            return Err(Error::InvalidData);
        }
        let raw = codec.as_mut_ptr();
        ffi::av_buffer_unref(&raw mut (*raw).hw_frames_ctx);
        (*raw).hw_frames_ctx = Buffer::own(ffi::av_buffer_ref(frames))?.into_raw();
    }
    Ok(())
}

/// Scales pictures on their card.
pub(crate) struct CardScaler {
    graph: Graph,
    /// Where the pictures are that it was made for. Held, so that no others are at the same address.
    frames: Buffer,
    width: u32,
    height: u32,
}

impl CardScaler {
    /// A scaler for pictures such as `picture`, which has to be on a card. `stays`: what comes out is there too, else
    /// in memory; as NV12 either way.
    ///
    /// # Errors
    /// When FFmpeg has no such filter, or the card fails.
    pub(crate) fn open(picture: &frame::Video, width: u32, height: u32, stays: bool) -> Result<Self, Error> {
        // SAFETY: as in `share_frames`.
        let frames = unsafe {
            let frames = (*picture.as_ptr()).hw_frames_ctx;
            if frames.is_null() {
                return Err(Error::InvalidData);
            }
            Buffer::own(ffi::av_buffer_ref(frames))?
        };
        let mut graph = Graph::new();
        // SAFETY: the graph is ours alone and empty. All is done by the card: threads would have nothing to do.
        unsafe { (*graph.as_mut_ptr()).nb_threads = 1 };
        let (own_width, own_height) = (picture.width(), picture.height());
        let source = format!("video_size={own_width}x{own_height}:pix_fmt=cuda:time_base=1/1000");
        let find = |name| filter::find(name).ok_or(Error::FilterNotFound);
        let mut input = graph.add(&find("buffer")?, "in", &source)?;
        set_frames(&mut input, &frames)?;
        graph.add(&find("buffersink")?, "out", "")?;
        // Without passing through: a decoder has few pictures to lend, and an encoder keeps some.
        let scale = format!("scale_cuda=w={width}:h={height}:format=nv12:interp_algo=bicubic:passthrough=0");
        let chain = if stays { scale } else { format!("{scale},hwdownload,format=nv12") };
        graph.output("in", 0)?.input("out", 0)?.parse(&chain)?;
        graph.validate()?;
        Ok(Self { graph, frames, width: own_width, height: own_height })
    }

    /// Whether a picture is such as it was made for.
    pub(crate) fn takes(&self, picture: &frame::Video) -> bool {
        // SAFETY: the picture's reference is only read, and lives as long as the picture does.
        let frames = unsafe { (*picture.as_ptr()).hw_frames_ctx.as_ref().map(|frames| frames.data) };
        frames == Some(self.frames.data()) && (picture.width(), picture.height()) == (self.width, self.height)
    }

    /// Scales a picture that it [takes](Self::takes).
    ///
    /// # Errors
    /// When the card fails.
    pub(crate) fn scale(&mut self, picture: &frame::Video) -> Result<frame::Video, Error> {
        let mut source = self.graph.get("in").ok_or(Error::FilterNotFound)?;
        // SAFETY: the filter is a buffer source of our graph. Unlike its like, this function leaves the picture as it
        // is, which other scalers read at the same time, and makes a reference of its own.
        check(unsafe { ffi::av_buffersrc_write_frame(source.as_mut_ptr(), picture.as_ptr()) })?;
        let mut scaled = frame::Video::empty();
        self.graph.get("out").ok_or(Error::FilterNotFound)?.sink().frame(&mut scaled)?;
        Ok(scaled)
    }
}

/// Tells a graph's source, before the graph is configured, where its pictures are.
fn set_frames(source: &mut filter::Context, frames: &Buffer) -> Result<(), Error> {
    // SAFETY: parameters that were just allocated say nothing but what is set here; the filter makes a reference of
    // its own to the frames; the parameters are freed as they were made.
    unsafe {
        let parameters = ffi::av_buffersrc_parameters_alloc();
        if parameters.is_null() {
            return Err(Error::Other { errno: ffmpeg_next::error::ENOMEM });
        }
        (*parameters).hw_frames_ctx = frames.0.as_ptr();
        let set = ffi::av_buffersrc_parameters_set(source.as_mut_ptr(), parameters);
        ffi::av_free(parameters.cast());
        check(set)
    }
}

/// A reference to something of FFmpeg's that is counted.
struct Buffer(NonNull<ffi::AVBufferRef>);

// SAFETY: references are counted atomically, and what these refer to, a device and the description of a pool of
// pictures, FFmpeg lets any thread use.
unsafe impl Send for Buffer {}
// SAFETY: through a shared one only further references are made, which changes the count alone.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// # Errors
    /// When it is null: memory is gone.
    ///
    /// # Safety
    /// It is a reference that nobody else lets go.
    unsafe fn own(raw: *mut ffi::AVBufferRef) -> Result<Self, Error> {
        NonNull::new(raw).map(Self).ok_or(Error::Other { errno: ffmpeg_next::error::ENOMEM })
    }

    /// What it refers to.
    fn data(&self) -> *mut u8 {
        // SAFETY: it lives as long as this does.
        unsafe { self.0.as_ref().data }
    }

    /// Another reference, for FFmpeg to own.
    fn another(&self) -> Result<*mut ffi::AVBufferRef, Error> {
        // SAFETY: it is a reference that lives, and the new one is nobody else's.
        unsafe { Self::own(ffi::av_buffer_ref(self.0.as_ptr())).map(Self::into_raw) }
    }

    /// The reference itself, for FFmpeg to own.
    fn into_raw(self) -> *mut ffi::AVBufferRef {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut raw: *mut ffi::AVBufferRef = self.0.as_ptr();
        // SAFETY: it is ours, and let go once.
        unsafe { ffi::av_buffer_unref(&raw mut raw) };
        debug_assert_eq!(raw, null_mut());
    }
}

fn check(result: i32) -> Result<(), Error> {
    if result < 0 { Err(Error::from(result)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use ffmpeg_next::format::Pixel;

    use super::*;

    #[test]
    fn a_device_lets_its_context_go_when_ffmpeg_is_done_with_it() {
        let owner = Arc::new(());
        // FFmpeg looks at the driver's library only, and not at the context, before something works in it.
        let device = CudaDevice::in_context(null_mut(), Arc::clone(&owner));
        if let Ok(device) = device {
            assert_eq!(Arc::strong_count(&owner), 2);
            let codec = ffmpeg_next::decoder::find(codec::Id::H264).unwrap();
            let mut context = codec::Context::new_with_codec(codec);
            device.attach(&mut context).unwrap();
            drop(device);
            assert_eq!(Arc::strong_count(&owner), 2, "the codec has it");
        }
        assert_eq!(Arc::strong_count(&owner), 1);
    }

    #[test]
    fn references_are_let_go_once() {
        // SAFETY: a buffer of our own.
        let first = unsafe { Buffer::own(ffi::av_buffer_alloc(8)).unwrap() };
        let count = |buffer: &Buffer| {
            // SAFETY: it lives.
            unsafe { ffi::av_buffer_get_ref_count(buffer.0.as_ptr()) }
        };
        // SAFETY: the reference is nobody else's.
        let second = unsafe { Buffer::own(first.another().unwrap()).unwrap() };
        assert_eq!((count(&first), second.data()), (2, first.data()));
        drop(second);
        assert_eq!(count(&first), 1);
        // SAFETY: a null pointer is refused.
        assert!(unsafe { Buffer::own(null_mut()) }.is_err());
    }

    #[test]
    fn pictures_in_memory_are_on_no_card() {
        let picture = frame::Video::new(Pixel::YUV420P, 64, 64);
        assert!(CardScaler::open(&picture, 32, 32, true).is_err());
        let codec = ffmpeg_next::encoder::find_by_name("libx264").unwrap();
        assert!(share_frames(&mut codec::Context::new_with_codec(codec), &picture).is_err());
    }
}
