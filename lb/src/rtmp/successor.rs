//! The next origin of a publisher whose present one is being drained: found and connected while the stream goes
//! on, fed from a keyframe on. Publishers are moved one by one.

use std::time::{Duration, Instant};

use sluicegate_cluster::clock;
use sluicegate_cluster::ids::NodeId;
use sluicegate_media::rtmp::MediaMessage;
use tokio::sync::SemaphorePermit;

use super::gop::Gop;
use super::place::{self, Coming, OriginLink, Wanted};
use crate::state::Balancer;

/// For a keyframe to come once the next origin is ready. Then the stream moves with what there is since the
/// last one, which viewers may see twice.
const KEYFRAME_WAIT: Duration = Duration::from_secs(12);
/// Between tries when no origin can take the stream.
const PAUSE: Duration = Duration::from_secs(2);
/// For a drained origin to take what it is still to get, and to close.
const RETIRE: Duration = Duration::from_secs(10);

/// An origin that is ready to go on with a stream.
pub(super) struct Successor<'a> {
    pub(super) link: OriginLink,
    ready: Instant,
    /// Given back when the stream has moved.
    _turn: Option<SemaphorePermit<'a>>,
}

impl<'a> Successor<'a> {
    /// Waits until `present` is drained, and finds another origin, in its turn.
    pub(super) async fn find(balancer: &'a Balancer, wanted: &Wanted, present: &NodeId) -> Self {
        loop {
            balancer.is_drained(present).await;
            let turn = balancer.moves.acquire().await.ok();
            match place::place(balancer, wanted, vec![present.clone()], Coming::Later).await {
                Ok(link) => return Self { link, ready: clock::now(), _turn: turn },
                Err(error) => {
                    tracing::warn!(%error, stream = %wanted.key, node = %present, "no origin for a stream of a drained one");
                }
            }
            drop(turn);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether the stream moves at `message`, which is the next one.
    pub(super) fn takes_over_at(&self, message: &MediaMessage, gop: &Gop, now: Instant) -> bool {
        gop.may_begin_at(message) || now.saturating_duration_since(self.ready) >= KEYFRAME_WAIT
    }
}

/// Sends a drained origin what it is still to get, and waits until it has it. Whatever comes of it, the stream
/// is elsewhere.
pub(super) async fn retire(mut origin: OriginLink) {
    let retiring = async {
        origin.flush().await?;
        origin.wire.close().await;
        Ok::<_, super::PublishError>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(RETIRE, retiring).await {
        tracing::warn!(%error, node = %origin.node, "a drained origin could not be told the last of a stream");
    }
}
