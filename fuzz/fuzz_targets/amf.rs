//! cargo-fuzz's way into `rtmp::amf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::rtmp::amf(data));
