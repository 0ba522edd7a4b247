//! The end of the process: signals, and what happens between one and the exit. Pingora waits for
//! [`Signals`]; the next heartbeat tells everybody that this node takes nothing new.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use sluicegate_cluster::membership::NodeLife;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// SIGINT, SIGTERM and a node that cannot go on end the process.
pub(crate) struct Signals {
    pub(crate) life: Arc<NodeLife>,
    /// Cancelled when the node cannot go on.
    pub(crate) must_end: CancellationToken,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        tokio::select! {
            () = wait(signal(SignalKind::interrupt())) => {}
            () = wait(signal(SignalKind::terminate())) => {}
            () = self.must_end.cancelled() => {}
        }
        tracing::info!("stopping");
        self.life.stop();
        ShutdownSignal::GracefulTerminate
    }
}

/// Resolves at the signal; never where it cannot be had, so that the process is not stopped by that.
async fn wait(signal: std::io::Result<Signal>) {
    match signal {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}
