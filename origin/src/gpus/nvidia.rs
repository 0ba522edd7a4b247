//! A card of NVIDIA's: opened by CUDA, read by CUDA and NVML. Its context is made here, once, and is what all of
//! FFmpeg's codecs and scalers on it work in.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaContext, DriverError};
use nvml_wrapper::Nvml;
use sluicegate_cluster::node::Gpu;

use super::{Ability, Card, CardError, Device};
use crate::ffi;

/// Cards looked at.
const CARDS_MAX: i32 = 64;

/// Finds and opens the cards there are. Takes up to a second for each.
pub(super) fn find(capacity_file: Option<&Path>) -> Vec<Arc<dyn Card>> {
    if !ffi::cuda_is_there() {
        return Vec::new();
    }
    let count = CudaContext::device_count().unwrap_or(0).min(CARDS_MAX);
    let nvml = Nvml::init().ok().map(Arc::new);
    let open = |ordinal| match Nvidia::open(usize::try_from(ordinal).ok()?, nvml.clone(), capacity_file) {
        Ok(card) => Some(Arc::new(card) as Arc<dyn Card>),
        Err(error) => {
            tracing::warn!(ordinal, %error, "a graphics card cannot be opened");
            None
        }
    };
    (0..count).filter_map(open).collect()
}

struct Nvidia {
    ordinal: usize,
    name: String,
    uuid: String,
    nvml: Option<Arc<Nvml>>,
    capacity_file: Option<PathBuf>,
    /// Closed after a failed trial: a context that is broken stays so until nothing uses it any more.
    open: Mutex<Option<Open>>,
}

#[derive(Clone)]
struct Open {
    context: Arc<CudaContext>,
    device: Arc<dyn Device>,
}

impl Open {
    fn new(ordinal: usize) -> Result<Self, CardError> {
        let context = CudaContext::new(ordinal)?;
        // Else whoever waits for the card spins meanwhile.
        context.set_blocking_synchronize()?;
        let device = open_device(&context)?;
        Ok(Self { context, device })
    }
}

#[cfg(feature = "ffmpeg")]
fn open_device(context: &Arc<CudaContext>) -> Result<Arc<dyn Device>, CardError> {
    Ok(Arc::new(ffi::CudaDevice::new(context)?))
}

/// A card that is only read.
#[cfg(not(feature = "ffmpeg"))]
fn open_device(_: &Arc<CudaContext>) -> Result<Arc<dyn Device>, CardError> {
    struct Idle;
    impl Device for Idle {}
    Ok(Arc::new(Idle))
}

impl Nvidia {
    fn open(
        ordinal: usize,
        nvml: Option<Arc<Nvml>>,
        capacity_file: Option<&Path>,
    ) -> Result<Self, CardError> {
        let open = Open::new(ordinal)?;
        let name = open.context.name().unwrap_or_else(|_| "unknown".to_owned());
        let uuid = uuid_text(&open.context.uuid()?.bytes.map(i8::cast_unsigned));
        let capacity_file = capacity_file.map(Path::to_owned);
        Ok(Self { ordinal, name, uuid, nvml, capacity_file, open: Mutex::new(Some(open)) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Card for Nvidia {
    fn read(&self) -> Result<Gpu, CardError> {
        let Some(open) = self.lock().clone() else { return Err(CardError::Cuda("it is closed".to_owned())) };
        let (free, total) = open.context.mem_get_info()?;
        let device = self.nvml.as_ref().and_then(|nvml| nvml.device_by_uuid(self.uuid.as_str()).ok());
        let device = device.as_ref();
        Ok(Gpu {
            name: self.name.clone(),
            uuid: self.uuid.clone(),
            gpu: device.and_then(|d| d.utilization_rates().ok()).map_or(0, |u| u.gpu),
            encoder: device.and_then(|d| d.encoder_utilization().ok()).map_or(0, |u| u.utilization),
            decoder: device.and_then(|d| d.decoder_utilization().ok()).map_or(0, |u| u.utilization),
            memory_used: total.saturating_sub(free) as u64,
            memory_total: total as u64,
            encoder_sessions: device.and_then(|d| d.encoder_stats().ok()).map_or(0, |s| s.session_count),
            ..Gpu::default()
        })
    }

    #[cfg(feature = "ffmpeg")]
    fn try_out(&self) -> Result<Ability, CardError> {
        let kept = self.lock().clone();
        let open = kept.map_or_else(|| Open::new(self.ordinal), Ok)?;
        let driver = self.nvml.as_ref().and_then(|nvml| nvml.sys_driver_version().ok());
        let driver = driver.unwrap_or_else(|| "unknown".to_owned());
        let tried = crate::capacity::of_card(self.capacity_file.as_deref(), &self.uuid, &driver, |known| {
            crate::transcode::try_device(&open.device, known)
        });
        let before = std::mem::replace(&mut *self.lock(), tried.is_ok().then_some(open));
        // Without the lock: it may be the last that uses the context, and take its time.
        drop(before);
        Ok(tried?)
    }

    #[cfg(not(feature = "ffmpeg"))]
    fn try_out(&self) -> Result<Ability, CardError> {
        Err(CardError::NotBuilt)
    }

    fn device(&self) -> Option<Arc<dyn Device>> {
        self.lock().as_ref().map(|open| Arc::clone(&open.device))
    }
}

impl From<DriverError> for CardError {
    fn from(error: DriverError) -> Self {
        Self::Cuda(format!("{error:?}"))
    }
}

/// As NVML and `nvidia-smi` write it: `GPU-` and five groups of hexadecimal digits.
fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = String::from("GPU");
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_nvml_writes_it() {
        let bytes = std::array::from_fn(|i| u8::try_from(i).unwrap() * 0x11);
        assert_eq!(uuid_text(&bytes), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    #[cfg(feature = "ffmpeg")]
    fn each_card_there_is_shows_what_it_can_and_keeps_its_context() {
        let folder = tempfile::tempdir().unwrap();
        let cards = find(Some(&folder.path().join("capacity")));
        if cards.is_empty() {
            println!("SKIPPED: there is no graphics card here that CUDA can open");
        }
        for card in &cards {
            let before = card.read().unwrap();
            assert!(!before.name.is_empty() && before.memory_total > 0, "{before:?}");
            let ability = card.try_out().unwrap();
            println!("{}: {ability:?}", before.name);
            assert!(ability.decodes && ability.capacity_mpx > 100.0, "{ability:?}");
            let again = card.try_out().unwrap();
            assert!((again.capacity_mpx - ability.capacity_mpx).abs() < 0.06, "{again:?}: it was kept");
            assert!(Arc::ptr_eq(&card.device().unwrap(), &card.device().unwrap()));
            let after = card.read().unwrap();
            let grown = after.memory_used.saturating_sub(before.memory_used);
            assert!(grown < 1 << 30, "{grown} bytes are not let go");
        }
    }
}
