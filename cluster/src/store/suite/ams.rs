//! AMS's documents, as AMS's own code writes and reads them: fixtures of Community's and Enterprise's shapes.

use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use super::{NOW, Scratch};
use crate::ams::broadcast::{BROADCASTING, FINISHED};
use crate::ams::{AmsDocuments, Broadcast, BroadcastMirror, ClusterNode};
use crate::clock::UnixMs;
use crate::ids::{AppName, Epoch};
use crate::store::{ClusterStore, MongoStore};
use crate::stream::StreamRecord;
use crate::testing::{node, stream_held_by};

/// An application of a test's own: AMS keeps each in a database.
struct App {
    name: AppName,
    scratch: Scratch,
    store: MongoStore,
}

impl App {
    async fn new() -> Self {
        let scratch = Scratch::new();
        let name = format!("App{:016x}", rand::random::<u64>()).parse().unwrap();
        Self { store: scratch.store().await, scratch, name }
    }

    async fn broadcasts(&self) -> Collection<Document> {
        let database = self.name.as_str().to_ascii_lowercase();
        self.scratch.client().await.database(&database).collection("broadcast")
    }

    async fn broadcast(&self, stream: &str) -> Document {
        self.broadcasts().await.find_one(doc! {"streamId": stream}).await.unwrap().unwrap()
    }

    fn mirror(&self, stream: &str, epoch: i64, now: UnixMs) -> BroadcastMirror {
        let key = format!("{}/{stream}", self.name);
        let record = StreamRecord { epoch: Epoch(epoch), viewers: 5, ..stream_held_by(&key, "o1", "s", NOW) };
        BroadcastMirror {
            key: record.key.clone(),
            node: "o1".parse().unwrap(),
            epoch: record.epoch,
            broadcast: Broadcast::of(&record, Some("127.0.0.1".parse().unwrap()), now),
        }
    }

    async fn put(&self, mirror: BroadcastMirror, now: UnixMs) {
        self.store.put_broadcasts(&[mirror], now).await.unwrap();
    }

    async fn discard(self) {
        self.broadcasts().await.drop().await.unwrap();
        self.scratch.discard().await;
    }
}

/// Checks some fields of a document, types and all.
#[track_caller]
fn check(document: &Document, expect: Document) {
    for (field, value) in &expect {
        assert_eq!(document.get(field), Some(value), "{field} of {document}");
    }
}

fn later(seconds: u64) -> UnixMs {
    NOW.plus(Duration::from_secs(seconds))
}

#[tokio::test]
async fn the_auto_scale_script_finds_our_nodes_addresses() {
    let scratch = Scratch::new();
    let store = scratch.store().await;
    let record = node("edge-1", NOW);
    for _ in 0..2 {
        store.put_cluster_node(&ClusterNode::of(&record, Duration::ZERO), &record.id).await.unwrap();
    }
    let nodes = scratch.collection("clusternode").await;
    assert_eq!(nodes.count_documents(doc! {}).await.unwrap(), 1);
    let found = nodes.find_one(doc! {}).await.unwrap().unwrap();
    assert!(found.get_str("_id").unwrap().contains("127.0.0.1"), "{found}");
    check(&found, doc! {"_t": "ClusterNode", "lastUpdateTime": NOW.0});
    assert!(found.get_str("cpu").is_ok() && found.get_str("memory").unwrap().contains('/'), "{found}");
    store.remove_cluster_node("127.0.0.1:5080").await.unwrap();
    assert_eq!(nodes.count_documents(doc! {}).await.unwrap(), 0);
    scratch.discard().await;
}

#[tokio::test]
async fn nodes_that_ams_wrote_are_read_whatever_their_types() {
    let scratch = Scratch::new();
    let store = scratch.store().await;
    let enterprise = doc! {
        "_id": "10.0.1.5", "_t": "ClusterNode", "ip": "10.0.1.5", "lastUpdateTime": NOW.0,
        "memory": "812/15921", "cpu": "37", "dbQueryAveargeTimeMs": 3_i64,
    };
    let odd = doc! {"_id": ObjectId::new(), "cpu": 12.5, "memory": 3, "lastUpdateTime": "yesterday"};
    scratch.collection("clusternode").await.insert_many([enterprise, odd]).await.unwrap();
    let mut nodes = store.cluster_nodes().await.unwrap();
    nodes.sort_by_key(|n| n.last_update_time);
    let [odd, enterprise] = nodes.as_slice() else { panic!("{nodes:?}") };
    assert_eq!((odd.cpu.as_deref(), odd.last_update_time, odd.id.len()), (Some("12.5"), None, 24));
    assert_eq!((enterprise.id.as_str(), enterprise.cpu.as_deref()), ("10.0.1.5", Some("37")));
    scratch.discard().await;
}

#[tokio::test]
async fn a_streams_mirror_has_ams_types_and_one_document() {
    let app = App::new().await;
    for second in [0, 10] {
        app.put(app.mirror("cam1", 7, later(second)), later(second)).await;
    }
    assert_eq!(app.broadcasts().await.count_documents(doc! {}).await.unwrap(), 1);
    let found = app.broadcast("cam1").await;
    assert!(matches!(found.get("_id"), Some(Bson::ObjectId(_))), "{found}");
    check(&found, doc! {"status": BROADCASTING, "name": "cam1", "originAdress": "127.0.0.1"});
    check(&found, doc! {"hlsViewerCount": 5_i32, "updateTime": later(10).0, "date": NOW.0});
    assert_eq!(app.store.live_broadcasts(&app.name, NOW).await.unwrap(), [], "ours are not AMS's");
    app.discard().await;
}

#[tokio::test]
async fn an_ams_like_save_of_the_whole_document_loses_us_nothing() {
    let app = App::new().await;
    let record = stream_held_by(&format!("{}/cam1", app.name), "o1", "s", NOW);
    assert!(app.store.put_stream(&record, None).await.unwrap());
    app.put(app.mirror("cam1", 7, NOW), NOW).await;
    // AMS saves what it has read, and knows none of our fields.
    let id = app.broadcast("cam1").await.get_object_id("_id").unwrap();
    let saved = doc! {"_id": id, "streamId": "cam1", "status": "created", "name": "Front door",
    "description": "by AMS", "updateTime": 0_i64, "hlsViewerCount": 99};
    app.broadcasts().await.replace_one(doc! {"_id": id}, saved).await.unwrap();
    let stored = app.store.stream(&record.key).await.unwrap().unwrap();
    assert_eq!(StreamRecord { changed: record.changed, ..stored }, record);
    app.put(app.mirror("cam1", 7, later(10)), later(10)).await;
    let found = app.broadcast("cam1").await;
    check(&found, doc! {"status": BROADCASTING, "sluicegateEpoch": 7_i64, "hlsViewerCount": 5_i32});
    check(&found, doc! {"name": "Front door", "description": "by AMS"});
    app.discard().await;
}

#[tokio::test]
async fn what_an_ams_node_holds_is_read_and_never_written() {
    let app = App::new().await;
    let held = doc! {"streamId": "cam1", "status": BROADCASTING, "originAdress": "10.0.1.5",
    "updateTime": NOW.0, "webRTCViewerCount": 2, "width": 1920, "height": 1080, "zombi": true};
    app.broadcasts().await.insert_one(held).await.unwrap();
    let before = app.broadcast("cam1").await;
    app.put(app.mirror("cam1", 7, later(5)), later(5)).await;
    assert_eq!(app.broadcast("cam1").await, before);
    assert_eq!(app.broadcasts().await.count_documents(doc! {}).await.unwrap(), 1);
    let read = app.store.live_broadcasts(&app.name, NOW).await.unwrap();
    let [read] = read.as_slice() else { panic!("{read:?}") };
    assert_eq!((read.stream_id.as_str(), read.viewers(), read.width), ("cam1", 2, Some(1920)));
    // Once that node is silent, the name is free.
    app.put(app.mirror("cam1", 8, later(21)), later(21)).await;
    check(&app.broadcast("cam1").await, doc! {"originAdress": "127.0.0.1"});
    app.discard().await;
}

#[tokio::test]
async fn an_older_claim_does_not_write_over_a_newer_ones_mirror() {
    let app = App::new().await;
    app.put(app.mirror("cam1", 9, NOW), NOW).await;
    let mut ended = app.mirror("cam1", 8, later(1));
    ended.broadcast.status = Some(FINISHED.to_owned());
    app.put(ended, later(1)).await;
    check(&app.broadcast("cam1").await, doc! {"status": BROADCASTING});
    app.discard().await;
}

#[tokio::test]
async fn a_node_that_starts_finishes_what_its_last_run_left_live() {
    let app = App::new().await;
    app.put(app.mirror("cam1", 7, NOW), NOW).await;
    app.store.finish_broadcasts(&app.name, &"o2".parse().unwrap()).await.unwrap();
    check(&app.broadcast("cam1").await, doc! {"status": BROADCASTING});
    app.store.finish_broadcasts(&app.name, &"o1".parse().unwrap()).await.unwrap();
    let found = app.broadcast("cam1").await;
    check(&found, doc! {"status": FINISHED, "hlsViewerCount": 0_i32});
    app.discard().await;
}

#[tokio::test]
async fn the_mirrors_of_thousands_of_streams_are_written_in_bulk() {
    let app = App::new().await;
    let mirrors: Vec<_> = (0..1_500).map(|n| app.mirror(&format!("s{n}"), 7, NOW)).collect();
    app.store.put_broadcasts(&mirrors, NOW).await.unwrap();
    assert_eq!(app.broadcasts().await.count_documents(doc! {"status": BROADCASTING}).await.unwrap(), 1_500);
    app.discard().await;
}
