//! Viewers' connections by HTTP/1.1, before Pingora reads from them: what the edge in this process has in memory is
//! answered by one write, and nothing is kept while a connection waits. Every other request goes to Pingora as it
//! came, and its connection comes back here afterwards. So do all of a process without an edge, and HTTP/2.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use pingora::apps::{HttpServerApp as _, ServerApp};
use pingora::protocols::http::date::get_cached_date;
use pingora::protocols::http::server::Session as ServerSession;
use pingora::protocols::{ALPN, Digest, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use sluicegate_cluster::metrics::Kind;
use sluicegate_cluster::viewer::{ViewerBody, ViewerRequest, ViewerResponse};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};

use super::head;
use super::route::{Route, route};
use super::{Answered, VIEWER_RATE_MIN, Viewers};
use crate::listen::activity::Activity;
use crate::state::Balancer;

/// What is read of a connection at once. A head that is longer is Pingora's to read.
const READ_BYTES: usize = 8 << 10;
/// The head of an answer, about.
const HEAD_BYTES: usize = 512;

/// What is spoken on viewers' connections.
pub(crate) struct AtHand {
    balancer: Arc<Balancer>,
    pingora: Arc<HttpProxy<Viewers>>,
}

/// What a request came to.
enum Next {
    /// The edge had the answer.
    Answer(Box<Served>),
    /// It is for Pingora: what was read of it.
    Unread(BytesMut),
    /// There was none.
    End,
}

/// An answer, and what is counted and told of it.
struct Served {
    viewer: IpAddr,
    request: ViewerRequest,
    kind: Kind,
    answer: ViewerResponse,
}

impl AtHand {
    pub(crate) fn before(pingora: Arc<HttpProxy<Viewers>>, balancer: Arc<Balancer>) -> Self {
        Self { balancer, pingora }
    }

    /// Answers requests from memory until one comes that cannot be: what was read of it. `None` at the end.
    async fn converse(
        &self,
        stream: &mut Stream,
        peer: IpAddr,
        activity: &Activity,
        shutdown: &ShutdownWatch,
    ) -> Option<BytesMut> {
        loop {
            let next = poll_fn(|cx| self.poll_next(cx, stream, peer, shutdown));
            let served = match next.await.ok()? {
                Next::Answer(served) => served,
                Next::Unread(bytes) => return Some(bytes),
                Next::End => return None,
            };
            activity.begins();
            let written = self.write(stream, *served).await;
            activity.ends();
            written.ok()?;
        }
    }

    /// The next request, or a piece of it. It is read onto the stack: while there is none, nothing is held for it.
    fn poll_next(
        &self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        peer: IpAddr,
        shutdown: &ShutdownWatch,
    ) -> Poll<io::Result<Next>> {
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        let bytes = read.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(Next::End));
        }
        // Pingora tells whoever asks a process that is about to end to go elsewhere.
        let served = if *shutdown.borrow() { None } else { self.serve(bytes, peer) };
        Poll::Ready(Ok(match served {
            Some(served) => Next::Answer(Box::new(served)),
            None => Next::Unread(BytesMut::from(bytes)),
        }))
    }

    /// The answer to the request that is all of `bytes`, if this process is to give it and has it in memory.
    fn serve(&self, bytes: &[u8], peer: IpAddr) -> Option<Served> {
        let (balancer, edge) = (&self.balancer, self.balancer.own_edge.as_ref()?);
        let request = head::read(bytes)?;
        let Route::Media { key, kind } = route(&request.path, |app| balancer.is_app(app)) else {
            return None;
        };
        let viewer = balancer.viewer(peer, &request.headers);
        let table = balancer.viewers.load();
        if !balancer.is_self(&table.best(&key, &viewer.to_string())?.node) {
            return None;
        }
        let answer = edge.at_hand(&request)?;
        if kind == Kind::Playlist {
            balancer.count_demand(&key, request.query.as_deref());
        }
        Some(Served { viewer, request, kind, answer })
    }

    /// Sends head and body together, counts and tells of it.
    async fn write(&self, stream: &mut Stream, served: Served) -> io::Result<()> {
        let Served { viewer, request, kind, answer } = served;
        let head = head_of(&answer);
        let body = match answer.body {
            ViewerBody::Whole(body) => body,
            ViewerBody::Empty | ViewerBody::Pieces(_) => Bytes::new(),
        };
        let body_bytes = body.len();
        let patience = Duration::from_secs((body_bytes / VIEWER_RATE_MIN).max(1) as u64);
        let mut all = head.chain(body);
        let writing = async {
            stream.write_all_buf(&mut all).await?;
            stream.flush().await
        };
        let written = tokio::time::timeout(patience, writing)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.balancer.answered(&Answered {
            viewer,
            method: &request.method,
            path: &request.path,
            kind,
            status: answer.status.as_u16(),
            body_bytes: body_bytes as u64,
            edge: Some(&self.balancer.node),
            reason: "own_edge",
        });
        written
    }
}

/// The head of `answer`, whose connection is kept.
fn head_of(answer: &ViewerResponse) -> BytesMut {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(answer.status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(answer.status.canonical_reason().unwrap_or_default().as_bytes());
    let mut line = |name: &[u8], value: &[u8]| {
        head.put_slice(b"\r\n");
        head.put_slice(name);
        head.put_slice(b": ");
        head.put_slice(value);
    };
    for (name, value) in answer.headers.iter().filter(|(name, _)| *name != http::header::DATE) {
        line(name.as_str().as_bytes(), value.as_bytes());
    }
    line(b"date", get_cached_date().as_bytes());
    line(b"connection", b"keep-alive");
    head.put_slice(b"\r\n\r\n");
    head
}

#[async_trait]
impl ServerApp for AtHand {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        if self.balancer.own_edge.is_none() || matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            return self.pingora.process_new(stream, shutdown).await;
        }
        let digest = Digest {
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
            ..Digest::default()
        };
        let peer = digest.socket_digest.as_ref()?.peer_addr()?.as_inet()?.ip();
        let activity = Activity::of(Some(&digest))?;
        loop {
            let unread = self.converse(&mut stream, peer, activity, shutdown).await?;
            let mut session = ServerSession::new_http1(stream);
            let idle_s = self.balancer.limits.http_idle.as_secs();
            session.set_keepalive(if *shutdown.borrow() { None } else { Some(idle_s) });
            session.set_pipelined_prefix(unread);
            (stream, _) = self.pingora.process_new_http(session, shutdown).await?.consume();
        }
    }
}
