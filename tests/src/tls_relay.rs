//! TLS in front of the tests' MongoDB, which speaks none itself: a relay that ends it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::address::Host;
use crate::node::run_sluicegate;

/// Where it listens.
pub const PORT: u16 = 27_017;

/// The relay. Its connections end when it is dropped.
pub struct TlsRelay {
    host: Host,
    certs: TempDir,
    _runtime: Runtime,
}

impl TlsRelay {
    /// A relay to the database at `uri`, `mongodb://ADDRESS:PORT`, with a certificate for its own address.
    ///
    /// # Panics
    /// When it cannot be had.
    #[must_use]
    pub fn to(uri: &str) -> Self {
        let host = Host::claim();
        let name = host.ip().to_string();
        Self::on(host, &name, uri)
    }

    /// One with a certificate for `name`.
    ///
    /// # Panics
    /// As [`TlsRelay::to`].
    #[must_use]
    pub fn named(uri: &str, name: &str) -> Self {
        Self::on(Host::claim(), name, uri)
    }

    fn on(host: Host, name: &str, uri: &str) -> Self {
        let certs = tempfile::tempdir().expect("a temporary folder");
        let folder = certs.path().display().to_string();
        let made = run_sluicegate(&["certs", "dev", "--out", &folder, "--name", name]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let database = uri.trim_start_matches("mongodb://").parse().expect("an address and a port");
        let acceptor = TlsAcceptor::from(Arc::new(config(&certs)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind(host.port(PORT))).expect("the relay's port");
        runtime.spawn(accept(listener, acceptor, database));
        Self { host, certs, _runtime: runtime }
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.host.ip()
    }

    /// The address by which nodes use it.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("mongodb://{}/?directConnection=true", self.host.port(PORT))
    }

    /// The certificate of the authority that signed its own.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.certs.path().join("ca.pem")
    }
}

fn config(certs: &TempDir) -> ServerConfig {
    let file = |name: &str| certs.path().join(name);
    let chain = CertificateDer::pem_file_iter(file("cert.pem")).and_then(Iterator::collect);
    let key = PrivateKeyDer::from_pem_file(file("key.pem")).expect("the relay's key");
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the default versions of TLS")
        .with_no_client_auth()
        .with_single_cert(chain.expect("the relay's certificate"), key)
        .expect("a certificate and its key")
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, database: SocketAddr) {
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that does not trust the certificate ends here.
            let (Ok(mut client), Ok(mut server)) =
                (acceptor.accept(client).await, TcpStream::connect(database).await)
            else {
                return;
            };
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}
