//! cargo-fuzz's way into `cluster::tickets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::cluster::tickets(data));
