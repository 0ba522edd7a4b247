//! A ladder, from ffmpeg to ffprobe and to the browser, in one process.

use std::time::Duration;

use sluicegate_e2e::browser::{Page, watch};
use sluicegate_e2e::hls::{MediaPlaylist, attribute, variants};
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::probe::probe;
use sluicegate_e2e::publisher::{Broadcast, Publisher, Recording};
use sluicegate_e2e::until::until;

use crate::demo;

const RUNGS: [(&str, (u64, u64)); 2] = [("cam_240p400kbps", (426, 240)), ("cam_120p150kbps", (214, 120))];
const PAGE: Duration = Duration::from_secs(30);

/// A node with a ladder of three rungs, the first of which is larger than what is published to it.
fn node() -> (NodeProcess, Publisher) {
    let ladder = "ladder = [{ height = 120, kbps = 150, fps = 15 }, { height = 240, kbps = 400 }, { height = 720, kbps = 2_000 }]";
    let node = NodeConfig::standalone().set("[app]", "name = \"live\"").set("[app]", ladder).start();
    let publisher = Broadcast::default().size("640x360").publish(node.rtmp(), "live/cam");
    for (name, _) in RUNGS {
        let url = node.url(&format!("/live/streams/{name}.m3u8"));
        until(&format!("{url} lists four segments"), demo::FIRST_SEGMENTS, || {
            MediaPlaylist::fetch(&url).filter(|playlist| playlist.segments.len() >= 4)
        });
    }
    (node, publisher)
}

#[test]
fn each_rung_decodes_in_its_size_and_is_listed_as_it_is() {
    let (node, _publisher) = node();
    for (name, size) in RUNGS {
        let probed = probe(&node.url(&format!("/live/streams/{name}.m3u8")));
        assert_eq!((probed.codecs(), probed.size()), (vec!["aac", "h264"], size));
        let per_second = if size.1 == 120 { 15 } else { 30 };
        assert!(probed.frames("video") >= per_second * 3 / 2, "{probed:?}");
        assert!(probed.frames("audio") >= 70, "{probed:?}");
    }
    let list = http::get(&node.url("/live/streams/cam_adaptive.m3u8")).text();
    let told = |attributes: &str, name| attribute(attributes, name).unwrap_or_default();
    let mut listed: Vec<_> = variants(&list)
        .iter()
        .map(|(a, uri)| (told(a, "RESOLUTION"), told(a, "FRAME-RATE"), uri.clone()))
        .collect();
    listed.sort();
    let expect = [
        ("214x120", "15.000", "cam_120p150kbps.m3u8"),
        ("426x240", "30.000", "cam_240p400kbps.m3u8"),
        ("640x360", "30.000", "cam.m3u8"),
    ];
    assert_eq!(listed, expect.map(|(size, rate, uri)| (size.to_owned(), rate.to_owned(), uri.to_owned())));
    for (attributes, uri) in variants(&list) {
        let codecs = told(&attributes, "CODECS");
        assert!(codecs.starts_with("avc1.") && codecs.ends_with("mp4a.40.2"), "{codecs}");
        let bps: u64 = told(&attributes, "BANDWIDTH").parse().unwrap_or(0);
        assert!(uri == "cam.m3u8" || (20_000..900_000).contains(&bps), "{attributes}");
    }
    let _ = until("the record names the renditions", demo::FIRST_SEGMENTS, || {
        let stream = node.stream("live/cam")?;
        (stream["renditions"] == serde_json::json!(["source", "120p150kbps", "240p400kbps"]))
            .then_some(stream)
    });
}

#[test]
fn segments_of_all_renditions_begin_together() {
    let (node, _publisher) = node();
    let dates = |name: &str| {
        let text = http::get(&node.url(&format!("/live/streams/{name}.m3u8"))).text();
        let list = MediaPlaylist::read("", &text);
        let dates = text.lines().filter_map(|l| l.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:"));
        (list.sequence..).zip(dates.map(str::to_owned)).collect::<Vec<_>>()
    };
    for (name, _) in RUNGS {
        let (source, rung) = (dates("cam"), dates(name));
        // Number and date of all but the newest, which one of the two may not have yet.
        let both = source.iter().filter(|segment| rung.contains(segment)).count();
        assert!(both >= 3 && both + 2 >= rung.len(), "{name}: {rung:?} beside {source:?}");
    }
}

#[test]
fn the_player_plays_a_ladder() {
    let (node, _publisher) = node();
    let page = watch(&node.url("/live/play.html?id=cam"), "live", PAGE);
    assert!(page["frames"].as_u64().is_some_and(|frames| frames > 30), "{page}");
    assert_eq!(page["recoveries"], 0, "{page}");
}

/// The longest time between two looks at which the picture had moved, once it had begun to, milliseconds.
fn longest_stall_ms(looks: &[serde_json::Value]) -> f64 {
    let moments: Vec<(f64, f64)> = looks
        .iter()
        .filter_map(|look| Some((look["atMs"].as_f64()?, look["currentTime"].as_f64()?)))
        .skip_while(|(_, at)| *at <= 0.0)
        .collect();
    let (mut moved_at, mut place, mut longest) = (None, f64::NAN, 0.0_f64);
    for (at_ms, current) in moments {
        longest = longest.max(at_ms - moved_at.unwrap_or(at_ms));
        if (current - place).abs() > 1e-6 {
            (moved_at, place) = (Some(at_ms), current);
        }
    }
    longest
}

#[test]
fn a_player_goes_down_a_rung_and_up_again() {
    /// From one picture to the next: what is buffered at the live edge is a second, and a switch takes a segment.
    const STALL_MS: f64 = 3_000.0;
    const LIFE: Duration = Duration::from_secs(150);
    const SWITCH: Duration = Duration::from_secs(60);
    let ladder = "ladder = [{ height = 360, kbps = 300 }, { height = 180, kbps = 100 }]";
    let node = NodeConfig::standalone().set("[app]", "name = \"live\"").set("[app]", ladder).start();
    let _publisher = Recording::make("1280x720", 800).publish(node.rtmp(), "live/cam");
    let list = node.url("/live/streams/cam_adaptive.m3u8");
    until("all three renditions are listed", demo::FIRST_SEGMENTS, || {
        (variants(&http::get(&list).text()).len() == 3).then_some(())
    });
    let mut page = Page::open(&node.url("/live/play.html?id=cam&playOrder=hls"), LIFE);
    let height = |look: &serde_json::Value| look["videoHeight"].as_u64().unwrap_or(0);
    let plays = |look: &serde_json::Value| look["state"] == "live" && look["playedS"].as_f64() > Some(2.0);
    let first = page.until("plays the source", SWITCH, |look| plays(look) && height(look) == 720);
    page.throttle(Some(650));
    page.until("plays a rung", SWITCH, |look| (1..720).contains(&height(look)));
    page.throttle(None);
    let last = page.until("plays the source again", SWITCH, |look| height(look) == 720);
    assert_eq!(
        (last["openedAt"].as_f64(), &last["recoveries"]),
        (first["openedAt"].as_f64(), &first["recoveries"])
    );
    assert_eq!(last["mediaError"], serde_json::Value::Null);
    let stall_ms = longest_stall_ms(&page.looks());
    assert!(stall_ms < STALL_MS, "it stood still for {stall_ms} ms");
}
