//! Publishers by RTMP: their connection ends here. It is greeted ([`greet`]), its stream placed on an origin
//! ([`place`]), and only when the origin has said yes is the publisher told to start; then its messages are
//! relayed ([`relay`]), to another origin if that one dies.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use sluicegate_cluster::ids::{BadName, PublisherSession};
use sluicegate_cluster::metrics::RtmpEnd;
use sluicegate_cluster::node::Role;
use sluicegate_cluster::token::TokenRefusal;
use sluicegate_cluster::wire::{Wire, WireError};
use sluicegate_media::rtmp::{Limits as RtmpLimits, RtmpError, ServerSession, handshake};
use tokio::net::TcpStream;

use self::gop::Gop;
use self::place::{Coming, Wanted};
use self::relay::{Flow, Relay};
use crate::listen::Speaks;
use crate::state::Balancer;

pub(crate) mod gop;
mod greet;
mod place;
mod relay;
mod successor;

/// Why a publisher's connection ended before its stream did.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    /// The publisher broke the protocol or one of its limits.
    #[error("the publisher broke the protocol: {0}")]
    Protocol(#[from] RtmpError),
    /// The publisher left or went silent.
    #[error("the publisher: {0}")]
    Publisher(#[from] WireError),
    /// It did not come to `publish` in time.
    #[error("no publish within the time for it")]
    Slow,
    /// A name that is none.
    #[error("{0}")]
    BadName(#[from] BadName),
    /// No such application.
    #[error("there is no application of that name")]
    NoApp,
    /// It brings no token that opens the stream.
    #[error("{0}")]
    NotAdmitted(#[from] TokenRefusal),
    /// No origin has room.
    #[error("current system resources not enough: no origin has room for this stream")]
    NoRoom,
    /// The origin refused, for good.
    #[error("{description}")]
    Refused {
        /// As the origin gave it.
        code: String,
        /// As the origin gave it.
        description: String,
    },
    /// The origin was lost, or did not answer.
    #[error("the origin: {0}")]
    Origin(String),
    /// This node stops.
    #[error("this balancer is being stopped")]
    Stopping,
}

impl PublishError {
    /// The code of the `onStatus` that the publisher gets; `None` when it is past being told.
    fn status_code(&self) -> Option<&str> {
        match self {
            Self::BadName(_) | Self::NoApp => Some("NetStream.Publish.BadName"),
            Self::NotAdmitted(_) => Some("NetStream.Publish.Denied"),
            Self::NoRoom => Some("NetStream.Publish.Rejected"),
            Self::Refused { code, .. } if code.is_empty() => Some("NetStream.Publish.Rejected"),
            Self::Refused { code, .. } => Some(code),
            Self::Origin(_) | Self::Stopping => Some("NetStream.Publish.Failed"),
            Self::Protocol(_) | Self::Publisher(_) | Self::Slow => None,
        }
    }

    fn end(&self) -> RtmpEnd {
        match self {
            Self::Protocol(_) => RtmpEnd::Protocol,
            Self::Publisher(WireError::Silent) | Self::Slow => RtmpEnd::Stalled,
            Self::Publisher(_) => RtmpEnd::Finished,
            Self::BadName(_) | Self::NoApp | Self::NotAdmitted(_) | Self::NoRoom | Self::Refused { .. } => {
                RtmpEnd::Refused
            }
            Self::Origin(_) => RtmpEnd::Upstream,
            Self::Stopping => RtmpEnd::Replaced,
        }
    }
}

/// A publisher's connection.
struct Publisher {
    wire: Wire,
    session: ServerSession,
    address: SocketAddr,
}

impl Publisher {
    /// Tells the publisher why it is refused, as far as it can still be told, and closes.
    async fn refuse(&mut self, error: &PublishError) {
        if let Some(code) = error.status_code() {
            let told = self.session.reject_publish(code, &error.to_string());
            if told.is_ok() && self.wire.send(&self.session.take_output()).await.is_ok() {
                self.wire.close().await;
            }
        }
    }
}

/// The RTMP side of the balancer.
pub(crate) struct Publishers {
    pub(crate) balancer: Arc<Balancer>,
}

#[async_trait]
impl Speaks for Publishers {
    async fn serve(&self, connection: TcpStream, address: SocketAddr, shutdown: ShutdownWatch) {
        let limits = &self.balancer.limits;
        let mut publisher = Publisher {
            wire: Wire::new(connection, limits.rtmp_idle),
            session: ServerSession::new(rtmp_limits(limits.rtmp_message_bytes), &random()),
            address,
        };
        let end = match publish(&self.balancer, &mut publisher, shutdown).await {
            Ok(()) => RtmpEnd::Finished,
            Err(error) => {
                publisher.refuse(&error).await;
                let end = error.end();
                tracing::info!(%error, peer = %address, "a publisher's connection ended");
                end
            }
        };
        self.balancer.rtmp_metrics.ended(Role::Lb, end);
    }
}

async fn publish(
    balancer: &Balancer,
    publisher: &mut Publisher,
    shutdown: ShutdownWatch,
) -> Result<(), PublishError> {
    let greeting = tokio::time::timeout(balancer.limits.rtmp_handshake, greet::greet(balancer, publisher));
    let (key, token) = greeting.await.map_err(|_| PublishError::Slow)??;
    let session = PublisherSession::random();
    let wanted = Wanted { key, session, address: publisher.address.ip(), token, reached: None };
    let origin = place::place(balancer, &wanted, Vec::new(), Coming::AtOnce).await?;
    tracing::info!(stream = %wanted.key, node = %origin.node, peer = %publisher.address, "a publisher was placed");
    publisher.session.accept_publish()?;
    publisher.wire.send(&publisher.session.take_output()).await?;
    let _counted = balancer.rtmp_metrics.publishing(Role::Lb);
    let flow = Flow { publisher, origin, gop: Gop::new(Arc::clone(&balancer.gops)), next: None };
    Relay { balancer, wanted, flow }.run(shutdown).await
}

fn rtmp_limits(message_bytes: usize) -> RtmpLimits {
    RtmpLimits { message_bytes, ..RtmpLimits::default() }
}

fn random() -> [u8; handshake::RANDOM_BYTES] {
    let mut bytes = [0; handshake::RANDOM_BYTES];
    rand::fill(&mut bytes[..]);
    bytes
}
