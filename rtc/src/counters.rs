//! What a mux counts, for its owner's metrics.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counters of one mux, over all its shards. They only rise, except the first two.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sessions that there are.
    pub sessions: AtomicUsize,
    /// Those of them that are not connected yet.
    pub half_open: AtomicUsize,
    /// Datagrams that came.
    pub received: AtomicU64,
    /// Datagrams that were sent.
    pub sent: AtomicU64,
    /// Their bytes.
    pub sent_bytes: AtomicU64,
    /// Datagrams that the kernel would not take.
    pub unsent: AtomicU64,
    /// Datagrams passed on to the shard that they are for.
    pub passed_on: AtomicU64,
    /// Datagrams dropped because they came from an address that no ICE check has proven.
    pub strangers: AtomicU64,
    /// Datagrams dropped because they are none of STUN, DTLS, RTP and RTCP, or a queue was full.
    pub dropped: AtomicU64,
    /// ICE checks dropped for their rate.
    pub stun_limited: AtomicU64,
    /// ICE checks dropped because no session knows their user name or password.
    pub stun_refused: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
