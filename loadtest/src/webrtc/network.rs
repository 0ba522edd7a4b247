//! A network in a box: a UDP relay before a server, which delays what it carries and loses some of it by chance, the
//! same at every run.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sluicegate_cluster::clock;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Clients that it carries for at most.
const CLIENTS: usize = 64;
/// Datagrams under way, each way of each client.
const UNDER_WAY: usize = 4_096;
const DATAGRAM_BYTES: usize = 2_048;

/// What it does to datagrams, each way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    /// Of a hundred datagrams.
    pub(super) lost_percent: u32,
    pub(super) delay: Duration,
    pub(super) seed: u64,
}

/// The relay, which ends when this is dropped.
pub(super) struct Network {
    address: SocketAddr,
    _runtime: Runtime,
}

/// One way: datagrams go in as they come, and come out later.
struct Lane {
    conditions: Conditions,
    chance: StdRng,
    under_way: mpsc::Sender<(Instant, Vec<u8>)>,
}

impl Network {
    /// Carries for `server`, whose clients come to [`Self::address`].
    pub(super) fn before(server: SocketAddr, conditions: Conditions) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let front = runtime.block_on(UdpSocket::bind("127.0.0.1:0"))?;
        let address = front.local_addr()?;
        runtime.spawn(async move {
            // The socket of a relay that ends is gone.
            let _ = carry(Arc::new(front), server, conditions).await;
        });
        Ok(Self { address, _runtime: runtime })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn carry(front: Arc<UdpSocket>, server: SocketAddr, conditions: Conditions) -> std::io::Result<()> {
    let mut clients: HashMap<SocketAddr, Lane> = HashMap::new();
    let mut bytes = [0; DATAGRAM_BYTES];
    loop {
        let (length, client) = front.recv_from(&mut bytes).await?;
        if !clients.contains_key(&client) && clients.len() < CLIENTS {
            let lane = admit(&front, client, server, conditions, clients.len() as u64).await?;
            clients.insert(client, lane);
        }
        if let Some(lane) = clients.get_mut(&client) {
            lane.take(&bytes[..length]);
        }
    }
}

/// A client's two ways; the one to the server is returned.
async fn admit(
    front: &Arc<UdpSocket>,
    client: SocketAddr,
    server: SocketAddr,
    conditions: Conditions,
    number: u64,
) -> std::io::Result<Lane> {
    let back = UdpSocket::bind("127.0.0.1:0").await?;
    back.connect(server).await?;
    let back = Arc::new(back);
    let (there, leaving) = Lane::new(conditions, 2 * number);
    let to_server = Arc::clone(&back);
    tokio::spawn(deliver(leaving, move |bytes| _ = to_server.try_send(bytes)));
    let (mut here, arriving) = Lane::new(conditions, 2 * number + 1);
    let to_client = Arc::clone(front);
    tokio::spawn(deliver(arriving, move |bytes| _ = to_client.try_send_to(bytes, client)));
    tokio::spawn(async move {
        let mut bytes = [0; DATAGRAM_BYTES];
        while let Ok(length) = back.recv(&mut bytes).await {
            here.take(&bytes[..length]);
        }
    });
    Ok(there)
}

/// Sends what is under way when its time has come.
async fn deliver(mut under_way: mpsc::Receiver<(Instant, Vec<u8>)>, send: impl Fn(&[u8])) {
    while let Some((at, bytes)) = under_way.recv().await {
        tokio::time::sleep_until(at.into()).await;
        send(&bytes);
    }
}

impl Lane {
    fn new(conditions: Conditions, number: u64) -> (Self, mpsc::Receiver<(Instant, Vec<u8>)>) {
        let (under_way, arriving) = mpsc::channel(UNDER_WAY);
        let chance = StdRng::seed_from_u64(conditions.seed.wrapping_add(number));
        (Self { conditions, chance, under_way }, arriving)
    }

    fn take(&mut self, bytes: &[u8]) {
        if !self.loses() {
            // A network that is full loses more.
            let _ = self.under_way.try_send((clock::now() + self.conditions.delay, bytes.to_vec()));
        }
    }

    fn loses(&mut self) -> bool {
        self.chance.random_range(0..100) < self.conditions.lost_percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_loses_the_same_and_as_many_as_it_should() {
        let lost = |seed| {
            let conditions = Conditions { lost_percent: 5, delay: Duration::ZERO, seed };
            let (mut lane, _arriving) = Lane::new(conditions, 0);
            (0..10_000).filter(|_| lane.loses()).collect::<Vec<u32>>()
        };
        assert_eq!(lost(1), lost(1));
        assert_ne!(lost(1), lost(2));
        assert!((400..600).contains(&lost(1).len()), "{}", lost(1).len());
    }

    #[test]
    fn what_is_carried_arrives_later_both_ways() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let conditions = Conditions { lost_percent: 0, delay: Duration::from_millis(30), seed: 1 };
        let network = Network::before(server.local_addr().unwrap(), conditions).unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        let sent = clock::now();
        client.send_to(b"there", network.address()).unwrap();
        let mut bytes = [0; 9];
        let (length, from) = server.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"there");
        server.send_to(b"back", from).unwrap();
        let length = client.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"back");
        assert!(sent.elapsed() >= Duration::from_millis(60), "{:?}", sent.elapsed());
    }
}
