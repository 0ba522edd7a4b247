//! An origin's claims: taken as a publish comes, written later where the store was away, given up to higher epochs.

use std::sync::Arc;
use std::time::Duration;

use sluicegate_cluster::claims::{self, Claimed, Confirmed, Taker};
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::store::StoreError;
use sluicegate_cluster::stream::{PublishType, StreamRecord};
use sluicegate_cluster::ticket::PublishTicket;

use super::Origin;
use crate::error::IngestError;
use crate::live::{InStore, LiveStream};

/// For the store to answer a claim. A balancer waits a little longer.
const CLAIM_WAIT: Duration = Duration::from_secs(2);
/// For the store to answer a claim while it is known to be away.
const CLAIM_WAIT_AWAY: Duration = Duration::from_millis(100);

impl Origin {
    /// Claims the stream in the cluster; what the store has of the claim. A store that does not answer in time
    /// does not stop the publish: the epoch is then minted here, and the claim written later. So is that of a
    /// stream that is handed over, when it has something to list.
    pub(crate) async fn claim(
        &self,
        key: &StreamKey,
        ticket: &PublishTicket,
        publish_type: PublishType,
    ) -> Result<(StreamRecord, InStore), IngestError> {
        let taker = Taker {
            node: self.node.clone(),
            incarnation: self.life.incarnation(),
            session: ticket.session.clone(),
            publish_type,
            placed: ticket.placed.clone(),
            reached: ticket.reached,
        };
        let claiming = async {
            if ticket.handover {
                return Ok((self.claims.prepare(key, &taker).await?, InStore::NotBeforeItBegins));
            }
            Ok((self.claims.claim(key, &taker).await?, InStore::As(taker.incarnation.clone())))
        };
        let wait = if self.view.load().store_ok { CLAIM_WAIT } else { CLAIM_WAIT_AWAY };
        let claimed = tokio::time::timeout(wait, claiming).await.unwrap_or(Err(StoreError::TimedOut));
        let error = match claimed {
            Ok((Claimed::Taken(record), in_store)) => return Ok((*record, in_store)),
            Ok((Claimed::Held(owner), _)) => {
                tracing::info!(stream = %key, holder = %owner.node, "another origin has this stream");
                return Err(IngestError::InUse);
            }
            Err(StoreError::Contended) => return Err(IngestError::InUse),
            Err(error) => error,
        };
        tracing::warn!(%error, stream = %key, "the claim is not confirmed; the stream goes on");
        let view = self.view.load();
        let known = view.stream(key).cloned();
        // Whoever is known to hold it lives no more, or its balancer would have sent the publish there.
        match claims::decide(key, known.as_deref(), None, &taker, view.now(clock::now())) {
            Claimed::Taken(record) => Ok((*record, InStore::No)),
            Claimed::Held(_) => Err(IngestError::InUse),
        }
    }

    /// Writes claims that the store does not have as they should be, and gives up streams that others have by
    /// now.
    pub(super) async fn settle_claims(&self, live: &[Arc<LiveStream>]) {
        let incarnation = self.life.incarnation();
        for stream in live {
            let confirmed = match stream.unconfirmed(&incarnation) {
                _ if self.is_superseded(stream) => Ok(Confirmed::Superseded),
                Some(claim) if self.view.load().store_ok => self.claims.confirm(&claim).await,
                _ => continue,
            };
            match confirmed {
                Ok(Confirmed::Yes) => stream.confirm(&incarnation),
                Ok(Confirmed::Superseded) => {
                    tracing::warn!(stream = %stream.key, "another origin has this stream by a higher epoch");
                    self.streams.yield_to_higher_epoch(stream);
                }
                Err(error) => {
                    tracing::debug!(%error, stream = %stream.key, "the claim is still not confirmed");
                }
            }
        }
    }

    /// Whether another claim is known to have the stream, of another run or another node.
    pub(crate) fn is_superseded(&self, stream: &LiveStream) -> bool {
        let incarnation = self.life.incarnation();
        let others = |s: &StreamRecord| s.owner.node != self.node || s.owner.incarnation != incarnation;
        self.view
            .load()
            .stream(&stream.key)
            .is_some_and(|s| s.supersedes(stream.epoch, &self.node) && others(s))
    }
}
