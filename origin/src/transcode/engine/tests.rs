//! Cards that fail under a stream: it goes on, really encoded, on another card or by the processors.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use prometheus::Registry;
use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_cluster::testing::{apps, stream_held_by};
use sluicegate_media::frame::Unit;
use sluicegate_media::names::Rung;

use super::*;
use crate::gpus::testing::{FakeCard, until, watched};
use crate::live::{InStore, LiveStream};
use crate::metrics::MediaCounters;
use crate::transcode::testing::with_b_frames;

const LADDER: &str = "[[app]]\nname = \"live\"\nladder = [{ height = 180, kbps = 300 }]\nwindow = 20";
const RUNG: Rung = Rung::Encoded { height: 180, kbps: 300 };

struct Publish {
    stream: Arc<LiveStream>,
    registry: Registry,
    source: Vec<Unit>,
    offset_ms: i64,
}

impl Publish {
    fn on(cards: &[Arc<FakeCard>]) -> Self {
        let registry = Registry::new();
        let gpus = watched(Gpus::counted(&registry), cards);
        let counters = MediaCounters::new().unwrap();
        let record = stream_held_by("live/a", "o1", "s", UnixMs(1));
        let stream = LiveStream::new(&record, InStore::No, &apps(LADDER)[0], counters, gpus);
        Self { stream, registry, source: with_b_frames(), offset_ms: 0 }
    }

    /// Two more seconds come, at most as fast as they are taken.
    fn go_on(&mut self) {
        for unit in &self.source {
            let unit = match unit {
                Unit::Frame(frame) => {
                    let mut frame = frame.clone();
                    frame.dts_ms += self.offset_ms;
                    frame.pts_ms += self.offset_ms;
                    Unit::Frame(frame)
                }
                _ if self.offset_ms > 0 => continue,
                header => header.clone(),
            };
            self.stream.push(unit).unwrap();
        }
        self.offset_ms += 2_000;
        let begin = clock::now();
        while clock::now().duration_since(begin) < Duration::from_millis(400) && self.behind() {
            std::thread::yield_now();
        }
    }

    fn behind(&self) -> bool {
        self.stream.ladder().is_some_and(|ladder| ladder.lag_ms > 500)
    }

    /// Until the rung has so many segments, of a second each, gaps left aside.
    #[track_caller]
    fn go_on_until(&mut self, segments: i64) {
        let deadline = clock::now() + Duration::from_secs(30);
        while self.segments() < segments {
            // As heartbeats do.
            let _ = self.stream.feeds.gpus().read();
            assert!(clock::now() < deadline, "not in time:\n{}", self.playlist(RUNG));
            self.go_on();
        }
    }

    fn segments(&self) -> i64 {
        let list = self.playlist(RUNG);
        let all = list.matches("#EXTINF").count() - list.matches("#EXT-X-GAP").count();
        i64::try_from(all).unwrap()
    }

    fn playlist(&self, rung: Rung) -> String {
        let playlist = self.stream.media_playlist(rung, false).unwrap_or_default();
        String::from_utf8(playlist.to_vec()).unwrap()
    }

    #[track_caller]
    fn counted(&self, line: &str) {
        assert!(!self.stream.feeds.gpus().read().is_empty());
        let shown = || prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        until(line, || shown().lines().any(|l| l == line));
    }
}

impl Drop for Publish {
    fn drop(&mut self) {
        self.stream.finish(false);
        self.stream.feeds.gpus().stop();
    }
}

fn discontinuities(playlist: &str) -> usize {
    playlist.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count()
}

#[test]
fn a_card_lost_under_a_stream_costs_it_segments_at_most_and_the_processors_go_on() {
    let card = Arc::<FakeCard>::default();
    let mut publish = Publish::on(&[Arc::clone(&card)]);
    publish.go_on_until(3);
    publish.counted("sluicegate_gpu_transcoders{place=\"both\"} 1");
    assert_eq!((card.attached.load(SeqCst), discontinuities(&publish.playlist(RUNG))), (1, 0));
    card.is_lost.store(true, SeqCst);
    let before = publish.segments();
    until("the loss is noticed", || publish.stream.feeds.gpus().place(1.0, &[]).is_none());
    publish.go_on_until(before + 4);
    // Marks are the source's, so that all renditions have the same; what is missing is told by gaps.
    assert_eq!(discontinuities(&publish.playlist(RUNG)), 0, "{}", publish.playlist(RUNG));
    assert_eq!(discontinuities(&publish.playlist(Rung::Source)), 0);
    assert_eq!(card.attached.load(SeqCst), 1);
    publish.counted("sluicegate_gpu_transcoders{place=\"both\"} 0");
    publish.counted("sluicegate_gpu_transcoders{place=\"cpu\"} 1");
    publish.counted("sluicegate_gpu_moved_total{to=\"cpu\"} 1");
    publish.counted("sluicegate_gpu_failures_total{what=\"reading\"} 1");
    publish.counted("sluicegate_gpu_cards{state=\"resting\"} 1");
}

#[test]
fn where_one_card_refuses_the_next_takes_the_stream() {
    let cards: [Arc<FakeCard>; 2] = std::array::from_fn(|_| Arc::default());
    // Of equal ones the last is taken first.
    cards[1].refuses.store(true, SeqCst);
    let mut publish = Publish::on(&cards);
    publish.go_on_until(3);
    assert_eq!((cards[0].attached.load(SeqCst), cards[1].attached.load(SeqCst)), (1, 0));
    publish.counted("sluicegate_gpu_moved_total{to=\"card\"} 1");
    publish.counted("sluicegate_gpu_transcoders{place=\"both\"} 1");
    publish.counted("sluicegate_gpu_failures_total{what=\"stream\"} 1");
    until("the card showed that it was not to blame", || cards[1].trials.load(SeqCst) == 2);
}

#[test]
fn a_stream_that_breaks_card_after_card_is_left_to_the_processors() {
    let cards: [Arc<FakeCard>; 4] = std::array::from_fn(|_| Arc::default());
    cards.iter().for_each(|card| card.refuses.store(true, SeqCst));
    let mut publish = Publish::on(&cards);
    publish.go_on_until(3);
    publish.counted("sluicegate_gpu_failures_total{what=\"stream\"} 2");
    publish.counted("sluicegate_gpu_transcoders{place=\"cpu\"} 1");
    assert_eq!(discontinuities(&publish.playlist(Rung::Source)), 0);
}

#[test]
fn a_driver_that_hangs_is_left_behind() {
    let card = Arc::<FakeCard>::default();
    let mut publish = Publish::on(&[Arc::clone(&card)]);
    let hanging = card.driver.lock().unwrap();
    publish.go_on_until(3);
    assert_eq!(card.attached.load(SeqCst), 0);
    publish.counted("sluicegate_gpu_moved_total{to=\"cpu\"} 1");
    publish.counted("sluicegate_gpu_transcoders{place=\"both\"} 1");
    drop(hanging);
    publish.counted("sluicegate_gpu_transcoders{place=\"both\"} 0");
    publish.counted("sluicegate_gpu_cards{state=\"good\"} 1");
}

#[test]
fn a_job_that_left_its_card_hears_no_more_of_it() {
    let card = Arc::<FakeCard>::default();
    let gpus = watched(Gpus::default(), &[Arc::clone(&card)]);
    let engines = Engines::new(Arc::clone(&gpus));
    let engine = engines.take(60.0).unwrap();
    let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let hears = |at_most| {
        waiting.block_on(async { tokio::time::timeout(at_most, engines.card_lost()).await.is_ok() })
    };
    assert!(!hears(Duration::from_millis(1)));
    card.is_lost.store(true, SeqCst);
    assert!(hears(Duration::from_secs(20)) && engine.check().is_err());
    engines.leave();
    assert!(!hears(Duration::from_millis(1)));
    gpus.stop();
}

#[test]
fn where_only_cards_may_encode_nothing_else_does() {
    let engines = |encoder| Engines::new(watched(Gpus::choosing(encoder), &[Arc::default()]));
    assert!(matches!(engines(EncoderChoice::Nvenc).take(60.0), Err(TranscodeError::NoCard)));
    let x264 = engines(EncoderChoice::X264).take(60.0).unwrap();
    assert!(x264.decodes_on().is_some() && x264.encodes_on(1_280, 720).is_none());
}

#[test]
fn pictures_of_sizes_that_nvenc_does_not_know_are_left_to_the_processors() {
    struct Any;
    impl Device for Any {
        fn attach(&self, _: &mut ffmpeg_next::codec::Context) -> Result<(), ffmpeg_next::Error> {
            Ok(())
        }
    }
    let device: Arc<dyn Device> = Arc::new(Any);
    let engine = Engine::on(&device, Work { decodes: true, encodes: true });
    let taken = |width, height| engine.encodes_on(width, height).is_some();
    assert_eq!((taken(1_920, 1_080), taken(64, 64), taken(7_680, 4_320)), (true, false, false));
}
