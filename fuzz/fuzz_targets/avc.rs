//! cargo-fuzz's way into `codecs::avc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::codecs::avc(data));
