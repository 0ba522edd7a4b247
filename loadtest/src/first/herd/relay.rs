//! A slow origin: a relay in front of a real one that counts each request by its path and hands it on only
//! after a fixed time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The longest head of a request.
const HEAD_BYTES: u64 = 16 << 10;

/// Requests by path.
type Counts = Arc<Mutex<HashMap<String, u32>>>;

/// The relay. It ends when it is dropped.
pub(super) struct Relay {
    counts: Counts,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Listens at `listen`; every request reaches `origin` `delay` later.
    pub(super) async fn start(listen: SocketAddr, origin: SocketAddr, delay: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listening at {listen}"))?;
        let counts = Counts::default();
        let accepting = tokio::spawn(accept(listener, origin, delay, Arc::clone(&counts)));
        Ok(Self { counts, accepting })
    }

    /// How many requests for paths that end in `file` came since the last time this was asked.
    pub(super) fn take_count(&self, file: &str) -> u32 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_file = counts.extract_if(|path, _| path.ends_with(file));
        of_file.map(|(_, count)| count).sum()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, origin: SocketAddr, delay: Duration, counts: Counts) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((asker, _)) = listener.accept().await {
        // A connection that breaks is the asker's to deal with.
        connections.spawn(relay(asker, origin, delay, Arc::clone(&counts)));
        while connections.try_join_next().is_some() {}
    }
}

async fn relay(asker: TcpStream, origin: SocketAddr, delay: Duration, counts: Counts) -> anyhow::Result<()> {
    let origin = TcpStream::connect(origin).await?;
    asker.set_nodelay(true)?;
    origin.set_nodelay(true)?;
    let (from_asker, mut to_asker) = asker.into_split();
    let (mut from_origin, mut to_origin) = origin.into_split();
    let mut requests = BufReader::new(from_asker);
    let forward = async move {
        // Requests are GETs: a head and no body.
        while let Some(head) = read_head(&mut requests).await? {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(path).or_default() += 1;
            tokio::time::sleep(delay).await;
            to_origin.write_all(head.as_bytes()).await?;
        }
        anyhow::Ok(())
    };
    let back = async move { Ok(tokio::io::copy(&mut from_origin, &mut to_asker).await.map(drop)?) };
    tokio::select! {
        ended = forward => ended,
        ended = back => ended,
    }
}

/// The next request's head; `None` when there is none any more.
async fn read_head(requests: &mut (impl AsyncRead + Unpin + AsyncBufRead)) -> anyhow::Result<Option<String>> {
    let mut head = String::new();
    let mut limited = requests.take(HEAD_BYTES);
    while !head.ends_with("\r\n\r\n") {
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
            let mut head = [0; 64];
            while stream.read(&mut head).await.unwrap() > 0 {
                stream.write_all(b"answer").await.unwrap();
            }
        });
        let free = TcpListener::bind("127.0.0.2:0").await.unwrap().local_addr().unwrap();
        let delay = Duration::from_millis(50);
        let relay = Relay::start(free, origin_address, delay).await.unwrap();
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
