//! What flows when all is well, and when packets are lost.

use super::*;
use crate::{Ended, Fragment, IceChange, PacketToSend};

const SECOND: Duration = Duration::from_secs(1);

/// A publisher that is connected, and its session.
fn publisher(world: &mut World, delivery: Delivery) -> (usize, SessionId) {
    let caller = world.caller(options(Direction::Send, Delivery::Frames));
    let session = world.call(caller, options(Direction::Receive, delivery));
    world.until("the publisher is connected", SECOND, |w| {
        w.callers[caller].has(&Event::Connected) && w.events(session).any(|e| *e == Event::Connected)
    });
    (caller, session)
}

fn publish(world: &mut World, caller: usize, pictures: std::ops::Range<u64>) {
    for n in pictures {
        let frame = picture(world.now, n);
        world.callers[caller].change(world.now, |peer, now, sink| peer.send_frame(&frame, now, sink));
        world.run(Duration::from_millis(33));
    }
}

fn frames(world: &World, session: SessionId) -> Vec<crate::ReceivedFrame> {
    let frame = |event: &Event| match event {
        Event::Frame(frame) => Some(frame.clone()),
        _ => None,
    };
    world.events(session).filter_map(frame).collect()
}

#[test]
fn published_frames_arrive_whole_and_in_order() {
    let mut world = World::new(Limits::default());
    let (caller, session) = publisher(&mut world, Delivery::Frames);
    publish(&mut world, caller, 0..60);
    world.run(SECOND);
    let frames = frames(&world, session);
    assert_eq!(frames.len(), 60);
    assert!(frames[0].keyframe && frames[1..].iter().all(|frame| !frame.keyframe && frame.contiguous));
    let step = |pair: &[crate::ReceivedFrame]| pair[1].timestamp - pair[0].timestamp;
    assert!(frames.windows(2).all(|pair| step(pair) == 3_000));
    assert_eq!(frames[7].payload, picture(world.now, 7).payload);
    let report = |e: &&Event| matches!(e, Event::SenderReport(report) if report.track == Track::Video);
    assert!(world.events(session).filter(report).count() >= 1, "sender reports");
}

#[test]
fn a_client_that_waits_for_the_offer_is_sent_to_as_well() {
    let mut world = World::new(Limits::default());
    let sends = options(Direction::Send, Delivery::Frames);
    let (caller, session) = world.called(sends, options(Direction::Receive, Delivery::Frames));
    world.until("both are connected", SECOND, |w| {
        w.callers[caller].has(&Event::Connected) && w.events(session).any(|e| *e == Event::Connected)
    });
    for n in 0..30 {
        world.shard.message(Say::Frame(session, picture(world.now, n)), world.now);
        world.run(Duration::from_millis(33));
    }
    let arrived = |event: &&Event| matches!(event, Event::Frame(frame) if frame.contiguous);
    assert_eq!(world.callers[caller].events.iter().filter(arrived).count(), 30);
}

#[test]
fn one_lost_datagram_in_ten_is_repaired() {
    let mut world = World::new(Limits::default());
    let (caller, session) = publisher(&mut world, Delivery::Frames);
    world.lost = |n| n % 10 == 3;
    publish(&mut world, caller, 0..90);
    world.run(SECOND);
    let frames = frames(&world, session);
    assert!(frames.len() >= 89, "{} of 90", frames.len());
    assert!(frames.iter().all(|frame| frame.contiguous));
}

#[test]
fn a_keyframe_is_asked_for_but_not_too_often() {
    let mut world = World::new(Limits::default());
    let (caller, session) = publisher(&mut world, Delivery::Frames);
    publish(&mut world, caller, 0..3);
    world.shard.message(Say::Keyframe(session), world.now);
    world.until("the request arrives", SECOND, |w| w.callers[caller].has(&Event::KeyframeRequested));
    let again = |world: &mut World| {
        let mut asked = false;
        let callers = &mut world.callers;
        callers[caller].change(world.now, |peer, now, sink| {
            asked = peer.request_keyframe(now, sink);
            now
        });
        asked
    };
    assert!(!again(&mut world), "it sends, and has nobody to ask");
}

#[test]
fn packets_pass_as_they_are_with_the_callers_numbers() {
    let mut world = World::new(Limits::default());
    let caller = world.caller(options(Direction::Receive, Delivery::Packets));
    let session = world.call(caller, options(Direction::Send, Delivery::Packets));
    world.until("connected", SECOND, |w| w.callers[caller].has(&Event::Connected));
    let shared: Arc<[u8]> = vec![0x41; 1_100].into();
    for n in 0..100_u64 {
        let packet = |k: u64| PacketToSend {
            track: Track::Video,
            sequence: 65_500 + n * 2 + k,
            timestamp: (u32::MAX - 100_000).wrapping_add(u32::try_from(n).unwrap() * 3_000),
            marker: k == 1,
            moment: world.now,
            payload: Arc::clone(&shared),
        };
        let packets = vec![packet(0), packet(1)];
        world.shard.message(Say::Packets(session, packets), world.now);
        world.run(Duration::from_millis(33));
    }
    world.run(SECOND);
    let received: Vec<_> = world.callers[caller]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Packet(packet) => Some((packet.sequence, packet.marker, packet.payload.len())),
            _ => None,
        })
        .collect();
    let asked: Vec<_> = (65_500..65_700_u64).map(|n| (n, n % 2 == 1, 1_100)).collect();
    assert_eq!(received, asked);
}

#[test]
fn the_estimate_rises_where_nothing_is_in_the_way() {
    let mut world = World::new(Limits::default());
    let caller = world.caller(options(Direction::Receive, Delivery::Packets));
    let sending =
        SessionOptions { estimate_from_bps: Some(300_000), ..options(Direction::Send, Delivery::Packets) };
    let session = world.call(caller, sending);
    world.until("connected", SECOND, |w| w.callers[caller].has(&Event::Connected));
    let payload: Arc<[u8]> = vec![0x41; 1_100].into();
    for n in 0..300_u64 {
        let packet = PacketToSend {
            track: Track::Video,
            sequence: n,
            timestamp: u32::try_from(n).unwrap() * 900,
            marker: true,
            moment: world.now,
            payload: Arc::clone(&payload),
        };
        world.shard.message(Say::Packets(session, vec![packet]), world.now);
        world.run(Duration::from_millis(10));
    }
    let newest = world
        .events(session)
        .filter_map(|e| match e {
            Event::Bandwidth { bps } => Some(*bps),
            _ => None,
        })
        .last();
    assert!(newest.is_some_and(|bps| bps > 300_000), "{newest:?}");
}

#[test]
fn an_ice_restart_keeps_the_session_and_moves_it_to_a_new_address() {
    let mut world = World::new(Limits::default());
    let (caller, session) = publisher(&mut world, Delivery::Frames);
    let offer = &world.callers[caller].offer;
    let same = format!(
        "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
        crate::sdp::value(offer, "a=ice-ufrag:").unwrap(),
        crate::sdp::value(offer, "a=ice-pwd:").unwrap()
    );
    let fragment = Fragment::parse(&same).unwrap();
    assert_eq!(world.shard.change_ice(session, &fragment, world.now), Ok(IceChange::Trickled));
    let fragment = Fragment::parse("a=ice-ufrag:wxyz\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n").unwrap();
    let changed = world.shard.change_ice(session, &fragment, world.now).unwrap();
    let IceChange::Restarted { ufrag, fragment } = changed else { panic!("{changed:?}") };
    let told = Fragment::parse(&fragment).unwrap().credentials.unwrap();
    assert_eq!(told.ufrag, ufrag);
    let client = str0m::IceCreds { ufrag: "wxyz".to_owned(), pass: "abcdefghijklmnopqrstuvwx".to_owned() };
    let mut moved = client_address();
    moved.set_port(45_000);
    world.callers[caller].peer.restart_ice(&client, &told).unwrap();
    world.callers[caller].address = moved;
    publish(&mut world, caller, 0..120);
    world.run(SECOND);
    let frames = frames(&world, session);
    assert!(frames.len() > 60, "{} frames", frames.len());
    assert!(!world.events(session).any(|e| matches!(e, Event::Ended(_))));
}

#[test]
fn who_says_goodbye_is_gone_at_once_and_who_falls_silent_after_a_while() {
    let mut world = World::new(Limits::default());
    let (leaving, left) = publisher(&mut world, Delivery::Frames);
    let (_, closed) = publisher(&mut world, Delivery::Frames);
    let (silent, lost) = publisher(&mut world, Delivery::Frames);
    world.callers[leaving].change(world.now, |peer, now, sink| {
        peer.end(Ended::Closed, now, sink);
        now
    });
    world.until("it is gone", SECOND, |w| w.events(left).any(|e| *e == Event::Ended(Ended::ClosedByPeer)));
    world.shard.close(closed, world.now);
    assert!(world.events(closed).any(|e| *e == Event::Ended(Ended::Closed)));
    world.callers[silent].unplugged = true;
    world.until("the silent one is gone", Duration::from_secs(60), |w| {
        w.events(lost).any(|e| *e == Event::Ended(Ended::Silent))
    });
    assert_eq!(world.counters.sessions.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn a_viewer_gets_what_is_sent_and_its_request_for_a_keyframe_arrives() {
    let mut world = World::new(Limits::default());
    let caller = world.caller(options(Direction::Receive, Delivery::Frames));
    let session = world.call(caller, options(Direction::Send, Delivery::Frames));
    world.until("connected", SECOND, |w| w.events(session).any(|e| *e == Event::Connected));
    for n in 0..30 {
        let frame = picture(world.now, n);
        world.shard.message(Say::Frame(session, frame), world.now);
        world.run(Duration::from_millis(33));
    }
    let frames = world.callers[caller].events.iter().filter(|e| matches!(e, Event::Frame(_))).count();
    assert!(frames >= 29, "{frames}");
    world.callers[caller].change(world.now, |peer, now, sink| {
        assert!(peer.request_keyframe(now, sink));
        assert!(!peer.request_keyframe(now, sink), "too soon");
        now
    });
    world.until("the request arrives", SECOND, |w| w.events(session).any(|e| *e == Event::KeyframeRequested));
}
