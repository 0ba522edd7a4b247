//! The machine's graphics cards: found and opened by CUDA, their utilisation read from NVML. A machine
//! without them, or without a driver, simply has none.

use std::sync::Arc;

use cudarc::driver::CudaContext;
use nvml_wrapper::Nvml;
use sluicegate_cluster::node::Gpu;

use crate::ffi;

/// Cards looked at.
const CARDS_MAX: i32 = 64;

/// The cards that could be opened.
pub struct Gpus {
    cards: Vec<Card>,
    nvml: Option<Nvml>,
}

struct Card {
    name: String,
    uuid: String,
    context: Arc<CudaContext>,
}

impl Gpus {
    /// Finds and opens them. Takes up to a second for each.
    #[must_use]
    pub fn find() -> Self {
        if !ffi::cuda_is_there() {
            return Self { cards: Vec::new(), nvml: None };
        }
        let count = CudaContext::device_count().unwrap_or(0).min(CARDS_MAX);
        let cards = (0..count).filter_map(|index| Card::open(usize::try_from(index).ok()?)).collect();
        Self { cards, nvml: Nvml::init().ok() }
    }

    /// How they are used now.
    #[must_use]
    pub fn read(&self) -> Vec<Gpu> {
        self.cards.iter().map(|card| card.read(self.nvml.as_ref())).collect()
    }
}

impl Card {
    fn open(index: usize) -> Option<Self> {
        let context = match CudaContext::new(index) {
            Ok(context) => context,
            Err(error) => {
                tracing::warn!(index, ?error, "a graphics card cannot be opened");
                return None;
            }
        };
        let name = context.name().unwrap_or_else(|_| "unknown".to_owned());
        let uuid = context.uuid().map(|id| uuid_text(&id.bytes.map(i8::cast_unsigned))).ok()?;
        Some(Self { name, uuid, context })
    }

    fn read(&self, nvml: Option<&Nvml>) -> Gpu {
        let (free, total) = self.context.mem_get_info().unwrap_or((0, 0));
        let device = nvml.and_then(|nvml| nvml.device_by_uuid(self.uuid.as_str()).ok());
        let device = device.as_ref();
        Gpu {
            name: self.name.clone(),
            uuid: self.uuid.clone(),
            gpu: device.and_then(|d| d.utilization_rates().ok()).map_or(0, |u| u.gpu),
            encoder: device.and_then(|d| d.encoder_utilization().ok()).map_or(0, |u| u.utilization),
            decoder: device.and_then(|d| d.decoder_utilization().ok()).map_or(0, |u| u.utilization),
            memory_used: total.saturating_sub(free) as u64,
            memory_total: total as u64,
        }
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
    fn looking_for_cards_never_fails() {
        for card in Gpus::find().read() {
            assert!(!card.name.is_empty() && card.memory_total > 0, "{card:?}");
        }
    }
}
