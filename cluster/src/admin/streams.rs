//! The streams that are shown, ours and those of AMS's own nodes. A large cluster has tens of thousands of them and
//! a page shows a few: one is made into a [`StreamModel`] only where it is looked at.

use super::model::{StreamModel, age_ms};
use crate::ams::peers::AmsStream;
use crate::clock::UnixMs;
use crate::ids::StreamKey;
use crate::stream::StreamRecord;
use crate::view::ClusterView;

/// How long a stream is shown whose origin is no more and that nobody took over.
const LOST_SHOWN: std::time::Duration = std::time::Duration::from_secs(60);

/// A stream as the view has it.
#[derive(Clone, Copy)]
pub(super) struct ShownStream<'a> {
    pub(super) key: &'a StreamKey,
    pub(super) live: bool,
    whose: Whose<'a>,
}

#[derive(Clone, Copy)]
enum Whose<'a> {
    Ours(&'a StreamRecord),
    Ams(&'a AmsStream),
}

/// The live streams, and those that have just lost their origin.
pub(super) fn shown(view: &ClusterView, now: UnixMs) -> impl Iterator<Item = ShownStream<'_>> {
    let last_seen = |s: &StreamRecord| view.owner_of(s).map_or(s.changed, |o| o.heartbeat.max(s.changed));
    let lost_just_now = move |s: &StreamRecord| s.is_live() && last_seen(s).age(now) < LOST_SHOWN;
    let ours = view.all_streams().filter(|s| !view.is_ams(&s.key));
    let ours = ours.map(|s| ShownStream::ours(s, view));
    let ours = ours.filter(move |s| s.live || matches!(s.whose, Whose::Ours(s) if lost_just_now(s)));
    let theirs = view.ams.streams.iter().filter(|(key, _)| view.is_ams(key));
    ours.chain(theirs.map(|(key, stream)| ShownStream::ams(key, stream)))
}

/// A stream by its name, live or not.
pub(super) fn find<'a>(view: &'a ClusterView, key: &StreamKey) -> Option<ShownStream<'a>> {
    let theirs = view.ams.streams.get_key_value(key).filter(|_| view.is_ams(key));
    let ours = || view.stream(key).map(|s| ShownStream::ours(s, view));
    theirs.map(|(key, stream)| ShownStream::ams(key, stream)).or_else(ours)
}

impl<'a> ShownStream<'a> {
    fn ours(record: &'a StreamRecord, view: &ClusterView) -> Self {
        Self { key: &record.key, live: view.is_live(record), whose: Whose::Ours(record) }
    }

    fn ams(key: &'a StreamKey, stream: &'a AmsStream) -> Self {
        Self { key, live: true, whose: Whose::Ams(stream) }
    }

    pub(super) fn origin(&self) -> &'a str {
        match self.whose {
            Whose::Ours(record) => record.owner.node.as_str(),
            Whose::Ams(stream) => stream.node.as_str(),
        }
    }

    pub(super) fn viewers(&self) -> u64 {
        match self.whose {
            Whose::Ours(record) => record.viewers,
            Whose::Ams(stream) => stream.broadcast.viewers(),
        }
    }

    /// Bits a second.
    pub(super) fn bitrate_bps(&self) -> u64 {
        match self.whose {
            Whose::Ours(record) => record.bitrate_bps,
            Whose::Ams(stream) => stream.broadcast.bitrate.and_then(|b| u64::try_from(b).ok()).unwrap_or(0),
        }
    }

    /// Pixels across and down; 0 until known.
    pub(super) fn picture(&self) -> (u32, u32) {
        match self.whose {
            Whose::Ours(record) => record.size.map_or((0, 0), |size| (size.width, size.height)),
            Whose::Ams(stream) => {
                let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
                (number(stream.broadcast.width), number(stream.broadcast.height))
            }
        }
    }

    /// When the claim was made; with AMS's, the publish.
    pub(super) fn started_at(&self) -> UnixMs {
        match self.whose {
            Whose::Ours(record) => record.started_at,
            Whose::Ams(stream) => UnixMs(stream.broadcast.start_time.unwrap_or(0)),
        }
    }

    /// In plain values, at `now`.
    pub(super) fn model(&self, now: UnixMs) -> StreamModel {
        let (width, height) = self.picture();
        let (epoch, claims, fps) = match self.whose {
            Whose::Ours(s) => (s.epoch, s.claims, s.size.unwrap_or_default().fps),
            Whose::Ams(stream) => (stream.run, 0, 0.0),
        };
        StreamModel {
            key: self.key.to_string(),
            origin: self.origin().to_owned(),
            epoch: epoch.0,
            claims,
            viewers: self.viewers(),
            bitrate_bps: self.bitrate_bps(),
            renditions: self.renditions(),
            given_up: self.given_up(),
            width,
            height,
            fps,
            started_at: self.started_at(),
            age_ms: age_ms(self.started_at(), now),
            live: self.live,
        }
    }

    fn given_up(&self) -> Vec<String> {
        match self.whose {
            Whose::Ours(record) => record.ladder.given_up.clone(),
            Whose::Ams(_) => Vec::new(),
        }
    }

    fn renditions(&self) -> Vec<String> {
        match self.whose {
            Whose::Ours(record) => record.renditions.clone(),
            Whose::Ams(_) => vec!["source".to_owned()],
        }
    }
}
