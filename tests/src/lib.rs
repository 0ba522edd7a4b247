//! What end-to-end tests are made of: the real parts a cluster needs, started for one test and ended with it.
//!
//! Everything here blocks: a test reads from top to bottom, and what it waits for has a deadline ([`until`]).

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "used by tests only: what does not work fails the test that runs, by the real clock, with a message"
)]

pub mod address;
pub mod ams;
pub mod browser;
pub mod burden;
pub mod cluster;
pub mod dns;
pub mod film;
pub mod hls;
pub mod http;
pub mod ll_hls;
pub mod metrics;
pub mod mongo;
pub mod nginx;
pub mod node;
pub mod probe;
pub mod process;
pub mod proxy_relay;
pub mod publisher;
pub mod rtc_client;
pub mod rtmp_client;
pub mod store_relay;
pub mod storm;
pub mod tls_client;
pub mod tls_relay;
pub mod until;
pub mod viewer;
