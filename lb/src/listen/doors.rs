//! Who comes in: the client behind a connection, and how many there may be from one address.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounterVec;
use sluicegate_cluster::config::Limits;
use sluicegate_cluster::proxies::{self, Beginning, TrustedProxies};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Between looks for the rest of a PROXY header: it is sent in one piece, so there is hardly ever a second look.
const REST: Duration = Duration::from_millis(10);

/// Why a connection is closed before anything is spoken on it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// A trusted proxy's header is broken.
    #[error("its PROXY header is broken")]
    BadHeader,
    /// The address has as many connections as it may.
    #[error("too many connections from its address")]
    Address,
    /// It ended, or the rest of a header never came.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Refused {
    /// The label of metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::BadHeader => "proxy_header",
            Self::Address => "address",
            Self::Io(_) => "ended",
        }
    }
}

/// The doors of listeners that speak the same.
pub(crate) struct Doors {
    listeners: &'static str,
    proxies: TrustedProxies,
    /// For a PROXY header to be there.
    header: Duration,
    guests: Guests,
    refused: IntCounterVec,
}

/// Connections from each address.
struct Guests {
    most: usize,
    from: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that is counted, for as long as it is held.
pub(crate) struct Guest {
    address: IpAddr,
    from: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Doors {
    pub(crate) fn new(
        listeners: &'static str,
        proxies: TrustedProxies,
        limits: &Limits,
        refused: IntCounterVec,
    ) -> Arc<Self> {
        let guests = Guests { most: limits.connections_per_address, from: Arc::default() };
        Arc::new(Self { listeners, proxies, header: limits.http_handshake, guests, refused })
    }

    /// The client behind a connection from `peer`. What tells of it is read off the connection.
    pub(crate) async fn enter(
        &self,
        connection: &mut TcpStream,
        peer: SocketAddr,
    ) -> Option<(SocketAddr, Guest)> {
        let entered = match self.client(connection, peer).await {
            Ok(client) => self.guests.enter(client.ip()).map(|guest| (client, guest)),
            Err(refused) => Err(refused),
        };
        entered.inspect_err(|refused| self.refuse(refused.reason(), peer)).ok()
    }

    /// Tells of a connection that is closed.
    pub(crate) fn refuse(&self, reason: &'static str, peer: SocketAddr) {
        self.refused.with_label_values(&[self.listeners, reason]).inc();
        tracing::debug!(listeners = self.listeners, %peer, reason, "a connection was refused");
    }

    async fn client(&self, connection: &mut TcpStream, peer: SocketAddr) -> Result<SocketAddr, Refused> {
        if !self.proxies.trusts(peer.ip()) {
            return Ok(peer);
        }
        match tokio::time::timeout(self.header, read_header(connection)).await {
            Ok(client) => Ok(client?.unwrap_or(peer)),
            // Nothing came yet: a proxy may keep connections for later.
            Err(_) if is_silent(connection) => Ok(peer),
            Err(_) => Err(Refused::BadHeader),
        }
    }
}

/// Reads the PROXY header at a connection's start, if there is one, and nothing else.
async fn read_header(connection: &mut TcpStream) -> Result<Option<SocketAddr>, Refused> {
    // On the heap: it would be a part of every connection otherwise.
    let mut start = vec![0; proxies::HEADER_BYTES];
    loop {
        let there = connection.peek(&mut start).await?;
        if there == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match proxies::beginning(start.get(..there).unwrap_or_default()) {
            Beginning::Other => return Ok(None),
            Beginning::Bad => return Err(Refused::BadHeader),
            Beginning::Incomplete => tokio::time::sleep(REST).await,
            Beginning::Header { bytes, client } => {
                connection.read_exact(start.get_mut(..bytes).unwrap_or_default()).await?;
                return Ok(client);
            }
        }
    }
}

fn is_silent(connection: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    let peeked = socket2::SockRef::from(connection).peek(&mut byte);
    peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl Guests {
    fn enter(&self, address: IpAddr) -> Result<Guest, Refused> {
        let address = counted_as(address);
        let mut from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        let count = from.entry(address).or_default();
        if *count >= self.most {
            return Err(Refused::Address);
        }
        *count += 1;
        Ok(Guest { address, from: Arc::clone(&self.from) })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = from.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                from.remove(&self.address);
            }
        }
    }
}

/// A site has a /64 of IPv6 addresses at least, and may use any of them.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let guests = Guests { most: 2, from: Arc::default() };
        let (one, other) = ("2001:db8::1".parse().unwrap(), "2001:db8:0:1::1".parse().unwrap());
        let first = guests.enter(one).unwrap();
        let _second = guests.enter("2001:db8::ffff".parse().unwrap()).unwrap();
        assert!(matches!(guests.enter(one), Err(Refused::Address)));
        let third = guests.enter(other).unwrap();
        drop(first);
        let _fourth = guests.enter(one).unwrap();
        drop(third);
        assert_eq!(guests.from.lock().unwrap().len(), 1, "who has none is forgotten");
    }
}
