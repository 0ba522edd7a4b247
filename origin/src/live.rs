//! One live stream: what was made of it so far, ready to be served. Messages go in under one lock, held for
//! as long as one message takes; what edges ask for is rendered when a segment ends, not when they ask.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::config::AppSettings;
use sluicegate_cluster::ids::{Epoch, NodeId, StreamKey};
use sluicegate_cluster::stream::{PictureSize, StreamProgress, StreamRecord};
use sluicegate_media::names::{FileName, Rung};
use sluicegate_media::playlist::{self, PlaylistError, Variant};
use sluicegate_media::rtmp::MediaMessage;
use sluicegate_media::segmenter::{Segment, SegmenterConfig};
use sluicegate_media::window::{Window, WindowConfig};

use crate::packager::{FrameRate, PackError, Packager};

/// An edge's word about its viewers holds for this long; it pulls at least every few seconds.
const AUDIENCE: Duration = Duration::from_secs(10);
/// Edges whose viewers are counted.
const EDGES_MAX: usize = 1_000;

/// A stream under one claim.
pub(crate) struct LiveStream {
    /// Which stream.
    pub(crate) key: StreamKey,
    /// Under which claim.
    pub(crate) epoch: Epoch,
    /// The claim as it was made; `None` once it is known to be in the store.
    unconfirmed: Mutex<Option<StreamRecord>>,
    state: Mutex<State>,
}

struct State {
    packager: Packager,
    window: Window,
    frame_rate: FrameRate,
    media_playlist: Option<Bytes>,
    multivariant: Option<Bytes>,
    last_sequence: i64,
    ingest: Ingest,
    audience: HashMap<NodeId, (u64, Instant)>,
    /// Something that is worth recording before the next regular time.
    news: bool,
}

/// How fast it comes in.
struct Ingest {
    bytes: u64,
    since: UnixMs,
}

impl LiveStream {
    /// A stream that was just claimed by `record`.
    /// `confirmed`: the claim is in the store.
    pub(crate) fn new(record: &StreamRecord, confirmed: bool, app: &AppSettings) -> Self {
        let start = record.started_at;
        let target_ms = u64::try_from(app.segment.as_millis()).unwrap_or(u64::MAX);
        let segmenter = SegmenterConfig {
            first_sequence: unsigned(record.sequence),
            continues_another: record.claims > 1,
            ..SegmenterConfig::new(i64::try_from(target_ms).unwrap_or(i64::MAX), start.0)
        };
        let window = WindowConfig {
            stream: record.key.stream.to_string(),
            rung: Rung::Source,
            epoch: unsigned(record.epoch.0),
            listed: app.window,
            target_duration_ms: target_ms,
            // Each claim after the first begins with one discontinuity.
            first_discontinuity_sequence: unsigned(record.claims.saturating_sub(2)),
        };
        let state = State {
            packager: Packager::new(segmenter, start),
            window: Window::new(window),
            frame_rate: FrameRate::default(),
            media_playlist: None,
            multivariant: None,
            last_sequence: record.sequence,
            ingest: Ingest { bytes: 0, since: start },
            audience: HashMap::new(),
            news: false,
        };
        Self {
            key: record.key.clone(),
            epoch: record.epoch,
            unconfirmed: Mutex::new((!confirmed).then(|| record.clone())),
            state: Mutex::new(state),
        }
    }

    /// The claim that is still to be written into the store, at the media sequence number of now.
    pub(crate) fn unconfirmed(&self) -> Option<StreamRecord> {
        let claim = self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(StreamRecord { sequence: self.lock().last_sequence, ..claim })
    }

    /// The claim is in the store.
    pub(crate) fn confirm(&self) {
        *self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes a message; how many segments it ended.
    ///
    /// # Errors
    /// [`PackError`] when the stream cannot go on.
    pub(crate) fn push(&self, message: &MediaMessage, arrival: UnixMs) -> Result<u64, PackError> {
        let mut state = self.lock();
        state.ingest.bytes += message.payload.len() as u64;
        state.frame_rate.count(message, arrival);
        let segments = state.packager.push(message, arrival)?;
        let count = segments.len() as u64;
        if count > 0 {
            state.list(segments, &self.key);
        }
        Ok(count)
    }

    /// Ends the stream: its playlist says so. Its last media sequence number. `only_if_begun`: a stream
    /// without a playlist so far gets none.
    pub(crate) fn finish(&self, only_if_begun: bool) -> i64 {
        let mut state = self.lock();
        if only_if_begun && state.media_playlist.is_none() {
            return state.last_sequence;
        }
        let last: Vec<Segment> = state.packager.finish().into_iter().collect();
        state.window.end();
        state.list(last, &self.key);
        state.last_sequence
    }

    /// The media playlist of the source, once there is a segment.
    pub(crate) fn media_playlist(&self) -> Option<Bytes> {
        self.lock().media_playlist.clone()
    }

    /// The multivariant playlist, once there is a segment.
    pub(crate) fn multivariant(&self) -> Option<Bytes> {
        self.lock().multivariant.clone()
    }

    /// A segment or an init segment.
    pub(crate) fn file(&self, name: &FileName) -> Option<Bytes> {
        self.lock().window.file(name)
    }

    /// An edge says how many viewers it has.
    pub(crate) fn watched_by(&self, edge: &NodeId, viewers: u64, now: Instant) {
        let mut state = self.lock();
        if state.audience.len() < EDGES_MAX || state.audience.contains_key(edge) {
            state.audience.insert(edge.clone(), (viewers, now));
        }
    }

    /// Whether something should be recorded at once: asking takes it.
    pub(crate) fn has_news(&self) -> bool {
        std::mem::take(&mut self.lock().news)
    }

    /// What is to be recorded of it, `wall` being the time by which its bitrate is counted.
    pub(crate) fn progress(&self, wall: UnixMs, now: Instant) -> StreamProgress {
        let mut state = self.lock();
        state.audience.retain(|_, (_, told)| now.saturating_duration_since(*told) < AUDIENCE);
        let viewers = state.audience.values().map(|(viewers, _)| viewers).sum();
        StreamProgress {
            key: self.key.clone(),
            epoch: self.epoch,
            size: state.size(),
            sequence: state.last_sequence,
            bitrate_bps: state.ingest.bps(wall),
            viewers,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn list(&mut self, segments: Vec<Segment>, key: &StreamKey) {
        for segment in segments {
            self.news |= self.window.listed().next().is_none();
            self.last_sequence = i64::try_from(segment.sequence).unwrap_or(i64::MAX);
            if let Err(error) = self.window.push(segment) {
                tracing::error!(%error, stream = %key, "a segment was lost");
            }
        }
        match self.render() {
            Ok((media, multivariant)) => {
                self.media_playlist = Some(media.into());
                self.multivariant = Some(multivariant.into());
            }
            // A stream that ended before its first segment has nothing to list.
            Err(PlaylistError::Empty) => {}
            Err(error) => tracing::error!(%error, stream = %key, "a playlist could not be written"),
        }
    }

    fn render(&self) -> Result<(String, String), PlaylistError> {
        let media = playlist::media_playlist(&self.window)?;
        Ok((media, playlist::multivariant(&[self.source_variant()])?))
    }

    fn source_variant(&self) -> Variant {
        let (video, audio) = (self.packager.video(), self.packager.audio());
        let codecs = [video.map(|v| v.codec.clone()), audio.map(|a| a.codec.clone())];
        Variant {
            playlist: FileName::MediaPlaylist {
                stream: self.window.config().stream.clone(),
                rung: Rung::Source,
            },
            peak_bps: self.window.peak_bps(),
            average_bps: self.window.average_bps(),
            codecs: codecs.into_iter().flatten().collect(),
            resolution: video.map(|v| (v.width, v.height)),
            fps: self.fps(),
        }
    }

    fn fps(&self) -> Option<f64> {
        self.packager.video().and_then(|v| v.fps).or_else(|| self.frame_rate.get())
    }

    fn size(&self) -> Option<PictureSize> {
        let video = self.packager.video()?;
        Some(PictureSize { width: video.width, height: video.height, fps: self.fps().unwrap_or(0.0) })
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

/// Sequences and epochs are counted from zero up; the store's integers have a sign.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
