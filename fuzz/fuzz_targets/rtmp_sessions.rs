//! cargo-fuzz's way into `rtmp::sessions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::rtmp::sessions(data));
