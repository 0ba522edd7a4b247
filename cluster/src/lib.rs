//! What every node of a Sluicegate cluster shares: names, the configuration, the cluster's memory and the
//! rules about it, trust between nodes, and the admin plane.
//!
//! Knows nothing of media. `lb`, `edge` and `origin` meet through the types of this crate, never directly.

pub mod access;
pub mod admin;
pub mod admission;
pub mod ams;
pub mod claims;
pub mod clock;
pub mod coding;
pub mod config;
pub mod hints;
pub mod ids;
pub mod limits;
mod machine;
pub mod membership;
pub mod metrics;
pub mod node;
pub mod placed;
pub mod plausible;
pub mod proxies;
pub mod report;
pub mod rest;
pub mod secret;
pub mod signalling;
pub mod store;
pub mod stream;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod ticket;
pub mod timeline;
pub mod token;
pub mod trust;
pub mod view;
pub mod viewer;
pub mod watched;
pub mod wire;
