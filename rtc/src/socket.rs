//! A shard's UDP socket: one of several on one port (SO_REUSEPORT), which sends and receives in batches.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::counters::Counters;
use crate::limits;
use crate::outbox::Wire;

/// What the kernel may hold for a socket, each way: a keyframe to a few hundred viewers.
const KERNEL_BUFFER_BYTES: usize = 4 << 20;

/// Binds `count` sockets to one address.
///
/// # Errors
/// When the port is taken, or the address is not this machine's.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::UdpSocket>> {
    let mut address = address;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        // Not for the first one: another process that has the port is an error, not a partner.
        if sockets.is_empty() {
            socket.bind(&address.into())?;
            socket.set_reuse_port(true)?;
        } else {
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
        }
        socket.set_nonblocking(true)?;
        let socket = std::net::UdpSocket::from(socket);
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// A socket on a runtime.
#[derive(Clone)]
pub(crate) struct Socket {
    io: Arc<UdpSocket>,
    state: Arc<UdpSocketState>,
    counters: Arc<Counters>,
    /// Whether it listens on all addresses of this machine: an answer then has to name the one that was asked.
    is_wildcard: bool,
}

impl Socket {
    /// Puts a socket on the runtime of the caller.
    pub(crate) fn new(socket: std::net::UdpSocket, counters: Arc<Counters>) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The kernel gives what it may; less is no failure.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), KERNEL_BUFFER_BYTES);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), KERNEL_BUFFER_BYTES);
        let is_wildcard = socket.local_addr()?.ip().is_unspecified();
        Ok(Self { io: Arc::new(UdpSocket::from_std(socket)?), state: Arc::new(state), counters, is_wildcard })
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Takes what has come, one batch of it at most: from where, to which address of several, and what.
    /// Whether there may be more.
    pub(crate) fn receive(
        &self,
        buffers: &mut Buffers,
        mut each: impl FnMut(SocketAddr, Option<IpAddr>, &[u8]),
    ) -> bool {
        let mut slices = buffers.slices();
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let socket = &self.io;
        let received = socket.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&**socket), &mut slices, &mut metas)
        });
        let Ok(count) = received else { return false };
        for (slice, meta) in slices.iter().zip(&metas).take(count) {
            let whole = slice.get(..meta.len).unwrap_or_default();
            for datagram in whole.chunks(meta.stride.max(1)) {
                self.counters.received.fetch_add(1, Ordering::Relaxed);
                each(meta.addr, meta.dst_ip.filter(|_| self.is_wildcard), datagram);
            }
        }
        true
    }
}

impl Wire for Socket {
    fn send(&mut self, from: Option<IpAddr>, to: SocketAddr, bytes: &[u8], segment: usize) {
        let segments_max = self.state.max_gso_segments().max(1);
        for piece in bytes.chunks(segment.max(1).saturating_mul(segments_max)) {
            let transmit = Transmit {
                destination: to,
                ecn: None,
                contents: piece,
                segment_size: (piece.len() > segment).then_some(segment),
                src_ip: from,
            };
            let sent = self.state.try_send(UdpSockRef::from(&*self.io), &transmit);
            let count = piece.len().div_ceil(segment.max(1)) as u64;
            match sent {
                Ok(()) => {
                    self.counters.sent.fetch_add(count, Ordering::Relaxed);
                    self.counters.sent_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
                Err(_) => {
                    self.counters.unsent.fetch_add(count, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Where a batch of datagrams is read to.
pub(crate) struct Buffers(Vec<u8>);

impl Buffers {
    pub(crate) fn new() -> Self {
        Self(vec![0; limits::DATAGRAM_BYTES * BATCH_SIZE])
    }

    fn slices(&mut self) -> Vec<IoSliceMut<'_>> {
        self.0.chunks_mut(limits::DATAGRAM_BYTES).map(IoSliceMut::new).collect()
    }
}
