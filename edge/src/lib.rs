//! The HLS edge: playlists and segments from memory, and one request to the origin for each that is not
//! there, however many ask.
//!
//! It is a library with no server in it. [`Edge`] is a [`sluicegate_cluster::viewer::ViewerDoor`]: Pingora, in
//! a process that is also a balancer, calls it directly, and [`front::router`] is its own HTTP front door.
//! What may be served when is decided in [`policy`], [`playlist`], [`range`] and [`route`], which hold
//! nothing and read no clock.

mod assemble;
mod audience;
mod cache;
mod edge;
pub mod failure;
mod fetch;
mod fill;
mod flight;
pub mod front;
mod gate;
pub mod limits;
mod metrics;
mod object;
pub mod playlist;
pub mod policy;
pub mod range;
pub mod relay;
mod reply;
pub mod route;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod upstream;

pub use edge::{Edge, EdgeError, EdgeLoad, EdgeParts};
pub use upstream::VIEWERS_HEADER;
