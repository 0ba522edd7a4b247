//! Which node serves whom. Synchronous and pure: what is known goes in, a decision comes out.

pub mod ams;
mod demand;
mod hash;
mod publishers;
mod slow_start;
mod told;
mod viewers;

pub use demand::Demand;
pub use publishers::{KnownRoom, fallback_origin, live_origin, origins_by_room};
pub use slow_start::SlowStart;
pub use told::{ToldRoom, ToldRooms, Unreserved};
pub use viewers::{EdgeSeat, ViewerTable};
