//! What is made of a live stream beside its source: the rungs of its ladder, a form that HLS can carry if
//! the source is none, and, while somebody pulls it, a form for WebRTC.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use sluicegate_cluster::config::RungSettings;
use sluicegate_cluster::stream::LadderState;
use sluicegate_media::frame::{OPUS, Unit, VP8};
use sluicegate_media::names::Rung;

use crate::gpus::Gpus;
use crate::hub::{Hub, Units};
use crate::ladder_report::{LadderReport, Reporter};
use crate::live::LiveStream;
use crate::overload::Ladder;
use crate::transcode::{self, AudioPlan, Intake, Job, Made, Orders, Sink, VideoPlan};

/// Units that wait for a transcoder: about 3 s of pictures and sound, and no more than [`crate::hub::QUEUE_BYTES_MAX`].
/// One that is further behind goes on at a keyframe, and so does one whose units are too old (`transcode::freshness`).
const JOB_QUEUE: usize = 256;

/// The feeds of one stream.
pub(crate) struct Feeds {
    gpus: Arc<Gpus>,
    /// The source in a form that HLS can carry, where it is published in another.
    normal: OnceLock<Arc<Hub>>,
    ladder: OnceLock<Arc<Orders>>,
    reporter: Mutex<Reporter>,
    rungs: Mutex<BTreeMap<Rung, Arc<Hub>>>,
    webrtc: Mutex<BTreeMap<Rung, Arc<OnDemand>>>,
}

impl Feeds {
    /// None yet. They are made on `gpus`, where those have room.
    pub(crate) fn new(gpus: Arc<Gpus>) -> Self {
        let (normal, ladder) = (OnceLock::new(), OnceLock::new());
        Self {
            gpus,
            normal,
            ladder,
            reporter: Mutex::default(),
            rungs: Mutex::default(),
            webrtc: Mutex::default(),
        }
    }

    /// What they are made on.
    pub(crate) fn gpus(&self) -> &Arc<Gpus> {
        &self.gpus
    }
}

#[derive(Default)]
struct OnDemand {
    hub: Hub,
    orders: Arc<Orders>,
}

impl LiveStream {
    /// A rendition's units for WebRTC, in H.264 without B-frames and Opus, which are made while somebody
    /// subscribes: the headers, the group of pictures that runs, then what comes, `queue` of them waiting at
    /// most. The channel closes when the stream or the rendition ends.
    pub(crate) fn subscribe_webrtc(&self, rung: Rung, queue: usize) -> Units {
        let mut webrtc = lock(&self.feeds.webrtc);
        let feed = webrtc.entry(rung).or_insert_with(|| self.start_webrtc(rung));
        feed.hub.subscribe(queue)
    }

    /// Whether there is such a rendition.
    pub(crate) fn has_rung(&self, rung: Rung) -> bool {
        self.with_hub(rung, |_| ()).is_some()
    }

    /// Asks for a keyframe of a rendition's WebRTC feed. Nothing can be asked where pictures are passed through.
    pub(crate) fn request_keyframe(&self, rung: Rung) {
        if let Some(feed) = lock(&self.feeds.webrtc).get(&rung) {
            feed.orders.keyframe();
        }
        if let (Rung::Encoded { .. }, Some(ladder)) = (rung, self.feeds.ladder.get()) {
            ladder.keyframe();
        }
    }

    /// What the ladder is like; `None` without one.
    pub(crate) fn ladder(&self) -> Option<Ladder> {
        let orders = self.feeds.ladder.get()?;
        Some(Ladder {
            key: self.key.clone(),
            epoch: self.epoch,
            began: self.started_at,
            rungs: lock(&self.feeds.rungs).len(),
            lag_ms: orders.lag_ms(),
            losses: orders.intake.losses(),
            newest_ms: orders.intake.newest_ms(),
        })
    }

    /// The ladder gives up its most expensive rung.
    pub(crate) fn give_up_a_rung(&self) {
        if let Some(ladder) = self.feeds.ladder.get() {
            ladder.give_up(ladder.given_up() + 1);
        }
    }

    /// The ladder makes again the rung that it gave up last.
    pub(crate) fn take_a_rung_back(&self) {
        if let Some(ladder) = self.feeds.ladder.get() {
            ladder.give_up(ladder.given_up().saturating_sub(1));
        }
    }

    /// What the ladder has done since it was asked last; `None` without one.
    pub(crate) fn report_ladder(&self, now: Instant) -> Option<LadderReport> {
        let orders = self.feeds.ladder.get()?;
        let made = lock(&self.feeds.rungs).len();
        Some(lock(&self.feeds.reporter).report(orders, made, now))
    }

    /// How the ladder keeps up, by the last report.
    pub(crate) fn ladder_state(&self) -> LadderState {
        lock(&self.feeds.reporter).state()
    }

    /// A unit of the source: whether it goes to HLS as it is. If not, it comes back by
    /// [`LiveStream::take_rendition`].
    pub(crate) fn goes_to_hls(&self, unit: &Unit) -> bool {
        let foreign = match unit {
            Unit::Video(video) => video.codec == VP8,
            Unit::Audio(audio) => audio.codec == OPUS,
            Unit::Discontinuity | Unit::Frame(_) => false,
        };
        if foreign && self.feeds.normal.get().is_none() {
            self.start_normal();
        }
        self.feeds.normal.get().is_none()
    }

    /// Starts the ladder, once the first picture is announced.
    pub(crate) fn start_ladder(&self, rungs: &[RungSettings]) {
        if rungs.is_empty() || self.feeds.ladder.get().is_some() {
            return;
        }
        let orders = Arc::<Orders>::default();
        if self.feeds.ladder.set(Arc::clone(&orders)).is_err() {
            return;
        }
        let video = VideoPlan::Ladder(rungs.to_vec());
        let job = Job { name: self.key.to_string(), video, audio: AudioPlan::Pass };
        let sink = LadderSink { stream: self.weak(), intake: Arc::clone(&orders.intake) };
        self.start_job(job, orders, sink);
    }

    fn start_normal(&self) {
        let hub = Arc::<Hub>::default();
        if self.feeds.normal.set(Arc::clone(&hub)).is_err() {
            return;
        }
        self.expect_made(&[Rung::Source]);
        let job = Job { name: self.key.to_string(), video: VideoPlan::H264, audio: AudioPlan::Aac };
        let orders = Arc::<Orders>::default();
        let intake = Arc::clone(&orders.intake);
        self.start_job(job, orders, NormalSink { stream: self.weak(), hub, intake });
    }

    fn start_webrtc(&self, rung: Rung) -> Arc<OnDemand> {
        let feed = Arc::<OnDemand>::default();
        let name = format!("{} {rung}", self.key);
        let job = Job { name, video: VideoPlan::InOrder, audio: AudioPlan::Opus };
        let sink = WebRtcSink { stream: self.weak(), rung, feed: Arc::clone(&feed) };
        if !self.start_job(job, Arc::clone(&feed.orders), sink) {
            feed.hub.close();
        }
        feed
    }

    fn start_job(&self, job: Job, orders: Arc<Orders>, sink: impl Sink) -> bool {
        let started = transcode::start(job, self.feeds.gpus(), orders, sink);
        if let Err(error) = &started {
            tracing::error!(%error, stream = %self.key, "a transcoder could not be started");
        }
        started.is_ok()
    }

    /// What `use_it` makes of a rendition's hub, if there is such a rendition.
    fn with_hub<T>(&self, rung: Rung, use_it: impl FnOnce(&Hub) -> T) -> Option<T> {
        match rung {
            Rung::Source => Some(use_it(&self.source)),
            Rung::Encoded { .. } => {
                let hub = lock(&self.feeds.rungs).get(&rung).cloned();
                hub.map(|hub| use_it(&hub))
            }
        }
    }

    /// From here on the ladder has these rungs.
    fn have_rungs(&self, rungs: &[Rung]) {
        {
            let mut hubs = lock(&self.feeds.rungs);
            hubs.retain(|rung, hub| {
                let stays = rungs.contains(rung);
                if !stays {
                    hub.close();
                }
                stays
            });
            for rung in rungs {
                hubs.entry(*rung).or_default();
            }
        }
        self.keep_renditions(rungs);
    }
}

struct LadderSink {
    stream: Weak<LiveStream>,
    intake: Arc<Intake>,
}

impl Sink for LadderSink {
    fn input(&self, _: bool) -> Option<Units> {
        let stream = self.stream.upgrade()?;
        let hub = stream.feeds.normal.get().map_or(&stream.source, |hub| hub.as_ref());
        hub.follow(JOB_QUEUE, &self.intake)
    }

    fn take(&self, made: Made) -> bool {
        let Some(stream) = self.stream.upgrade() else { return false };
        match made {
            Made::Rungs(rungs) => stream.have_rungs(&rungs),
            Made::Unit(rung, unit) => {
                stream.with_hub(rung, |hub| hub.publish(&unit));
                stream.take_rendition(rung, unit);
            }
        }
        true
    }

    fn ended(&self) {
        if let Some(stream) = self.stream.upgrade() {
            let rungs: Vec<Rung> = lock(&stream.feeds.rungs).keys().copied().collect();
            lock(&stream.feeds.rungs).values().for_each(|hub| hub.close());
            stream.made(&rungs);
        }
    }
}

struct NormalSink {
    stream: Weak<LiveStream>,
    hub: Arc<Hub>,
    intake: Arc<Intake>,
}

impl Sink for NormalSink {
    fn input(&self, _: bool) -> Option<Units> {
        self.stream.upgrade()?.source.follow(JOB_QUEUE, &self.intake)
    }

    fn take(&self, made: Made) -> bool {
        let Some(stream) = self.stream.upgrade() else { return false };
        if let Made::Unit(_, unit) = made {
            // As in [`LiveStream::push`].
            stream.take_rendition(Rung::Source, unit.clone());
            self.hub.publish(&unit);
        }
        true
    }

    fn ended(&self) {
        self.hub.close();
        if let Some(stream) = self.stream.upgrade() {
            stream.made(&[Rung::Source]);
        }
    }
}

struct WebRtcSink {
    stream: Weak<LiveStream>,
    rung: Rung,
    feed: Arc<OnDemand>,
}

impl Sink for WebRtcSink {
    /// What broke it may be in the group of pictures that runs.
    fn input(&self, again: bool) -> Option<Units> {
        let intake = &self.feed.orders.intake;
        let open =
            |hub: &Hub| if again { hub.follow(JOB_QUEUE, intake) } else { hub.open(JOB_QUEUE, Some(intake)) };
        self.stream.upgrade()?.with_hub(self.rung, open)?
    }

    fn take(&self, made: Made) -> bool {
        if let Made::Unit(_, unit) = made {
            self.feed.hub.publish(&unit);
        }
        !self.feed.hub.is_deserted() || !self.forget(|| self.feed.hub.is_deserted())
    }

    fn ended(&self) {
        self.forget(|| true);
        self.feed.hub.close();
    }
}

impl WebRtcSink {
    /// Takes the feed off the stream if `certain`: nobody can subscribe while that is found out.
    fn forget(&self, certain: impl FnOnce() -> bool) -> bool {
        let Some(stream) = self.stream.upgrade() else { return true };
        let mut webrtc = lock(&stream.feeds.webrtc);
        let forgotten = certain();
        if forgotten && webrtc.get(&self.rung).is_some_and(|feed| Arc::ptr_eq(feed, &self.feed)) {
            webrtc.remove(&self.rung);
        }
        forgotten
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[cfg(feature = "ffmpeg")]
mod drift;
#[cfg(test)]
#[cfg(feature = "ffmpeg")]
mod tests {
    use sluicegate_media::frame::Track;
    use std::time::Duration;

    use sluicegate_cluster::clock::UnixMs;
    use sluicegate_cluster::testing::{apps, stream_held_by};

    use super::*;
    use crate::metrics::MediaCounters;
    use crate::transcode::testing::with_b_frames;

    const RUNG: Rung = Rung::Encoded { height: 180, kbps: 300 };

    pub(super) fn stream(app: &str) -> Arc<LiveStream> {
        let record = stream_held_by("live/a", "o1", "s", UnixMs(1));
        let counters = MediaCounters::new().unwrap();
        LiveStream::new(&record, crate::live::InStore::No, &apps(app)[0], counters, Arc::default())
    }

    fn kinds(mut units: Units) -> (Vec<String>, usize, usize) {
        let (mut codecs, mut pictures, mut sounds) = (Vec::new(), 0, 0);
        while let Some(unit) = units.blocking_recv() {
            match unit {
                Unit::Video(video) => codecs.push(format!("{}x{}", video.width, video.height)),
                Unit::Audio(audio) => codecs.push(audio.codec),
                Unit::Frame(frame) if frame.track == Track::Audio => sounds += 1,
                Unit::Frame(frame) => {
                    assert_eq!(frame.pts_ms, frame.dts_ms);
                    pictures += 1;
                }
                Unit::Discontinuity => {}
            }
        }
        (codecs, pictures, sounds)
    }

    #[test]
    fn a_webrtc_feed_is_made_for_whoever_comes_and_ends_with_the_stream() {
        let stream = stream("");
        let units = stream.subscribe_webrtc(Rung::Source, 500);
        for unit in with_b_frames() {
            stream.push(unit).unwrap();
        }
        stream.finish(false);
        let (mut codecs, pictures, sounds) = kinds(units);
        codecs.sort();
        assert_eq!(codecs, ["640x360", OPUS]);
        assert_eq!(pictures, 50);
        assert!((97..=103).contains(&sounds), "{sounds}");
        assert!(stream.subscribe_webrtc(Rung::Source, 1).blocking_recv().is_none());
    }

    #[test]
    fn a_webrtc_feed_that_nobody_watches_ends() {
        let stream = stream("");
        let source = with_b_frames();
        let mut units = stream.subscribe_webrtc(Rung::Source, 500);
        source.iter().for_each(|unit| stream.push(unit.clone()).unwrap());
        assert!(units.blocking_recv().is_some());
        drop(units);
        let gone = || lock(&stream.feeds.webrtc).is_empty();
        let deadline = sluicegate_cluster::clock::now() + Duration::from_secs(10);
        while !gone() {
            assert!(sluicegate_cluster::clock::now() < deadline, "the feed goes on");
            source.iter().for_each(|unit| stream.push(unit.clone()).unwrap());
        }
    }

    #[test]
    fn a_ladder_is_listed_and_ends_when_it_has_made_its_last() {
        let stream = stream("[[app]]\nname = \"live\"\nladder = [{ height = 180, kbps = 300 }]");
        for unit in with_b_frames() {
            stream.push(unit).unwrap();
        }
        stream.finish(false);
        let deadline = sluicegate_cluster::clock::now() + Duration::from_secs(10);
        let ended = |playlist: bytes::Bytes| playlist.ends_with(b"#EXT-X-ENDLIST\n");
        while !stream.media_playlist(RUNG, false).is_some_and(ended) {
            assert!(sluicegate_cluster::clock::now() < deadline, "the rung does not end");
            std::thread::yield_now();
        }
        let list = String::from_utf8(stream.multivariant().unwrap().to_vec()).unwrap();
        assert!(list.contains("RESOLUTION=640x360") && list.contains("RESOLUTION=320x180"), "{list}");
        assert_eq!(
            stream.progress(UnixMs(9), sluicegate_cluster::clock::now()).renditions,
            ["source", "180p300kbps"]
        );
    }

    #[test]
    fn opus_reaches_hls_as_aac() {
        let published = stream("");
        let units = published.subscribe_webrtc(Rung::Source, 500);
        with_b_frames().into_iter().for_each(|unit| published.push(unit).unwrap());
        published.finish(false);
        let whip = stream("");
        let mut units = units;
        while let Some(unit) = units.blocking_recv() {
            whip.push(unit).unwrap();
        }
        whip.finish(false);
        let deadline = sluicegate_cluster::clock::now() + Duration::from_secs(10);
        while whip.multivariant().is_none() {
            assert!(sluicegate_cluster::clock::now() < deadline, "no playlist");
            std::thread::yield_now();
        }
        let list = String::from_utf8(whip.multivariant().unwrap().to_vec()).unwrap();
        assert!(list.contains("mp4a.40.2") && list.contains("avc1"), "{list}");
    }
}
