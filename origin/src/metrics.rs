//! The origin's metrics.

use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use sluicegate_cluster::node::Full;

use crate::ladder_report::LadderReport;
use crate::rendition::Ended;
use crate::transcode::{Cause, Stage};

/// The origin's own metrics.
pub(crate) struct OriginMetrics {
    pub(crate) ingest_bytes: IntCounter,
    pub(crate) media: MediaCounters,
    pub(crate) streams: IntGauge,
    pub(crate) rungs_given_up: IntCounter,
    pub(crate) rungs_taken_back: IntCounter,
    free_mpx: Gauge,
    running_mpx: Gauge,
    reserved_mpx: Gauge,
    capacity_mpx: Gauge,
    full: IntGaugeVec,
    ladders: LadderMetrics,
}

/// What ladders do, all together.
struct LadderMetrics {
    rungs: GaugeVec,
    lag: Gauge,
    frames_lost: IntCounter,
    busy: CounterVec,
    pictures: IntCounterVec,
    restarts: IntCounterVec,
}

/// What all renditions end.
#[derive(Clone)]
pub(crate) struct MediaCounters {
    segments: IntCounter,
    parts: IntCounter,
    gaps: IntCounter,
}

impl MediaCounters {
    pub(crate) fn new() -> prometheus::Result<Self> {
        Ok(Self {
            segments: IntCounter::new("sluicegate_origin_segments_total", "Segments made")?,
            parts: IntCounter::new("sluicegate_origin_parts_total", "Parts of segments made")?,
            gaps: IntCounter::new(
                "sluicegate_origin_gaps_total",
                "Segments that a rung has not, where the source has one",
            )?,
        })
    }

    pub(crate) fn count(&self, ended: Ended) {
        self.parts.inc_by(u64::from(ended != Ended::Nothing));
        self.segments.inc_by(u64::from(ended == Ended::Segment));
    }

    pub(crate) fn count_gaps(&self, gaps: u64) {
        self.gaps.inc_by(gaps);
    }
}

impl OriginMetrics {
    /// Registers them, all at 0.
    pub(crate) fn register(registry: &Registry, capacity_mpx: f64) -> prometheus::Result<Self> {
        let counter = |name, help| registered(registry, IntCounter::new(name, help)?);
        let gauge = |name, help| registered(registry, Gauge::new(name, help)?);
        let media = MediaCounters::new()?;
        for each in [&media.segments, &media.parts, &media.gaps] {
            registered(registry, each.clone())?;
        }
        let full = IntGaugeVec::new(
            Opts::new("sluicegate_origin_full", "Whether publishes are refused, and for the load of what"),
            &["why"],
        )?;
        let metrics = Self {
            ingest_bytes: counter("sluicegate_origin_ingest_bytes_total", "Bytes of media taken in")?,
            media,
            streams: registered(
                registry,
                IntGauge::new("sluicegate_origin_streams", "Streams being published")?,
            )?,
            rungs_given_up: counter(
                "sluicegate_origin_rungs_given_up_total",
                "Rungs given up because encoders were late",
            )?,
            rungs_taken_back: counter(
                "sluicegate_origin_rungs_taken_back_total",
                "Rungs made again that had been given up",
            )?,
            free_mpx: gauge("sluicegate_origin_free_mpx", "Room left, before reservations, Mpx/s")?,
            running_mpx: gauge("sluicegate_origin_running_mpx", "What running streams cost, Mpx/s")?,
            reserved_mpx: gauge(
                "sluicegate_origin_reserved_mpx",
                "Room taken by publishes that have not come yet, Mpx/s",
            )?,
            capacity_mpx: gauge("sluicegate_origin_capacity_mpx", "What can be encoded, Mpx/s")?,
            full: registered(registry, full)?,
            ladders: LadderMetrics::register(registry)?,
        };
        metrics.set_capacity(capacity_mpx);
        metrics.set_full(None);
        Ok(metrics)
    }

    /// What can be encoded here.
    pub(crate) fn set_capacity(&self, mpx: f64) {
        self.capacity_mpx.set(mpx);
    }

    /// How the room is used.
    pub(crate) fn set_room(&self, free_mpx: f64, running_mpx: f64, reserved_mpx: f64) {
        self.free_mpx.set(free_mpx);
        self.running_mpx.set(running_mpx);
        self.reserved_mpx.set(reserved_mpx);
    }

    /// Why nothing more is taken.
    pub(crate) fn set_full(&self, full: Option<Full>) {
        for why in Full::ALL {
            self.full.with_label_values(&[why.as_str()]).set(i64::from(full == Some(why)));
        }
    }

    /// Takes what the ladders are like, once a second.
    pub(crate) fn note_ladders(&self, reports: &[LadderReport]) {
        self.ladders.note(reports);
    }
}

impl LadderMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let rungs =
            GaugeVec::new(Opts::new("sluicegate_ladder_rungs", "Rungs, made and given up"), &["state"])?;
        let busy = CounterVec::new(
            Opts::new("sluicegate_ladder_busy_seconds_total", "Time that threads of ladders spend, by stage"),
            &["stage"],
        )?;
        let pictures = IntCounterVec::new(
            Opts::new("sluicegate_ladder_pictures_total", "Pictures that came out of a stage"),
            &["stage"],
        )?;
        let restarts = IntCounterVec::new(
            Opts::new("sluicegate_ladder_restarts_total", "Ladders that broke down, by what broke"),
            &["cause"],
        )?;
        for stage in Stage::ALL {
            busy.with_label_values(&[stage.as_str()]);
            pictures.with_label_values(&[stage.as_str()]);
        }
        for cause in Cause::ALL {
            restarts.with_label_values(&[cause.as_str()]);
        }
        Ok(Self {
            rungs: registered(registry, rungs)?,
            lag: registered(
                registry,
                Gauge::new(
                    "sluicegate_ladder_lag_seconds",
                    "How far the latest ladder is behind its source",
                )?,
            )?,
            frames_lost: registered(
                registry,
                IntCounter::new(
                    "sluicegate_ladder_frames_lost_total",
                    "Frames of sources that ladders passed over because they were late",
                )?,
            )?,
            busy: registered(registry, busy)?,
            pictures: registered(registry, pictures)?,
            restarts: registered(registry, restarts)?,
        })
    }

    fn note(&self, reports: &[LadderReport]) {
        let count = |of: fn(&LadderReport) -> usize| reports.iter().map(of).sum::<usize>() as f64;
        self.rungs.with_label_values(&["made"]).set(count(|report| report.made));
        self.rungs.with_label_values(&["given_up"]).set(count(|report| report.given_up));
        self.lag.set(reports.iter().map(|report| report.lag_ms).max().unwrap_or(0) as f64 / 1_000.0);
        for report in reports {
            self.frames_lost.inc_by(report.frames_lost);
            for stage in Stage::ALL {
                let busy: Counter = self.busy.with_label_values(&[stage.as_str()]);
                busy.inc_by(report.done.time(stage).as_secs_f64());
                self.pictures.with_label_values(&[stage.as_str()]).inc_by(report.done.pictures(stage));
            }
            for cause in Cause::ALL {
                let restarts = report.restarts[cause as usize];
                self.restarts.with_label_values(&[cause.as_str()]).inc_by(restarts);
            }
        }
    }
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
