//! Connections: what a new one costs with one request on it, by TLS with a handshake that is whole or resumes an
//! earlier one; and the memory of 10,000 that wait for their next request.

use std::sync::Arc;

use anyhow::Context as _;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Contender, PLAYLIST, Stage, us_each};
use crate::Run;
use crate::crowd::{Crowd, Request, Server};
use crate::figure::Figure;
use crate::stats::median;

/// New connections in a turn.
const NEW: usize = 1_000;
/// Connections that wait.
const WAITING: usize = 10_000;

/// How a new connection is made.
#[derive(Debug, Clone, Copy)]
enum Handshake {
    None,
    Whole,
    Resumed,
}

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let stage = Stage::set(how)?;
    let [(_, ours, peer), _] = stage.pairs()?;
    let turns = if how.quick { 1 } else { 5 };
    let mut figures = Vec::new();
    for handshake in [Handshake::None, Handshake::Whole, Handshake::Resumed] {
        let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            of_ours.push(handshake.cpu_us(&stage, &ours)?);
            of_peer.push(handshake.cpu_us(&stage, &peer)?);
        }
        let middle = |samples: &[f64]| median(samples).context("there was no turn");
        let (ours_us, peer_us) = (middle(&of_ours)?, middle(&of_peer)?);
        figures.push(Figure::new(handshake.figure(), ours_us).beside(peer_us).at_most(peer_us));
    }
    for (is_tls, name) in [(false, "waiting_connection_kib"), (true, "waiting_tls_connection_kib")] {
        let (of_ours, of_peer) = (waiting_kib(&stage, &ours, is_tls)?, waiting_kib(&stage, &peer, is_tls)?);
        figures.push(Figure::new(name, of_ours).beside(of_peer));
    }
    Ok(figures)
}

impl Handshake {
    fn figure(self) -> &'static str {
        match self {
            Self::None => "new_connection_cpu_us",
            Self::Whole => "new_tls_connection_cpu_us",
            Self::Resumed => "resumed_tls_connection_cpu_us",
        }
    }

    /// CPU time of a new connection, a request and the end.
    fn cpu_us(self, stage: &Stage, contender: &Contender) -> anyhow::Result<f64> {
        let server = match self {
            Self::None => Server::plain(contender.http),
            Self::Whole => tls_server(contender, false)?,
            Self::Resumed => tls_server(contender, true)?,
        };
        let request = Request::of(PLAYLIST);
        let connect = async |times: usize| {
            for _ in 0..times {
                Crowd::connect(&server, 1).await?.ask_often(&request, 1, None).await?;
            }
            anyhow::Ok(())
        };
        // The first one cannot resume anything.
        stage.runtime.block_on(connect(1))?;
        let ((), cpu) = contender.cpu_of(|| stage.runtime.block_on(connect(NEW)))?;
        Ok(us_each(cpu, NEW))
    }
}

/// What each of many connections that wait adds to the memory that is in use.
fn waiting_kib(stage: &Stage, contender: &Contender, is_tls: bool) -> anyhow::Result<f64> {
    let server = if is_tls { tls_server(contender, true)? } else { Server::plain(contender.http) };
    let before = contender.resident_bytes()?;
    let crowd = stage.runtime.block_on(async {
        let mut crowd = Crowd::connect(&server, WAITING).await?;
        crowd.ask_often(&Request::of(PLAYLIST), 1, None).await?;
        anyhow::Ok(crowd)
    });
    let crowd = crowd.with_context(|| format!("the viewers of {}", contender.name))?;
    let more = contender.resident_bytes()?.saturating_sub(before);
    drop(crowd);
    Ok(more as f64 / WAITING as f64 / 1_024.0)
}

/// Where `contender` serves TLS, for clients that resume sessions or never do.
pub(super) fn tls_server(contender: &Contender, resumes: bool) -> anyhow::Result<Server> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&contender.authority)?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(Server::tls(contender.https, contender.certified, config))
}
