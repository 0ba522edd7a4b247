//! An AMS cluster's documents, and its tools' REST, beside ours.

use std::time::Duration;

use mongodb::bson::doc;
use serde_json::{Value, json};
use sluicegate_e2e::ams::AmsDatabase;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::http;
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::until::{until, until_true};

/// For a mirror to be written: a node's every 5 s, a stream's at its start and end.
const MIRRORED: Duration = Duration::from_secs(15);

fn json(url: &str) -> Value {
    let answer = http::get(url);
    assert_eq!(answer.status, 200, "{url}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn ams_tools_read_our_nodes_and_streams() {
    let mut cluster = Cluster::start(&[100]);
    let ams = AmsDatabase::at(cluster.database());
    let origin = cluster.origin("origin-1").ip().to_string();
    let mirror = |id: &str| ams.cluster_node("sluicegateNode", id);
    let edge = until("the edge is in clusternode", MIRRORED, || mirror("edge-1"));
    assert!(edge.get_str("_id").unwrap().contains(&cluster.edge.ip().to_string()), "{edge}");
    assert_eq!(mirror("lb-1"), None, "no script takes the balancer for an edge");
    let wrote = edge.get_i64("lastUpdateTime").unwrap();
    until_true("it is written again", MIRRORED, || {
        mirror("edge-1").is_some_and(|d| d.get_i64("lastUpdateTime").unwrap() > wrote)
    });

    let publisher = publish(cluster.lb.rtmp(), "live/mirrored");
    let live = until("the stream is in live.broadcast", MIRRORED, || {
        ams.broadcast("live", "mirrored").filter(|d| d.get_str("status").is_ok_and(|s| s == "broadcasting"))
    });
    assert_eq!(live.get_str("originAdress").unwrap(), origin, "{live}");

    an_ams_like_save_loses_us_nothing(&cluster, &ams);
    our_nodes_are_in_ams_rest(&cluster);

    drop(publisher);
    until_true("the stream's end is told", MIRRORED, || {
        ams.broadcast("live", "mirrored").is_some_and(|d| d.get_str("status").unwrap() == "finished")
    });
    cluster.edge.kill();
    let node = |id: &str| format!("{}/{id}", cluster.origins[0].node_url("/rest/v2/cluster/node"));
    let remove = |id: &str| http::send("DELETE", &node(id), None);
    until_true("the dead edge can be removed", MIRRORED, || remove("edge-1").status == 200);
    assert_eq!(mirror("edge-1"), None);
    until_true("nobody knows it any more", MIRRORED, || cluster.lb.node("edge-1").is_none());
}

fn an_ams_like_save_loses_us_nothing(cluster: &Cluster, ams: &AmsDatabase) {
    let id = ams.broadcast("live", "mirrored").unwrap().get_object_id("_id").unwrap();
    let saved = doc! {"_id": id, "streamId": "mirrored", "status": "finished", "name": "Front door"};
    ams.save("live", "broadcast", &saved);
    let edge = ams.cluster_node("sluicegateNode", "edge-1").unwrap();
    let edge_id = edge.get_str("_id").unwrap();
    let foreign =
        doc! {"_id": edge_id, "ip": cluster.edge.ip().to_string(), "lastUpdateTime": 1_i64, "cpu": "99"};
    ams.save("clusterdb", "clusternode", &foreign);
    until_true("both mirrors are ours again", MIRRORED, || {
        let broadcast = ams.broadcast("live", "mirrored").unwrap();
        let ours = broadcast.get_str("status").unwrap() == "broadcasting"
            && broadcast.contains_key("sluicegateEpoch");
        ours && ams.cluster_node("_id", edge_id).unwrap().contains_key("sluicegateNode")
    });
    assert_eq!(ams.broadcast("live", "mirrored").unwrap().get_str("name").unwrap(), "Front door");
    assert!(cluster.edge.stream("live/mirrored").is_some_and(|s| s["live"] == true));
}

fn our_nodes_are_in_ams_rest(cluster: &Cluster) {
    let rest = |path: &str| cluster.edge.node_url(path);
    assert_eq!(json(&rest("/rest/v2/liveness")), json!({"host": "edge-1", "status": "ok"}));
    assert_eq!(json(&rest("/rest/v2/cluster-mode-status"))["success"], true);
    assert_eq!(json(&rest("/rest/v2/cluster/node-count")), json!({"number": 2}));
    let nodes = json(&rest("/rest/v2/cluster/nodes/0/10"));
    let nodes = nodes.as_array().unwrap();
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    for node in nodes {
        assert_eq!(node["status"], "alive", "{node}");
        let memory = node["memory"].as_str().and_then(|m| m.split_once('/')).unwrap();
        assert!(
            memory.0.parse::<u64>().is_ok() && node["cpu"].as_str().unwrap().parse::<u8>().is_ok(),
            "{node}"
        );
    }
    for (method, path, status) in [
        ("GET", "/rest/v2/cluster/nodes/x/10", 400),
        ("DELETE", "/rest/v2/cluster/node/nobody", 404),
        ("DELETE", "/rest/v2/cluster/node/edge-1", 409),
        ("POST", "/rest/v2/cluster/node-count", 405),
        ("GET", "/rest/v2/nothing", 404),
    ] {
        let answer = http::send(method, &rest(path), None);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, body["success"].as_bool()), (status, Some(false)), "{path}: {body}");
        assert!(body["message"].as_str().is_some_and(|m| !m.is_empty()), "{path}: {body}");
    }
}
