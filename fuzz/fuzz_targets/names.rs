//! cargo-fuzz's way into `names::names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::names::names(data));
