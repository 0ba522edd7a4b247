//! A validator of low-latency HLS: it plays the protocol of RFC 8216bis against a live stream, and reports
//! whatever is not as it says. [`playlist`] reads, [`rules`] judges what was read, [`play`] asks.

pub mod play;
pub mod playlist;
pub mod rules;

pub use play::{Report, validate};
