//! cargo-fuzz's way into `webrtc::offers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::webrtc::offers(data));
