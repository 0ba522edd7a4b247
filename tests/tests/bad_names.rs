//! Names that are none: refused in each protocol's own words.

use sluicegate_e2e::http;
use sluicegate_e2e::rtmp_client::RtmpClient;

use crate::demo;

/// No stream can have one of these names.
const BAD_NAMES: [&str; 9] = [
    "white space",
    "slash\\back",
    "umläut",
    "two__underscores",
    "cam_adaptive",
    "cam_720p",
    "cam_2000kbps",
    "cam_720p2000kbps",
    "..",
];

#[test]
fn a_bad_stream_name_is_refused_by_rtmp() {
    let node = demo::node();
    for name in BAD_NAMES {
        let refusal = RtmpClient::publish(node.rtmp(), "live", name).err().expect(name);
        assert_eq!(refusal.code, "NetStream.Publish.BadName", "{name}: {refusal:?}");
        assert!(refusal.description.contains("name"), "{name}: {refusal:?}");
    }
}

#[test]
fn an_unknown_application_is_refused_by_rtmp() {
    let node = demo::node();
    let refusal = RtmpClient::publish(node.rtmp(), "nowhere", "cam").err().unwrap();
    assert_eq!(refusal.code, "NetStream.Publish.BadName");
    assert!(refusal.description.contains("application"), "{refusal:?}");
}

#[test]
fn bad_names_are_not_found_by_http() {
    let node = demo::node();
    let stream_paths = BAD_NAMES.map(|name| format!("/live/streams/{}.m3u8", name.replace(' ', "%20")));
    let others = ["/nowhere/streams/demo.m3u8", "/nowhere/play.html", "/", "/live", "/live/streams/demo.txt"];
    for path in stream_paths.iter().map(String::as_str).chain(others) {
        let answer = http::get(&node.url(path));
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.is_problem(), "{path}: {:?} {}", answer.headers, answer.text());
    }
}
