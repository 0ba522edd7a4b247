//! What hostile datagrams and offers get, and that it disturbs nobody.

use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::*;
use crate::{Ended, Refused};

fn receive() -> SessionOptions {
    options(Direction::Receive, Delivery::Frames)
}

fn connected(world: &mut World) -> (usize, SessionId) {
    let caller = world.caller(options(Direction::Send, Delivery::Frames));
    let session = world.call(caller, receive());
    world.until("connected", Duration::from_secs(1), |w| w.callers[caller].has(&Event::Connected));
    (caller, session)
}

fn frames(world: &World, session: SessionId) -> usize {
    world.events(session).filter(|e| matches!(e, Event::Frame(_))).count()
}

#[track_caller]
fn still_flows(world: &mut World, caller: usize, session: SessionId) {
    let before = frames(world, session);
    for n in 0..10 {
        let frame = picture(world.now, n + u64::try_from(before).unwrap());
        world.callers[caller].change(world.now, |peer, now, sink| peer.send_frame(&frame, now, sink));
        world.run(Duration::from_millis(33));
    }
    world.run(Duration::from_millis(200));
    assert!(frames(world, session) >= before + 9, "{} frames, {before} before", frames(world, session));
}

#[test]
fn offers_that_cannot_be_answered_leave_nothing_behind() {
    let mut world = World::new(Limits::default());
    let caller = world.caller(options(Direction::Send, Delivery::Frames));
    let good = world.callers[caller].offer.clone();
    let mut refused = |offer: &str| world.shard.accept(offer, receive(), (), world.now).unwrap_err();
    assert!(matches!(refused(""), Refused::Malformed(_)));
    assert!(matches!(refused("v=0\r\nhello"), Refused::Malformed(_)));
    assert!(matches!(refused(&good[..good.len() / 2]), Refused::Malformed(_) | Refused::NoCodec));
    assert!(matches!(refused(&good.replace("a=fingerprint", "a=x-fingerprint")), Refused::Malformed(_)));
    assert!(matches!(refused(&good.replace("a=ice-pwd", "a=x-pwd")), Refused::Malformed(_)));
    assert_eq!(refused(&good.replace("H264/", "H999/").replace("opus/", "x999/")), Refused::NoCodec);
    assert_eq!(refused(&good.replace("a=sendonly", "a=recvonly")), Refused::NoCodec);
    assert_eq!(refused(&format!("{good}{}", "a=x\r\n".repeat(20_000))), Refused::TooLong);
    assert_eq!(world.counters.sessions.load(Relaxed), 0);
    assert_eq!(world.counters.half_open.load(Relaxed), 0);
}

#[test]
fn half_open_sessions_are_bounded_and_lapse() {
    let limits = Limits { half_open: 3, ..Limits::default() };
    let mut world = World::new(limits.clone());
    let (caller, session) = connected(&mut world);
    let stranger = world.caller(options(Direction::Send, Delivery::Frames));
    let offer = world.callers[stranger].offer.clone();
    for _ in 0..3 {
        world.shard.accept(&offer, receive(), (), world.now).unwrap();
    }
    assert_eq!(world.shard.accept(&offer, receive(), (), world.now).unwrap_err(), Refused::Busy);
    still_flows(&mut world, caller, session);
    world.run(limits.handshake);
    let lapsed = |(_, event): &&(SessionId, Event)| *event == Event::Ended(Ended::NotConnected);
    assert_eq!(world.shard.app().events.iter().filter(lapsed).count(), 3);
    assert_eq!((world.counters.sessions.load(Relaxed), world.counters.half_open.load(Relaxed)), (1, 0));
    world.shard.accept(&offer, receive(), (), world.now).unwrap();
    still_flows(&mut world, caller, session);
}

#[test]
fn of_ten_thousand_offers_as_many_wait_as_may() {
    let limits = Limits { half_open: 100, ..Limits::default() };
    let mut world = World::new(limits.clone());
    let (caller, session) = connected(&mut world);
    let stranger = world.caller(options(Direction::Send, Delivery::Frames));
    let offer = world.callers[stranger].offer.clone();
    let answered =
        (0..10_000).filter(|_| world.shard.accept(&offer, receive(), (), world.now).is_ok()).count();
    assert_eq!((answered, world.counters.sessions.load(Relaxed)), (limits.half_open, limits.half_open + 1));
    still_flows(&mut world, caller, session);
}

#[test]
fn a_viewer_that_never_sends_rtcp_is_sent_to_all_the_same() {
    let mut world = World::new(Limits::default());
    let caller = world.caller(options(Direction::Receive, Delivery::Packets));
    let sending =
        SessionOptions { estimate_from_bps: Some(2_000_000), ..options(Direction::Send, Delivery::Packets) };
    let session = world.call(caller, sending);
    world.until("connected", Duration::from_secs(1), |w| w.callers[caller].has(&Event::Connected));
    world.callers[caller].is_mute = true;
    let came =
        |world: &World| world.callers[caller].events.iter().filter(|e| matches!(e, Event::Packet(_))).count();
    for n in 0..600_u32 {
        let packets = (0..4_u32).map(|i| crate::PacketToSend {
            track: Track::Video,
            sequence: u64::from(n * 4 + i),
            timestamp: n * 3_000,
            marker: i == 3,
            moment: world.now,
            payload: Arc::from(vec![7; 1_000]),
        });
        world.shard.message(Say::Packets(session, packets.collect()), world.now);
        world.run(Duration::from_millis(33));
    }
    world.run(Duration::from_millis(500));
    assert!(!world.events(session).any(|e| matches!(e, Event::Ended(_))));
    assert!(came(&world) >= 2_300, "{} of 2,400 packets came in 20 s", came(&world));
}

#[test]
fn a_bad_answer_ends_its_session_and_none_lets_it_lapse() {
    let limits = Limits::default();
    let mut world = World::new(limits.clone());
    let (caller, session) = connected(&mut world);
    let sends = options(Direction::Send, Delivery::Packets);
    for (answer, why) in [
        ("hello", Refused::Malformed("it does not begin with v=0".to_owned())),
        (&*format!("v=0{}", " ".repeat(crate::limits::SDP_BYTES)), Refused::TooLong),
    ] {
        let offered = world.shard.offer("c", sends, (), world.now).unwrap().session;
        assert_eq!(world.shard.answer(offered, answer, world.now), Err(why));
        assert_eq!(world.shard.answer(offered, answer, world.now), Err(Refused::Gone));
    }
    let other = world.called(sends, receive()).1;
    assert_eq!(world.shard.answer(other, "v=0", world.now), Err(Refused::Gone), "it is answered already");
    let unanswered = world.shard.offer("c", sends, (), world.now).unwrap().session;
    world.run(limits.handshake + Duration::from_millis(5));
    assert_eq!(world.shard.answer(unanswered, "v=0", world.now), Err(Refused::Gone));
    still_flows(&mut world, caller, session);
    assert!(!world.shard.app().opened.contains(&unanswered));
}

#[test]
fn floods_are_dropped_and_counted() {
    let mut world = World::new(Limits { stun_per_source: 50, ..Limits::default() });
    let (caller, session) = connected(&mut world);
    let stranger = SocketAddr::from(([203, 0, 113, 7], 7));
    let proven = world.callers[caller].address;
    let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    stun.extend([7; 12]);
    for n in 0..10_000_u32 {
        let from = SocketAddr::new(stranger.ip(), u16::try_from(n % 60_000).unwrap() + 1);
        world.shard.receive(from, &stun, world.now);
        // A DTLS ClientHello, and RTP with an SSRC that nobody has announced.
        world.shard.receive(from, &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], world.now);
        world.shard.receive(from, &[0x80, 96, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 1, 2, 3], world.now);
        world.shard.receive(from, &[99, 1, 2, 3], world.now);
    }
    assert_eq!(world.counters.strangers.load(Relaxed), 20_000);
    assert!(world.counters.dropped.load(Relaxed) >= 10_000);
    // From the session's own address: unknown SSRCs, damaged SRTP, damaged DTLS.
    for n in 0..1_000_u32 {
        let mut rtp = vec![0x80, 96, 0, 1, 0, 0, 0, 1];
        rtp.extend(n.to_be_bytes());
        rtp.extend([n.to_be_bytes()[3]; 40]);
        world.shard.receive(proven, &rtp, world.now);
    }
    world.shard.receive(proven, &[22, 254, 253, 1, 2, 3], world.now);
    still_flows(&mut world, caller, session);
}

#[test]
fn checks_with_a_known_name_and_a_wrong_password_are_limited_per_source() {
    let mut world = World::new(Limits { stun_per_source: 50, ..Limits::default() });
    let (caller, session) = connected(&mut world);
    let ufrag = {
        let stranger = world.caller(options(Direction::Send, Delivery::Frames));
        let offer = world.callers[stranger].offer.clone();
        world.shard.accept(&offer, receive(), (), world.now).unwrap().ufrag
    };
    let name = format!("{ufrag}:abcd");
    let mut attributes = vec![0, 6, 0, u8::try_from(name.len()).unwrap()];
    attributes.extend(name.as_bytes());
    attributes.resize(attributes.len().next_multiple_of(4), 0);
    attributes.extend([0, 0x24, 0, 4, 1, 2, 3, 4]);
    attributes.extend([0, 8, 0, 20]);
    attributes.extend([9; 20]);
    let mut check = vec![0, 1, 0, u8::try_from(attributes.len()).unwrap(), 0x21, 0x12, 0xa4, 0x42];
    check.extend([7; 12]);
    check.extend(&attributes);
    for port in 1..1_001_u16 {
        world.shard.receive(SocketAddr::from(([203, 0, 113, 7], port)), &check, world.now);
    }
    assert_eq!(world.counters.stun_refused.load(Relaxed), 50);
    assert_eq!(world.counters.stun_limited.load(Relaxed), 950);
    still_flows(&mut world, caller, session);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_damage_to_an_offer_is_an_error_or_an_answer(at in 0..4_000_usize, with in "[ -~\r\n]{0,12}") {
        let mut world = World::new(Limits::default());
        let caller = world.caller(options(Direction::Send, Delivery::Frames));
        let mut offer = world.callers[caller].offer.clone();
        let at = at.min(offer.len());
        let end = (at + with.len()).min(offer.len());
        offer.replace_range(at..end, &with);
        let _ = world.shard.accept(&offer, receive(), (), world.now);
    }

    #[test]
    fn any_damage_to_an_answer_is_an_error_or_a_session(at in 0..4_000_usize, with in "[ -~\r\n]{0,12}") {
        let mut world = World::new(Limits::default());
        let sends = options(Direction::Send, Delivery::Packets);
        let offer = world.shard.offer("c", sends, (), world.now).unwrap();
        let at_client = [client_address()];
        let (_, mut answer) = Peer::answer_as_client(&offer.sdp, receive(), &at_client, world.now).unwrap();
        let at = at.min(answer.len());
        let end = (at + with.len()).min(answer.len());
        answer.replace_range(at..end, &with);
        let agreed = world.shard.answer(offer.session, &answer, world.now);
        prop_assert_eq!(agreed.is_ok(), world.shard.app().opened.contains(&offer.session));
    }

    #[test]
    fn any_datagram_is_survived(datagrams in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..100), 0..50,
    )) {
        let mut world = World::new(Limits::default());
        let (caller, session) = connected(&mut world);
        let proven = world.callers[caller].address;
        for datagram in &datagrams {
            world.shard.receive(proven, datagram, world.now);
            world.shard.receive(SocketAddr::from(([203, 0, 113, 7], 7)), datagram, world.now);
        }
        prop_assert!(!world.events(session).any(|e| matches!(e, Event::Ended(_))));
    }
}
