//! What a node serves by axum: to other nodes, and its admin plane. Connections are bounded, and so is the wait for
//! each request on one.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower_service::Service as _;

/// From one request on a connection to all of the next one's head. Longer than any client in the cluster keeps a
/// connection that it does not use (90 s), so that none is closed just as it is used again.
const HEAD: Duration = Duration::from_secs(120);
/// Waiting for an acceptor's next try when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener`, for ever, to `connections` at once; more wait in the kernel's queue.
pub(super) async fn serve(name: &'static str, router: Router, connections: usize, listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(name, %error, "a listener cannot be served"),
    };
    let connections = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
        match listener.accept().await {
            Ok((connection, peer)) => {
                let serving = converse(connection, peer, service.clone());
                tokio::spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(name, %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(
    connection: TcpStream,
    peer: SocketAddr,
    mut services: IntoMakeServiceWithConnectInfo<Router, SocketAddr>,
) {
    // Small writes must not wait for each other's acknowledgement.
    let _ = connection.set_nodelay(true);
    let Ok(service) = services.call(peer).await;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let serving = http.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service));
    if let Err(error) = serving.with_upgrades().await {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}
