//! What a new origin needs to go on with a stream in the middle: its metadata, its codec headers, and its
//! messages since the last keyframe. Bounded; a group of pictures that outgrows the bound is forgotten, and
//! the stream goes on at the next keyframe.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sluicegate_media::flv::{self, Peek};
use sluicegate_media::rtmp::{MediaKind, MediaMessage};

/// The group of pictures that is kept at most: ten seconds at 12 Mbit/s.
const GOP_BYTES: usize = 16 << 20;
/// Messages of it. Ten seconds at 60 pictures and 50 sounds a second are 1,100.
const GOP_MESSAGES: usize = 10_000;

/// What all groups of pictures together may hold.
const ALL_GOPS_BYTES: usize = 1 << 30;

/// The bytes that all groups of pictures of a balancer hold.
#[derive(Debug, Default)]
pub(crate) struct GopBudget(AtomicUsize);

impl GopBudget {
    /// Takes `bytes` if they are there.
    fn take(&self, bytes: usize) -> bool {
        let fits = |held: usize| held.checked_add(bytes).filter(|held| *held <= ALL_GOPS_BYTES);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What is remembered of a stream.
#[derive(Debug, Default)]
pub(super) struct Gop {
    budget: Arc<GopBudget>,
    metadata: Option<MediaMessage>,
    video_header: Option<MediaMessage>,
    audio_header: Option<MediaMessage>,
    /// From the last keyframe on; empty before the first, and after one that was too long.
    messages: Vec<MediaMessage>,
    bytes: usize,
}

impl Gop {
    /// Nothing yet; what comes counts against `budget`.
    pub(super) fn new(budget: Arc<GopBudget>) -> Self {
        let mut gop = Self::default();
        gop.budget = budget;
        gop
    }

    /// Remembers a metadata message.
    pub(super) fn set_metadata(&mut self, message: &MediaMessage) {
        self.metadata = Some(message.clone());
    }

    /// Whether a new origin may begin at `message` without lacking anything: it is a keyframe, or a sound of a
    /// stream that has no picture.
    pub(super) fn may_begin_at(&self, message: &MediaMessage) -> bool {
        match (peek(message), message.kind) {
            (Peek::Keyframe, MediaKind::Video) => true,
            (Peek::Other, MediaKind::Audio) => self.video_header.is_none(),
            _ => false,
        }
    }

    /// Remembers a message of the stream.
    pub(super) fn push(&mut self, message: &MediaMessage) {
        match (peek(message), message.kind) {
            (Peek::Header, MediaKind::Video) => self.video_header = Some(message.clone()),
            (Peek::Header, _) => self.audio_header = Some(message.clone()),
            (Peek::Keyframe, MediaKind::Video) => {
                self.clear();
                self.keep(message);
            }
            _ if !self.messages.is_empty() => self.keep(message),
            _ => {}
        }
    }

    /// What to send to a new origin, in order, before the stream goes on.
    pub(super) fn replay(&self) -> impl Iterator<Item = &MediaMessage> {
        let headers = [&self.metadata, &self.video_header, &self.audio_header];
        headers.into_iter().flatten().chain(&self.messages)
    }

    /// Whether there is anything since a keyframe.
    pub(super) fn holds_messages(&self) -> bool {
        !self.messages.is_empty()
    }

    fn keep(&mut self, message: &MediaMessage) {
        let bytes = message.payload.len();
        let fits = self.bytes + bytes <= GOP_BYTES && self.messages.len() < GOP_MESSAGES;
        if fits && self.budget.take(bytes) {
            self.bytes += bytes;
            self.messages.push(message.clone());
        } else {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.budget.give_back(std::mem::take(&mut self.bytes));
    }
}

fn peek(message: &MediaMessage) -> Peek {
    match message.kind {
        MediaKind::Video => flv::peek_video(&message.payload),
        MediaKind::Audio => flv::peek_audio(&message.payload),
        MediaKind::Data => Peek::Other,
    }
}

impl Drop for Gop {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(kind: MediaKind, timestamp_ms: u32, payload: &[u8]) -> MediaMessage {
        MediaMessage { kind, timestamp_ms, payload: Bytes::copy_from_slice(payload) }
    }

    fn times(gop: &Gop) -> Vec<u32> {
        gop.replay().map(|m| m.timestamp_ms).collect()
    }

    const KEY: [u8; 6] = [0x17, 1, 0, 0, 0, 0];
    const DELTA: [u8; 6] = [0x27, 1, 0, 0, 0, 0];

    #[test]
    fn a_stream_goes_on_from_its_headers_and_its_last_keyframe() {
        let mut gop = Gop::default();
        gop.set_metadata(&message(MediaKind::Data, 1, b"meta"));
        gop.push(&message(MediaKind::Video, 2, &[0x17, 0, 0, 0, 0, 1]));
        gop.push(&message(MediaKind::Audio, 3, &[0xaf, 0, 0x12]));
        gop.push(&message(MediaKind::Video, 4, &DELTA));
        assert_eq!(times(&gop), [1, 2, 3], "nothing can be decoded before a keyframe");
        gop.push(&message(MediaKind::Video, 10, &KEY));
        gop.push(&message(MediaKind::Audio, 11, &[0xaf, 1, 0x21]));
        gop.push(&message(MediaKind::Video, 12, &DELTA));
        assert_eq!(times(&gop), [1, 2, 3, 10, 11, 12]);
        gop.push(&message(MediaKind::Video, 20, &KEY));
        assert_eq!(times(&gop), [1, 2, 3, 20]);
    }

    #[test]
    fn a_stream_moves_at_a_keyframe_or_at_any_sound_when_it_has_no_picture() {
        let mut gop = Gop::default();
        let (key, delta) = (message(MediaKind::Video, 1, &KEY), message(MediaKind::Video, 1, &DELTA));
        let (sound, header) =
            (message(MediaKind::Audio, 1, &[0xaf, 1, 0x21]), message(MediaKind::Audio, 1, &[0xaf, 0, 0x12]));
        assert!(gop.may_begin_at(&sound) && !gop.may_begin_at(&header));
        gop.push(&message(MediaKind::Video, 0, &[0x17, 0, 0, 0, 0, 1]));
        assert!(gop.may_begin_at(&key));
        assert!(!gop.may_begin_at(&sound) && !gop.may_begin_at(&delta));
    }

    #[test]
    fn a_group_of_pictures_without_end_is_forgotten() {
        let mut gop = Gop::default();
        gop.push(&message(MediaKind::Video, 0, &KEY));
        let mut big = DELTA.to_vec();
        big.resize(1 << 20, 0);
        for at in 1..40 {
            gop.push(&message(MediaKind::Video, at, &big));
        }
        assert!(times(&gop).is_empty());
        gop.push(&message(MediaKind::Video, 50, &KEY));
        assert_eq!(times(&gop), [50]);
        let budget = Arc::clone(&gop.budget);
        assert_eq!(budget.0.load(Ordering::Relaxed), KEY.len());
        drop(gop);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
