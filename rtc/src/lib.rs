//! WebRTC for both ends of the cluster, over str0m: ICE, DTLS-SRTP, RTP and RTCP, behind one UDP port for a
//! role.
//!
//! ```text
//! Mux ─┬─ shard 0: thread, socket ── Shard<A>: Sessions (str0m, one each) + A, the application
//!      └─ shard n: …
//! Client: one session that offers, on a socket of its own
//! ```
//!
//! **A server** ([`Mux`]) answers offers as an ICE-lite agent, and makes them ([`Mux::offer`]) for clients that
//! wait for one. Data channels are opened; what comes by them is not looked at. It has as many shards as it is
//! given: threads that share nothing but counters. Each has a socket on the same port (SO_REUSEPORT) and owns its
//! sessions. The ICE user name says which shard a session is on: a check that the kernel hands to another shard is
//! passed on, and the address remembered once the check has proven it. Nothing but an ICE check is taken
//! from an address before that: neither DTLS nor RTP.
//!
//! **What sessions are for** is decided by an [`App`], one value of which runs on each shard and is called
//! with what happens. It sends with [`Sessions`] at once, without a queue in between, which is what a relay
//! with thousands of viewers wants: one message to each shard for a packet ([`Mux::post`]), and from there a
//! loop over that shard's viewers. [`Channels`] is the application for owners that are tasks: a channel of
//! events for each session.
//!
//! **Two levels** ([`Delivery`]): whole *frames*, for an origin that makes segments of what it gets or sends
//! what it has; and RTP *packets*, for a relay that passes them on; sequence numbers and timestamps are the
//! caller's to rewrite. Losses of what is received are repaired here (NACK). Keyframe requests come as
//! [`Event::KeyframeRequested`] and are made with [`Sessions::request_keyframe`].
//!
//! **Packets are sent past str0m** (`sender`), for a relay sends each of them a thousand times: str0m negotiates,
//! proves addresses (ICE) and agrees on keys (DTLS), which `keying` hears; then packets are encrypted straight into
//! the datagrams of a frame (`srtp`), and RTCP is read and written here. Nothing that str0m would encrypt with
//! these keys leaves. A session keeps numbers only: a packet that its other side lacks ([`Event::PacketLost`]) is the
//! application's to send again ([`Sessions::repeat_packet`]), out of one history for all who were sent it. What can
//! be sent is estimated from transport-wide feedback (`sender::estimate`, [`SessionOptions::estimate_from_bps`],
//! [`Event::Bandwidth`]). Frames are sent by str0m, which repeats what is lost itself.
//!
//! **A client** ([`Client`]) offers; an edge pulls from an origin with it. It has a socket of its own,
//! because between two ports there can be only one session.
//!
//! Datagrams to one address that follow each other leave in one system call (GSO). Hand the packets of a
//! frame over together ([`Sessions::send_packets`]).
//!
//! Cores take `now`; clocks are read by whoever is given one ([`MuxConfig::clock`]). A [`Shard`] can be
//! driven by a test with a time of its own ([`Shard::alone`]).

mod channels;
mod client;
mod counters;
mod error;
mod fragment;
mod keying;
pub mod limits;
mod media;
mod mux;
mod outbox;
mod peer;
mod routes;
mod sdp;
mod sender;
mod sessions;
mod shard;
mod socket;
mod srtp;
#[cfg(test)]
mod tests;
mod ufrag;

pub use channels::{Channels, Wanted};
pub use client::{Client, ClientHandle};
pub use counters::Counters;
pub use error::{Ended, Refused};
pub use fragment::{Fragment, IceChange, MEDIA_TYPE as FRAGMENT_MEDIA_TYPE};
pub use limits::Limits;
pub use media::{
    Codec, Delivery, Direction, Event, FrameToSend, Negotiated, PacketToSend, ReceivedFrame, ReceivedPacket,
    SenderReport,
};
pub use mux::{Bound, Mux, MuxConfig};
pub use outbox::Wire;
pub use peer::SessionOptions;
pub use sessions::{Answer, Offer, SessionId, Sessions};
pub use shard::{App, Shard};
