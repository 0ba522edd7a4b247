//! cargo-fuzz's way into `cluster::proxy_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::cluster::proxy_headers(data));
