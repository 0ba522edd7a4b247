//! cargo-fuzz's way into `websocket::sessions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::websocket::sessions(data));
