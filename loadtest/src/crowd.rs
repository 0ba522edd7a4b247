//! Viewers with connections that are kept: all of them ask at once, or each asks again and again, as fast as it is
//! answered or at a pace.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sluicegate_cluster::clock;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

/// The longest wait for one answer, and for one connection.
const ANSWER: Duration = Duration::from_secs(15);
/// The longest head of an answer.
const HEAD_BYTES: u64 = 16 << 10;

/// Where viewers connect.
#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    tls: Option<(IpAddr, Arc<ClientConfig>)>,
}

/// What viewers ask for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The path, with the query if there is one.
    pub(crate) path: String,
    /// Whether an answer by gzip will do.
    pub(crate) gzip: bool,
}

impl Server {
    /// One without encryption.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// One by TLS, whose certificate is for `name`.
    pub(crate) fn tls(address: SocketAddr, name: IpAddr, config: ClientConfig) -> Self {
        Self { address, tls: Some((name, Arc::new(config))) }
    }
}

impl Request {
    /// One for `path`, without gzip.
    pub(crate) fn of(path: impl Into<String>) -> Self {
        Self { path: path.into(), gzip: false }
    }

    fn text(&self, host: SocketAddr) -> String {
        let coding = if self.gzip { "Accept-Encoding: gzip\r\n" } else { "" };
        format!("GET {} HTTP/1.1\r\nHost: {host}\r\n{coding}\r\n", self.path)
    }
}

/// Viewers that are connected to one server.
pub(crate) struct Crowd {
    viewers: Vec<Viewer>,
}

impl Crowd {
    /// Connects `count` viewers to `server`.
    pub(crate) async fn connect(server: &Server, count: usize) -> anyhow::Result<Self> {
        let mut viewers = Vec::with_capacity(count);
        for _ in 0..count {
            viewers.push(timeout(ANSWER, Viewer::connect(server)).await??);
        }
        Ok(Self { viewers })
    }

    /// All of them ask for `path` at once. When each had all of it, counted from the common start.
    pub(crate) async fn ask_at_once(&mut self, path: &str) -> anyhow::Result<Vec<Duration>> {
        let request = Request::of(path);
        let gate = Arc::new(Barrier::new(self.viewers.len() + 1));
        let mut asking = JoinSet::new();
        for mut viewer in self.viewers.drain(..) {
            let (request, gate) = (request.clone(), Arc::clone(&gate));
            asking.spawn(async move {
                gate.wait().await;
                viewer.get(&request).await?;
                anyhow::Ok((viewer, clock::now()))
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

    /// Each asks so many `times`, once per `pace` if there is one, the viewers evenly spread over it. How long each
    /// answer took.
    pub(crate) async fn ask_often(
        &mut self,
        request: &Request,
        times: usize,
        pace: Option<Duration>,
    ) -> anyhow::Result<Vec<Duration>> {
        let (start, viewers) = (tokio::time::Instant::from_std(clock::now()), self.viewers.len());
        let mut asking = JoinSet::new();
        for (n, mut viewer) in self.viewers.drain(..).enumerate() {
            let request = request.clone();
            asking.spawn(async move {
                let mut took = Vec::with_capacity(times);
                for time in 0..times {
                    if let Some(pace) = pace {
                        tokio::time::sleep_until(
                            start + pace.mul_f64(time as f64 + n as f64 / viewers as f64),
                        )
                        .await;
                    }
                    let asked = clock::now();
                    viewer.get(&request).await?;
                    took.push(asked.elapsed());
                }
                anyhow::Ok((viewer, took))
            });
        }
        let mut all = Vec::with_capacity(viewers * times);
        while let Some(asked) = asking.join_next().await {
            let (viewer, took) = asked?.with_context(|| format!("asking for {}", request.path))?;
            self.viewers.push(viewer);
            all.extend(took);
        }
        Ok(all)
    }
}

/// What a connection is made of.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<W: AsyncRead + AsyncWrite + Send + Unpin> Wire for W {}

/// A connection that is kept from request to request.
struct Viewer {
    connection: BufReader<Box<dyn Wire>>,
    server: SocketAddr,
}

impl Viewer {
    async fn connect(server: &Server) -> anyhow::Result<Self> {
        let address = server.address;
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let wire: Box<dyn Wire> = match &server.tls {
            None => Box::new(stream),
            Some((name, config)) => {
                let connecting = TlsConnector::from(Arc::clone(config)).connect((*name).into(), stream);
                Box::new(connecting.await.with_context(|| format!("TLS with {address}"))?)
            }
        };
        Ok(Self { connection: BufReader::with_capacity(2_048, wire), server: address })
    }

    /// Gets what is asked for, whole, and throws it away.
    async fn get(&mut self, request: &Request) -> anyhow::Result<()> {
        timeout(ANSWER, self.converse(request)).await.context("no answer in time")?
    }

    async fn converse(&mut self, request: &Request) -> anyhow::Result<()> {
        let connection = self.connection.get_mut();
        connection.write_all(request.text(self.server).as_bytes()).await?;
        connection.flush().await?;
        match body_length(&self.head().await?)? {
            Length::Of(body_bytes) => self.pass_over(body_bytes).await,
            Length::InChunks => {
                while let chunk_bytes @ 1.. = self.chunk_length().await? {
                    self.pass_over(chunk_bytes + 2).await?;
                }
                self.pass_over(2).await
            }
        }
    }

    async fn pass_over(&mut self, bytes: u64) -> anyhow::Result<()> {
        let mut body = (&mut self.connection).take(bytes);
        let got = tokio::io::copy_buf(&mut body, &mut tokio::io::sink()).await?;
        ensure!(got == bytes, "the answer broke off after {got} of {bytes} bytes");
        Ok(())
    }

    async fn chunk_length(&mut self) -> anyhow::Result<u64> {
        let mut line = String::new();
        (&mut self.connection).take(HEAD_BYTES).read_line(&mut line).await?;
        u64::from_str_radix(line.trim_end(), 16).with_context(|| format!("a chunk's length is {line:?}"))
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

/// How a body's end is found.
#[derive(Debug, PartialEq, Eq)]
enum Length {
    Of(u64),
    InChunks,
}

/// How long the body behind `head` is. Only a 200 that says so counts as an answer.
fn body_length(head: &str) -> anyhow::Result<Length> {
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "the answer is {status:?}");
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.trim().parse().with_context(|| format!("content-length {value:?}"))?;
            return Ok(Length::Of(length));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") && value.trim() == "chunked" {
            return Ok(Length::InChunks);
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
        let ok = |rest: &str| body_length(&format!("HTTP/1.1 200 OK\r\n{rest}\r\n"));
        assert_eq!(ok("Content-Length: 12\r\n").unwrap(), Length::Of(12));
        assert_eq!(ok("Transfer-Encoding: chunked\r\n").unwrap(), Length::InChunks);
        assert!(body_length("HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n").is_err());
        assert!(ok("").is_err() && ok("Content-Length: -1\r\n").is_err());
    }

    #[tokio::test]
    async fn a_crowd_keeps_its_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::plain(listener.local_addr().unwrap());
        let answering = tokio::spawn(async move {
            let mut open = JoinSet::new();
            for _ in 0..3 {
                let (stream, _) = listener.accept().await.unwrap();
                open.spawn(answer_thrice(stream));
            }
            open.join_all().await
        });
        let mut crowd = Crowd::connect(&server, 3).await.unwrap();
        assert_eq!(crowd.ask_at_once("/a").await.unwrap().len(), 3);
        assert_eq!(crowd.ask_often(&Request::of("/b"), 2, None).await.unwrap().len(), 6);
        let asked = answering.await.unwrap();
        assert_eq!(asked, vec!["GET /a HTTP/1.1 GET /b HTTP/1.1 GET /b HTTP/1.1 "; 3]);
    }

    async fn answer_thrice(stream: TcpStream) -> String {
        const ANSWERS: [&str; 3] = [
            "content-length: 3\r\n\r\nabc",
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n",
            "content-length: 0\r\n\r\n",
        ];
        let (mut stream, mut asked) = (BufReader::new(stream), String::new());
        for answer in ANSWERS {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).await.unwrap();
            }
            asked.push_str(head.lines().next().unwrap());
            asked.push(' ');
            stream.get_mut().write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.unwrap();
        }
        asked
    }
}
