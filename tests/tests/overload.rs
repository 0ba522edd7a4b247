//! An origin whose encoders cannot keep up: it says so, sheds load, and takes it up again.

use std::time::Duration;

use sluicegate_e2e::burden::{Burden, processors};
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::publisher::{Recording, publish};
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::until::{until, until_true};
use sluicegate_e2e::{browser, http};

use crate::demo::FIRST_SEGMENTS;

/// More runnable threads beside the node's than leave it enough for its ladder.
const TOO_MANY: usize = 32;
/// For load to be shed, and to be taken up again.
const SHED: Duration = Duration::from_secs(40);
/// The rungs of 720p, the most expensive first.
const RUNGS: [&str; 3] = ["480p1200kbps", "420p900kbps", "360p700kbps"];

fn playlist(node: &NodeProcess, rung: &str) -> Option<MediaPlaylist> {
    MediaPlaylist::fetch(&node.url(&format!("/live/streams/new_{rung}.m3u8")))
}

fn given_up(node: &NodeProcess, key: &str) -> Vec<String> {
    let stream = node.stream(key).unwrap_or_default();
    let names = stream["given_up"].as_array().cloned().unwrap_or_default();
    names.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

fn is_listed(node: &NodeProcess, rung: &str) -> bool {
    http::get(&node.url("/live/streams/new_adaptive.m3u8")).text().contains(rung)
}

#[test]
fn late_encoders_give_rungs_up_and_take_them_back() {
    let ladder = "ladder = [{ height = 360, kbps = 700 }, { height = 420, kbps = 900 }, { height = 480, kbps = 1_200 }, { height = 120, kbps = 100 }]";
    let node = NodeConfig::standalone()
        .set("[app]", "name = \"live\"")
        .set("[app]", ladder)
        .set("limits", "ladder_calm_ms = 1_000")
        .set("origin", "capacity_mpx = 10_000")
        .start();
    let processors = processors();
    node.confine(processors[0]);
    let _old = publish(node.rtmp(), "live/old");
    let _new = Recording::make("1280x720", 2_000).publish(node.rtmp(), "live/new");
    until_true("all rungs are listed", FIRST_SEGMENTS, || RUNGS.iter().all(|rung| is_listed(&node, rung)));
    let count = |name| node.count(name, &[]);

    // The others are busy as well: on a machine with room, what is late is late by itself, and fills nothing.
    let burden = processors.iter().map(|&p| Burden::on(p, if p == processors[0] { TOO_MANY } else { 1 }));
    let burden: Vec<Burden> = burden.collect();
    until_true("a rung is given up", SHED, || count("sluicegate_origin_rungs_given_up_total") > 0);
    assert_eq!(count("sluicegate_origin_full"), 1);
    let said = node.log().lines().find(|line| line.contains("a rung is given up")).unwrap().to_owned();
    assert!(said.contains("live/new"), "the newest first: {said}");
    let refusal = RtmpClient::publish(node.rtmp(), "live", "another").err().unwrap();
    assert_eq!(refusal.code, "NetStream.Publish.Rejected", "{refusal:?}");
    until_true("the most expensive rung is named as given up", SHED, || {
        given_up(&node, "live/new").contains(&RUNGS[0].to_owned()) && !is_listed(&node, RUNGS[0])
    });
    let gap = until("its playlist goes on with gaps", SHED, || {
        playlist(&node, RUNGS[0]).filter(|playlist| playlist.segments.last().is_some_and(|last| last.gap))
    });
    let problem = node.node("standalone").unwrap()["problem"].as_str().unwrap_or_default().to_owned();
    assert!(problem.contains("encoders fall behind"), "{problem}");
    let page = node.admin_url("/#/stream/live/new");
    let _ = browser::read(&page, &[RUNGS[0], "encoders are late"], SHED);
    // Who plays it is not behind by more for that: where the source is, its playlist is as well.
    let source = MediaPlaylist::fetch(&node.url("/live/streams/new.m3u8")).unwrap();
    let behind = source.last_sequence().saturating_sub(playlist(&node, RUNGS[0]).unwrap().last_sequence());
    assert!(behind <= 2, "{behind} segments behind the source");
    drop(burden);

    until_true("a rung comes back", SHED, || count("sluicegate_origin_rungs_taken_back_total") > 0);
    let back = until("all are made and listed again", SHED, || {
        let made = |rung: &&str| {
            let is_there = |p: &MediaPlaylist| p.segments.last().is_some_and(|last| !last.gap);
            is_listed(&node, rung) && playlist(&node, rung).is_some_and(|p| is_there(&p))
        };
        RUNGS.iter().all(made).then(|| playlist(&node, RUNGS[0]))?
    });
    assert!(back.last_sequence() > gap.last_sequence());
    assert_eq!(back.segments[0].epoch(), gap.segments[0].epoch(), "it is the same claim");
    let dates = |text: String| {
        text.lines()
            .filter_map(|l| l.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let of = |name: &str| dates(http::get(&node.url(&format!("/live/streams/{name}.m3u8"))).text());
    let (source, rung) = (of("new"), of(&format!("new_{}", RUNGS[0])));
    assert!(rung.iter().filter(|date| source.contains(date)).count() >= 3, "{rung:?} beside {source:?}");
    until_true("nothing is given up any more", SHED, || {
        count("sluicegate_origin_full") == 0 && given_up(&node, "live/new").is_empty()
    });
    RtmpClient::publish(node.rtmp(), "live", "another").ok().unwrap().end();
}
