//! cargo-fuzz's way into `webrtc::fragments`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::webrtc::fragments(data));
