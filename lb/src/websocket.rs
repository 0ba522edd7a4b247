//! Ant Media Server's signalling over a WebSocket (`/{app}/websocket`), as far as its SDKs need it to publish and
//! to play. What is decided about a client's messages is decided here, without sockets and clocks: a [`Session`]
//! takes messages and returns [`Action`]s. `http::websocket` carries them out, by WHIP and WHEP.
//!
//! A publisher says `publish`, is told `start`, offers, and is answered. A player says `play`, is made an offer, and
//! answers it. Rooms, peer-to-peer calls and tracks of other streams are not known here. Streams that AMS's own nodes have
//! are theirs: what is said of one is passed on.

mod action;
mod message;
mod session;
#[cfg(test)]
mod tests;

pub use action::{Action, Answered, Ask, Closing, Cluster, Line, Place, Question};
pub use message::{BadMessage, Command, Definition, MESSAGE_BYTES_MAX, Message, Way};
pub use session::Session;
