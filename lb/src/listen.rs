//! Listeners. They are bound before anything starts, so that a port in use is one clear line and nothing is
//! half started; here their connections are accepted, counted, and handed to what speaks on them, with the client
//! behind each ([`doors`]). One that never comes to a request is closed ([`activity`]).

use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{ALPN, GetProxyDigest as _, GetSocketDigest as _, SocketDigest, Stream};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use pingora::services::listening::Service as ListeningService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::activity::Activity;
use self::doors::Doors;
use self::lent::Lender;
use crate::error::StartError;

pub(crate) mod activity;
pub(crate) mod doors;
mod lent;

/// Waiting for an acceptor's next try when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What is said to a client whose request does not come to an end (RFC 9110 section 15.5.9), with a problem body
/// (RFC 9457) as other refusals have.
const TOO_SLOW: &str = "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/problem+json\r\n\
    content-length: 89\r\ncache-control: no-store\r\nconnection: close\r\n\r\n\
    {\"status\":408,\"title\":\"the request did not come to its end in time\",\"type\":\"about:blank\"}";
/// For a client to take that, and to close.
const FAREWELL: Duration = Duration::from_secs(2);
/// Connections the kernel holds for a listener that is busy.
const BACKLOG: i32 = 4_096;

/// Binds `address`.
///
/// # Errors
/// [`StartError::Listen`] names the key, the address and the reason.
pub fn bind(key: &'static str, address: SocketAddr) -> Result<StdListener, StartError> {
    let listen = || {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(|why| StartError::Listen { key, address, why })
}

/// What is spoken on a listener's connections.
#[async_trait]
pub(crate) trait Speaks: Send + Sync + 'static {
    /// Serves one connection to its end. `peer` is the client, whatever proxies are between.
    async fn serve(&self, connection: TcpStream, peer: SocketAddr, shutdown: ShutdownWatch);
}

/// HTTP on Pingora, over TLS where there is an acceptor.
pub(crate) struct Http<A> {
    pub(crate) app: Arc<A>,
    pub(crate) tls: Option<(Arc<Acceptor>, Duration)>,
    pub(crate) doors: Arc<Doors>,
    /// From a connection to its first request.
    pub(crate) head: Duration,
    /// From a request to the next one.
    pub(crate) idle: Duration,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> Speaks for Http<A> {
    async fn serve(&self, connection: TcpStream, peer: SocketAddr, shutdown: ShutdownWatch) {
        let digest = SocketDigest::from_raw_fd(connection.as_raw_fd());
        // The address is known already: this spares a system call per request.
        let _ = digest.peer_addr.set(Some(peer.into()));
        let mut stream = L4Stream::from(connection);
        stream.set_socket_digest(digest);
        let activity = Arc::new(Activity::default());
        if let Ok(digest) = activity.digest() {
            stream.set_proxy_digest(digest);
        }
        let stream: Stream = match &self.tls {
            None => Box::new(stream),
            Some((acceptor, deadline)) => {
                match tokio::time::timeout(*deadline, acceptor.tls_handshake(stream)).await {
                    Ok(Ok(tls)) => Box::new(tls),
                    Ok(Err(_)) | Err(_) => return,
                }
            }
        };
        let lender = Lender::default();
        let lent = lender.lend(stream, &activity);
        tokio::select! {
            () = ListeningService::<A>::handle_event(lent, Arc::clone(&self.app), shutdown) => return,
            () = activity.overdue(self.head, self.idle) => {}
        }
        // Whoever has no more to ask is let go without a word.
        if activity.is_at_rest() {
            return;
        }
        self.doors.refuse("slow", peer);
        if let Some(stream) = lender.take_back().filter(|_| activity.is_within_a_head()) {
            let _ = tokio::time::timeout(FAREWELL, say_too_slow(stream)).await;
        }
    }
}

/// Says why the connection is closed. By HTTP/2 that would be no frame, and nothing is said.
async fn say_too_slow(mut stream: Stream) -> std::io::Result<()> {
    if stream.selected_alpn_proto() == Some(ALPN::H2) {
        return Ok(());
    }
    stream.write_all(TOO_SLOW.as_bytes()).await?;
    AsyncWriteExt::shutdown(&mut stream).await?;
    // What nobody reads would make the system reset the connection, and the client might not see the answer.
    let mut unread = [0; 1_024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// A service of listeners that speak the same.
pub(crate) struct Listeners<S> {
    pub(crate) name: &'static str,
    pub(crate) listeners: Vec<StdListener>,
    pub(crate) speaks: Arc<S>,
    pub(crate) doors: Arc<Doors>,
    /// Connections at once over all of them; more wait in the kernel's queue.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) threads: usize,
}

#[async_trait]
impl<S: Speaks> Service for Listeners<S> {
    async fn start_service(&mut self, _: Option<ListenFds>, shutdown: ShutdownWatch, _: usize) {
        let mut accepting = tokio::task::JoinSet::new();
        for listener in self.listeners.drain(..) {
            let listener = match TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(%error, service = self.name, "a listener cannot be served");
                    continue;
                }
            };
            let connections = Arc::clone(&self.connections);
            let inside = (Arc::clone(&self.doors), Arc::clone(&self.speaks));
            accepting.spawn(accept(listener, inside, connections, shutdown.clone()));
        }
        while accepting.join_next().await.is_some() {}
    }

    fn name(&self) -> &str {
        self.name
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}

async fn accept<S: Speaks>(
    listener: TcpListener,
    (doors, speaks): (Arc<Doors>, Arc<S>),
    connections: Arc<Semaphore>,
    mut shutdown: ShutdownWatch,
) {
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &connections) => accepted,
            _ = shutdown.changed() => return,
        };
        let Some((mut connection, peer, permit)) = accepted else { continue };
        let (doors, speaks, shutdown) = (Arc::clone(&doors), Arc::clone(&speaks), shutdown.clone());
        tokio::spawn(async move {
            if let Some((client, guest)) = doors.enter(&mut connection, peer).await {
                speaks.serve(connection, client, shutdown).await;
                drop(guest);
            }
            drop(permit);
        });
    }
}

async fn next(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((connection, peer)) => {
            // Small writes must not wait for each other's acknowledgement.
            let _ = connection.set_nodelay(true);
            Some((connection, peer, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
