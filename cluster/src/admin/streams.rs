//! The streams that are shown, ours and those of AMS's own nodes. A large cluster has tens of thousands of them and
//! a page shows a few: one is made into a [`StreamModel`] only where it is looked at.

use super::model::{StreamModel, age_ms};
use crate::ams::peers::AmsStream;
use crate::clock::UnixMs;
use crate::ids::{Epoch, StreamKey};
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
    /// Nobody's: its document cannot be read, and why.
    Unreadable(&'a str),
}

/// The live streams, those that have just lost their origin, and those whose documents cannot be read.
pub(super) fn shown(view: &ClusterView, now: UnixMs) -> impl Iterator<Item = ShownStream<'_>> {
    let last_seen = |s: &StreamRecord| view.owner_of(s).map_or(s.changed, |o| o.heartbeat.max(s.changed));
    let lost_just_now = move |s: &StreamRecord| s.is_live() && last_seen(s).age(now) < LOST_SHOWN;
    let is_ours = move |key: &StreamKey| !view.is_ams(key) && !view.unreadable_streams.contains_key(key);
    let ours = view.all_streams().filter(move |s| is_ours(&s.key));
    let ours = ours.map(|s| ShownStream::ours(s, view));
    let ours = ours.filter(move |s| s.live || matches!(s.whose, Whose::Ours(s) if lost_just_now(s)));
    let theirs = view.ams.streams.iter().filter(|(key, _)| view.is_ams(key));
    let unreadable = view.unreadable_streams.iter().filter(|(key, _)| !view.is_ams(key));
    let unreadable = unreadable.map(|(key, why)| ShownStream::unreadable(key, why));
    ours.chain(theirs.map(|(key, stream)| ShownStream::ams(key, stream))).chain(unreadable)
}

/// A stream by its name, live or not.
pub(super) fn find<'a>(view: &'a ClusterView, key: &StreamKey) -> Option<ShownStream<'a>> {
    let theirs = view.ams.streams.get_key_value(key).filter(|_| view.is_ams(key));
    let ours = || view.stream(key).map(|s| ShownStream::ours(s, view));
    let unreadable = || view.unreadable_streams.get_key_value(key);
    let unreadable = || unreadable().map(|(key, why)| ShownStream::unreadable(key, why));
    theirs.map(|(key, stream)| ShownStream::ams(key, stream)).or_else(unreadable).or_else(ours)
}

impl<'a> ShownStream<'a> {
    fn ours(record: &'a StreamRecord, view: &ClusterView) -> Self {
        Self { key: &record.key, live: view.is_live(record), whose: Whose::Ours(record) }
    }

    fn ams(key: &'a StreamKey, stream: &'a AmsStream) -> Self {
        Self { key, live: true, whose: Whose::Ams(stream) }
    }

    fn unreadable(key: &'a StreamKey, why: &'a str) -> Self {
        Self { key, live: false, whose: Whose::Unreadable(why) }
    }

    /// What is wrong with its document.
    pub(super) fn problem(&self) -> Option<&'a str> {
        match self.whose {
            Whose::Unreadable(why) => Some(why),
            Whose::Ours(_) | Whose::Ams(_) => None,
        }
    }

    pub(super) fn origin(&self) -> &'a str {
        match self.whose {
            Whose::Unreadable(_) => "",
            Whose::Ours(record) => record.owner.node.as_str(),
            Whose::Ams(stream) => stream.node.as_str(),
        }
    }

    pub(super) fn viewers(&self) -> u64 {
        match self.whose {
            Whose::Ours(record) => record.viewers,
            Whose::Ams(stream) => stream.broadcast.viewers(),
            Whose::Unreadable(_) => 0,
        }
    }

    /// Bits a second.
    pub(super) fn bitrate_bps(&self) -> u64 {
        match self.whose {
            Whose::Ours(record) => record.bitrate_bps,
            Whose::Ams(stream) => stream.broadcast.bitrate.and_then(|b| u64::try_from(b).ok()).unwrap_or(0),
            Whose::Unreadable(_) => 0,
        }
    }

    /// Pixels across and down; 0 until known.
    pub(super) fn picture(&self) -> (u32, u32) {
        match self.whose {
            Whose::Ours(record) => record.size.map_or((0, 0), |size| (size.width, size.height)),
            Whose::Unreadable(_) => (0, 0),
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
            Whose::Unreadable(_) => UnixMs::default(),
        }
    }

    /// In plain values, at `now`.
    pub(super) fn model(&self, now: UnixMs) -> StreamModel {
        let (width, height) = self.picture();
        let (epoch, claims, fps) = match self.whose {
            Whose::Ours(s) => (s.epoch, s.claims, s.size.unwrap_or_default().fps),
            Whose::Ams(stream) => (stream.run, 0, 0.0),
            Whose::Unreadable(_) => (Epoch::default(), 0, 0.0),
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
            problem: self.problem().map(str::to_owned),
        }
    }

    fn given_up(&self) -> Vec<String> {
        match self.whose {
            Whose::Ours(record) => record.ladder.given_up.clone(),
            Whose::Ams(_) | Whose::Unreadable(_) => Vec::new(),
        }
    }

    fn renditions(&self) -> Vec<String> {
        match self.whose {
            Whose::Ours(record) => record.renditions.clone(),
            Whose::Ams(_) => vec!["source".to_owned()],
            Whose::Unreadable(_) => Vec::new(),
        }
    }
}
