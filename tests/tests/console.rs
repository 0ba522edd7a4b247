//! What an operator sees: the console, the command line, the metrics.

use std::time::Duration;

use serde_json::Value;
use sluicegate_e2e::browser::read;
use sluicegate_e2e::http;
use sluicegate_e2e::metrics::series_names;
use sluicegate_e2e::node::run_sluicegate;
use sluicegate_e2e::process::{command, run};
use sluicegate_e2e::until::until_true;

use crate::demo;

#[test]
fn the_console_shows_the_node_and_its_stream() {
    let node = demo::node();
    let shown = ["Nodes", "standalone", "lb, edge, origin", "serving", "Streams", "live/demo", "320 × 180"];
    let text = read(&node.admin_url("/#/cluster"), &shown, Duration::from_secs(30));
    assert!(!text.contains("Connection lost") && !text.contains("does not answer"), "{text}");
}

#[test]
fn nodes_and_streams_are_printed_for_people_and_for_programs() {
    let node = demo::node();
    let admin = node.admin_url("");
    let printed = |arguments: &[&str]| {
        let finished = run_sluicegate(&[arguments, &["--admin", &admin]].concat());
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
        finished.stdout
    };
    let nodes = printed(&["nodes"]);
    assert!(
        nodes.contains("standalone") && nodes.contains("lb,edge,origin") && nodes.contains("serving"),
        "{nodes}"
    );
    // The picture's size is recorded within a second of the first segment.
    until_true("the stream's size is known", demo::FIRST_SEGMENTS, || {
        let streams = printed(&["streams"]);
        streams.contains("live/demo") && streams.contains("320x180@30")
    });
    let nodes: Value = serde_json::from_str(&printed(&["nodes", "--json"])).unwrap();
    assert_eq!(
        (nodes[0]["id"].as_str(), nodes[0]["publishes"].as_u64() >= Some(1)),
        (Some("standalone"), true)
    );
    let streams: Value = serde_json::from_str(&printed(&["streams", "--json"])).unwrap();
    let demo = streams.as_array().unwrap().iter().find(|s| s["key"] == "live/demo").unwrap();
    assert_eq!((demo["width"].as_u64(), demo["origin"].as_str()), (Some(320), Some("standalone")));
}

#[test]
fn a_node_that_does_not_answer_is_one_clear_line() {
    let finished = run_sluicegate(&["nodes", "--admin", "http://127.0.0.1:9"]);
    assert_eq!(finished.code, Some(1));
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("no node answers at http://127.0.0.1:9"), "{}", finished.stderr);
}

#[test]
fn metrics_tell_what_the_node_does() {
    let node = demo::node();
    let _ = http::get(&demo::playlist(&node, "demo").resolve("demo.m3u8"));
    let text = node.metrics();
    let names = series_names(&text);
    for family in [
        "sluicegate_build_info",
        "sluicegate_nodes",
        "sluicegate_streams_live",
        "sluicegate_store_up",
        "sluicegate_http_requests_total",
        "sluicegate_rtmp_publishers",
        "sluicegate_placements_total",
        "sluicegate_edge_cache_requests_total",
        "sluicegate_origin_segments_total",
        "process_cpu_seconds_total",
    ] {
        assert!(names.iter().any(|name| name == family), "{family} is not among {names:?}");
    }
    assert!(node.count("sluicegate_rtmp_publishers", &[("role", "lb")]) >= 1);
    assert!(node.count("sluicegate_streams_live", &[]) >= 1);
}

#[test]
fn the_admin_plane_answers_to_loopback_names_only() {
    let node = demo::node();
    let mut curl = command("curl");
    curl.args(["--silent", "--max-time", "10", "--noproxy", "*", "--header", "Host: evil.example"]);
    curl.args(["--write-out", " %{response_code}"]).arg(node.admin_url("/api/v1/cluster"));
    let finished = run("curl", curl, Duration::from_secs(15));
    assert!(
        finished.stdout.ends_with(" 421") && !finished.stdout.contains("live/demo"),
        "{}",
        finished.stdout
    );
}

#[test]
fn a_streams_page_shows_its_way_and_why_it_is_there() {
    let node = demo::node();
    let page = node.admin_url("/#/stream/live/demo");
    let shown = [
        "live/demo",
        "Its way",
        "standalone",
        "Why it was placed there",
        "least loaded for its size, of 1 origin",
        "Where it would go now",
        "has the stream",
        "Timeline",
        "Renditions",
    ];
    let text = read(&page, &shown, Duration::from_secs(30));
    assert!(text.contains("source") && !text.contains("Connection lost"), "{text}");
    let unknown =
        read(&node.admin_url("/#/stream/live/nobody"), &["Nobody publishes it"], Duration::from_secs(30));
    assert!(unknown.contains("The cluster"), "{unknown}");
}

#[test]
fn why_and_what_if_are_printed_for_people_and_for_programs() {
    let node = demo::node();
    let admin = node.admin_url("");
    let printed = |arguments: &[&str]| {
        let finished = run_sluicegate(&[arguments, &["--admin", &admin]].concat());
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
        finished.stdout
    };
    let why = printed(&["why", "live/demo"]);
    assert!(why.contains("standalone: it has the stream, and lives") && why.contains("chosen"), "{why}");
    assert!(
        why.contains("It was placed on standalone") && why.contains("by standalone, because it would be"),
        "{why}"
    );
    let elsewhere = printed(&["why", "live/not-published"]);
    assert!(elsewhere.contains("it would be the least loaded"), "{elsewhere}");
    let json: Value = serde_json::from_str(&printed(&["why", "live/demo", "--json"])).unwrap();
    assert_eq!(json["answer"]["origin"], "standalone", "{json}");
    assert_eq!(
        (&json["placed"]["because"], &json["placed"]["candidates"][0]["node"]),
        (&"least_loaded".into(), &"standalone".into()),
        "{json}"
    );
    assert_eq!(json["question"]["record"]["session"], "", "it is a secret of the cluster");

    let without = printed(&["nodes", "--without", "standalone"]);
    assert!(without.contains("live/demo") && without.contains("NOT fit"), "there is nobody else: {without}");
    let json: Value =
        serde_json::from_str(&printed(&["nodes", "--without", "standalone", "--json"])).unwrap();
    assert_eq!((json["fits"].as_bool(), json["streams"][0]["by"].is_null()), (Some(false), true), "{json}");

    let nobody = run_sluicegate(&["nodes", "--without", "nobody", "--admin", &admin]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("there is no such node"), "{}", nobody.stderr);
}
