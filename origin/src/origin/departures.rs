//! How a stream leaves its origin: its publisher broke off, moved on, was sent away, or ended it.

use std::sync::Arc;

use sluicegate_cluster::clock;

use super::Origin;
use crate::ends::End;
use crate::live::LiveStream;

impl Origin {
    /// A publisher's connection broke off. Its stream ends when it does not come back
    /// ([`StreamTable::given_up`]).
    pub(crate) fn abandon(&self, stream: &Arc<LiveStream>) {
        self.streams.abandon(stream, clock::now());
        stream.stop_feeds();
        self.room.end(&stream.key, stream.epoch);
        tracing::info!(stream = %stream.key, epoch = stream.epoch.0, "a publisher broke off");
    }

    /// A stream was handed over: what there is of it is complete, and is served until the next origin has
    /// something to list, and a while longer. If none ever has, the stream ends.
    pub(crate) fn hand_over(&self, stream: &Arc<LiveStream>) {
        self.streams.hand_over(stream, clock::now());
        self.room.end(&stream.key, stream.epoch);
        tracing::info!(stream = %stream.key, epoch = stream.epoch.0, "a stream was handed over");
    }

    /// Frees a stream whose publisher was sent away and will be back at another origin, under a session of its own.
    /// As with a handover, nothing says that the stream ended, and what there is of it is served meanwhile.
    pub(crate) async fn free(&self, stream: &Arc<LiveStream>) {
        stream.stop_feeds();
        self.hand_over(stream);
        self.release(End {
            key: stream.key.clone(),
            epoch: stream.epoch,
            node: self.node.clone(),
            unconfirmed: stream.unconfirmed(&self.life.incarnation()),
            last_sequence: stream.last_sequence(),
        })
        .await;
    }

    /// Leaves a stream that goes on elsewhere: its claim is for the next one to take, its files are served
    /// as they are.
    pub(crate) fn leave(&self, stream: &Arc<LiveStream>) {
        self.streams.end(stream, clock::now());
        stream.stop_feeds();
        self.room.end(&stream.key, stream.epoch);
        tracing::info!(stream = %stream.key, epoch = stream.epoch.0, "a stream moved on");
    }

    /// Ends a stream whose publisher is gone: its last playlist says so, its claim is released. One that was
    /// `refused` for its media before it had a playlist gets none.
    pub(crate) async fn end(&self, stream: &Arc<LiveStream>, refused: bool) {
        let last_sequence = stream.finish(refused);
        self.streams.end(stream, clock::now());
        self.room.end(&stream.key, stream.epoch);
        tracing::info!(stream = %stream.key, epoch = stream.epoch.0, "a stream ended");
        self.release(End {
            key: stream.key.clone(),
            epoch: stream.epoch,
            node: self.node.clone(),
            // A stream that was handed over here may end before its claim was written.
            unconfirmed: stream.unconfirmed(&self.life.incarnation()),
            last_sequence,
        })
        .await;
    }

    /// Tells the store of an end, now or when it is back.
    pub(super) async fn release(&self, end: End) {
        if let Err(error) = end.settle(&self.claims).await {
            tracing::debug!(%error, stream = %end.key, "the claim is not released yet");
            self.ends.push(end);
        }
    }
}
