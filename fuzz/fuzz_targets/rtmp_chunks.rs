//! cargo-fuzz's way into `rtmp::chunks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::rtmp::chunks(data));
