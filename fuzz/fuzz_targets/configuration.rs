//! cargo-fuzz's way into `cluster::configuration`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::cluster::configuration(data));
