//! A connection over TLS that is kept, as a test wants it: made by a client that trusts one authority only, and
//! asked again and again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::http::RUNTIME;

/// For a handshake, and for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The connection, over HTTP/1.1.
pub struct TlsClient(TlsStream<TcpStream>);

impl TlsClient {
    /// Connects to `address`, whose certificate `authority` (PEM) must have signed.
    ///
    /// # Errors
    /// When it did not, or nobody answers.
    ///
    /// # Panics
    /// When the authority cannot be read.
    pub fn connect(address: SocketAddr, authority: &Path) -> io::Result<Self> {
        Self::connect_as(address.ip(), address, authority)
    }

    /// The same, where the certificate is to be for `name`.
    ///
    /// # Errors
    /// When it is not, or nobody answers.
    ///
    /// # Panics
    /// When the authority cannot be read.
    pub fn connect_as(name: IpAddr, address: SocketAddr, authority: &Path) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(authority).expect("an authority's certificate");
        roots.add(authority).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connecting = async {
            let connection = TcpStream::connect(address).await?;
            TlsConnector::from(Arc::new(config)).connect(name.into(), connection).await
        };
        RUNTIME.block_on(async { tokio::time::timeout(ANSWER, connecting).await })?.map(Self)
    }

    /// Waits until the other side closes, who is to say nothing before.
    ///
    /// # Panics
    /// At the deadline, and when something was said.
    #[track_caller]
    pub fn is_closed_within(&mut self, deadline: Duration) {
        let mut byte = [0];
        let reading = async { tokio::time::timeout(deadline, self.0.read(&mut byte)).await };
        let read = RUNTIME.block_on(reading).unwrap_or_else(|_| panic!("it is open after {deadline:?}"));
        assert!(matches!(read, Ok(0) | Err(_)), "it has spoken");
    }

    /// The status that `path` is answered with; its body is read and dropped.
    ///
    /// # Errors
    /// When the connection is no more.
    pub fn get(&mut self, path: &str) -> io::Result<u16> {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"))
    }

    /// The status that `text`, a request or a part of one, is answered with; the body is read and dropped.
    ///
    /// # Errors
    /// When the connection is no more.
    pub fn send(&mut self, text: &str) -> io::Result<u16> {
        let asking = async {
            self.0.write_all(text.as_bytes()).await?;
            let head = self.read_head().await?;
            let head = head.to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let mut body = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
            self.0.read_exact(&mut body).await?;
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            status.ok_or_else(|| io::ErrorKind::InvalidData.into())
        };
        RUNTIME.block_on(async { tokio::time::timeout(ANSWER, asking).await })?
    }

    async fn read_head(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await?);
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }
}
