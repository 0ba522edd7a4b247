//! Documents in the database that cannot be true: told by their fields' names, and nothing is decided by them.

use std::time::Duration;

use mongodb::bson::{Bson, DateTime, Document, doc};
use serde_json::Value;
use sluicegate_e2e::ams::AmsDatabase;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeProcess, run_sluicegate};
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::until::{until, until_true};

/// For nodes to have read what was written.
const READ: Duration = Duration::from_secs(10);
const FIRST_SEGMENTS: Duration = Duration::from_secs(20);

/// The document of an origin that would win every placement.
fn ghost(id: &str, field: &str, value: impl Into<Bson>) -> Document {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let mut document = doc! {
        "_id": id, "incarnation": "ghost", "rev": 1_i64, "roles": ["origin", "edge"], "group": "default",
        "addresses": {"http": "127.255.255.1:5081", "rtmp": "127.255.255.1:1935"}, "state": "serving",
        "servingSince": 0_i64, "heartbeat": now + 3_600_000, "capacityMpx": 900.0, "freeMpx": 900.0,
        "reservations": [], "cpu": 1.0, "memory": {"usedBytes": 1_i64, "totalBytes": 2_i64}, "gpus": [],
        "egressBps": 0_i64, "viewers": 0_i64, "publishes": 0_i64, "version": "0.1.0", "changed": DateTime::now(),
    };
    document.insert(field, value);
    document
}

fn stream(key: &str, field: &str, value: impl Into<Bson>) -> Document {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let mut document = doc! {
        "_id": key, "node": "origin-1", "incarnation": "ghost", "epoch": now, "rev": 1_i64, "claims": 1_i64,
        "session": "ghost", "renditions": ["source"], "sequence": 1_i64, "sequenceAt": now, "startedAt": now,
        "bitrateBps": 0_i64, "viewers": 0_i64, "changed": DateTime::now(),
    };
    document.insert(field, value);
    document
}

#[track_caller]
fn is_told(node: &NodeProcess, what: &str, id: &str, field: &str) {
    until_true(&format!("{id} is told by {field}"), READ, || {
        let told = if what == "node" { node.node(id) } else { node.stream(id) };
        told.is_some_and(|told| told["problem"].as_str().is_some_and(|why| why.contains(field)))
    });
}

#[test]
fn absurd_documents_are_told_by_their_fields_and_the_rest_works() {
    let cluster = Cluster::start(&[100]);
    let database = AmsDatabase::at(cluster.database());
    let ghosts = [
        ("ghost-1", "capacityMpx", Bson::Double(f64::NAN)),
        ("ghost-2", "freeMpx", Bson::Double(1e300)),
        ("ghost-3", "viewers", Bson::Int64(1 << 60)),
        ("ghost-4", "heartbeat", Bson::Int64(i64::MAX)),
        ("ghost-5", "freeMpx", Bson::Double(901_000.0)),
        ("ghost-6", "capacityMpx", Bson::Double(-5.0)),
        ("ghost-7", "cpu", Bson::String("much".to_owned())),
    ];
    for (id, field, value) in ghosts.clone() {
        database.save("clusterdb", "sluicegate_node", &ghost(id, field, value));
    }
    let absurd = [
        ("live/ghost-1", "epoch", Bson::Int64(i64::MAX)),
        ("live/ghost-2", "viewers", Bson::Int64(1 << 60)),
        ("live/ghost-3", "claims", Bson::String("many".to_owned())),
        ("live/ghost-4", "size", doc! {"width": 1_i64, "height": 1_i64, "fps": f64::INFINITY}.into()),
    ];
    for (key, field, value) in absurd.clone() {
        database.save("clusterdb", "sluicegate_stream", &stream(key, field, value));
    }
    for node in [&cluster.lb, &cluster.edge] {
        ghosts.iter().for_each(|(id, field, _)| is_told(node, "node", id, field));
        absurd.iter().for_each(|(key, field, _)| is_told(node, "stream", key, field));
        let count = |kind| node.count("sluicegate_unreadable_documents", &[("kind", kind)]);
        assert_eq!((count("node"), count("stream")), (ghosts.len() as u64, absurd.len() as u64));
    }
    let command = |name| run_sluicegate(&[name, "--admin", &cluster.lb.admin_url("")]).stdout;
    let (nodes, streams) = (command("nodes"), command("streams"));
    assert!(nodes.contains("unreadable (capacityMpx: NaN cannot be)"), "{nodes}");
    assert!(streams.contains("unreadable (viewers: 1152921504606846976 cannot be)"), "{streams}");

    // The rest works, and so does a name whose document is absurd, once somebody publishes it.
    for name in ["fine", "ghost-2"] {
        let _publisher = publish(cluster.lb.rtmp(), &format!("live/{name}"));
        let url = cluster.lb.url(&format!("/live/streams/{name}.m3u8"));
        let playlist = until(&format!("{name} plays"), FIRST_SEGMENTS, || MediaPlaylist::fetch(&url));
        assert_eq!(http::get(&playlist.resolve(&playlist.segments[0].uri)).status, 200);
        let known = until("it is known", READ, || cluster.lb.stream(&format!("live/{name}")).filter(is_live));
        assert_eq!((&known["origin"], &known["problem"]), (&"origin-1".into(), &Value::Null), "{known}");
    }
    for (id, ..) in ghosts {
        database.remove("clusterdb", "sluicegate_node", id);
    }
    until_true("what is gone is told no more", READ, || {
        cluster.lb.count("sluicegate_unreadable_documents", &[("kind", "node")]) == 0
    });
}

fn is_live(stream: &Value) -> bool {
    stream["live"] == true
}
