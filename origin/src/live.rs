//! One live stream: its renditions, what is known of its publisher and its viewers. Units go in under one
//! lock, held for as long as one unit takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::config::{AppSettings, RungSettings};
use sluicegate_cluster::ids::{Epoch, Incarnation, NodeId, StreamKey};
use sluicegate_cluster::stream::{LadderState, Owner, PictureSize, StreamProgress, StreamRecord};
use sluicegate_media::cmaf::MuxError;
use sluicegate_media::frame::Unit;
use sluicegate_media::names::{FileName, Rung};
use sluicegate_media::reload::Reach;
use sluicegate_media::segmenter::SegmenterConfig;
use sluicegate_media::window::WindowConfig;
use tokio::sync::watch;

use self::renditions::{Pushed, Renditions};
use crate::audience::Audience;
use crate::feeds::Feeds;
use crate::gpus::Gpus;
use crate::hub::Hub;
use crate::metrics::MediaCounters;

mod renditions;

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
    renditions: Renditions,
    /// Its publisher sends no more.
    stopped: bool,
    ended: bool,
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
            renditions: Renditions::new(segmenter, window),
            stopped: false,
            ended: false,
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
            InStore::NotBeforeItBegins if state.renditions.multivariant().is_none() => return None,
            _ => {}
        }
        Some(StreamRecord {
            owner: Owner { incarnation: incarnation.clone(), ..self.claim.owner.clone() },
            renditions: state.renditions.names(),
            size: state.renditions.size().or(self.claim.size),
            sequence: state.renditions.last_sequence(),
            ..self.claim.clone()
        })
    }

    /// Whether its claim, which was to wait until it has a playlist, is due.
    pub(crate) fn claim_is_due(&self) -> bool {
        let begun = self.lock().renditions.multivariant().is_some();
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
        let goes_to_hls = self.goes_to_hls(&unit);
        // Rungs keep step with the source's segments, so those come first.
        let pushed = if goes_to_hls { self.push_to(Rung::Source, unit.clone()) } else { Ok(()) };
        self.source.publish(&unit);
        pushed
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
            let pushed = state.renditions.push(rung, unit, &self.counters)?;
            state.news |= pushed == Pushed::Begun;
        }
        if announces {
            self.start_ladder(&self.ladder);
        }
        Ok(())
    }

    /// A transcoder makes these renditions from now on.
    pub(crate) fn expect_made(&self, rungs: &[Rung]) {
        self.lock().renditions.expect_made(rungs);
    }

    /// Beside the source these renditions are made from now on, by a transcoder; others pause.
    pub(crate) fn keep_renditions(&self, rungs: &[Rung]) {
        let mut state = self.lock();
        state.renditions.keep(rungs);
        state.news = true;
    }

    /// Whoever made these renditions has made the last of them.
    pub(crate) fn made(&self, rungs: &[Rung]) {
        let mut state = self.lock();
        let (ended, stopped) = (state.ended, state.stopped);
        state.renditions.made(rungs);
        if ended {
            state.renditions.finish();
        } else if !stopped {
            // It was given up.
            state.renditions.pause(rungs);
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
            if !only_if_begun || state.renditions.multivariant().is_some() {
                state.ended = true;
                state.renditions.finish();
            }
            state.renditions.last_sequence()
        };
        self.stop_feeds();
        last
    }

    /// The newest media sequence number.
    pub(crate) fn last_sequence(&self) -> i64 {
        self.lock().renditions.last_sequence()
    }

    /// The media playlist of a rendition, once it has a segment; `delta`: as a delta update, if there is one.
    pub(crate) fn media_playlist(&self, rung: Rung, delta: bool) -> Option<Bytes> {
        self.lock().renditions.get(rung)?.playlist(delta)
    }

    /// How far the media playlist of a rendition reaches, and word when it reaches further.
    pub(crate) fn reach(&self, rung: Rung) -> Option<watch::Receiver<Option<Reach>>> {
        Some(self.lock().renditions.get(rung)?.reach())
    }

    /// The multivariant playlist, once there is a segment.
    pub(crate) fn multivariant(&self) -> Option<Bytes> {
        self.lock().renditions.multivariant()
    }

    /// A segment, a part or an init segment.
    pub(crate) fn file(&self, name: &FileName) -> Option<Bytes> {
        self.lock().renditions.file(name)
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
        self.lock().renditions.size()
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
        let (size, renditions) = (state.renditions.size(), state.renditions.names());
        StreamProgress {
            key: self.key.clone(),
            epoch: self.epoch,
            is_news: !state.recorded.as_ref().is_some_and(|known| known.is_like(size, &renditions)),
            size,
            renditions,
            sequence: state.renditions.last_sequence(),
            bitrate_bps: state.ingest.bps(wall),
            viewers,
            webrtc_viewers,
            ladder: Box::new(LadderState { given_up: state.renditions.paused(), ..self.ladder_state() }),
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

#[cfg(test)]
#[cfg(feature = "ffmpeg")]
mod rough;
#[cfg(test)]
#[cfg(feature = "ffmpeg")]
mod tests;
