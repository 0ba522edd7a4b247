//! AMS's collections: `clusterdb.clusternode` and `{app}.broadcast`. What AMS's own nodes wrote there is read
//! only; mirrors of ours are told from it by `sluicegateNode` and `sluicegateEpoch`.

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{self, Bson, Document, doc};
use serde::de::DeserializeOwned;

use super::writes::{UPDATES_MAX, check_update};
use super::{MongoStore, bounded, document};
use crate::ams::broadcast::{BROADCASTING, FINISHED, STALE_AFTER};
use crate::ams::{AmsDocuments, Broadcast, BroadcastMirror, ClusterNode, database_of};
use crate::clock::UnixMs;
use crate::ids::{AppName, NodeId, StreamKey};
use crate::store::StoreError;

const CLUSTER_NODES: &str = "clusternode";
const BROADCASTS: &str = "broadcast";

/// The most nodes read at a time.
const NODES_READ_MAX: i64 = 10_000;
/// The most live streams read of an application at a time, those updated last.
const BROADCASTS_READ_MAX: i64 = 100_000;

/// The fields of a broadcast that are read: documents may be large, and a cluster may have many.
const BROADCAST_FIELDS: [&str; 18] = [
    "streamId",
    "status",
    "type",
    "publishType",
    "name",
    "date",
    "duration",
    "originAdress",
    "quality",
    "speed",
    "startTime",
    "updateTime",
    "bitrate",
    "width",
    "height",
    "hlsViewerCount",
    "webRTCViewerCount",
    "rtmpViewerCount",
];

#[async_trait]
impl AmsDocuments for MongoStore {
    async fn cluster_nodes(&self) -> Result<Vec<ClusterNode>, StoreError> {
        let nodes = self.connection().database.collection::<Document>(CLUSTER_NODES);
        // Most, in a large cluster of ours, are mirrors.
        let theirs = doc! {"sluicegateNode": {"$exists": false}};
        let all = nodes.find(theirs).limit(NODES_READ_MAX);
        let found: Vec<Document> = bounded(async { all.await?.try_collect().await }).await?;
        Ok(found.into_iter().filter_map(|d| lenient(with_text_id(d))).collect())
    }

    async fn put_cluster_node(&self, node: &ClusterNode, of: &NodeId) -> Result<(), StoreError> {
        let mut set = fields(&node.id, node)?;
        set.remove("_id");
        set.insert("_t", "ClusterNode");
        set.insert("sluicegateNode", of.as_str());
        let nodes = self.connection().database.collection::<Document>(CLUSTER_NODES);
        bounded(nodes.update_one(doc! {"_id": &node.id}, doc! {"$set": set}).upsert(true)).await.map(drop)
    }

    async fn remove_cluster_node(&self, id: &str) -> Result<(), StoreError> {
        let nodes = self.connection().database.collection::<Document>(CLUSTER_NODES);
        bounded(nodes.delete_one(doc! {"_id": id})).await.map(drop)
    }

    async fn live_broadcasts(&self, app: &AppName, since: UnixMs) -> Result<Vec<Broadcast>, StoreError> {
        let Some(database) = database_of(app) else { return Ok(Vec::new()) };
        let mut projection: Document =
            BROADCAST_FIELDS.iter().map(|field| ((*field).to_owned(), Bson::Int32(1))).collect();
        projection.insert("_id", 0);
        let broadcasts =
            self.connection().database.client().database(&database).collection::<Document>(BROADCASTS);
        let live = broadcasts
            .find(doc! {
                "status": BROADCASTING,
                "updateTime": {"$gte": since.0},
                "sluicegateEpoch": {"$exists": false},
            })
            .sort(doc! {"updateTime": -1})
            .projection(projection)
            .limit(BROADCASTS_READ_MAX);
        let found: Vec<Document> = bounded(async { live.await?.try_collect().await }).await?;
        Ok(found.into_iter().filter_map(lenient).collect())
    }

    async fn put_broadcasts(&self, mirrors: &[BroadcastMirror], now: UnixMs) -> Result<(), StoreError> {
        let mut apps: Vec<&AppName> = mirrors.iter().map(|m| &m.key.app).collect();
        apps.sort_unstable();
        apps.dedup();
        for (app, database) in apps.into_iter().filter_map(|app| Some((app, database_of(app)?))) {
            let database = self.connection().database.client().database(&database);
            let of_app: Vec<&BroadcastMirror> = mirrors.iter().filter(|m| m.key.app == *app).collect();
            for chunk in of_app.chunks(UPDATES_MAX / 2) {
                let mut updates = Vec::with_capacity(chunk.len() * 2);
                for mirror in chunk {
                    updates.extend(broadcast_updates(mirror, now)?);
                }
                let command = doc! {"update": BROADCASTS, "ordered": false, "updates": updates};
                check_update(&bounded(database.run_command(command)).await?)?;
            }
        }
        Ok(())
    }

    async fn remove_broadcast(&self, key: &StreamKey) -> Result<(), StoreError> {
        let Some(database) = database_of(&key.app) else { return Ok(()) };
        let broadcasts =
            self.connection().database.client().database(&database).collection::<Document>(BROADCASTS);
        let mirror = doc! {"streamId": key.stream.as_str(), "sluicegateEpoch": {"$exists": true}};
        bounded(broadcasts.delete_one(mirror)).await.map(drop)
    }

    async fn finish_broadcasts(&self, app: &AppName, node: &NodeId) -> Result<(), StoreError> {
        let Some(database) = database_of(app) else { return Ok(()) };
        let broadcasts =
            self.connection().database.client().database(&database).collection::<Document>(BROADCASTS);
        let left = doc! {"sluicegateNode": node.as_str(), "status": BROADCASTING};
        let set =
            doc! {"status": FINISHED, "hlsViewerCount": 0, "webRTCViewerCount": 0, "rtmpViewerCount": 0};
        bounded(broadcasts.update_many(left, doc! {"$set": set})).await.map(drop)
    }
}

/// Two updates: what is there is brought up to date, unless an AMS node holds it or it is of a later claim;
/// what is not there is made. The `_id` follows from the name, so that two writers make one document.
fn broadcast_updates(mirror: &BroadcastMirror, now: UnixMs) -> Result<[Document; 2], StoreError> {
    let name = mirror.key.stream.as_str();
    let mut set = fields(name, &mirror.broadcast)?;
    INTS.iter().for_each(|field| narrow(&mut set, field));
    set.insert("sluicegateNode", mirror.node.as_str());
    set.insert("sluicegateEpoch", mirror.epoch.0);
    let mut whole = set.clone();
    whole.insert("_id", object_id(&mirror.key));
    if mirror.broadcast.name.is_none() {
        whole.insert("name", name);
    }
    whole.remove("streamId");
    set.remove("streamId");
    // When it was made is not ours to change.
    set.remove("date");
    let stale_before = now.0.saturating_sub(i64::try_from(STALE_AFTER.as_millis()).unwrap_or(0));
    let not_of_ams = doc! {"sluicegateEpoch": {"$exists": false}, "$or": [
        {"originAdress": mirror.broadcast.origin_adress.as_deref()},
        {"status": {"$ne": BROADCASTING}},
        {"updateTime": {"$lt": stale_before}},
    ]};
    let guard = doc! {"streamId": name, "$or": [{"sluicegateEpoch": {"$lte": mirror.epoch.0}}, not_of_ams]};
    Ok([
        doc! {"q": {"streamId": name}, "u": {"$setOnInsert": whole}, "upsert": true},
        doc! {"q": guard, "u": {"$set": set}, "multi": false},
    ])
}

/// AMS's `int`s.
const INTS: [&str; 6] =
    ["width", "height", "hlsViewerCount", "webRTCViewerCount", "rtmpViewerCount", "dashViewerCount"];

fn narrow(document: &mut Document, field: &str) {
    if let Some(Bson::Int64(wide)) = document.get(field) {
        let narrow = i32::try_from(*wide).unwrap_or(i32::MAX);
        document.insert(field, narrow);
    }
}

/// Twelve bytes that follow from a stream's name: FNV-1a, whose halves differ by their offset.
fn object_id(key: &StreamKey) -> ObjectId {
    let hash = |offset: u64| {
        let each = |h: u64, byte: u8| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        key.to_string().bytes().fold(offset, each)
    };
    let (a, b) = (hash(0xcbf2_9ce4_8422_2325).to_be_bytes(), hash(0x8422_2325_cbf2_9ce4).to_be_bytes());
    let mut bytes = [0; 12];
    for (to, from) in bytes.iter_mut().zip(a.into_iter().chain(b)) {
        *to = from;
    }
    ObjectId::from_bytes(bytes)
}

fn fields(id: &str, value: &impl serde::Serialize) -> Result<Document, StoreError> {
    bson::serialize_to_document(value)
        .map_err(|error| document::Unreadable::new(id, &error.to_string()).into())
}

/// AMS writes text; another type is shown as text, so that the node can be named.
fn with_text_id(mut document: Document) -> Document {
    let id = match document.get("_id") {
        Some(Bson::String(id)) => id.clone(),
        Some(Bson::ObjectId(id)) => id.to_hex(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    document.insert("_id", id);
    document
}

/// The types of AMS's documents take whatever is in a field; only a name that is no text is too much.
fn lenient<T: DeserializeOwned>(document: Document) -> Option<T> {
    bson::deserialize_from_document(document).ok()
}
