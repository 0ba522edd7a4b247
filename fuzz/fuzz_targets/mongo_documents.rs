//! cargo-fuzz's way into `cluster::mongo_documents`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::cluster::mongo_documents(data));
