//! Who comes in: connections that never come to anything are closed and bounded while viewers play on, and proxies
//! that are trusted say whom they speak for.

use std::net::SocketAddr;
use std::time::Duration;

use sluicegate_e2e::address::Host;
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::proxy_relay::ProxyRelay;
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::rtmp_client::{RawClient, RtmpClient};
use sluicegate_e2e::tls_client::TlsClient;
use sluicegate_e2e::until::{until, until_true};
use sluicegate_e2e::viewer::Viewer;

/// For a limit to show.
const NOTICED: Duration = Duration::from_secs(15);
/// Somebody who holds connections.
const SLOW: usize = 40;
const CLIENT: &str = "192.0.2.7";
/// PROXY headers of both versions, for port 4711 of [`CLIENT`].
const TEXT: &[u8] = b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xcb\0\x71\x01\x12\x67\x01\xbb";

fn address(url: &str) -> SocketAddr {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    authority.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn slow_heads_are_cut_off_while_a_viewer_plays_on() {
    let node = NodeConfig::standalone().with_certificate().set("limits", "http_head_ms = 1_500").start();
    let _publisher = publish(node.rtmp(), "live/cam1");
    let mut viewer = Viewer::watch(&node.url("/live/streams/cam1.m3u8"));
    let mut told = RawClient::connect(address(&node.url("")));
    told.send(b"GET / HTTP/1.1\r\nhost: test\r\n");
    let answer = until("it is told why", NOTICED, || told.answer());
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(answer.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
    told.is_closed_within(NOTICED);
    RawClient::connect(address(&node.url(""))).is_silently_closed_within(NOTICED);
    let mut held: Vec<RawClient> = (0..SLOW).map(|_| RawClient::connect(address(&node.url("")))).collect();
    for client in &mut held {
        client.send(b"GET / HTTP/1.1\r\nhost: test\r\n");
    }
    until_true("they are cut off", NOTICED, || {
        // A byte of one more header, long before a read would time out.
        held.iter_mut().for_each(|client| client.send(b"x: y\r\n"));
        viewer.reload();
        held.retain_mut(|client| !client.is_closed());
        held.is_empty()
    });
    // Connections that the viewer's client keeps in reserve and does not use are cut off like them.
    let refused = || node.count("sluicegate_connections_refused_total", &[("reason", "slow")]);
    assert!(refused() >= SLOW as u64, "{} are counted", refused());
    let seen = viewer.last_sequence();
    until_true("the viewer plays on", NOTICED, || {
        viewer.reload();
        viewer.last_sequence() > seen
    });

    // Over TLS as well, and a request that came in time is answered as ever.
    let mut asks = TlsClient::connect(address(&node.https_url("")), &node.authority()).unwrap();
    assert_eq!(asks.get("/live/play.html").unwrap(), 200);
    let mut silent = TlsClient::connect(address(&node.https_url("")), &node.authority()).unwrap();
    let mut slow = TlsClient::connect(address(&node.https_url("")), &node.authority()).unwrap();
    assert_eq!(slow.send("GET / HTTP/1.1\r\nhost:").unwrap(), 408);
    silent.is_closed_within(NOTICED);
    assert_eq!(asks.get("/live/play.html").unwrap(), 200, "one that asked is kept for its next request");
}

#[test]
fn the_admin_plane_is_bounded_by_itself() {
    let node = NodeConfig::standalone().set("limits", "node_connections = 16").start();
    let _publisher = publish(node.rtmp(), "live/cam1");
    let mut viewer = Viewer::watch(&node.url("/live/streams/cam1.m3u8"));
    let admin = address(&node.admin_url(""));
    let held: Vec<RawClient> = (0..16).map(|_| RawClient::connect(admin)).collect();
    let mut waits = RawClient::connect(admin);
    waits.send(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    let seen = viewer.last_sequence();
    until_true("the viewer plays on", NOTICED, || {
        viewer.reload();
        viewer.last_sequence() > seen + 1
    });
    assert_eq!(waits.answer(), None, "it waits for its turn");
    drop(held);
    let answer = until("its turn comes", NOTICED, || waits.answer());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn an_address_has_so_many_connections() {
    let node = NodeConfig::standalone().set("limits", "connections_per_address = 8").start();
    let held: Vec<RawClient> = (0..8).map(|_| RawClient::shake_hands(node.rtmp())).collect();
    RawClient::connect(node.rtmp()).is_closed_within(NOTICED);
    let refused = [("listeners", "rtmp"), ("reason", "address")];
    assert_eq!(node.count("sluicegate_connections_refused_total", &refused), 1);
    drop(held);
    let ended = || node.count("sluicegate_rtmp_connections_total", &[("role", "lb")]);
    until_true("they have ended", NOTICED, || ended() == 8);
    assert!(RtmpClient::publish(node.rtmp(), "live", "cam1").is_ok(), "there is room again");
}

/// A node that logs requests and believes what a proxy at `host` says.
fn behind(host: &Host) -> NodeProcess {
    NodeConfig::standalone()
        .with_certificate()
        .set("lb", &format!("trusted_proxies = [\"{}\"]", host.ip()))
        .variable("SLUICEGATE_LOG", "access,info,pingora_core=warn,pingora_proxy=off")
        .start()
}

/// Whether the access log has a request for `path` from `viewer`.
fn asked(node: &NodeProcess, viewer: &str, path: &str) -> bool {
    let (viewer, path) = (format!("\"viewer\":\"{viewer}\""), format!("\"path\":\"{path}\""));
    node.log().lines().any(|line| line.contains(&viewer) && line.contains(&path))
}

#[test]
fn trusted_proxies_say_whom_they_speak_for() {
    let host = Host::claim();
    let node = behind(&host);
    let plain = ProxyRelay::on(host, address(&node.url("")), TEXT.to_vec());
    let at = |path: &str| format!("http://{}{path}", plain.address());
    assert_eq!(http::get(&at("/live/play.html?1")).status, 200);
    until_true("it is in the log", NOTICED, || asked(&node, CLIENT, "/live/play.html"));
    // Whoever is named by a header is no proxy himself.
    let answer = http::request("GET", &at("/live/none.html"), &[("x-forwarded-for", "198.51.100.9")], "");
    assert_eq!(answer.status, 404);
    until_true("it is in the log", NOTICED, || asked(&node, CLIENT, "/live/none.html"));
}

#[test]
fn trusted_proxies_speak_for_publishers_and_over_tls() {
    let (host, other) = (Host::claim(), Host::claim());
    let node = NodeConfig::standalone()
        .with_certificate()
        .set("lb", &format!("trusted_proxies = [\"{}\", \"{}/32\"]", host.ip(), other.ip()))
        .variable("SLUICEGATE_LOG", "access,info,pingora_core=warn,pingora_proxy=off")
        .start();
    let publishers = ProxyRelay::on(host, node.rtmp(), BINARY.to_vec());
    let _publisher = RtmpClient::publish(publishers.address(), "live", "cam1").unwrap();
    assert!(node.log().contains("\"peer\":\"192.0.2.7:4711\""), "{}", node.log());
    let viewers = ProxyRelay::on(other, address(&node.https_url("")), BINARY.to_vec());
    let (name, authority) = (node.ip().into(), node.authority());
    let mut viewer = TlsClient::connect_as(name, viewers.address(), &authority).unwrap();
    assert_eq!(viewer.get("/live/play.html").unwrap(), 200);
    until_true("it is in the log", NOTICED, || asked(&node, CLIENT, "/live/play.html"));
}

#[test]
fn a_proxy_that_speaks_http_names_its_clients() {
    let host = Host::claim();
    let node = behind(&host);
    // It says nothing before the request.
    let relay = ProxyRelay::on(host, address(&node.url("")), Vec::new());
    let url = format!("http://{}/live/play.html", relay.address());
    let headers = [("x-forwarded-for", "203.0.113.5, 198.51.100.9")];
    assert_eq!(http::request("GET", &url, &headers, "").status, 200);
    until_true("it is in the log", NOTICED, || asked(&node, "198.51.100.9", "/live/play.html"));
    assert!(!asked(&node, "203.0.113.5", "/live/play.html"), "anybody can have written that");
}

#[test]
fn others_are_not_believed() {
    let (proxy, stranger) = (Host::claim(), Host::claim());
    let node = behind(&proxy);
    let name = stranger.ip().to_string();
    let relay = ProxyRelay::on(stranger, address(&node.url("")), TEXT.to_vec());
    let url = format!("http://{}/live/play.html", relay.address());
    assert!(http::try_get(&url).map_or(true, |answer| answer.status == 400));
    assert!(!asked(&node, CLIENT, "/live/play.html"), "{}", node.log());
    let headers = [("x-forwarded-for", CLIENT)];
    assert_eq!(http::request("GET", &node.url("/live/play.html"), &headers, "").status, 200);
    until_true("it is in the log", NOTICED, || asked(&node, "127.0.0.1", "/live/play.html"));
    assert!(!asked(&node, CLIENT, "/live/play.html") && !asked(&node, &name, "/live/play.html"));

    let mut publisher = RawClient::connect(node.rtmp());
    publisher.send(&[BINARY, &[3][..], &[0; 1_536]].concat());
    publisher.is_closed_within(NOTICED);
    // A trusted one whose header is broken is not guessed at.
    let broken = ProxyRelay::on(proxy, address(&node.url("")), b"PROXY TCP4 nobody\r\n".to_vec());
    assert!(http::try_get(&format!("http://{}/live/play.html", broken.address())).is_err());
    let refused = [("listeners", "http"), ("reason", "proxy_header")];
    until_true("it is counted", NOTICED, || {
        node.count("sluicegate_connections_refused_total", &refused) == 1
    });
}
