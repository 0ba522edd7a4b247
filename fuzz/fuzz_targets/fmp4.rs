//! cargo-fuzz's way into `fmp4::fmp4`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::fmp4::fmp4(data));
