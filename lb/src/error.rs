//! Why a balancer cannot start.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a balancer cannot start. Each is one line that says what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error("{key}: cannot listen on {address}: {why}")]
    Listen {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why, from the system.
        why: std::io::Error,
    },
    /// A certificate's file cannot be used.
    #[error("lb.certificates: {path}: {why}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no client for other nodes.
    #[error("the client that asks nodes cannot be made: {0}")]
    Client(#[from] reqwest::Error),
    /// Metrics are registered twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl StartError {
    /// Whether another process has the address.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Listen { why, .. } if why.kind() == std::io::ErrorKind::AddrInUse)
    }
}
