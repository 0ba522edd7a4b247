//! Graphics cards, where there are any; and that nothing is missed where there are none.

use std::time::Duration;

use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::publisher::{Broadcast, Publisher};
use sluicegate_e2e::until::{until, until_true};

use crate::demo;

/// For a metric to follow.
const SOON: Duration = Duration::from_secs(10);

fn with(encoder: &str) -> NodeConfig {
    NodeConfig::standalone()
        .set("[app]", "name = \"live\"")
        .set("[app]", "ladder = [{ height = 180, kbps = 300 }]")
        .set("origin", &format!("encoder = {encoder:?}"))
}

fn publish(node: &NodeProcess) -> Publisher {
    Broadcast::default().size("640x360").publish(node.rtmp(), "live/cam")
}

fn good_cards(node: &NodeProcess) -> u64 {
    node.count("sluicegate_gpu_cards", &[("state", "good")])
}

#[test]
fn a_ladder_is_made_where_there_is_room_for_it() {
    let node = with("auto").start();
    let _publisher = publish(&node);
    let url = node.url("/live/streams/cam_180p300kbps.m3u8");
    until("the rung is listed", demo::FIRST_SEGMENTS, || {
        MediaPlaylist::fetch(&url).filter(|playlist| playlist.segments.len() >= 2)
    });
    let working = |place| node.count("sluicegate_gpu_transcoders", &[("place", place)]);
    let (on_cards, by_processors) = (working("card") + working("both"), working("cpu"));
    if good_cards(&node) == 0 {
        eprintln!("SKIPPED: the part that needs a graphics card, for there is none here");
        assert_eq!((on_cards, by_processors), (0, 1));
    } else {
        assert_eq!((on_cards, by_processors), (1, 0));
    }
}

#[test]
fn where_only_cards_may_encode_a_machine_without_them_says_so_and_takes_nothing() {
    let node = with("nvenc").start();
    let capacity = || node.count("sluicegate_origin_capacity_mpx", &[]);
    if good_cards(&node) > 0 {
        eprintln!("SKIPPED: there is a graphics card here");
        return;
    }
    until_true("it has no room", SOON, || capacity() == 0);
    let _publisher = publish(&node);
    let mut publisher = publish(&node);
    let said = publisher.ends_within(SOON);
    assert!(!said.is_empty());
    assert_eq!(http::try_get(&node.url("/live/streams/cam.m3u8")).unwrap().status, 404);
    let doctor = with("nvenc").run(&["doctor"]);
    assert_eq!(doctor.code, Some(2), "{}", doctor.stderr);
    assert!(doctor.stderr.contains("no graphics card encodes"), "{}", doctor.stderr);
    let check = with("nvenc").run(&["check"]);
    assert!(check.stdout.contains("origin.encoder") && check.stdout.contains("nvenc"), "{}", check.stdout);
}
