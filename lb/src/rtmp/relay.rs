//! A publisher's messages to its origin, until the publisher ends it. Neither side is read faster than the
//! other takes: that is the only buffer, beside the [`Gop`] that is kept for the day the origin dies. Then
//! the stream is placed anew, under the same publisher session, and goes on from its last keyframe. When the
//! origin is only drained, the next one is ready first, and the stream moves at a keyframe. The publisher's
//! connection notices neither.

use std::pin::pin;
use std::time::Duration;

use pingora::server::ShutdownWatch;
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::NodeId;
use sluicegate_media::rtmp::{ClientEvent, MediaMessage, ServerEvent};

use super::gop::Gop;
use super::place::{self, Coming, OriginLink, Wanted};
use super::successor::{Successor, retire};
use super::{PublishError, Publisher};
use crate::state::Balancer;

/// For another origin to be found when one dies. The publisher waits that long, unread.
const CARRY_OVER: Duration = Duration::from_secs(15);
/// Between the first tries. Later ones come more slowly.
const CARRY_OVER_PAUSE: Duration = Duration::from_millis(250);
/// Between the last ones.
const CARRY_OVER_PAUSE_MAX: Duration = Duration::from_secs(2);

/// A publisher, the origin that its stream goes to, and what another origin would need.
pub(super) struct Relay<'a> {
    pub(super) balancer: &'a Balancer,
    pub(super) wanted: Wanted,
    pub(super) flow: Flow<'a>,
}

/// What flows.
pub(super) struct Flow<'a> {
    pub(super) publisher: &'a mut Publisher,
    pub(super) origin: OriginLink,
    pub(super) gop: Gop,
    /// The next origin, once there is one.
    pub(super) next: Option<Successor<'a>>,
}

/// What became of what was read from the publisher.
enum Forwarded {
    /// All of it was passed on.
    All,
    /// All up to this message, at which the stream moves to the next origin. The [`Gop`] has it already.
    UpTo(MediaMessage),
    /// Its stream ended.
    Ended,
}

/// Why relaying paused.
enum Paused {
    /// The stream ended.
    Ended,
    /// It has another origin now.
    Moved,
}

impl Relay<'_> {
    /// Relays until the publisher ends its stream (`Ok`), or something breaks that no other origin mends.
    pub(super) async fn run(mut self, mut shutdown: ShutdownWatch) -> Result<(), PublishError> {
        loop {
            let why = match self.pump(&mut shutdown).await {
                Ok(Paused::Moved) => continue,
                Ok(Paused::Ended) => {
                    self.flow.finish().await;
                    return Ok(());
                }
                Err(PublishError::Origin(why)) => why,
                Err(error) => return Err(error),
            };
            let lost = self.flow.origin.node.clone();
            tracing::warn!(stream = %self.wanted.key, node = %lost, why, "an origin was lost");
            tokio::select! {
                carried = self.carry_over(lost) => carried?,
                _ = shutdown.changed() => return Err(PublishError::Stopping),
            }
            let node = &self.flow.origin.node;
            tracing::info!(stream = %self.wanted.key, %node, "a publisher was carried over");
        }
    }

    /// Relays until the publisher ends its stream, or the stream has moved off a drained origin. A connection
    /// that only breaks off is no end: the origin waits for the publisher to come back.
    async fn pump(&mut self, shutdown: &mut ShutdownWatch) -> Result<Paused, PublishError> {
        let Self { balancer, wanted, flow } = self;
        let (balancer, node) = (*balancer, flow.origin.node.clone());
        let mut down = pin!(balancer.is_down(&node));
        let mut successor = pin!(Successor::find(balancer, wanted, &node));
        let dead = || PublishError::Origin("it does not answer probes".to_owned());
        loop {
            let forwarded = flow.forward()?;
            if let Forwarded::UpTo(message) = forwarded {
                flow.move_on(&message).await?;
                tracing::info!(stream = %wanted.key, from = %node, to = %flow.origin.node, "a publisher was moved");
                return Ok(Paused::Moved);
            }
            tokio::select! {
                // Cut off, it is lost with the connection.
                flushed = flow.origin.flush() => flushed?,
                () = &mut down => return Err(dead()),
                _ = shutdown.changed() => return Err(PublishError::Stopping),
            }
            // A publisher that is gone may have ended its stream before.
            flow.publisher.wire.send_if_open(&flow.publisher.session.take_output()).await?;
            if matches!(forwarded, Forwarded::Ended) {
                return Ok(Paused::Ended);
            }
            tokio::select! {
                read = flow.publisher.wire.read() => read?,
                read = flow.origin.wire.read_unhurried() => {
                    read.map_err(|e| PublishError::Origin(e.to_string()))?;
                    flow.heed_origin()?;
                },
                next = &mut successor, if flow.next.is_none() => flow.next = Some(next),
                () = &mut down => return Err(dead()),
                _ = shutdown.changed() => return Err(PublishError::Stopping),
            }
        }
    }

    /// Finds another origin, and sends it what it needs to go on. `lost` is passed over at the first try;
    /// later it may be back.
    async fn carry_over(&mut self, lost: NodeId) -> Result<(), PublishError> {
        // One that was ready for a gentle move is as good as any other, and placed anew.
        self.flow.next = None;
        self.wanted.reached = self.wanted.reached(self.balancer);
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
        self.flow.origin = place::place(self.balancer, &self.wanted, passed_over, Coming::AtOnce).await?;
        self.flow.replay().await
    }
}

impl Flow<'_> {
    /// Passes on what was read from the publisher.
    fn forward(&mut self) -> Result<Forwarded, PublishError> {
        let mut input = self.publisher.wire.unread();
        let before = input.len();
        let mut outcome = Ok(Forwarded::All);
        while let Some(event) = self.publisher.session.read(&mut input)? {
            let message = match event {
                ServerEvent::Media(message) => {
                    let now = clock::now();
                    let moves =
                        self.next.as_ref().is_some_and(|next| next.takes_over_at(&message, &self.gop, now));
                    self.gop.push(&message);
                    if moves {
                        outcome = Ok(Forwarded::UpTo(message));
                        break;
                    }
                    message
                }
                ServerEvent::Metadata(message) => {
                    self.gop.set_metadata(&message);
                    message
                }
                ServerEvent::Unpublish => {
                    outcome = Ok(Forwarded::Ended);
                    break;
                }
                // What only balancers may say to origins says nothing here.
                ServerEvent::HandedOver | ServerEvent::Connect(_) | ServerEvent::Publish(_) => continue,
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

    /// Moves the stream to the next origin, which begins at `message`; the present one gets no more.
    async fn move_on(&mut self, message: &MediaMessage) -> Result<(), PublishError> {
        let Some(next) = self.next.take() else { return Ok(()) };
        let mut drained = std::mem::replace(&mut self.origin, next.link);
        if drained.session.hand_over().is_ok() {
            tokio::spawn(retire(drained));
        }
        self.replay().await?;
        if !self.gop.holds_messages() {
            self.origin.session.send(message).map_err(|e| PublishError::Origin(e.to_string()))?;
            self.origin.flush().await?;
        }
        Ok(())
    }

    /// Sends a new origin what it needs to go on.
    async fn replay(&mut self) -> Result<(), PublishError> {
        for message in self.gop.replay() {
            self.origin.session.send(message).map_err(|e| PublishError::Origin(e.to_string()))?;
            self.origin.flush().await?;
        }
        Ok(())
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

    /// Tells the origin that the stream ended, if it can still be told.
    async fn finish(&mut self) {
        if self.origin.session.unpublish().is_ok() && self.origin.flush().await.is_ok() {
            self.origin.wire.close().await;
        }
    }
}
