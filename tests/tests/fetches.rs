//! How often an origin is asked: once for each file, however many viewers want it.

use sluicegate_e2e::http;
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::until::until_true;

use crate::demo;

const VIEWERS: usize = 50;

#[test]
fn fifty_viewers_of_a_cold_segment_cost_the_origin_one_request() {
    let node = NodeConfig::standalone().start();
    let _publisher = publish(node.rtmp(), "live/cold");
    let playlist = demo::playlist(&node, "cold");
    let segment = playlist.resolve(&playlist.segments.last().unwrap().uri);
    let of_origin =
        || node.count("sluicegate_http_requests_total", &[("role", "origin"), ("kind", "segment")]);
    let of_viewers = || node.count("sluicegate_http_requests_total", &[("role", "lb"), ("kind", "segment")]);
    let (origin_before, viewers_before) = (of_origin(), of_viewers());

    let answers = http::get_at_once(&segment, VIEWERS);

    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    assert!(answers[0].body.len() > 1_000, "a second of video");
    assert_eq!(of_origin() - origin_before, 1);
    // A request is counted when its connection has been written to.
    until_true("all requests are counted", demo::FIRST_SEGMENTS, || {
        of_viewers() - viewers_before == VIEWERS as u64
    });
    let _ = http::get_at_once(&segment, VIEWERS);
    assert_eq!(of_origin() - origin_before, 1);
}
