//! A stream that is not there: said at once, and not for longer than it is true.

use std::time::Duration;

use sluicegate_e2e::http;
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::until::{timed, until_true};

use crate::demo::FIRST_SEGMENTS;

/// From a first segment on its origin to a playlist for viewers. Looking every 50 ms for the first takes a part.
const TO_VIEWERS: Duration = Duration::from_secs(2);

#[test]
fn a_stream_plays_right_after_its_first_segment_though_it_was_asked_for_before() {
    let node = NodeConfig::standalone().start();
    let url = node.url("/live/streams/late.m3u8");
    let answer = http::get(&url);
    assert_eq!(answer.status, 404);
    assert!(answer.is_problem(), "{}", answer.text());
    let cache = answer.header("cache-control").to_owned();
    assert!(
        cache.contains("no-store") || cache.contains("no-cache") || cache.contains("max-age=1"),
        "{cache}"
    );

    let _publisher = publish(node.rtmp(), "live/late");
    until_true("a first segment, asked for all the while", FIRST_SEGMENTS, || {
        let _ = http::get(&url);
        node.count("sluicegate_origin_segments_total", &[]) >= 1
    });
    let (waited, ()) = timed(|| until_true("it plays", FIRST_SEGMENTS, || http::get(&url).status == 200));
    assert!(waited < TO_VIEWERS, "{waited:?} after the first segment");
}
