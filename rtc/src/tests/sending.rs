//! What is sent past the engine, as an engine reads it at the other end.

use super::*;
use crate::PacketToSend;

const SECOND: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(33);

/// A viewer of packets that is connected, and its session.
fn viewer(world: &mut World, estimate_from_bps: Option<u64>) -> (usize, SessionId) {
    let caller = world.caller(options(Direction::Receive, Delivery::Packets));
    (caller, called(world, caller, estimate_from_bps))
}

fn called(world: &mut World, caller: usize, estimate_from_bps: Option<u64>) -> SessionId {
    let sends = SessionOptions { estimate_from_bps, ..options(Direction::Send, Delivery::Packets) };
    let session = world.call(caller, sends);
    world.until("connected", SECOND, |w| {
        w.callers[caller].has(&Event::Connected) && w.events(session).any(|e| *e == Event::Connected)
    });
    session
}

fn packet(world: &World, track: Track, sequence: u64) -> PacketToSend {
    let fill = u8::try_from(sequence % 251).unwrap();
    PacketToSend {
        track,
        sequence,
        timestamp: u32::try_from(sequence).unwrap().wrapping_mul(900),
        marker: sequence % 3 == 2,
        moment: world.now,
        payload: vec![fill; if sequence % 3 == 2 { 300 } else { 1_100 }].into(),
    }
}

/// Sends frames of three packets, and what is lacking again. Returns what was asked for.
fn send(world: &mut World, session: SessionId, frames: std::ops::Range<u64>) -> Vec<u64> {
    let (mut asked, mut seen) = (Vec::new(), world.events(session).count());
    for n in frames {
        let packets: Vec<_> = (0..3).map(|k| packet(world, Track::Video, n * 3 + k)).collect();
        world.shard.message(Say::Packets(session, packets), world.now);
        for _ in 0..FRAME.as_millis() {
            world.run(Duration::from_millis(1));
            let lost: Vec<u64> = world.events(session).skip(seen).filter_map(lost).collect();
            seen = world.events(session).count();
            for sequence in lost {
                asked.push(sequence);
                world.shard.message(Say::Repeat(session, packet(world, Track::Video, sequence)), world.now);
            }
        }
    }
    world.run(SECOND / 4);
    asked
}

fn lost(event: &Event) -> Option<u64> {
    match event {
        Event::PacketLost { track: Track::Video, sequence } => Some(*sequence),
        _ => None,
    }
}

/// Numbers of what came, in their order, once each; all of it as it was sent.
#[track_caller]
fn received(world: &World, caller: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    for event in &world.callers[caller].events {
        let Event::Packet(came) = event else { continue };
        let sent = packet(world, Track::Video, came.sequence);
        assert_eq!((came.timestamp, came.marker), (sent.timestamp, sent.marker), "{}", came.sequence);
        assert_eq!(came.payload, sent.payload, "{}", came.sequence);
        numbers.push(came.sequence);
    }
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "none twice");
    numbers
}

#[test]
fn what_is_lost_is_asked_for_and_sent_again_and_the_number_turns_meanwhile() {
    for estimate in [None, Some(2_000_000)] {
        let mut world = World::new(Limits::default());
        let (caller, session) = viewer(&mut world, estimate);
        send(&mut world, session, 21_800..21_802);
        world.lost = |n| n % 11 == 3;
        let asked = send(&mut world, session, 21_802..21_900);
        world.lost = |_| false;
        send(&mut world, session, 21_900..21_910);
        let (came, all) = (received(&world, caller), (65_400..65_730_u64).collect::<Vec<_>>());
        assert_eq!(came, all, "numbers beyond 65,536 included");
        assert!(asked.len() >= 10, "{} were asked for", asked.len());
    }
}

#[test]
fn without_a_stream_for_repeats_a_packet_is_sent_again_as_it_was() {
    let mut world = World::new(Limits::default());
    let caller = world.caller(options(Direction::Receive, Delivery::Packets));
    let offer = &mut world.callers[caller].offer;
    let about: Vec<String> =
        offer.lines().filter_map(|l| l.split_once(" rtx/")).map(|(l, _)| l.into()).collect();
    let payload_types: Vec<&str> = about.iter().filter_map(|line| line.strip_prefix("a=rtpmap:")).collect();
    let without = |line: &str| {
        let is_about = payload_types.iter().any(|pt| line.contains(&format!(":{pt} ")));
        let words = line.split(' ').filter(|word| !line.starts_with("m=") || !payload_types.contains(word));
        (!is_about).then(|| words.collect::<Vec<_>>().join(" ") + "\r\n")
    };
    *offer = offer.lines().filter_map(without).collect();
    let session = called(&mut world, caller, Some(1_000_000));
    send(&mut world, session, 0..2);
    world.lost = |n| n % 11 == 3;
    send(&mut world, session, 2..30);
    world.lost = |_| false;
    let came = received(&world, caller);
    let missing: Vec<u64> = (0..90).filter(|n| !came.contains(n)).collect();
    assert!(missing.len() >= 5, "{missing:?}");
    // The engine does not ask without a stream for repeats, but takes what comes within a hundred packets.
    for sequence in missing {
        world.shard.message(Say::Repeat(session, packet(&world, Track::Video, sequence)), world.now);
    }
    world.run(SECOND / 4);
    assert_eq!(received(&world, caller), (0..90).collect::<Vec<_>>());
}

#[test]
fn only_a_share_is_repeated_and_only_what_was_sent() {
    let mut world = World::new(Limits::default());
    let (_, session) = viewer(&mut world, None);
    send(&mut world, session, 0..10);
    let again = packet(&world, Track::Video, 3);
    let repeated = |world: &mut World, packet: &PacketToSend| {
        let before = world.shard.app().repeated;
        world.shard.message(Say::Repeat(session, packet.clone()), world.now);
        world.shard.app().repeated - before
    };
    let unknown = packet(&world, Track::Video, 99);
    assert_eq!(repeated(&mut world, &unknown), 0, "it was never sent");
    let many: usize = (0..1_000).map(|_| repeated(&mut world, &again)).sum();
    assert_eq!(many, crate::limits::REPEATS_AT_ONCE as usize);
    send(&mut world, session, 10..20);
    let more: usize = (0..1_000).map(|_| repeated(&mut world, &again)).sum();
    assert_eq!(more, 30 / crate::limits::PACKETS_FOR_A_REPEAT as usize);
}

#[test]
fn a_number_is_sent_once() {
    let mut world = World::new(Limits::default());
    let (caller, session) = viewer(&mut world, None);
    send(&mut world, session, 0..3);
    let other = PacketToSend { payload: vec![9; 1_100].into(), ..packet(&world, Track::Video, 4) };
    world.shard.message(Say::Packets(session, vec![other]), world.now);
    world.run(SECOND);
    assert_eq!(received(&world, caller), (0..9).collect::<Vec<_>>());
}

#[test]
fn reports_tell_which_moment_a_timestamp_means() {
    let mut world = World::new(Limits::default());
    let (caller, session) = viewer(&mut world, None);
    for n in 0..100_u64 {
        // The sound is under way for 200 ms longer than the picture, which its moments tell.
        let late = Duration::from_millis(200);
        let moment = world.now.checked_sub(late).unwrap();
        let step = u32::try_from(n).unwrap();
        let sound = PacketToSend { timestamp: step * 960, moment, ..packet(&world, Track::Audio, n) };
        let picture = PacketToSend { timestamp: step * 1_800, ..packet(&world, Track::Video, n) };
        world.shard.message(Say::Packets(session, vec![picture]), world.now);
        world.shard.message(Say::Packets(session, vec![sound]), world.now);
        world.run(Duration::from_millis(20));
    }
    let newest = |track| {
        let of = |event: &Event| match event {
            Event::SenderReport(report) if report.track == track => Some(*report),
            _ => None,
        };
        world.callers[caller].events.iter().filter_map(of).next_back()
    };
    let (picture, sound) = (newest(Track::Video).unwrap(), newest(Track::Audio).unwrap());
    assert_eq!(picture.wall, sound.wall);
    // Of one moment: the n-th picture was sent with the n-th sound, whose moment lies 200 ms before.
    let behind_s = sound.timestamp as f64 / 48_000.0 - picture.timestamp as f64 / 90_000.0;
    assert!((behind_s - 0.2).abs() < 0.002, "{behind_s}");
}

#[test]
fn who_says_goodbye_while_sending_is_heard() {
    let mut world = World::new(Limits::default());
    let (caller, session) = viewer(&mut world, None);
    send(&mut world, session, 0..3);
    world.shard.close(session, world.now);
    world.until("it is over", SECOND, |w| w.callers[caller].has(&Event::Ended(crate::Ended::ClosedByPeer)));
}

#[test]
fn media_follows_a_viewer_that_moves() {
    let mut world = World::new(Limits::default());
    let (caller, session) = viewer(&mut world, None);
    send(&mut world, session, 0..3);
    let fragment =
        crate::Fragment::parse("a=ice-ufrag:wxyz\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n").unwrap();
    let changed = world.shard.change_ice(session, &fragment, world.now).unwrap();
    let crate::IceChange::Restarted { fragment, .. } = changed else { panic!("{changed:?}") };
    let told = crate::Fragment::parse(&fragment).unwrap().credentials.unwrap();
    let client = str0m::IceCreds { ufrag: "wxyz".to_owned(), pass: "abcdefghijklmnopqrstuvwx".to_owned() };
    let mut moved = client_address();
    moved.set_port(45_000);
    world.callers[caller].peer.restart_ice(&client, &told).unwrap();
    world.callers[caller].address = moved;
    send(&mut world, session, 3..120);
    let came = received(&world, caller);
    assert!(came.len() > 200 && came.last() == Some(&359), "{} packets, to {:?}", came.len(), came.last());
}

#[test]
fn the_keys_of_one_viewer_say_nothing_to_another() {
    let mut world = World::new(Limits::default());
    let ((one, first), (other, second)) = (viewer(&mut world, None), viewer(&mut world, None));
    send(&mut world, first, 0..3);
    assert_eq!((received(&world, one).len(), received(&world, other).len()), (9, 0));
    // What is for one is led to the other, and the other way round.
    let addresses = [world.callers[one].address, world.callers[other].address];
    world.callers[one].address = addresses[1];
    world.callers[other].address = addresses[0];
    for session in [first, second] {
        let packets = (20..23).map(|n| packet(&world, Track::Video, n)).collect();
        world.shard.message(Say::Packets(session, packets), world.now);
    }
    world.run(SECOND / 10);
    assert_eq!((received(&world, one).len(), received(&world, other).len()), (9, 0));
}

#[test]
fn a_large_frame_is_spread_where_the_way_is_estimated_and_small_ones_leave_at_once() {
    for (estimate, at_once) in [(None, 100), (Some(2_000_000), crate::limits::PACKETS_AT_ONCE)] {
        let mut world = World::new(Limits::default());
        let (caller, session) = viewer(&mut world, estimate);
        let packets = (0..100).map(|n| packet(&world, Track::Video, n)).collect();
        world.shard.message(Say::Packets(session, packets), world.now);
        world.run(DELAY + Duration::from_millis(2));
        assert_eq!(received(&world, caller).len(), at_once);
        world.run(Duration::from_millis(28));
        assert_eq!(received(&world, caller).len(), 100);
    }
}
