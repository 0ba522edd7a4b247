//! Viewers that ask for the same at once: connections that are open already, one request each, and the time
//! from the common start until each has the last byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sluicegate_cluster::clock;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The longest wait for one answer, and for one connection.
const ANSWER: Duration = Duration::from_secs(15);
/// The longest head of an answer.
const HEAD_BYTES: u64 = 16 << 10;

/// Viewers that are connected to one server.
pub(super) struct Crowd {
    viewers: Vec<Viewer>,
}

impl Crowd {
    /// Connects `count` viewers to `server`.
    pub(super) async fn connect(server: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let mut viewers = Vec::with_capacity(count);
        for _ in 0..count {
            viewers.push(timeout(ANSWER, Viewer::connect(server)).await??);
        }
        Ok(Self { viewers })
    }

    /// All of them ask for `path` at once. When each had all of it, counted from the common start.
    pub(super) async fn ask_at_once(&mut self, path: &str) -> anyhow::Result<Vec<Duration>> {
        let path: Arc<str> = path.into();
        let gate = Arc::new(Barrier::new(self.viewers.len() + 1));
        let mut asking = JoinSet::new();
        for mut viewer in self.viewers.drain(..) {
            let (path, gate) = (Arc::clone(&path), Arc::clone(&gate));
            asking.spawn(async move {
                gate.wait().await;
                let got = timeout(ANSWER, viewer.get(&path)).await;
                let ended = clock::now();
                got.context("no answer in time")??;
                anyhow::Ok((viewer, ended))
            });
        }
        let start = clock::now();
        gate.wait().await;
        let mut took = Vec::with_capacity(asking.len());
        while let Some(asked) = asking.join_next().await {
            let (viewer, ended) = asked?.with_context(|| format!("asking for {path}"))?;
            self.viewers.push(viewer);
            took.push(ended.saturating_duration_since(start));
        }
        Ok(took)
    }
}

/// A connection that is kept from request to request.
struct Viewer {
    connection: BufReader<TcpStream>,
    server: SocketAddr,
}

impl Viewer {
    async fn connect(server: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server).await.with_context(|| format!("connecting to {server}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { connection: BufReader::new(stream), server })
    }

    /// Gets `path` whole, and throws it away.
    async fn get(&mut self, path: &str) -> anyhow::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.server);
        self.connection.get_mut().write_all(request.as_bytes()).await?;
        let body_bytes = body_length(&self.head().await?)?;
        let mut body = (&mut self.connection).take(body_bytes);
        let got = tokio::io::copy_buf(&mut body, &mut tokio::io::sink()).await?;
        ensure!(got == body_bytes, "the answer broke off after {got} of {body_bytes} bytes");
        Ok(())
    }

    async fn head(&mut self) -> anyhow::Result<String> {
        let mut head = String::new();
        let mut limited = (&mut self.connection).take(HEAD_BYTES);
        while !head.ends_with("\r\n\r\n") {
            ensure!(limited.read_line(&mut head).await? > 0, "the answer ended within its head");
        }
        Ok(head)
    }
}

/// How long the body behind `head` is. Only a 200 that says so counts as an answer.
fn body_length(head: &str) -> anyhow::Result<u64> {
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "the answer is {status:?}");
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            return value.trim().parse().with_context(|| format!("content-length {value:?}"));
        }
    }
    bail!("the answer does not say its length")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_a_whole_200_is_an_answer() {
        assert_eq!(body_length("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n").unwrap(), 12);
        assert!(body_length("HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n").is_err());
        assert!(body_length("HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(body_length("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn a_crowd_keeps_its_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut open = JoinSet::new();
            for _ in 0..3 {
                let (stream, _) = listener.accept().await.unwrap();
                open.spawn(answer_twice(stream));
            }
            open.join_all().await
        });
        let mut crowd = Crowd::connect(server, 3).await.unwrap();
        assert_eq!(crowd.ask_at_once("/a").await.unwrap().len(), 3);
        assert_eq!(crowd.ask_at_once("/b").await.unwrap().len(), 3);
        let asked = answering.await.unwrap();
        assert_eq!(asked, vec!["GET /a HTTP/1.1 GET /b HTTP/1.1 "; 3]);
    }

    async fn answer_twice(stream: TcpStream) -> String {
        let (mut stream, mut asked) = (BufReader::new(stream), String::new());
        for _ in 0..2 {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).await.unwrap();
            }
            asked.push_str(head.lines().next().unwrap());
            asked.push(' ');
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
        }
        asked
    }
}
