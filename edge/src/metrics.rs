//! What the edge counts.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

/// How a request for media was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// From the cache.
    Hit,
    /// By a fetch that it began.
    Fill,
    /// By a fetch that others had begun.
    Joined,
    /// By the last playlist, because its origin gave none.
    Stale,
    /// Not, and no origin was asked.
    Refused,
}

impl Served {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Fill => "fill",
            Self::Joined => "joined",
            Self::Stale => "stale",
            Self::Refused => "refused",
        }
    }
}

/// How a fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// With the whole object.
    Complete,
    /// With the whole object, after the body had broken off.
    Resumed,
    /// In the middle of the body.
    Broken,
    /// The origin does not have it.
    NotFound,
    /// Without a body.
    Error,
}

impl Filled {
    fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Resumed => "resumed",
            Self::Broken => "broken",
            Self::NotFound => "not_found",
            Self::Error => "error",
        }
    }
}

/// The edge's own families.
pub(crate) struct Metrics {
    requests: IntCounterVec,
    fills: IntCounterVec,
    fill_seconds: Histogram,
    cache_bytes: IntGauge,
    viewers: IntGauge,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let result = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["result"]);
        let seconds =
            HistogramOpts::new("sluicegate_edge_fill_seconds", "Time that fetches from origins took")
                // From a hit in an origin's memory on the same site to the slowest that is waited for.
                .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0]);
        let metrics = Self {
            requests: result(
                "sluicegate_edge_cache_requests_total",
                "Requests for media by how they were answered",
            )?,
            fills: result("sluicegate_edge_fills_total", "Fetches from origins by how they ended")?,
            fill_seconds: Histogram::with_opts(seconds)?,
            cache_bytes: IntGauge::new("sluicegate_edge_cache_bytes", "Bytes in the cache")?,
            viewers: IntGauge::new("sluicegate_edge_viewers", "Viewers, estimated from playlist reloads")?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.fills.clone()))?;
        registry.register(Box::new(metrics.fill_seconds.clone()))?;
        registry.register(Box::new(metrics.cache_bytes.clone()))?;
        registry.register(Box::new(metrics.viewers.clone()))?;
        Ok(metrics)
    }

    /// Counts a request for media.
    pub(crate) fn served(&self, served: Served) {
        self.requests.with_label_values(&[served.as_str()]).inc();
    }

    /// Counts a fetch that took `took`.
    pub(crate) fn filled(&self, filled: Filled, took: Duration) {
        self.fills.with_label_values(&[filled.as_str()]).inc();
        self.fill_seconds.observe(took.as_secs_f64());
    }

    /// Sets the gauges.
    pub(crate) fn gauge(&self, cache_bytes: u64, viewers: u64) {
        self.cache_bytes.set(i64::try_from(cache_bytes).unwrap_or(i64::MAX));
        self.viewers.set(i64::try_from(viewers).unwrap_or(i64::MAX));
    }
}

/// What is sent to viewers, in all and a second.
pub(crate) struct Egress {
    sent_bytes: AtomicU64,
    last: Mutex<Reading>,
}

#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    sent_bytes: u64,
    bps: u64,
}

impl Egress {
    /// Nothing, from `now` on.
    pub(crate) fn new(now: Instant) -> Self {
        let last = Mutex::new(Reading { at: now, sent_bytes: 0, bps: 0 });
        Self { sent_bytes: AtomicU64::new(0), last }
    }

    /// Counts bytes.
    pub(crate) fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bits a second from the reading before to `now`. Readings less than a second apart give the same.
    pub(crate) fn bps(&self, now: Instant) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let passed_ms = now.saturating_duration_since(last.at).as_millis();
        if passed_ms >= 1_000 {
            let sent_bytes = self.sent_bytes.load(Ordering::Relaxed);
            let bits = u128::from(sent_bytes.saturating_sub(last.sent_bytes)) * 8;
            let bps = u64::try_from(bits * 1_000 / passed_ms).unwrap_or(u64::MAX);
            *last = Reading { at: now, sent_bytes, bps };
        }
        last.bps
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock;

    use super::*;

    #[test]
    fn egress_is_what_was_sent_since_the_reading_before() {
        let start = clock::now();
        let egress = Egress::new(start);
        egress.sent(250_000);
        assert_eq!(egress.bps(start + Duration::from_secs(2)), 1_000_000);
        egress.sent(1);
        assert_eq!(
            egress.bps(start + Duration::from_millis(2_500)),
            1_000_000,
            "too soon for another reading"
        );
        assert_eq!(egress.bps(start + Duration::from_secs(3)), 8);
        assert_eq!(egress.bps(start + Duration::from_secs(4)), 0);
    }
}
