//! The signalling through a balancer that listens, to nodes that answer what they are told to.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use reqwest::Response;
use sluicegate_cluster::clock;
use sluicegate_cluster::testing::{apps, stream_held_by};
use sluicegate_cluster::ticket::PublishTicket;
use sluicegate_cluster::token::{Grant, TokenUse};
use sluicegate_cluster::trust;

use super::{SDP_BYTES_MAX, SDP_FRAGMENT};
use crate::testing::{FakeNode, Seen, World};

const OFFER: &str = "v=0\r\n";
const ANSWER: &str = "v=0\r\na=answer\r\n";

fn created(node: &FakeNode) {
    let headers = [
        ("location", "/origin/live/whip/cam/0a-7"),
        ("content-type", "application/sdp"),
        ("etag", "\"ice-1\""),
        ("link", "<stun:stun.example.org>; rel=\"ice-server\""),
        ("server", "not told"),
    ];
    node.will(201, &headers, ANSWER);
}

async fn post(world: &World, path: &str) -> Response {
    let request = world.request(Method::POST, path).header("content-type", "application/sdp; charset=utf-8");
    request.header("authorization", "Bearer t").body(OFFER).send().await.unwrap()
}

#[track_caller]
fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

#[track_caller]
fn assert_problem(answer: &Response, status: u16) {
    assert_eq!(answer.status().as_u16(), status);
    assert_eq!(header(answer, "content-type"), "application/problem+json");
    assert_eq!(header(answer, "access-control-allow-origin"), "*");
}

fn ticket(world: &World, seen: &Seen) -> PublishTicket {
    let find = |name: &str| seen.headers.get(name).and_then(|v| v.to_str().ok());
    let (ticket, node) = PublishTicket::read(find, &world.key).unwrap();
    assert_eq!(node.as_str(), "lb-1");
    ticket
}

#[tokio::test]
async fn a_publisher_is_placed_with_a_reservation_and_led_back_to_its_origin() {
    let nodes = [FakeNode::start("o1").await, FakeNode::start("o2").await];
    let world = World::new(&nodes, Vec::new()).await;
    created(&nodes[0]);
    let answer = post(&world, "/live/whip/cam?token=a").await;
    assert_eq!(answer.status().as_u16(), 201);
    assert_eq!(header(&answer, "etag"), "\"ice-1\"");
    assert!(header(&answer, "link").contains("ice-server") && header(&answer, "server").is_empty());
    let location = header(&answer, "location").to_owned();
    assert!(location.starts_with("/live/whip/cam/o1~0a-7~") && location.ends_with("?token=a"), "{location}");
    assert_eq!(answer.text().await.unwrap(), ANSWER);

    let seen = nodes[0].seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/origin/live/whip/cam?token=a"));
    assert_eq!((seen.body.as_str(), &seen.headers["authorization"]), (OFFER, &"Bearer t".parse().unwrap()));
    let ticket = ticket(&world, &seen);
    assert!(ticket.reservation.is_some() && ticket.address == Some("127.0.0.1".parse().unwrap()));

    nodes[0].will(204, &[], "");
    let patch = world.request(Method::PATCH, &location).header("content-type", SDP_FRAGMENT);
    let answer = patch.header("if-match", "\"ice-1\"").body("a=candidate").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 204);
    let seen = nodes[0].seen().remove(0);
    assert_eq!(seen.target, "/origin/live/whip/cam/0a-7?token=a");
    assert_eq!(
        (seen.body.as_str(), &seen.headers["if-match"]),
        ("a=candidate", &"\"ice-1\"".parse().unwrap())
    );

    nodes[0].will(200, &[], "");
    let answer = world.request(Method::DELETE, &location).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(nodes[0].seen().remove(0).method, Method::DELETE);
    assert!(nodes[1].seen().is_empty());
}

#[tokio::test]
async fn an_origin_that_cannot_take_it_is_passed_over_and_a_refusal_is_final() {
    let nodes = [FakeNode::start("o1").await, FakeNode::start("o2").await];
    let world = World::new(&nodes, Vec::new()).await;
    nodes[0].will(503, &[], "");
    created(&nodes[1]);
    let answer = post(&world, "/live/whip/cam").await;
    assert_eq!(answer.status().as_u16(), 201);
    assert!(header(&answer, "location").starts_with("/live/whip/cam/o2~"));
    let (first, second) = (nodes[0].seen().remove(0), nodes[1].seen().remove(0));
    let (first, second) = (ticket(&world, &first), ticket(&world, &second));
    assert_eq!(first.session, second.session, "the publisher is the same");
    assert_ne!(first.reservation, second.reservation);

    nodes[0].will(409, &[("content-type", "application/problem+json")], "{}");
    assert_eq!(post(&world, "/live/whip/cam2").await.status().as_u16(), 409);
    assert!(nodes[1].seen().is_empty());
}

#[tokio::test]
async fn a_publisher_of_a_live_stream_is_sent_to_its_origin() {
    let nodes = [FakeNode::start("o1").await, FakeNode::start("o2").await];
    let live = stream_held_by("live/cam", "o2", "s", clock::unix_ms());
    let world = World::new(&nodes, vec![live]).await;
    created(&nodes[1]);
    assert_eq!(post(&world, "/live/whip/cam").await.status().as_u16(), 201);
    assert_eq!(ticket(&world, &nodes[1].seen().remove(0)).reservation, None);
}

#[tokio::test]
async fn a_viewer_is_placed_on_an_edge_and_a_missing_stream_is_told() {
    let nodes = [FakeNode::start("e1").await];
    let world = World::new(&nodes, Vec::new()).await;
    nodes[0].will(201, &[("location", "/live/whep/cam/9")], ANSWER);
    let answer = post(&world, "/live/whep/cam").await;
    assert!(header(&answer, "location").starts_with("/live/whep/cam/e1~9~"));
    let seen = nodes[0].seen().remove(0);
    assert_eq!(seen.target, "/live/whep/cam");
    let token = seen.headers.get(trust::HEADER).and_then(|t| t.to_str().ok());
    assert_eq!(world.key.verify(token).unwrap().as_str(), "lb-1");
    assert_eq!(&seen.headers["x-forwarded-for"], "127.0.0.1");

    nodes[0].will(409, &[("retry-after", "2")], "");
    let answer = post(&world, "/live/whep/nobody").await;
    assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (409, "2"));
}

#[tokio::test]
async fn what_clients_say_in_the_name_of_nodes_is_not_passed_on() {
    let nodes = [FakeNode::start("o1").await];
    let world = World::new(&nodes, Vec::new()).await;
    created(&nodes[0]);
    let request = world.request(Method::POST, "/live/whip/cam").header("content-type", "application/sdp");
    let request = request.header("sluicegateSession", "stolen").header("x-forwarded-for", "192.0.2.1");
    assert_eq!(request.body(OFFER).send().await.unwrap().status().as_u16(), 201);
    let seen = nodes[0].seen().remove(0);
    assert_eq!(seen.headers.get_all("sluicegateSession").iter().count(), 1);
    assert_ne!(ticket(&world, &seen).session, "stolen".into());
    assert_eq!(&seen.headers["x-forwarded-for"], "127.0.0.1");
}

#[tokio::test]
async fn forged_addresses_of_sessions_are_not_found_and_reach_no_node() {
    let nodes = [FakeNode::start("o1").await, FakeNode::start("o2").await];
    let world = World::new(&nodes, Vec::new()).await;
    created(&nodes[0]);
    let location = header(&post(&world, "/live/whip/cam").await, "location").to_owned();
    nodes[0].seen();
    let elsewhere = location.replace("/o1~", "/o2~");
    let other_stream = location.replace("/cam/", "/cam2/");
    let other_way = location.replace("/whip/", "/whep/");
    for forged in [&elsewhere, &other_stream, &other_way, "/live/whip/cam/o1~0a-7~x", "/live/whep/cam/7"] {
        assert_problem(&world.request(Method::DELETE, forged).send().await.unwrap(), 404);
    }
    assert!(nodes.iter().all(|node| node.seen().is_empty()));
}

#[tokio::test]
async fn malformed_requests_are_refused_here() {
    let nodes = [FakeNode::start("o1").await];
    let world = World::new(&nodes, Vec::new()).await;
    let to = |method, path| world.request(method, path);
    let sdp = |request: reqwest::RequestBuilder| request.header("content-type", "application/sdp");

    let answer = to(Method::POST, "/live/whip/cam").body(OFFER).send().await.unwrap();
    assert_problem(&answer, 415);
    let long = "x".repeat(SDP_BYTES_MAX + 1);
    assert_problem(&sdp(to(Method::POST, "/live/whip/cam")).body(long).send().await.unwrap(), 413);
    let answer = to(Method::GET, "/live/whep/cam").send().await.unwrap();
    assert_problem(&answer, 405);
    assert_eq!(header(&answer, "allow"), "POST, OPTIONS");
    assert_problem(&sdp(to(Method::POST, "/live/whip/cam/o1~7~x")).body(OFFER).send().await.unwrap(), 405);
    assert_problem(&to(Method::DELETE, "/live/whip/cam").send().await.unwrap(), 405);
    for nowhere in ["/nowhere/whip/cam", "/live/whip/a__b", "/live/whip/"] {
        assert_problem(&sdp(to(Method::POST, nowhere)).body(OFFER).send().await.unwrap(), 404);
    }
    assert!(nodes[0].seen().is_empty());

    nodes[0].will(201, &[("location", "/no id/")], ANSWER);
    assert_problem(&post(&world, "/live/whep/cam").await, 502);
}

#[tokio::test]
async fn without_nodes_both_ways_are_unavailable_for_now() {
    let world = World::new(&Vec::<Arc<FakeNode>>::new(), Vec::new()).await;
    for path in ["/live/whip/cam", "/live/whep/cam"] {
        let answer = post(&world, path).await;
        assert_problem(&answer, 503);
        assert_eq!(header(&answer, "retry-after"), "1");
    }
}

#[tokio::test]
async fn browsers_of_any_site_may_ask() {
    let world = World::new(&[], Vec::new()).await;
    for path in ["/live/whip/cam", "/live/whep/cam/e1~7~x"] {
        let answer = world.request(Method::OPTIONS, path).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 204);
        assert!(header(&answer, "access-control-allow-methods").contains("PATCH"));
        assert!(header(&answer, "access-control-allow-headers").contains("if-match"));
        assert!(header(&answer, "access-control-expose-headers").contains("location"));
    }
}

#[tokio::test]
async fn a_session_wants_a_token_of_its_stream_and_use() {
    const APP: &str = "[[app]]\nname = \"live\"\npublish = \"token\"\nplay = \"token\"\n\
                       token_keys = [{ id = \"a\", key = \"0123456789abcdef\" }]\n";
    let nodes = [FakeNode::start("o1").await];
    let world = World::of_apps(APP, &nodes, Vec::new()).await;
    let expires = clock::unix_ms().plus(Duration::from_secs(60));
    let grant = Grant { stream: "cam".to_owned(), purpose: TokenUse::Publish, expires, begins: None };
    let token = apps(APP)[0].token_keys.sign(&grant).unwrap();
    let offer = |path: &str, token: &str| {
        let request = world.request(Method::POST, path).header("content-type", "application/sdp");
        request.bearer_auth(token).body(OFFER).send()
    };
    let refused = offer("/live/whip/cam", "x").await.unwrap();
    assert_problem(&refused, 401);
    assert_eq!(header(&refused, "www-authenticate"), "Bearer");
    assert_problem(&offer("/live/whip/other", &token).await.unwrap(), 403);
    assert_problem(&offer("/live/whep/cam", &token).await.unwrap(), 403);
    assert!(nodes[0].seen().is_empty(), "nothing was placed");
    created(&nodes[0]);
    assert_eq!(offer("/live/whip/cam", &token).await.unwrap().status().as_u16(), 201);
    created(&nodes[0]);
    assert_eq!(offer(&format!("/live/whip/cam?token={token}"), "x").await.unwrap().status().as_u16(), 201);
}
