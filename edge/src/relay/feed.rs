//! A feed: one rendition of a stream as this edge has it, pulled once however many watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sluicegate_cluster::ids::StreamKey;
use tokio::sync::{Notify, watch};

/// Names a feed. Never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FeedId(pub(crate) u64);

/// What a feed is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FeedName {
    /// The stream.
    pub(crate) key: StreamKey,
    /// The rendition, as origins name it; `None` for the source.
    pub(crate) rendition: Option<String>,
}

/// How a feed's pull is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pulling {
    /// It has not got anything yet.
    Begins,
    /// The origin has agreed to send, at least once.
    Agreed,
    /// The origin says that it never will.
    Refused(String),
}

/// A feed, between its pull and its viewers.
pub(crate) struct Feed {
    pub(crate) id: FeedId,
    pub(crate) name: FeedName,
    /// Woken when a viewer cannot go on, or begin, without a keyframe.
    pub(crate) keyframe_wanted: Notify,
    /// Whether one of those who want a keyframe has not seen any.
    someone_begins: AtomicBool,
    pub(crate) pulling: watch::Sender<Pulling>,
    viewers: AtomicUsize,
    is_over: AtomicBool,
}

impl Feed {
    pub(crate) fn new(id: FeedId, name: FeedName) -> Arc<Self> {
        Arc::new(Self {
            id,
            name,
            keyframe_wanted: Notify::new(),
            someone_begins: AtomicBool::new(false),
            pulling: watch::Sender::new(Pulling::Begins),
            viewers: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    /// Nothing comes of it any more. Its viewers are told after this.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether nothing comes of it any more: who sits down now is not told.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// How many have a seat.
    pub(crate) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// A viewer waits for a keyframe to begin with.
    pub(crate) fn begin_at_a_keyframe(&self) {
        self.someone_begins.store(true, Ordering::Relaxed);
        self.keyframe_wanted.notify_one();
    }

    /// Whether somebody has waited to begin since this was asked last.
    pub(crate) fn take_beginners(&self) -> bool {
        self.someone_begins.swap(false, Ordering::Relaxed)
    }

    /// A viewer comes.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Seat(Arc::clone(self))
    }
}

/// A viewer's place at a feed, which goes on being pulled for as long as there is one.
pub(crate) struct Seat(Arc<Feed>);

impl Seat {
    /// The feed.
    pub(crate) fn feed(&self) -> &Feed {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}
