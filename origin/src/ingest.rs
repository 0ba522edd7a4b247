//! Publishes by RTMP, from balancers only: each must show a ticket of this cluster.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_cluster::clock;
use sluicegate_cluster::ids::{AppName, StreamKey};
use sluicegate_cluster::metrics::RtmpEnd;
use sluicegate_cluster::node::Role;
use sluicegate_cluster::stream::PublishType;
use sluicegate_cluster::ticket::PublishTicket;
use sluicegate_cluster::wire::Wire;
use sluicegate_media::frame::Unit;
use sluicegate_media::rtmp::{
    ConnectRequest, Limits as RtmpLimits, MediaMessage, ServerEvent, ServerSession, handshake,
};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::depacketizer::Depacketizer;
use crate::error::IngestError;
use crate::origin::Origin;
use crate::publish::Publish;

/// Waiting for the next connection when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A balancer's connection that carries one publish.
struct Connection {
    wire: Wire,
    session: ServerSession,
}

impl Origin {
    /// Serves publishes on `listener` until `stop`, then ends them.
    pub async fn ingest(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "publishes cannot be served"),
        };
        let connections = Arc::new(Semaphore::new(self.limits.rtmp_connections));
        let mut running = tokio::task::JoinSet::new();
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = running.join_next() => continue,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (origin, stop) = (Arc::clone(&self), stop.clone());
                    running.spawn(async move {
                        origin.serve(stream, stop).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a publish could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn serve(&self, stream: TcpStream, stop: CancellationToken) {
        // Small answers must not wait for each other's acknowledgement.
        let _ = stream.set_nodelay(true);
        let limits = RtmpLimits { message_bytes: self.limits.rtmp_message_bytes, ..RtmpLimits::default() };
        let mut random = [0; handshake::RANDOM_BYTES];
        rand::fill(&mut random[..]);
        let mut connection = Connection {
            // A balancer goes by the publisher's own silence; this is for one that hangs.
            wire: Wire::new(stream, self.limits.rtmp_idle * 2),
            session: ServerSession::new(limits, &random),
        };
        let end = match self.publish(&mut connection, &stop).await {
            Ok(()) => RtmpEnd::Finished,
            Err(error) => {
                tracing::info!(%error, "a publish ended");
                connection.refuse(&error).await;
                error.end()
            }
        };
        self.rtmp_metrics.ended(Role::Origin, end);
    }

    async fn publish(
        &self,
        connection: &mut Connection,
        stop: &CancellationToken,
    ) -> Result<(), IngestError> {
        let greeting = tokio::time::timeout(self.limits.rtmp_handshake, self.greet(connection));
        let (key, ticket) = greeting.await.map_err(|_| IngestError::Slow)??;
        let mut moved = None;
        if ticket.handover {
            connection.accept().await?;
            moved = Some(connection.first_media(stop).await?);
        }
        let publish = self.admit(&key, &ticket, PublishType::Rtmp).await?;
        let _counted = self.rtmp_metrics.publishing(Role::Origin);
        let fed = async {
            if moved.is_none() {
                connection.accept().await?;
            }
            self.feed(connection, &publish, moved, stop).await
        };
        let ended = fed.await;
        self.conclude(&publish, &ended).await;
        ended
    }

    /// Everything up to `publish`: which stream, and who sends it.
    async fn greet(&self, connection: &mut Connection) -> Result<(StreamKey, PublishTicket), IngestError> {
        let mut known: Option<(ConnectRequest, PublishTicket)> = None;
        loop {
            match connection.next().await? {
                ServerEvent::Connect(request) => {
                    let (ticket, _) = PublishTicket::read(|name| request.text(name), &self.key)?;
                    connection.session.accept_connect()?;
                    known = Some((request, ticket));
                }
                ServerEvent::Publish(request) => {
                    let (connect, ticket) = known.ok_or(IngestError::NoApp)?;
                    let app: AppName = connect.app_name().parse().map_err(|_| IngestError::NoApp)?;
                    return Ok((StreamKey { app, stream: request.name.parse()? }, ticket));
                }
                ServerEvent::Media(_)
                | ServerEvent::Metadata(_)
                | ServerEvent::Unpublish
                | ServerEvent::HandedOver => {}
            }
        }
    }

    /// Feeds the stream until its publisher ends it (`Ok`), or something breaks. `first` is what was read of it
    /// already.
    async fn feed(
        &self,
        connection: &mut Connection,
        publish: &Publish,
        first: Option<MediaMessage>,
        stop: &CancellationToken,
    ) -> Result<(), IngestError> {
        let mut depacketizer = Depacketizer::new(publish.stream.started_at);
        if let Some(message) = first {
            self.take(publish, &mut depacketizer, &message)?;
        }
        loop {
            let event = tokio::select! {
                event = connection.next() => event,
                why = publish.interrupted(stop) => return Err(why),
            };
            match event {
                Ok(ServerEvent::Media(message)) => self.take(publish, &mut depacketizer, &message)?,
                Ok(ServerEvent::Unpublish) => return Ok(()),
                Ok(ServerEvent::HandedOver) => {
                    // Ends the open segment, so that nothing that came is missing.
                    publish.stream.push(Unit::Discontinuity)?;
                    return Err(IngestError::HandedOver);
                }
                Ok(ServerEvent::Metadata(_) | ServerEvent::Connect(_) | ServerEvent::Publish(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(
        &self,
        publish: &Publish,
        depacketizer: &mut Depacketizer,
        message: &MediaMessage,
    ) -> Result<(), IngestError> {
        self.received(publish, message.payload.len());
        for unit in depacketizer.push(message, clock::cluster_ms())? {
            publish.stream.push(unit)?;
        }
        if publish.stream.claim_is_due() {
            self.news.notify_one();
        }
        Ok(())
    }
}

impl Connection {
    /// Tells the balancer to start.
    async fn accept(&mut self) -> Result<(), IngestError> {
        self.session.accept_publish()?;
        Ok(self.wire.send(&self.session.take_output()).await?)
    }

    /// Waits for the moment at which a stream moves here.
    async fn first_media(&mut self, stop: &CancellationToken) -> Result<MediaMessage, IngestError> {
        loop {
            let event = tokio::select! {
                event = self.next() => event?,
                () = stop.cancelled() => return Err(IngestError::Stopping),
            };
            match event {
                ServerEvent::Media(message) => return Ok(message),
                ServerEvent::Unpublish | ServerEvent::HandedOver => return Err(IngestError::HandedOver),
                ServerEvent::Metadata(_) | ServerEvent::Connect(_) | ServerEvent::Publish(_) => {}
            }
        }
    }

    /// The next event. What the session has to say is sent before more is read; a publisher that is gone may have
    /// ended its stream before. Safe to cancel while it reads, which is where it waits for long.
    async fn next(&mut self) -> Result<ServerEvent, IngestError> {
        loop {
            let mut input = self.wire.unread();
            let before = input.len();
            let event = self.session.read(&mut input);
            let taken = before - input.len();
            self.wire.take(taken);
            if let Some(event) = event? {
                return Ok(event);
            }
            self.wire.send_if_open(&self.session.take_output()).await?;
            self.wire.read().await?;
        }
    }

    /// Says why, as far as it can still be said, and closes.
    async fn refuse(&mut self, error: &IngestError) {
        let Some(code) = error.status_code() else { return };
        let why = error.to_string();
        let told = match error {
            IngestError::Distrust(_) => self.session.reject_connect(code, &why),
            _ => self.session.reject_publish(code, &why),
        };
        if told.is_ok() && self.wire.send(&self.session.take_output()).await.is_ok() {
            self.wire.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use sluicegate_cluster::wire::WireError;
    use sluicegate_media::rtmp::{ClientEvent, ClientSession, MediaKind, PublishTarget, chunk};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const RANDOM: [u8; handshake::RANDOM_BYTES] = [7; handshake::RANDOM_BYTES];

    /// A publisher whose stream is accepted, and the connection that carries it, with a second hand on its socket.
    async fn accepted() -> (TcpStream, ClientSession, Connection, std::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = PublishTarget {
            app: "live".to_owned(),
            tc_url: "rtmp://origin/live".to_owned(),
            stream: "a".to_owned(),
            properties: Vec::new(),
        };
        let mut session = ClientSession::new(target, RtmpLimits::default(), &RANDOM);
        let mut publisher = TcpStream::connect(address).await.unwrap();
        let accepted = listener.accept().await.unwrap().0.into_std().unwrap();
        let hand = accepted.try_clone().unwrap();
        let mut connection = Connection {
            wire: Wire::new(TcpStream::from_std(accepted).unwrap(), Duration::from_secs(20)),
            session: ServerSession::new(RtmpLimits::default(), &RANDOM),
        };
        let publishes = async {
            let mut bytes = Vec::new();
            loop {
                publisher.write_all(&session.take_output()).await.unwrap();
                bytes.clear();
                publisher.read_buf(&mut bytes).await.unwrap();
                let mut input = &bytes[..];
                if let Some(event) = session.read(&mut input).unwrap() {
                    return assert_eq!(event, ClientEvent::PublishStarted);
                }
            }
        };
        let accepts = async {
            loop {
                match connection.next().await.unwrap() {
                    ServerEvent::Connect(_) => connection.session.accept_connect().unwrap(),
                    ServerEvent::Publish(_) => return connection.accept().await.unwrap(),
                    _ => {}
                }
            }
        };
        tokio::join!(publishes, accepts);
        (publisher, session, connection, hand)
    }

    #[tokio::test]
    async fn the_end_of_a_publisher_that_takes_nothing_any_more_is_read() {
        /// A ping (RTMP 1.0, 7.1.7), which is to be answered.
        const PING: [u8; 18] = [2, 0, 0, 0, 0, 0, 6, chunk::USER_CONTROL, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1];
        let (mut publisher, mut session, mut connection, hand) = accepted().await;
        publisher.write_all(&PING).await.unwrap();
        let payload = bytes::Bytes::from_static(&[0xaf, 1, 0]);
        session.send(&MediaMessage { kind: MediaKind::Audio, timestamp_ms: 0, payload }).unwrap();
        publisher.write_all(&session.take_output()).await.unwrap();
        assert!(matches!(connection.next().await, Ok(ServerEvent::Media(_))));
        // The answer is not sent yet, and cannot be any more.
        hand.shutdown(Shutdown::Write).unwrap();
        session.unpublish().unwrap();
        publisher.write_all(&session.take_output()).await.unwrap();
        drop(publisher);
        assert!(matches!(connection.next().await, Ok(ServerEvent::Unpublish)));
        assert!(matches!(connection.next().await, Err(IngestError::Wire(WireError::Closed))));
    }
}
