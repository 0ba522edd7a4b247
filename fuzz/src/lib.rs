//! What is fuzzed: for each parser of outside bytes a function that takes any bytes and panics when something
//! that must hold does not. `cargo fuzz` drives them from `fuzz_targets/`; `tests/replay.rs` replays the corpora
//! and many mutations of them on stable Rust, in the normal tests.

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "a panic is how a fuzz target says that it found something"
)]

pub mod cluster;
pub mod codecs;
pub mod fmp4;
pub mod names;
pub mod records;
pub mod rtmp;
pub mod webrtc;
pub mod websocket;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is its corpus's folder and its program.
    pub name: &'static str,
    /// Takes any bytes; panics when it found something.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 16] = [
    Target { name: "aac", run: codecs::aac },
    Target { name: "amf", run: rtmp::amf },
    Target { name: "avc", run: codecs::avc },
    Target { name: "configuration", run: cluster::configuration },
    Target { name: "flv", run: codecs::flv },
    Target { name: "fmp4", run: fmp4::fmp4 },
    Target { name: "mongo_documents", run: cluster::mongo_documents },
    Target { name: "names", run: names::names },
    Target { name: "proxy_headers", run: cluster::proxy_headers },
    Target { name: "rtmp_chunks", run: rtmp::chunks },
    Target { name: "rtmp_sessions", run: rtmp::sessions },
    Target { name: "tickets", run: cluster::tickets },
    Target { name: "webrtc_datagrams", run: webrtc::datagrams },
    Target { name: "webrtc_fragments", run: webrtc::fragments },
    Target { name: "webrtc_offers", run: webrtc::offers },
    Target { name: "websocket_sessions", run: websocket::sessions },
];
