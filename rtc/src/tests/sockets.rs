//! Real sockets: several shards on one port, and clients which the kernel hands to any of them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc::channel;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Bound, Channels, Client, Mux, MuxConfig, Wanted};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const WAIT: Duration = Duration::from_secs(20);

fn config(port: u16, shards: usize) -> MuxConfig {
    let listen = SocketAddr::new(LOOPBACK, port);
    let limits = Limits::default();
    MuxConfig { name: "test", listen, candidates: vec![listen], shards, limits, clock: Instant::now }
}

/// A port that was free a moment ago.
fn port() -> u16 {
    std::net::UdpSocket::bind((LOOPBACK, 0)).unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn answers_leave_from_the_address_that_was_asked() {
    let stop = CancellationToken::new();
    let (asked, port) = (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)), port());
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let config =
        MuxConfig { listen: everywhere, candidates: vec![SocketAddr::new(asked, port)], ..config(port, 2) };
    let mux = Mux::start(Bound::bind(config).unwrap(), |_| Channels::default(), &stop).unwrap();
    for _ in 0..4 {
        let mut client =
            Client::start(LOOPBACK, options(Direction::Send, Delivery::Frames), Instant::now).unwrap();
        let (sender, _events) = channel(crate::limits::EVENTS);
        let receiving = options(Direction::Receive, Delivery::Frames);
        let answer = mux.accept(client.offer(), receiving, sender).await.unwrap();
        client.answer(answer.sdp).await.unwrap();
        let connected = async { while client.next().await.expect("it goes on") != Event::Connected {} };
        tokio::time::timeout(WAIT, connected).await.expect("the client hears from where it asked");
    }
    stop.cancel();
}

async fn frame_of(events: &mut tokio::sync::mpsc::Receiver<Event>) -> crate::ReceivedFrame {
    loop {
        match events.recv().await.expect("the session goes on") {
            Event::Frame(frame) => return frame,
            Event::Ended(why) => panic!("ended: {why:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let port = port();
    let _bound = Bound::bind(config(port, 2)).unwrap();
    assert!(Bound::bind(config(port, 2)).is_err());
}

#[tokio::test]
async fn whichever_socket_a_client_is_handed_to_its_frames_arrive() {
    let stop = CancellationToken::new();
    let bound = Bound::bind(config(port(), 4)).unwrap();
    let mux = Mux::start(bound, |_| Channels::default(), &stop).unwrap();
    let mut publishers = Vec::new();
    for _ in 0..12 {
        let client =
            Client::start(LOOPBACK, options(Direction::Send, Delivery::Frames), Instant::now).unwrap();
        let (sender, events) = channel(crate::limits::EVENTS);
        let receiving = options(Direction::Receive, Delivery::Frames);
        let answer = mux.accept(client.offer(), receiving, sender).await.unwrap();
        client.answer(answer.sdp).await.unwrap();
        publishers.push((client, events, answer.session));
    }
    for (client, events, session) in &mut publishers {
        let arrived = async {
            while client.next().await != Some(Event::Connected) {}
            let handle = client.handle();
            assert!(handle.send_frame(picture(Instant::now(), 0)));
            assert!(frame_of(events).await.keyframe);
            assert!(mux.post(session.shard(), Wanted::Keyframe(*session)));
            while client.next().await != Some(Event::KeyframeRequested) {}
        };
        tokio::time::timeout(WAIT, arrived).await.expect("a frame, and a request for the next");
    }
    assert!(mux.counters().passed_on.load(Relaxed) > 0, "the kernel spreads 12 clients over 4 sockets");
    assert_eq!(mux.counters().sessions.load(Relaxed), 12);
    stop.cancel();
}
