//! The store of a cluster: two collections of the database `clusterdb`. Uses only what every MongoDB does:
//! single-document updates guarded by a field, no transactions, no pipelines, no change streams.
//!
//! `changed`, which readers poll, is stamped by the server (`$currentDate`) as it carries an update out. A
//! writer's own reading of the time would be older by however long its command lay on the way, and a slow
//! writer's change could come to lie before what readers have read already.

use std::future::IntoFuture;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::IndexModel;
use mongodb::bson::{self, Document, RawDocumentBuf, doc};

use crate::ams::AmsDocuments;
use crate::clock::{self, UnixMs};
use crate::ids::{NodeId, StreamKey};
use crate::limits;
use crate::node::{NodeRecord, NodeState};
use crate::stream::{StreamFigures, StreamProgress, StreamRecord, StreamVersion};
use crate::watched::Reread;

use super::{ClusterStore, NodeRead, PageEnd, RoomRequest, StoreError, StreamPage, StreamQuery};

mod address;
mod ams;
mod clock_reading;
mod connection;
mod document;
mod failure;
mod pages;
mod writes;

pub use address::MongoAddress;
use clock_reading::Reading;
use connection::{Connection, Link};
#[cfg(any(test, feature = "testing"))]
pub(crate) use document::{read_node, read_stream};
use pages::{PAGE, date, page_end, page_of};
use writes::{
    OPTIONAL_OF_NODES, OPTIONAL_OF_STREAMS, UPDATES_MAX, check_update, is_of_version, progress_update, put,
};

const DATABASE: &str = "clusterdb";
const STREAMS: &str = "sluicegate_stream";

/// The most nodes read at a time, those with the newest heartbeat.
const NODES_READ_MAX: i64 = 10_000;

/// The most streams whose figures are read at a time, those recorded last.
const FIGURES_READ_MAX: i64 = 250_000;

/// So many documents that an answer holds all it can: by itself, the driver asks for a hundred first.
const WHOLE: u32 = 1_000_000;

/// [`ClusterStore`] in MongoDB.
pub struct MongoStore {
    link: Arc<Link>,
    clock: Mutex<Option<Reading>>,
}

impl MongoStore {
    /// A store at `address`. Connections and logins are made when they are first needed, so a database that
    /// is away now may come back.
    ///
    /// # Errors
    /// [`StoreError::Address`] when `address` cannot be understood; with `mongodb+srv`, what the DNS says.
    pub async fn open(address: &MongoAddress) -> Result<Self, StoreError> {
        Self::open_database(address, DATABASE).await
    }

    pub(super) async fn open_database(address: &MongoAddress, database: &str) -> Result<Self, StoreError> {
        let link = Link::open(address, database).await?;
        Ok(Self { link: Arc::new(link), clock: Mutex::default() })
    }

    /// The login, to be taken over from its file when that changes.
    #[must_use]
    pub fn login(&self) -> Arc<dyn Reread> {
        Arc::clone(&self.link) as _
    }

    /// What a call goes through, to its end: another login may be in force for the next one.
    fn connection(&self) -> Arc<Connection> {
        self.link.connection()
    }

    async fn read_clock(&self) -> Result<UnixMs, StoreError> {
        if self.clock.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            // The first answer takes a connection and a login as well; the second one tells the time.
            self.hello().await?;
        }
        let sent = clock::now();
        let hello = self.hello().await?;
        let received = clock::now();
        let local_time = hello.get_datetime("localTime").map_err(|_| StoreError::Unreadable {
            id: "hello".to_owned(),
            why: "it tells no localTime".to_owned(),
        })?;
        let reading = Reading::new(UnixMs(local_time.timestamp_millis()), sent, received);
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
        Ok(reading.time(received).unwrap_or_default())
    }

    async fn hello(&self) -> Result<Document, StoreError> {
        let connection = self.connection();
        let database = &connection.database;
        bounded(async {
            match database.run_command(doc! {"hello": 1}).await {
                // Servers before 4.4.2 know it by its older name.
                Err(e) if failure::is_command_not_found(&e) => {
                    database.run_command(doc! {"isMaster": 1}).await
                }
                answer => answer,
            }
        })
        .await
    }

    /// The candidate to take by what is stored now, and its `rev`.
    async fn least_loaded(&self, request: &RoomRequest) -> Result<Option<(NodeId, i64)>, StoreError> {
        let ids = request.candidates.iter().map(NodeId::as_str).collect::<Vec<_>>();
        let fitting = with_room(request, doc! {"_id": {"$in": ids}});
        let shown = doc! {"capacityMpx": 1, "freeMpx": 1, "rev": 1};
        let connection = self.connection();
        let find = connection.nodes.find(fitting).projection(shown);
        let found: Vec<RawDocumentBuf> = bounded(async { find.await?.try_collect().await }).await?;
        let number = |node: &RawDocumentBuf, field| node.get_f64(field).unwrap_or(0.0);
        let choice =
            |node: &RawDocumentBuf| request.choice(number(node, "capacityMpx"), number(node, "freeMpx"));
        let Some(chosen) = found.iter().min_by(|a, b| choice(a).order(&choice(b))) else { return Ok(None) };
        let (id, rev) = (chosen.get_str("_id").unwrap_or_default(), chosen.get_i64("rev").unwrap_or(0));
        Ok(request.candidates.iter().find(|c| c.as_str() == id).map(|c| (c.clone(), rev)))
    }

    async fn find_nodes(&self, filter: Document) -> Result<Vec<NodeRead>, StoreError> {
        let connection = self.connection();
        let newest = connection
            .nodes
            .find(filter)
            .sort(doc! {"heartbeat": -1})
            .limit(NODES_READ_MAX)
            .batch_size(WHOLE);
        let raw: Vec<RawDocumentBuf> = bounded(async { newest.await?.try_collect().await }).await?;
        Ok(raw.iter().map(|raw| document::node(raw).map_err(Into::into)).collect())
    }
}

#[async_trait]
impl ClusterStore for MongoStore {
    fn kind(&self) -> &'static str {
        "mongodb"
    }

    fn ams(&self) -> Option<&dyn AmsDocuments> {
        Some(self)
    }

    async fn now(&self) -> Result<UnixMs, StoreError> {
        let reading = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        match reading.and_then(|r| r.time(clock::now())) {
            Some(now) => Ok(now),
            None => self.read_clock().await,
        }
    }

    async fn prepare(&self) -> Result<(), StoreError> {
        let index = |keys| IndexModel::builder().keys(keys).build();
        // With the name, pages end between streams that changed at the same time.
        let streams = [index(doc! {"changed": 1, "_id": 1}), index(doc! {"sequenceAt": 1})];
        let connection = self.connection();
        bounded(connection.streams.create_indexes(streams)).await?;
        bounded(connection.nodes.create_index(index(doc! {"changed": 1}))).await.map(drop)
    }

    async fn nodes(&self) -> Result<Vec<NodeRead>, StoreError> {
        self.find_nodes(doc! {}).await
    }

    async fn nodes_changed(&self, since: UnixMs, own: &NodeId) -> Result<Vec<NodeRead>, StoreError> {
        let changed = doc! {"changed": {"$gte": date(since)}};
        self.find_nodes(doc! {"$or": [changed, {"_id": own.as_str()}]}).await
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeRecord>, StoreError> {
        let raw = bounded(self.connection().nodes.find_one(doc! {"_id": id.as_str()})).await?;
        Ok(raw.as_ref().map(document::node).transpose()?)
    }

    async fn put_node(&self, record: &NodeRecord, expected: Option<i64>) -> Result<bool, StoreError> {
        let guard = expected.map(|rev| doc! {"rev": rev});
        put(&self.connection().nodes, record.id.as_str(), record, guard, "rev", &OPTIONAL_OF_NODES).await
    }

    async fn put_load(&self, record: &NodeRecord, expected: i64) -> Result<bool, StoreError> {
        let id = record.id.as_str();
        let load = document::encode(id, &record.beat())?;
        let seen = doc! {"_id": id, "rev": expected};
        Ok(bounded(self.connection().nodes.update_one(seen, doc! {"$set": load})).await?.matched_count == 1)
    }

    async fn remove_node(&self, id: &NodeId, expected: i64) -> Result<bool, StoreError> {
        let seen = doc! {"_id": id.as_str(), "rev": expected};
        bounded(self.connection().nodes.delete_one(seen)).await.map(|deleted| deleted.deleted_count == 1)
    }

    async fn take_room(&self, request: &RoomRequest) -> Result<Option<NodeId>, StoreError> {
        let reservation = bson::serialize_to_bson(&request.reservation).map_err(|error| {
            StoreError::Unreadable { id: request.reservation.id.to_string(), why: error.to_string() }
        })?;
        let mpx = request.reservation.mpx;
        let update = doc! {
            "$inc": {"freeMpx": -mpx, "rev": 1_i64},
            "$push": {"reservations": reservation},
        };
        // MongoDB cannot sort by a quotient: who chose by what was read, and lost, looks again. When that goes
        // on for long, having room is enough.
        for attempt in 0..limits::CAS_TRIES {
            let Some((id, rev)) = self.least_loaded(request).await? else { return Ok(None) };
            let mut chosen = with_room(request, doc! {"_id": id.as_str()});
            if attempt < limits::CAS_TRIES / 2 {
                chosen.insert("rev", rev);
            }
            if bounded(self.connection().nodes.update_one(chosen, update.clone())).await?.matched_count == 1 {
                return Ok(Some(id));
            }
        }
        Err(StoreError::Contended)
    }

    async fn stream(&self, key: &StreamKey) -> Result<Option<StreamRecord>, StoreError> {
        let raw = bounded(self.connection().streams.find_one(doc! {"_id": key.to_string()})).await?;
        Ok(raw.as_ref().map(document::stream).transpose()?)
    }

    async fn streams(&self, query: StreamQuery, after: Option<PageEnd>) -> Result<StreamPage, StoreError> {
        let (filter, order) = page_of(query, after);
        let connection = self.connection();
        let page = connection.streams.find(filter).sort(order).limit(PAGE).batch_size(WHOLE);
        let page = page.projection(doc! {"placed": 0});
        let raw: Vec<RawDocumentBuf> = bounded(async { page.await?.try_collect().await }).await?;
        let is_last = raw.len() < limits::STREAMS_PAGE;
        let end = if is_last { None } else { raw.iter().rev().find_map(page_end) };
        let (mut streams, mut unreadable) = (Vec::with_capacity(raw.len()), Vec::new());
        for read in raw.iter().map(document::stream) {
            match read {
                Ok(record) => streams.push(record),
                Err(bad) => unreadable.push(bad.into()),
            }
        }
        Ok(StreamPage { streams, unreadable, end })
    }

    async fn stream_figures(&self, since: UnixMs) -> Result<Vec<StreamFigures>, StoreError> {
        let streams = self.connection().streams.clone_with_type::<Document>();
        let figures = streams
            .find(doc! {"sequenceAt": {"$gte": since.0}, "endedAt": {"$exists": false}})
            .projection(doc! {
                "epoch": 1, "sequenceAt": 1, "bitrateBps": 1, "viewers": 1, "webrtcViewers": 1, "ladder": 1,
            })
            .sort(doc! {"sequenceAt": -1})
            .limit(FIGURES_READ_MAX)
            .batch_size(WHOLE);
        let found: Vec<Document> = bounded(async { figures.await?.try_collect().await }).await?;
        // A stream whose document cannot be read has been told of.
        Ok(found.into_iter().filter_map(|figures| bson::deserialize_from_document(figures).ok()).collect())
    }

    async fn put_stream(
        &self,
        record: &StreamRecord,
        expected: Option<StreamVersion>,
    ) -> Result<bool, StoreError> {
        let guard = expected.map(is_of_version);
        put(&self.connection().streams, &record.key.to_string(), record, guard, "epoch", &OPTIONAL_OF_STREAMS)
            .await
    }

    async fn record_progress(&self, progress: &[StreamProgress], now: UnixMs) -> Result<(), StoreError> {
        for chunk in progress.chunks(UPDATES_MAX) {
            let updates = chunk.iter().map(|step| progress_update(step, now)).collect::<Vec<_>>();
            let command = doc! {"update": STREAMS, "ordered": false, "updates": updates};
            let reply = bounded(self.connection().database.run_command(command)).await?;
            check_update(&reply)?;
        }
        Ok(())
    }
}

/// `nodes`, as far as they take work and have room for `request`.
fn with_room(request: &RoomRequest, nodes: Document) -> Document {
    let mut filter = nodes;
    filter.extend(doc! {
        "state": NodeState::Serving.as_str(),
        "heartbeat": {"$gte": request.heartbeat_after.0},
        "freeMpx": {"$gte": request.reservation.mpx},
    });
    filter
}

/// Waits for the driver no longer than [`limits::STORE_CALL`].
async fn bounded<T>(call: impl IntoFuture<Output = mongodb::error::Result<T>>) -> Result<T, StoreError> {
    tokio::time::timeout(limits::STORE_CALL, call.into_future())
        .await
        .map_err(|_| StoreError::TimedOut)?
        .map_err(|error| failure::store_error(&error))
}
