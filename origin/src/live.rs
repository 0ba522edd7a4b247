//! One live stream: its renditions, what is known of its publisher and its viewers. Units go in under one
//! lock, held for as long as one unit takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::config::{AppSettings, RungSettings};
use sluicegate_cluster::ids::{Epoch, Incarnation, NodeId, StreamKey};
use sluicegate_cluster::stream::{Owner, PictureSize, StreamProgress, StreamRecord};
use sluicegate_media::cmaf::MuxError;
use sluicegate_media::frame::Unit;
use sluicegate_media::names::{FileName, Rung};
use sluicegate_media::playlist::{self, PlaylistError, Report};
use sluicegate_media::reload::Reach;
use sluicegate_media::segmenter::SegmenterConfig;
use sluicegate_media::window::WindowConfig;
use tokio::sync::watch;

use crate::audience::Audience;
use crate::feeds::Feeds;
use crate::gpus::Gpus;
use crate::hub::Hub;
use crate::origin::MediaCounters;
use crate::rendition::{Ended, Rendition};

/// Frames a second that differ by more than this part are told anew.
const FPS_NEWS: f64 = 0.05;

/// A stream under one claim.
pub(crate) struct LiveStream {
    /// Which stream.
    pub(crate) key: StreamKey,
    /// Under which claim.
    pub(crate) epoch: Epoch,
    /// The zero of its timeline.
    pub(crate) started_at: UnixMs,
    /// The source's units.
    pub(crate) source: Hub,
    /// What is made of them.
    pub(crate) feeds: Feeds,
    /// Itself, for what works on it and must not keep it.
    me: Weak<Self>,
    ladder: Vec<RungSettings>,
    counters: MediaCounters,
    /// The claim as it was made.
    claim: StreamRecord,
    in_store: Mutex<InStore>,
    state: Mutex<State>,
}

struct State {
    /// How the source is cut and numbered; rungs are cut and numbered alike.
    segmenter: SegmenterConfig,
    window: WindowConfig,
    renditions: BTreeMap<Rung, Rendition>,
    /// Renditions that a transcoder is making: they end when it does.
    in_the_making: BTreeSet<Rung>,
    /// Its publisher sends no more.
    stopped: bool,
    ended: bool,
    multivariant: Option<Bytes>,
    ingest: Ingest,
    /// Who watches by HLS, and by WebRTC.
    audience: Audience,
    webrtc_audience: Audience,
    /// Something that is worth recording before the next regular time.
    news: bool,
    /// What was last recorded of picture and rungs.
    recorded: Option<Description>,
}

/// What readers of the store are told of anew when it is other than before.
#[derive(Debug, PartialEq)]
struct Description {
    size: Option<PictureSize>,
    renditions: Vec<String>,
}

impl Description {
    /// Whether it says the same; frames a second are measured, and never quite the same.
    fn is_like(&self, size: Option<PictureSize>, renditions: &[String]) -> bool {
        let same_size = match (self.size, size) {
            (Some(a), Some(b)) => {
                (a.width, a.height) == (b.width, b.height) && (a.fps - b.fps).abs() <= FPS_NEWS * a.fps
            }
            (a, b) => a.is_none() && b.is_none(),
        };
        same_size && self.renditions == renditions
    }
}

/// What the store has of a stream's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InStore {
    /// Nothing, and it shall have nothing before the stream has a playlist: another origin is serving it.
    NotBeforeItBegins,
    /// Nothing yet.
    No,
    /// All of it, made by this incarnation of the node.
    As(Incarnation),
}

/// How fast it comes in.
struct Ingest {
    bytes: u64,
    since: UnixMs,
}

impl LiveStream {
    /// A stream that was just claimed by `record`, of which the store has what `in_store` says. `counters` count
    /// what is made of it, on `gpus` where they have room.
    pub(crate) fn new(
        record: &StreamRecord,
        in_store: InStore,
        app: &AppSettings,
        counters: MediaCounters,
        gpus: Arc<Gpus>,
    ) -> Arc<Self> {
        let start = record.started_at;
        let (target_ms, part_ms) = (ms(app.segment), ms(app.part));
        let segmenter = SegmenterConfig {
            first_sequence: unsigned(record.sequence),
            continues_another: record.claims > 1,
            ..SegmenterConfig::new(signed(target_ms), signed(part_ms), start.0)
        };
        let window = WindowConfig {
            stream: record.key.stream.to_string(),
            rung: Rung::Source,
            epoch: unsigned(record.epoch.0),
            listed: app.window,
            target_duration_ms: target_ms,
            part_target_ms: part_ms,
            // Each claim after the first begins with one discontinuity.
            first_discontinuity_sequence: unsigned(record.claims.saturating_sub(2)),
        };
        let state = State {
            renditions: BTreeMap::from([(Rung::Source, Rendition::new(segmenter, window.clone()))]),
            segmenter,
            window,
            in_the_making: BTreeSet::new(),
            stopped: false,
            ended: false,
            multivariant: None,
            ingest: Ingest { bytes: 0, since: start },
            audience: Audience::default(),
            webrtc_audience: Audience::default(),
            news: false,
            recorded: None,
        };
        Arc::new_cyclic(|me| Self {
            key: record.key.clone(),
            epoch: record.epoch,
            started_at: start,
            source: Hub::default(),
            feeds: Feeds::new(gpus),
            me: Weak::clone(me),
            ladder: app.ladder.clone(),
            counters,
            claim: record.clone(),
            in_store: Mutex::new(in_store),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn weak(&self) -> Weak<Self> {
        Weak::clone(&self.me)
    }

    /// The claim as `incarnation` is to write it, at the media sequence number of now; `None` while the store
    /// has it, or is not to have it yet.
    pub(crate) fn unconfirmed(&self, incarnation: &Incarnation) -> Option<StreamRecord> {
        let state = self.lock();
        match &*self.in_store.lock().unwrap_or_else(PoisonError::into_inner) {
            InStore::As(written) if written == incarnation => return None,
            InStore::NotBeforeItBegins if state.multivariant.is_none() => return None,
            _ => {}
        }
        Some(StreamRecord {
            owner: Owner { incarnation: incarnation.clone(), ..self.claim.owner.clone() },
            renditions: state.names(),
            size: state.size().or(self.claim.size),
            sequence: state.last_sequence(),
            ..self.claim.clone()
        })
    }

    /// Whether its claim, which was to wait until it has a playlist, is due.
    pub(crate) fn claim_is_due(&self) -> bool {
        let begun = self.lock().multivariant.is_some();
        begun && *self.in_store.lock().unwrap_or_else(PoisonError::into_inner) == InStore::NotBeforeItBegins
    }

    /// The store has the claim, made by `incarnation`.
    pub(crate) fn confirm(&self, incarnation: &Incarnation) {
        *self.in_store.lock().unwrap_or_else(PoisonError::into_inner) = InStore::As(incarnation.clone());
    }

    /// Counts what the publisher sent.
    pub(crate) fn received(&self, bytes: usize) {
        self.lock().ingest.bytes += bytes as u64;
    }

    /// Takes a unit of the source.
    ///
    /// # Errors
    /// [`MuxError`] when a segment could not be written.
    pub(crate) fn push(&self, unit: Unit) -> Result<(), MuxError> {
        self.source.publish(&unit);
        if self.goes_to_hls(&unit) { self.push_to(Rung::Source, unit) } else { Ok(()) }
    }

    /// Takes a unit of a rendition that a transcoder makes.
    pub(crate) fn take_rendition(&self, rung: Rung, unit: Unit) {
        if let Err(error) = self.push_to(rung, unit) {
            tracing::warn!(%error, stream = %self.key, %rung, "a segment could not be written");
        }
    }

    fn push_to(&self, rung: Rung, unit: Unit) -> Result<(), MuxError> {
        let announces = rung == Rung::Source && matches!(unit, Unit::Video(_));
        {
            let mut state = self.lock();
            let Some(rendition) = state.renditions.get_mut(&rung) else { return Ok(()) };
            let begins = rendition.report().is_none();
            let ended = rendition.push(unit)?;
            self.counters.count(ended);
            state.ended(rung, ended, &self.key);
            state.news |= begins && ended == Ended::Segment;
        }
        if announces {
            self.start_ladder(&self.ladder);
        }
        Ok(())
    }

    /// A transcoder makes these renditions from now on.
    pub(crate) fn expect_made(&self, rungs: &[Rung]) {
        self.lock().in_the_making.extend(rungs);
    }

    /// Beside the source there are these renditions from now on, made by a transcoder.
    pub(crate) fn keep_renditions(&self, rungs: &[Rung]) {
        let mut state = self.lock();
        state.renditions.retain(|rung, _| *rung == Rung::Source || rungs.contains(rung));
        state.in_the_making.retain(|rung| *rung == Rung::Source);
        state.in_the_making.extend(rungs);
        for rung in rungs {
            let window = WindowConfig { rung: *rung, ..state.window.clone() };
            let segmenter = state.segmenter;
            state.renditions.entry(*rung).or_insert_with(|| Rendition::new(segmenter, window));
        }
        state.keep_the_sources_promise();
        state.news = true;
        state.render(&self.key);
    }

    /// Whoever made these renditions has made the last of them.
    pub(crate) fn made(&self, rungs: &[Rung]) {
        let mut state = self.lock();
        state.in_the_making.retain(|rung| !rungs.contains(rung));
        if state.ended {
            state.finish(&self.key);
        } else if !state.stopped {
            // It was given up: what is left would only grow old.
            state.renditions.retain(|rung, _| *rung == Rung::Source || !rungs.contains(rung));
            state.render(&self.key);
        }
    }

    /// Nothing more comes from this publisher: transcoders end.
    pub(crate) fn stop_feeds(&self) {
        self.lock().stopped = true;
        self.source.close();
    }

    /// Ends the stream: its playlists say so, those of the ladder as soon as it has made the last of them.
    /// Its last media sequence number. `only_if_begun`: a stream without a playlist so far gets none.
    pub(crate) fn finish(&self, only_if_begun: bool) -> i64 {
        let last = {
            let mut state = self.lock();
            if !only_if_begun || state.multivariant.is_some() {
                state.ended = true;
                state.finish(&self.key);
            }
            state.last_sequence()
        };
        self.stop_feeds();
        last
    }

    /// The newest media sequence number.
    pub(crate) fn last_sequence(&self) -> i64 {
        self.lock().last_sequence()
    }

    /// The media playlist of a rendition, once it has a segment; `delta`: as a delta update, if there is one.
    pub(crate) fn media_playlist(&self, rung: Rung, delta: bool) -> Option<Bytes> {
        self.lock().renditions.get(&rung)?.playlist(delta)
    }

    /// How far the media playlist of a rendition reaches, and word when it reaches further.
    pub(crate) fn reach(&self, rung: Rung) -> Option<watch::Receiver<Option<Reach>>> {
        Some(self.lock().renditions.get(&rung)?.reach())
    }

    /// The multivariant playlist, once there is a segment.
    pub(crate) fn multivariant(&self) -> Option<Bytes> {
        self.lock().multivariant.clone()
    }

    /// A segment, a part or an init segment.
    pub(crate) fn file(&self, name: &FileName) -> Option<Bytes> {
        let state = self.lock();
        state.renditions.values().find_map(|rendition| rendition.file(name))
    }

    /// An edge says how many viewers it has by HLS.
    pub(crate) fn watched_by(&self, edge: &NodeId, viewers: u64, now: Instant) {
        self.lock().audience.told(edge, viewers, now);
    }

    /// An edge says how many viewers it has by WebRTC.
    pub(crate) fn watched_by_webrtc(&self, edge: &NodeId, viewers: u64, now: Instant) {
        self.lock().webrtc_audience.told(edge, viewers, now);
    }

    /// The source's picture, once it is known.
    pub(crate) fn picture_size(&self) -> Option<PictureSize> {
        self.lock().size()
    }

    /// Whether something should be recorded at once: asking takes it.
    pub(crate) fn has_news(&self) -> bool {
        std::mem::take(&mut self.lock().news)
    }

    /// What is to be recorded of it, `wall` being the time by which its bitrate is counted.
    pub(crate) fn progress(&self, wall: UnixMs, now: Instant) -> StreamProgress {
        let mut state = self.lock();
        let webrtc_viewers = state.webrtc_audience.count(now);
        let viewers = state.audience.count(now).saturating_add(webrtc_viewers);
        let (size, renditions) = (state.size(), state.names());
        StreamProgress {
            key: self.key.clone(),
            epoch: self.epoch,
            is_news: !state.recorded.as_ref().is_some_and(|known| known.is_like(size, &renditions)),
            size,
            renditions,
            sequence: state.last_sequence(),
            bitrate_bps: state.ingest.bps(wall),
            viewers,
            webrtc_viewers,
        }
    }

    /// The store has this progress of it.
    pub(crate) fn was_recorded(&self, progress: &StreamProgress) {
        if progress.is_news {
            let (size, renditions) = (progress.size, progress.renditions.clone());
            self.lock().recorded = Some(Description { size, renditions });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn source(&self) -> Option<&Rendition> {
        self.renditions.get(&Rung::Source)
    }

    fn last_sequence(&self) -> i64 {
        self.source().map_or(0, |source| i64::try_from(source.last_sequence()).unwrap_or(i64::MAX))
    }

    /// Renders what is to be said anew now that the newest unit of `rung` has `ended` something.
    fn ended(&mut self, rung: Rung, ended: Ended, key: &StreamKey) {
        if ended == Ended::Nothing {
            return;
        }
        let others = self.renditions.iter().filter(|(other, _)| **other != rung);
        let reports: Vec<Report> = others.filter_map(|(_, rendition)| rendition.report()).collect();
        if let Some(rendition) = self.renditions.get_mut(&rung) {
            rendition.render(&reports);
        }
        if ended == Ended::Segment {
            self.keep_the_sources_promise();
            self.render(key);
        }
    }

    /// All renditions promise the same lengths of segments and parts: the source's, which is the first.
    fn keep_the_sources_promise(&mut self) {
        if let Some(promise) = self.source().and_then(Rendition::promise) {
            self.renditions.values_mut().for_each(|rendition| rendition.keep(promise));
        }
    }

    /// Ends what nobody makes any more.
    fn finish(&mut self, key: &StreamKey) {
        let Self { renditions, in_the_making, .. } = self;
        let made = renditions.iter_mut().filter(|(rung, _)| !in_the_making.contains(rung));
        for (_, rendition) in made {
            rendition.finish();
            // A playlist that has ended reports of no other.
            rendition.render(&[]);
        }
        self.render(key);
    }

    fn render(&mut self, key: &StreamKey) {
        let begun = self.renditions.values().filter(|rendition| rendition.report().is_some());
        let variants: Vec<_> = begun.map(Rendition::variant).collect();
        match playlist::multivariant(&variants) {
            Ok(text) => self.multivariant = Some(text.into()),
            // A stream that ended before its first segment has nothing to list.
            Err(PlaylistError::Empty) => {}
            Err(error) => tracing::error!(%error, stream = %key, "a playlist could not be written"),
        }
    }

    /// The renditions that can be asked for, the source first.
    fn names(&self) -> Vec<String> {
        let begun = self.renditions.iter().filter(|(rung, r)| **rung == Rung::Source || r.report().is_some());
        begun.map(|(rung, _)| rung.to_string()).collect()
    }

    fn size(&self) -> Option<PictureSize> {
        let source = self.source()?;
        let video = source.video()?;
        Some(PictureSize { width: video.width, height: video.height, fps: source.fps().unwrap_or(0.0) })
    }
}

impl Ingest {
    /// Bits a second since the last call.
    fn bps(&mut self, now: UnixMs) -> u64 {
        let ms = u64::try_from(self.since.age(now).as_millis()).unwrap_or(u64::MAX);
        let bps = self.bytes.saturating_mul(8_000) / ms.max(1);
        *self = Self { bytes: 0, since: now };
        bps
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// Sequences and epochs are counted from zero up; the store's integers have a sign.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
