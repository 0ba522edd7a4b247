//! A publish by RTMP onto an origin: the chosen one is connected to and asked. One that refuses or fails is
//! passed over for the next.

use std::net::IpAddr;
use std::time::Duration;

use sluicegate_cluster::claims::Reached;
use sluicegate_cluster::ids::{NodeId, PublisherSession, StreamKey};
use sluicegate_cluster::ticket::PublishTicket;
use sluicegate_cluster::token;
use sluicegate_cluster::wire::Wire;
use sluicegate_media::rtmp::{AmfValue, ClientEvent, ClientSession, PublishTarget};
use tokio::net::TcpStream;

use super::{PublishError, random, rtmp_limits};
use crate::origins::{self, Choice};
use crate::state::Balancer;

/// For an origin to take the connection and the publish. It writes its claim meanwhile.
const ORIGIN_ANSWER: Duration = Duration::from_secs(5);

/// The code by which an origin that stops ends its publishes: another one can go on with them.
const STOPPING: &str = "NetConnection.Connect.AppShutdown";

/// A stream that wants an origin.
pub(super) struct Wanted {
    /// Which stream.
    pub(super) key: StreamKey,
    /// The publisher's connection: whoever presents it may move the stream.
    pub(super) session: PublisherSession,
    /// The publisher's address.
    pub(super) address: IpAddr,
    /// The token it brought: one of AMS's own nodes checks it too.
    pub(super) token: Option<String>,
    /// What it had come to when it last lost its origin.
    pub(super) reached: Option<Reached>,
}

impl Wanted {
    /// What the stream has come to. A claim that the store does not have is forgotten soon after its origin is lost.
    pub(super) fn reached(&self, balancer: &Balancer) -> Option<Reached> {
        let known = origins::reached(balancer, &self.key);
        known.into_iter().chain(self.reached).max_by_key(|reached| (reached.epoch, reached.sequence))
    }
}

/// A connection to an origin that has taken the stream.
pub(super) struct OriginLink {
    pub(super) node: NodeId,
    pub(super) wire: Wire,
    pub(super) session: ClientSession,
}

/// How a stream comes to an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// Now.
    AtOnce,
    /// When the first media is sent; until then another origin has it.
    Later,
}

/// Finds an origin that takes the stream, other than those in `passed_over`.
pub(super) async fn place(
    balancer: &Balancer,
    wanted: &Wanted,
    passed_over: Vec<NodeId>,
    coming: Coming,
) -> Result<OriginLink, PublishError> {
    let key = &wanted.key;
    let mut tried = passed_over;
    let mut last = PublishError::NoRoom;
    for _ in 0..origins::TRIES {
        let Some(choice) = origins::choose_any(balancer, key, &tried).await else { break };
        tried.push(choice.node.clone());
        let ticket = PublishTicket {
            session: wanted.session.clone(),
            reservation: choice.reservation.clone(),
            address: Some(wanted.address),
            handover: coming == Coming::Later,
            placed: choice.placed.clone(),
            reached: wanted.reached(balancer),
        };
        let error = match ask(balancer, wanted, &choice, &ticket).await {
            Ok(link) => {
                balancer.placements.with_label_values(&["publish", "placed"]).inc();
                return Ok(link);
            }
            Err(error) => error,
        };
        if let Some(unwanted) = ticket.reservation {
            origins::give_back(balancer, choice.node.clone(), unwanted);
        }
        if is_final(&error) {
            balancer.placements.with_label_values(&["publish", "refused"]).inc();
            return Err(error);
        }
        tracing::warn!(stream = %key, node = %choice.node, %error, "an origin did not take a publish");
        last = error;
    }
    balancer.placements.with_label_values(&["publish", "failed"]).inc();
    Err(last)
}

/// What an origin's refusal means. One that stops is only lost.
pub(super) fn refusal(code: String, description: String) -> PublishError {
    if code == STOPPING {
        return PublishError::Origin("it is being stopped".to_owned());
    }
    PublishError::Refused { code, description }
}

/// A refusal that another origin would repeat: the name is taken or bad.
pub(super) fn is_final(error: &PublishError) -> bool {
    matches!(error, PublishError::Refused { code, .. } if code == "NetStream.Publish.BadName")
}

/// Asks an origin to take the stream.
async fn ask(
    balancer: &Balancer,
    wanted: &Wanted,
    choice: &Choice,
    ticket: &PublishTicket,
) -> Result<OriginLink, PublishError> {
    let asking = async {
        let stream =
            TcpStream::connect(choice.rtmp).await.map_err(|e| PublishError::Origin(e.to_string()))?;
        let _ = stream.set_nodelay(true);
        let mut link = OriginLink {
            node: choice.node.clone(),
            wire: Wire::new(stream, balancer.limits.rtmp_idle),
            session: client_session(balancer, wanted, choice, ticket)?,
        };
        match link.next().await? {
            ClientEvent::PublishStarted => Ok(link),
            ClientEvent::Refused { code, description } | ClientEvent::Ended { code, description } => {
                Err(refusal(code, description))
            }
        }
    };
    match tokio::time::timeout(ORIGIN_ANSWER, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(PublishError::Origin("no answer in time".to_owned())),
    }
}

fn client_session(
    balancer: &Balancer,
    wanted: &Wanted,
    choice: &Choice,
    ticket: &PublishTicket,
) -> Result<ClientSession, PublishError> {
    let key = &wanted.key;
    let mut stream = key.stream.to_string();
    let ticket = if choice.is_ams {
        // As its publishers send it themselves.
        stream.extend(wanted.token.as_ref().map(|token| format!("?{}={token}", token::PARAMETER)));
        Vec::new()
    } else {
        let signed = ticket.properties(&balancer.node, &balancer.key);
        signed.map_err(|e| PublishError::Origin(e.to_string()))?
    };
    let properties = ticket.into_iter().map(|(name, value)| (name, AmfValue::from(value.as_str()))).collect();
    let target = PublishTarget {
        app: key.app.to_string(),
        tc_url: format!("rtmp://{}/{}", choice.rtmp, key.app),
        stream,
        properties,
    };
    Ok(ClientSession::new(target, rtmp_limits(balancer.limits.rtmp_message_bytes), &random()))
}

impl OriginLink {
    /// The next event from the origin.
    async fn next(&mut self) -> Result<ClientEvent, PublishError> {
        loop {
            if let Some(event) = self.take_event()? {
                return Ok(event);
            }
            self.flush().await?;
            self.wire.read().await.map_err(|e| PublishError::Origin(e.to_string()))?;
        }
    }

    /// Sends what the session has to say.
    pub(super) async fn flush(&mut self) -> Result<(), PublishError> {
        let sent = self.wire.send(&self.session.take_output()).await;
        sent.map_err(|e| PublishError::Origin(e.to_string()))
    }

    /// An event among the bytes that were read already.
    pub(super) fn take_event(&mut self) -> Result<Option<ClientEvent>, PublishError> {
        let mut input = self.wire.unread();
        let before = input.len();
        let event = self.session.read(&mut input);
        let taken = before - input.len();
        self.wire.take(taken);
        event.map_err(|e| PublishError::Origin(e.to_string()))
    }
}
