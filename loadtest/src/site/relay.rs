//! A slow origin: a relay in front of a real one that counts requests for segments by their path, and
//! hands them on only after a fixed time. It vouches for who asks: a peer's cache has no key of the cluster. And a
//! plain one, for whatever else the origin listens to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use sluicegate_cluster::trust;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The longest head of a request.
const HEAD_BYTES: u64 = 16 << 10;

/// How a head ends.
const END: &str = "\r\n\r\n";
/// How the paths of segments end.
const SEGMENT: &str = ".m4s";

/// Requests by path.
type Counts = Arc<Mutex<HashMap<String, u32>>>;

/// A relay. It ends when it is dropped.
pub(super) struct Relay {
    counts: Counts,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Listens at `listen`; HTTP requests for segments reach `origin` `delay` later, others at once.
    pub(super) async fn slow_http(
        listen: SocketAddr,
        origin: SocketAddr,
        delay: Duration,
    ) -> anyhow::Result<Self> {
        let counts = Counts::default();
        let counting = Arc::clone(&counts);
        let relay = move |asker, origin| relay_late(asker, origin, delay, Arc::clone(&counting));
        Ok(Self { counts, accepting: accept(listen, origin, relay).await? })
    }

    /// Listens at `listen`, and hands on whatever comes.
    pub(super) async fn plain(listen: SocketAddr, origin: SocketAddr) -> anyhow::Result<Self> {
        let relay = |mut asker, mut origin| async move {
            tokio::io::copy_bidirectional(&mut asker, &mut origin).await?;
            Ok(())
        };
        Ok(Self { counts: Counts::default(), accepting: accept(listen, origin, relay).await? })
    }

    /// How many requests for the segment whose path ends in `path` came since the last time this was asked.
    pub(super) fn take_count(&self, path: &str) -> u32 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.extract_if(|asked, _| asked.ends_with(path)).map(|(_, count)| count).sum()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Has `relay` join each connection at `listen` with one to `origin`.
async fn accept<R>(
    listen: SocketAddr,
    origin: SocketAddr,
    relay: impl Fn(TcpStream, TcpStream) -> R + Send + 'static,
) -> anyhow::Result<JoinHandle<()>>
where
    R: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening at {listen}"))?;
    Ok(tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((asker, _)) = listener.accept().await {
            let Ok(origin) = TcpStream::connect(origin).await else { continue };
            let _ = (asker.set_nodelay(true), origin.set_nodelay(true));
            // A connection that breaks is its ends' to deal with.
            connections.spawn(relay(asker, origin));
            while connections.try_join_next().is_some() {}
        }
    }))
}

async fn relay_late(
    asker: TcpStream,
    origin: TcpStream,
    delay: Duration,
    counts: Counts,
) -> anyhow::Result<()> {
    let (from_asker, mut to_asker) = asker.into_split();
    let (mut from_origin, mut to_origin) = origin.into_split();
    let mut requests = BufReader::new(from_asker);
    let forth = async move {
        // Requests are GETs: a head and no body.
        while let Some(mut head) = read_head(&mut requests).await? {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            if path.ends_with(SEGMENT) {
                *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(path).or_default() += 1;
                tokio::time::sleep(delay).await;
            }
            if !head.to_ascii_lowercase().contains(trust::HEADER) {
                let (name, value) = super::trusted()?;
                head.insert_str(head.len() - END.len(), &format!("\r\n{name}: {value}"));
            }
            to_origin.write_all(head.as_bytes()).await?;
        }
        anyhow::Ok(())
    };
    let back = async move {
        tokio::io::copy(&mut from_origin, &mut to_asker).await?;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = forth => ended,
        ended = back => ended,
    }
}

/// The next request's head; `None` when there is none any more.
async fn read_head(requests: &mut (impl AsyncBufRead + Unpin)) -> anyhow::Result<Option<String>> {
    let mut head = String::new();
    let mut limited = requests.take(HEAD_BYTES);
    while !head.ends_with(END) {
        if limited.read_line(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock;

    use super::*;

    #[tokio::test]
    async fn a_request_is_counted_and_comes_late() {
        let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin_address = origin.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = origin.accept().await.unwrap();
            let mut head = [0; 1_024];
            while stream.read(&mut head).await.unwrap() > 0 {
                stream.write_all(b"answer").await.unwrap();
            }
        });
        let free = TcpListener::bind("127.0.0.2:0").await.unwrap().local_addr().unwrap();
        let delay = Duration::from_millis(50);
        let relay = Relay::slow_http(free, origin_address, delay).await.unwrap();
        let mut asker = TcpStream::connect(free).await.unwrap();
        for _ in 0..2 {
            let asked = clock::now();
            asker.write_all(b"GET /origin/live/a.m4s HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 6];
            asker.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"answer");
            assert!(asked.elapsed() >= delay);
        }
        assert_eq!(relay.take_count("/b.m4s"), 0);
        assert_eq!(relay.take_count("/a.m4s"), 2);
        assert_eq!(relay.take_count("/a.m4s"), 0);
    }
}
