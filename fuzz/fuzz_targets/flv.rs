//! cargo-fuzz's way into `codecs::flv`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::codecs::flv(data));
