//! What comes from WebRTC clients: offers, fragments of them, and datagrams.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use sluicegate_cluster::clock;
use sluicegate_rtc::{
    App, Delivery, Direction, Event, Fragment, Limits, Negotiated, Refused, SessionId, SessionOptions,
    Sessions, Shard, Wire,
};

/// An application that does nothing.
struct Idle;

impl App for Idle {
    type Session = ();
    type Message = ();

    fn opened(&mut self, _: SessionId, (): (), agreed: Negotiated, _: &mut Sessions) {
        assert!(agreed.video.is_some() || agreed.audio.is_some(), "a session without tracks");
    }

    fn event(&mut self, _: SessionId, _: Event, _: &mut Sessions) {}

    fn message(&mut self, (): (), _: &mut Sessions) {}
}

/// A wire that leads nowhere.
struct Nowhere;

impl Wire for Nowhere {
    fn send(&mut self, _: Option<IpAddr>, _: SocketAddr, bytes: &[u8], segment: usize) {
        assert!(segment > 0 && !bytes.is_empty(), "nothing is sent");
    }
}

/// One server for all inputs: its certificate takes longer than they do.
static SERVER: LazyLock<Mutex<(Shard<Idle>, Instant)>> = LazyLock::new(|| {
    let (here, now) = (SocketAddr::from((Ipv4Addr::LOCALHOST, 50_001)), clock::now());
    Mutex::new((Shard::alone(Idle, Limits::default(), vec![here], Box::new(Nowhere), now).0, now))
});

/// Answers an offer: whatever it is, a session or an error, and nothing left behind.
///
/// # Panics
/// When that does not hold.
pub fn offers(data: &[u8]) {
    let _ = is_answered(data);
}

/// The same; whether there was an answer.
///
/// # Panics
/// As [`offers`].
#[must_use]
pub fn is_answered(data: &[u8]) -> bool {
    let Ok(offer) = std::str::from_utf8(data) else { return false };
    let options =
        SessionOptions { direction: Direction::Receive, delivery: Delivery::Frames, estimate_from_bps: None };
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let (shard, now) = &mut *server;
    match shard.accept(offer, options, (), *now) {
        Ok(answer) => {
            assert!(answer.sdp.starts_with("v=0"), "an answer that is none: {}", answer.sdp);
            shard.close(answer.session, *now);
            true
        }
        Err(refused) => {
            assert_ne!(refused, Refused::Busy, "something was left behind");
            false
        }
    }
}

/// Reads an ICE fragment.
pub fn fragments(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Fragment::parse(text);
    }
}

/// Takes a datagram from nobody: it opens nothing.
///
/// # Panics
/// When the server has something to do for it.
pub fn datagrams(data: &[u8]) {
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let (shard, now) = &mut *server;
    let before = shard.deadline();
    shard.receive(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)), data, *now);
    assert_eq!(shard.deadline(), before, "a stranger is waited for");
}
