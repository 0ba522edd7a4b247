//! An Ant Media Server (AMS) cluster, as far as ours meets it: its documents in MongoDB, and its servers.

use std::future::IntoFuture as _;
use std::net::IpAddr;
use std::sync::LazyLock;

use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use tokio::runtime::Runtime;

mod http;
mod rtmp;
mod server;
mod socket;

pub use server::{AmsServer, Seen};
pub use socket::Socket;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
});

/// The databases that AMS shares with us.
pub struct AmsDatabase {
    client: Client,
}

impl AmsDatabase {
    /// Those at `uri`.
    ///
    /// # Panics
    /// When it is no address of a MongoDB.
    #[must_use]
    pub fn at(uri: &str) -> Self {
        let client = RUNTIME.block_on(Client::with_uri_str(uri)).expect("a MongoDB client");
        Self { client }
    }

    /// The document of `clusterdb.clusternode` with this field, as AMS's scripts find it.
    #[must_use]
    pub fn cluster_node(&self, field: &str, value: &str) -> Option<Document> {
        self.find_one("clusterdb", "clusternode", doc! {field: value})
    }

    /// The document of a stream in `{app}.broadcast`.
    #[must_use]
    pub fn broadcast(&self, app: &str, stream: &str) -> Option<Document> {
        self.find_one(app, "broadcast", doc! {"streamId": stream})
    }

    /// Puts a whole document in the place of the one with its `_id`, as AMS saves.
    ///
    /// # Panics
    /// When the database does not take it.
    pub fn save(&self, database: &str, collection: &str, document: &Document) {
        let id = document.get("_id").expect("an _id").clone();
        let collection = self.collection(database, collection);
        let replacing = collection.replace_one(doc! {"_id": id}, document).upsert(true);
        RUNTIME.block_on(replacing.into_future()).expect("a write");
    }

    /// Fills it with the documents of a large cluster: a node at each of `ips`, and so many live streams of `app`
    /// on them. They are dated an hour ahead, so that they count as written just now while they are of use.
    ///
    /// # Panics
    /// When the database does not take them.
    pub fn fill(&self, ips: &[IpAddr], app: &str, streams: usize) {
        const HOUR_MS: i64 = 3_600_000;
        let now = server::now_ms();
        let node = |(n, ip): (usize, &IpAddr)| {
            let (ip, cpu) = (ip.to_string(), (n % 80).to_string());
            doc! {"_id": &ip, "_t": "ClusterNode", "ip": &ip, "lastUpdateTime": now + HOUR_MS, "memory": "812/15921",
            "cpu": cpu, "dbQueryAveargeTimeMs": 2_i64}
        };
        let nodes: Vec<Document> = ips.iter().enumerate().map(node).collect();
        self.insert("clusterdb", "clusternode", &nodes);
        let stream = |n: usize| {
            let ip = ips[n % ips.len()].to_string();
            let name = format!("camera-{n}");
            doc! {"streamId": &name, "status": "broadcasting", "type": "liveStream", "publishType": "RTMP",
            "name": &name, "originAdress": ip, "updateTime": now + HOUR_MS, "startTime": now, "width": 1280_i32,
            "height": 720_i32, "hlsViewerCount": i32::try_from(n % 500).unwrap_or(0), "webRTCViewerCount": 0_i32,
            "bitrate": 2_500_000_i64, "zombi": true, "description": "filled in by a benchmark"}
        };
        let streams: Vec<Document> = (0..streams).map(stream).collect();
        streams.chunks(1_000).for_each(|chunk| self.insert(app, "broadcast", chunk));
    }

    fn insert(&self, database: &str, collection: &str, documents: &[Document]) {
        let collection = self.collection(database, collection);
        RUNTIME.block_on(collection.insert_many(documents).into_future()).expect("a write");
    }

    /// Sets fields of a stream's document, which is made if it is not there.
    ///
    /// # Panics
    /// When the database does not take it.
    pub fn update_broadcast(&self, app: &str, stream: &str, fields: &Document) {
        let collection = self.collection(app, "broadcast");
        let updating = collection.update_one(doc! {"streamId": stream}, doc! {"$set": fields}).upsert(true);
        RUNTIME.block_on(updating.into_future()).expect("a write");
    }

    /// Removes a document, if the database still answers.
    pub fn remove(&self, database: &str, collection: &str, id: &str) {
        let collection = self.collection(database, collection);
        let _ = RUNTIME.block_on(collection.delete_one(doc! {"_id": id}).into_future());
    }

    fn find_one(&self, database: &str, collection: &str, filter: Document) -> Option<Document> {
        let collection = self.collection(database, collection);
        RUNTIME.block_on(collection.find_one(filter).into_future()).expect("a read")
    }

    fn collection(&self, database: &str, collection: &str) -> Collection<Document> {
        self.client.database(database).collection(collection)
    }
}
