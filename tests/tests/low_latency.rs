//! Low-latency HLS as a strict player sees it, through every door, and what a server without it looks like.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sluicegate_e2e::address::Host;
use sluicegate_e2e::browser::Page;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::http;
use sluicegate_e2e::ll_hls::{Report, validate};
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::until::until;

use crate::demo;

const WATCHED: Duration = Duration::from_secs(8);
/// For a page to play.
const PAGE: Duration = Duration::from_secs(30);

#[track_caller]
fn is_good(report: &Report) {
    assert!(report.faults.is_empty(), "{report:#?}");
    assert!(report.reloads >= 20 && report.hinted >= 20 && report.compared >= 4, "{report:?}");
}

#[test]
fn a_strict_player_finds_nothing_wrong_in_one_process() {
    let node = NodeConfig::standalone().set("[app]", "name = \"live\"").set("[app]", "window = 12").start();
    let _publisher = publish(node.rtmp(), "live/strict");
    let url = node.url("/live/streams/strict.m3u8");
    // Long enough for a delta update to leave something out.
    let _ = until("a full window", demo::FIRST_SEGMENTS, || {
        MediaPlaylist::fetch(&url).filter(|playlist| playlist.segments.len() >= 10)
    });
    let report = validate(&node.url("/live/streams/strict_adaptive.m3u8"), WATCHED);
    is_good(&report);
    assert!(report.deltas >= 4, "{report:?}");
}

#[test]
fn a_strict_player_finds_nothing_wrong_through_balancer_and_edge() {
    let cluster = Cluster::start(&[100]);
    let _publisher = publish(cluster.lb.rtmp(), "live/strict");
    demo::playlist(&cluster.lb, "strict");
    is_good(&validate(&cluster.lb.url("/live/streams/strict.m3u8"), WATCHED));
}

#[test]
fn the_player_page_is_less_than_two_seconds_behind() {
    let node = demo::node();
    let mut page = Page::open(&node.url("/live/play.html?id=demo&playOrder=hls"), 3 * PAGE);
    // Three target durations, where players without low latency stay, are three seconds.
    let seen = page.until("it plays with low latency", PAGE, |page| {
        let behind_ms = page["latencyMs"].as_f64().unwrap_or(f64::MAX);
        page["state"] == "live" && page["playedS"].as_f64() >= Some(3.0) && behind_ms < 2_000.0
    });
    eprintln!("the player is {} ms behind", seen["latencyMs"]);
}

/// What a stream's files were at one moment, served as any web server serves files.
fn plain_files(url: &str) -> String {
    let listed = http::get(url);
    let playlist = MediaPlaylist::read(url, &listed.text());
    let mut files = HashMap::from([("/cam.m3u8".to_owned(), listed.body)]);
    for segment in &playlist.segments {
        files.insert(format!("/{}", segment.uri), http::get(&playlist.resolve(&segment.uri)).body);
    }
    let host = Host::claim();
    let address = host.port(8080);
    let listener = TcpListener::bind(address).unwrap();
    let files = Arc::new(files);
    thread::spawn(move || {
        let _host = host;
        for connection in listener.incoming().flatten() {
            let files = Arc::clone(&files);
            thread::spawn(move || serve(connection, &files));
        }
    });
    format!("http://{address}/cam.m3u8")
}

#[test]
fn a_strict_player_finds_plain_files_wanting() {
    let node = demo::node();
    let url = plain_files(&node.url("/live/streams/demo.m3u8"));
    let report = validate(&url, WATCHED);
    let found = |what: &str| report.faults.iter().any(|fault| fault.contains(what));
    assert!(found("?_HLS_part=0 got 200, not 400"), "{report:#?}");
    assert!(found("was answered before the playlist had it"), "{report:#?}");
    assert_eq!((report.reloads, report.hinted), (0, 0), "{report:#?}");
}

fn serve(mut connection: TcpStream, files: &HashMap<String, bytes::Bytes>) {
    let mut head = String::new();
    let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
    while let Some(Ok(line)) = lines.next().filter(|line| line.as_ref().is_ok_and(|line| !line.is_empty())) {
        if head.is_empty() {
            head = line;
        }
    }
    let path = head.split([' ', '?']).nth(1).unwrap_or_default();
    let (status, body) = files.get(path).map_or(("404 Not Found", &[][..]), |body| ("200 OK", &body[..]));
    let _ = write!(
        connection,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncache-control: max-age=1\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = connection.write_all(body);
}
