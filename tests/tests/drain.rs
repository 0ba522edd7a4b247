//! Nodes that are drained: nobody who is being served notices, and nothing new comes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeProcess, run_sluicegate};
use sluicegate_e2e::process::{command, run};
use sluicegate_e2e::publisher::{Broadcast, publish};
use sluicegate_e2e::until::{until, until_true};
use sluicegate_e2e::viewer::Viewer;

/// For what one node has written to be known to all.
const KNOWN: Duration = Duration::from_secs(5);
/// For a publisher to be moved: its next keyframe, and a segment of the next origin.
const MOVED: Duration = Duration::from_secs(10);
const PROBE: Duration = Duration::from_secs(20);

/// Orders the drain of a node, or its end, through another one.
#[track_caller]
fn order(order: &str, id: &str, through: &NodeProcess) -> Value {
    let finished = run_sluicegate(&[order, id, "--json", "--admin", &through.admin_url("")]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// All segments that a viewer is told of, with the init segments they need, by epoch and in order.
#[derive(Default)]
struct Recording {
    files: BTreeMap<i64, Vec<u8>>,
    last_uri: Option<String>,
}

impl Recording {
    /// Loads what is new in a playlist.
    #[track_caller]
    fn add(&mut self, playlist: &MediaPlaylist) {
        let seen = playlist.segments.iter().position(|s| Some(&s.uri) == self.last_uri.as_ref());
        for segment in &playlist.segments[seen.map_or(0, |at| at + 1)..] {
            let load = |uri: &str| {
                let answer = http::get(&playlist.resolve(uri));
                assert_eq!(answer.status, 200, "{uri}");
                answer.body
            };
            let file = self.files.entry(segment.epoch()).or_default();
            if file.is_empty() {
                file.extend_from_slice(&load(playlist.map.as_ref().unwrap()));
            }
            file.extend_from_slice(&load(&segment.uri));
            self.last_uri = Some(segment.uri.clone());
        }
    }

    /// How many pictures and sounds there are in all.
    #[track_caller]
    fn packets(&self) -> (u64, u64) {
        let folder = tempfile::tempdir().unwrap();
        let mut packets = BTreeMap::from([("video", 0), ("audio", 0)]);
        for (epoch, bytes) in &self.files {
            let path = folder.path().join(format!("{epoch}.mp4"));
            std::fs::write(&path, bytes).unwrap();
            let mut ffprobe = command("ffprobe");
            ffprobe.args(["-v", "error", "-count_packets", "-of", "json"]);
            ffprobe.args(["-show_entries", "stream=codec_type,nb_read_packets"]).arg(&path);
            let probed = run("ffprobe", ffprobe, PROBE);
            let probed: Value = serde_json::from_str(&probed.stdout).unwrap();
            for stream in probed["streams"].as_array().unwrap() {
                let counted: u64 = stream["nb_read_packets"].as_str().unwrap().parse().unwrap();
                *packets.get_mut(stream["codec_type"].as_str().unwrap()).unwrap() += counted;
            }
        }
        (packets["video"], packets["audio"])
    }
}

#[test]
fn a_drained_origins_publisher_is_moved_without_a_lost_frame() {
    const SECONDS: u32 = 12;
    let cluster = Cluster::start(&[400, 1_000]);
    let mut publisher = Broadcast::default().seconds(SECONDS).publish(cluster.lb.rtmp(), "live/moved");
    let mut viewer = Viewer::watch(&cluster.lb.url("/live/streams/moved.m3u8"));
    let before = until("the stream's record", KNOWN, || cluster.lb.stream("live/moved"));
    assert_eq!(before["origin"], "origin-2", "{before}");
    let connection = publisher.sockets();
    let mut recording = Recording::default();
    recording.add(viewer.reload());

    let drained = order("drain", "origin-2", &cluster.edge);
    assert_eq!((&drained["state"], &drained["publishes"]), (&"draining".into(), &1.into()), "{drained}");
    let moved = until("the stream is the other origin's", MOVED, || {
        recording.add(viewer.reload());
        cluster.lb.stream("live/moved").filter(|s| s["origin"] == "origin-1")
    });
    assert_eq!(moved["claims"].as_i64(), before["claims"].as_i64().map(|claims| claims + 1), "{moved}");
    assert_eq!(publisher.sockets(), connection, "the publisher has another connection");
    assert!(publisher.complaints().is_empty(), "{:?}", publisher.complaints());
    let ready = http::get(&cluster.origin("origin-2").admin_url("/readyz"));
    assert_eq!((ready.status, ready.text().trim()), (503, "draining"));
    until_true("nothing is left on it", KNOWN, || {
        recording.add(viewer.reload());
        cluster.lb.node("origin-2").is_some_and(|n| n["publishes"] == 0 && n["state"] == "draining")
    });

    until_true("the stream's end", Duration::from_secs(u64::from(SECONDS) + 10), || {
        let playlist = viewer.reload_to_the_end();
        recording.add(playlist);
        playlist.ended
    });
    let _ = publisher.ends_within(KNOWN);
    assert_eq!(recording.files.len(), 2, "one claim after the other: {:?}", recording.files.keys());
    let (pictures, sounds) = recording.packets();
    assert_eq!(pictures, u64::from(SECONDS) * 30);
    assert!(sounds >= u64::from(SECONDS) * 44_100 / 1_024, "{sounds} sounds");

    order("undrain", "origin-2", &cluster.lb);
    until_true("it takes work again", KNOWN, || {
        http::get(&cluster.origin("origin-2").admin_url("/readyz")).status == 200
    });
}

#[test]
fn publishers_of_a_drained_origin_are_moved_one_after_another() {
    let cluster = Cluster::start(&[400, 1_000]);
    let streams = ["live/one", "live/two", "live/three"];
    let mut publishers: Vec<_> = streams.iter().map(|key| publish(cluster.lb.rtmp(), key)).collect();
    let origin_of = |key: &str| cluster.lb.stream(key).map(|stream| stream["origin"].clone());
    for key in streams {
        until("it is known", KNOWN, || origin_of(key));
        let _ = Viewer::watch(&cluster.lb.url(&format!("/live/streams/{}.m3u8", &key[5..])));
    }
    let drained = origin_of("live/one").unwrap();
    order("drain", drained.as_str().unwrap(), &cluster.lb);
    until_true("all of them are elsewhere", 3 * MOVED, || {
        streams.iter().all(|key| origin_of(key).is_some_and(|origin| origin != drained))
    });
    assert!(publishers.iter_mut().all(|p| p.is_running() && p.complaints().is_empty()));
    assert_eq!(cluster.lb.count("sluicegate_rtmp_connections_total", &[("role", "lb")]), 0);
}

#[test]
fn a_drained_edge_gets_no_viewer_any_more() {
    let cluster = Cluster::start(&[100]);
    let second = cluster.join("edge", "edge-2");
    let _publisher = publish(cluster.lb.rtmp(), "live/seen");
    let mut viewer = Viewer::watch(&cluster.lb.url("/live/streams/seen.m3u8"));
    let asked = |edge: &NodeProcess| {
        edge.count("sluicegate_http_requests_total", &[("role", "edge"), ("kind", "playlist")])
    };
    let edges = [&cluster.edge, &second];
    let (drained, other) = if asked(edges[0]) > 0 { (edges[0], edges[1]) } else { (edges[1], edges[0]) };

    order("drain", drained.id(), &cluster.lb);
    let before = asked(other);
    until_true("the viewer is with the other edge", KNOWN, || {
        let _ = viewer.reload();
        asked(other) > before
    });
    let left_at = asked(drained);
    let enough = viewer.last_sequence() + 3;
    viewer.until("it plays on", MOVED, |p| p.last_sequence() >= enough);
    assert_eq!(asked(drained), left_at);
    assert_eq!(cluster.lb.node(drained.id()).unwrap()["state"], "draining");
}

#[test]
fn only_orders_that_no_form_can_send_are_taken() {
    let node = crate::demo::node();
    let post = |path: &str, kind: &str| {
        let mut curl = command("curl");
        curl.args(["--silent", "--max-time", "10", "--noproxy", "*", "--data", "{}"]);
        curl.args(["--header", &format!("content-type: {kind}"), "--write-out", " %{response_code}"]);
        curl.arg(node.admin_url(path));
        run("curl", curl, Duration::from_secs(15)).stdout
    };
    let drain = "/api/v1/nodes/standalone/drain";
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        assert!(post(drain, kind).ends_with(" 415"), "{kind}");
    }
    let unknown = post("/api/v1/nodes/nobody/drain", "application/json");
    assert!(unknown.ends_with(" 404") && unknown.contains("there is no node nobody"), "{unknown}");
    assert_eq!(node.node("standalone").unwrap()["state"], "serving");
    let finished = run_sluicegate(&["drain", "nobody", "--admin", &node.admin_url("")]);
    assert_eq!((finished.code, finished.stderr.trim()), (Some(1), "sluicegate: there is no node nobody"));
}
