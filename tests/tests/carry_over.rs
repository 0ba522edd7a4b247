//! Streams that outlive their origin: it is killed, stopped, frozen or started again while a publisher sends and
//! viewers watch, and neither of them notices more than a pause.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use sluicegate_e2e::browser::Page;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::http;
use sluicegate_e2e::node::NodeProcess;
use sluicegate_e2e::publisher::{Publisher, publish};
use sluicegate_e2e::until::{timed, until, until_true};
use sluicegate_e2e::viewer::{Viewer, newest_epoch};

/// For the first segment from the next origin to be listed. How long it really takes is a benchmark's matter.
const CARRIED: Duration = Duration::from_secs(10);
/// For what one node has written to be known to all.
const KNOWN: Duration = Duration::from_secs(5);
/// For a stream to go on for some segments.
const GOES_ON: Duration = Duration::from_secs(10);
/// Segments that show that it does.
const SEGMENTS: u64 = 3;
/// For a page to play.
const PAGE: Duration = Duration::from_secs(30);

/// A stream that plays, and what must outlive its origin.
struct Playing {
    publisher: Publisher,
    connection: BTreeSet<PathBuf>,
    viewer: Viewer,
    key: String,
    cluster: Cluster,
}

impl Playing {
    #[track_caller]
    fn start(stream: &str, capacities_mpx: &[u32]) -> Self {
        let cluster = Cluster::start(capacities_mpx);
        let key = format!("live/{stream}");
        let publisher = publish(cluster.lb.rtmp(), &key);
        let viewer = Viewer::watch(&cluster.lb.url(&format!("/live/streams/{stream}.m3u8")));
        Self { connection: publisher.sockets(), publisher, viewer, key, cluster }
    }

    /// The stream's record, as the balancer knows it.
    #[track_caller]
    fn record(&self) -> Value {
        until("the stream's record", KNOWN, || self.cluster.lb.stream(&self.key))
    }

    /// Does `harm` to the stream's origin, and watches the stream go on from `heir`. Returns its new record.
    #[track_caller]
    fn outlives(&mut self, what: &str, heir: &str, harm: impl FnOnce(&mut NodeProcess)) -> Value {
        let before = self.record();
        let (owner, epoch) = (before["origin"].as_str().unwrap(), before["epoch"].as_i64().unwrap());
        let last_sequence = self.viewer.last_sequence();
        let (gap, playlist) = timed(|| {
            harm(self.cluster.origin_mut(owner));
            self.viewer.until("a segment of the next claim", CARRIED, |p| newest_epoch(p) > epoch)
        });
        eprintln!("{what}: {} ms to the first segment that the next origin lists", gap.as_millis());

        let after = until("the next claim", KNOWN, || {
            self.cluster.lb.stream(&self.key).filter(|record| record["epoch"].as_i64() > Some(epoch))
        });
        assert_eq!(after["origin"], heir, "{after}");
        assert_eq!(after["epoch"].as_i64(), Some(newest_epoch(&playlist)), "{after}");
        assert_eq!(after["claims"].as_i64(), before["claims"].as_i64().map(|n| n + 1), "{after}");

        assert!(playlist.segments.iter().all(|s| Some(s.epoch()) == after["epoch"].as_i64()), "{playlist:?}");
        let first = &playlist.segments[0];
        assert!(first.discontinuity && first.dated && playlist.sequence > last_sequence, "{playlist:?}");
        for uri in [playlist.map.as_ref().unwrap(), &first.uri] {
            assert_eq!(http::get(&playlist.resolve(uri)).status, 200, "{uri}");
        }
        self.goes_on();
        after
    }

    /// Watches some more segments, and looks at the publisher then.
    #[track_caller]
    fn goes_on(&mut self) {
        let enough = self.viewer.last_sequence() + SEGMENTS;
        self.viewer.until("it goes on", GOES_ON, |p| p.last_sequence() >= enough);
        assert!(self.publisher.is_running(), "the publisher ended: {}", self.publisher.last_lines());
        assert_eq!(self.publisher.sockets(), self.connection, "the publisher has another connection");
        assert!(self.publisher.complaints().is_empty(), "{:?}", self.publisher.complaints());
        assert_eq!(self.cluster.lb.count("sluicegate_rtmp_publishers", &[("role", "lb")]), 1);
        assert_eq!(self.cluster.lb.count("sluicegate_rtmp_connections_total", &[("role", "lb")]), 0);
    }
}

#[test]
fn a_publisher_does_not_notice_that_its_origin_is_killed() {
    let mut playing = Playing::start("killed", &[10, 100]);
    playing.outlives("an origin is killed", "origin-1", NodeProcess::kill);
}

#[test]
fn a_page_plays_on_when_the_origin_is_killed() {
    let mut playing = Playing::start("watched", &[10, 100]);
    let mut page = Page::open(&playing.cluster.lb.url("/live/play.html?id=watched&playOrder=hls"), 3 * PAGE);
    let before = page.until("it plays", PAGE, |p| p["state"] == "live" && number(p, "playedS") >= 2.0);
    playing.outlives("an origin is killed, watched by a browser", "origin-1", NodeProcess::kill);
    // More than was loaded of the lost origin.
    let further = number(&before, "currentTime") + number(&before, "bufferS") + 5.0;
    let plays_on = |p: &Value| p["state"] == "live" && number(p, "currentTime") > further;
    let after = page.until("it plays on", PAGE, plays_on);
    assert_eq!(after["openedAt"], before["openedAt"], "the page was loaded again: {after}");
    assert_eq!(after["recoveries"], 0, "{after}");
    assert!(after["mediaError"].is_null(), "{after}");
}

fn number(page: &Value, name: &str) -> f64 {
    page[name].as_f64().unwrap_or(0.0)
}

#[test]
fn a_publisher_does_not_notice_that_its_origin_is_stopped() {
    let mut playing = Playing::start("stopped", &[10, 100]);
    playing.outlives("an origin is stopped", "origin-1", |origin| assert!(origin.ask_to_end()));
    let status = playing.cluster.origin_mut("origin-2").wait_for_its_end();
    assert!(status.success(), "{status}");
}

#[test]
fn an_origin_that_hung_gives_its_stream_up_when_it_wakes() {
    let mut playing = Playing::start("frozen", &[10, 100]);
    let publishes = |playing: &Playing, id| playing.cluster.lb.node(id).unwrap()["publishes"].clone();
    until_true("origin-2 has the stream", KNOWN, || publishes(&playing, "origin-2") == 1);
    let record = playing.outlives("an origin hangs", "origin-1", |origin| origin.freeze());

    playing.cluster.origin("origin-2").thaw();
    until_true("origin-2 has given the stream up", KNOWN, || publishes(&playing, "origin-2") == 0);
    assert_eq!(publishes(&playing, "origin-1"), 1);
    playing.goes_on();
    let later = playing.record();
    assert_eq!((&later["origin"], &later["epoch"]), (&record["origin"], &record["epoch"]), "{later}");
}

#[test]
fn a_publisher_is_carried_back_to_its_only_origin_when_that_returns() {
    let mut playing = Playing::start("returned", &[100]);
    playing.outlives("the only origin is started again", "origin-1", |origin| {
        origin.kill();
        origin.start_again();
    });
}
