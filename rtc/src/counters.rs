//! What a mux counts, and as metrics.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

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
    /// Registers them as metrics of `role`.
    ///
    /// # Errors
    /// When that role has registered them already.
    pub fn register(self: &Arc<Self>, role: &str, registry: &Registry) -> prometheus::Result<()> {
        let labelled = |name: &str, help: &str| {
            Opts::new(name, help).const_labels(HashMap::from([("role".to_owned(), role.to_owned())]))
        };
        registry.register(Box::new(Metrics {
            counters: Arc::clone(self),
            sessions: IntGauge::with_opts(labelled("sluicegate_webrtc_sessions", "WebRTC sessions"))?,
            half_open: IntGauge::with_opts(labelled(
                "sluicegate_webrtc_half_open_sessions",
                "WebRTC sessions that are answered and not connected yet",
            ))?,
            datagrams: IntCounterVec::new(
                labelled("sluicegate_webrtc_datagrams_total", "UDP datagrams by what became of them"),
                &["what"],
            )?,
            sent_bytes: IntCounterVec::new(
                labelled("sluicegate_webrtc_sent_bytes_total", "Bytes of UDP datagrams sent"),
                &[],
            )?,
        }))
    }

    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn datagrams(&self) -> [(&'static str, &AtomicU64); 8] {
        [
            ("received", &self.received),
            ("sent", &self.sent),
            ("unsent", &self.unsent),
            ("passed_on", &self.passed_on),
            ("stranger", &self.strangers),
            ("dropped", &self.dropped),
            ("stun_limited", &self.stun_limited),
            ("stun_refused", &self.stun_refused),
        ]
    }
}

/// Reads the counters when metrics are read.
struct Metrics {
    counters: Arc<Counters>,
    sessions: IntGauge,
    half_open: IntGauge,
    datagrams: IntCounterVec,
    sent_bytes: IntCounterVec,
}

impl Metrics {
    fn all(&self) -> [&dyn Collector; 4] {
        [&self.sessions, &self.half_open, &self.datagrams, &self.sent_bytes]
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let gauge = |count: &AtomicUsize| i64::try_from(count.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        self.sessions.set(gauge(&self.counters.sessions));
        self.half_open.set(gauge(&self.counters.half_open));
        let rise = |to: &prometheus::IntCounter, count: &AtomicU64| {
            to.inc_by(count.load(Ordering::Relaxed).saturating_sub(to.get()));
        };
        for (what, count) in self.counters.datagrams() {
            rise(&self.datagrams.with_label_values(&[what]), count);
        }
        rise(&self.sent_bytes.with_label_values::<&str>(&[]), &self.counters.sent_bytes);
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}
