//! A publisher's messages to its origin, until the publisher ends it. Neither side is read faster than the
//! other takes: that is the only buffer, beside the [`Gop`] that is kept for the day the origin dies. Then
//! the stream is placed anew, under the same publisher session, and goes on from its last keyframe; the
//! publisher's connection does not notice.

use std::pin::pin;
use std::time::Duration;

use pingora::server::ShutdownWatch;
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::NodeId;
use sluicegate_media::rtmp::{ClientEvent, ServerEvent};

use super::gop::Gop;
use super::place::{self, OriginLink, Wanted};
use super::{PublishError, Publisher};
use crate::state::Balancer;

/// For another origin to be found when one dies. The publisher waits that long, unread.
const CARRY_OVER: Duration = Duration::from_secs(15);
/// Between the first tries. Each may leave a reservation to expire, so later ones come more slowly.
const CARRY_OVER_PAUSE: Duration = Duration::from_millis(250);
/// Between the last ones.
const CARRY_OVER_PAUSE_MAX: Duration = Duration::from_secs(2);

/// A publisher, the origin that its stream goes to, and what another origin would need.
pub(super) struct Relay<'a> {
    pub(super) balancer: &'a Balancer,
    pub(super) wanted: Wanted,
    pub(super) publisher: &'a mut Publisher,
    pub(super) origin: OriginLink,
    pub(super) gop: Gop,
}

impl Relay<'_> {
    /// Relays until the publisher ends its stream (`Ok`), or something breaks that no other origin mends.
    pub(super) async fn run(mut self, mut shutdown: ShutdownWatch) -> Result<(), PublishError> {
        loop {
            let ended = self.pump(&mut shutdown).await;
            let Err(PublishError::Origin(why)) = ended else {
                if ended.is_ok() {
                    self.finish().await;
                }
                return ended;
            };
            tracing::warn!(stream = %self.wanted.key, node = %self.origin.node, why, "an origin was lost");
            let lost = self.origin.node.clone();
            tokio::select! {
                carried = self.carry_over(lost) => carried?,
                _ = shutdown.changed() => return Err(PublishError::Stopping),
            }
            tracing::info!(stream = %self.wanted.key, node = %self.origin.node, "a publisher was carried over");
        }
    }

    /// Relays until the publisher ends its stream (`Ok`). A connection that only breaks off is no end: the
    /// origin waits for the publisher to come back.
    async fn pump(&mut self, shutdown: &mut ShutdownWatch) -> Result<(), PublishError> {
        let (balancer, node) = (self.balancer, self.origin.node.clone());
        let mut down = pin!(balancer.is_down(&node));
        let dead = || PublishError::Origin("it does not answer probes".to_owned());
        loop {
            let ended = self.forward()?;
            tokio::select! {
                // Cut off, it is lost with the connection.
                flushed = self.origin.flush() => flushed?,
                () = &mut down => return Err(dead()),
                _ = shutdown.changed() => return Err(PublishError::Stopping),
            }
            self.publisher.wire.send(&self.publisher.session.take_output()).await?;
            if ended {
                return Ok(());
            }
            tokio::select! {
                read = self.publisher.wire.read() => read?,
                read = self.origin.wire.read_unhurried() => {
                    read.map_err(|e| PublishError::Origin(e.to_string()))?;
                    self.heed_origin()?;
                },
                () = &mut down => return Err(dead()),
                _ = shutdown.changed() => return Err(PublishError::Stopping),
            }
        }
    }

    /// Passes on what was read from the publisher. `true`: its stream ended.
    fn forward(&mut self) -> Result<bool, PublishError> {
        let mut input = self.publisher.wire.unread();
        let before = input.len();
        let mut outcome = Ok(false);
        while let Some(event) = self.publisher.session.read(&mut input)? {
            let message = match event {
                ServerEvent::Media(message) => {
                    self.gop.push(&message);
                    message
                }
                ServerEvent::Metadata(message) => {
                    self.gop.set_metadata(&message);
                    message
                }
                ServerEvent::Unpublish => {
                    outcome = Ok(true);
                    break;
                }
                ServerEvent::Connect(_) | ServerEvent::Publish(_) => continue,
            };
            if let Err(error) = self.origin.session.send(&message) {
                outcome = Err(PublishError::Origin(error.to_string()));
                break;
            }
        }
        let taken = before - input.len();
        self.publisher.wire.take(taken);
        outcome
    }

    /// What the origin said.
    fn heed_origin(&mut self) -> Result<(), PublishError> {
        match self.origin.take_event()? {
            Some(ClientEvent::Ended { code, description } | ClientEvent::Refused { code, description }) => {
                Err(place::refusal(code, description))
            }
            Some(ClientEvent::PublishStarted) | None => Ok(()),
        }
    }

    /// Finds another origin, and sends it what it needs to go on. `lost` is passed over at the first try;
    /// later it may be back.
    async fn carry_over(&mut self, lost: NodeId) -> Result<(), PublishError> {
        let began = clock::now();
        let mut passed_over = vec![lost];
        let mut pause = CARRY_OVER_PAUSE;
        loop {
            let error = match self.start_anew(std::mem::take(&mut passed_over)).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if place::is_final(&error) || clock::now().duration_since(began) >= CARRY_OVER {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CARRY_OVER_PAUSE_MAX);
        }
    }

    async fn start_anew(&mut self, passed_over: Vec<NodeId>) -> Result<(), PublishError> {
        self.origin = place::place(self.balancer, &self.wanted, passed_over).await?;
        for message in self.gop.replay() {
            self.origin.session.send(message).map_err(|e| PublishError::Origin(e.to_string()))?;
            self.origin.flush().await?;
        }
        Ok(())
    }

    /// Tells the origin that the stream ended, if it can still be told.
    async fn finish(&mut self) {
        if self.origin.session.unpublish().is_ok() && self.origin.flush().await.is_ok() {
            self.origin.wire.close().await;
        }
    }
}
