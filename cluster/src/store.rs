//! The cluster's memory. A store keeps two kinds of documents, nodes and streams, and changes them by
//! compare-and-set; it decides nothing. What a claim or a heartbeat means is decided above it
//! ([`crate::claims`], [`crate::membership`]), so that both implementations obey the same rules.

use std::cmp::Ordering;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::ams::AmsDocuments;
use crate::clock::UnixMs;
use crate::ids::{NodeId, StreamKey};
use crate::limits;
use crate::node::{NodeRecord, Reservation};
use crate::stream::{StreamFigures, StreamProgress, StreamRecord, StreamVersion};

mod counted;
mod embedded;
mod mongodb;
#[cfg(test)]
mod suite;

pub use counted::CountedStore;
pub use embedded::EmbeddedStore;
pub use mongodb::{MongoAddress, MongoStore};
#[cfg(any(test, feature = "testing"))]
pub(crate) use mongodb::{read_node, read_stream};

/// Why a call of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer, or answered with an error.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
    /// It refused the login.
    #[error("the database refused the login: {0}")]
    Refused(String),
    /// The password cannot be read from its file.
    #[error("the database's password: {0}")]
    Password(String),
    /// The address cannot be understood.
    #[error("not a MongoDB address: {0}")]
    Address(String),
    /// No answer within [`crate::limits::STORE_CALL`].
    #[error("the database did not answer in time")]
    TimedOut,
    /// A document is not what it should be.
    #[error("document {id} cannot be read: {why}")]
    Unreadable {
        /// Its `_id`.
        id: String,
        /// What is wrong with it, naming the field.
        why: String,
    },
    /// The embedded store's file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others kept winning a compare-and-set.
    #[error("the document kept changing under this write")]
    Contended,
}

impl StoreError {
    /// A label for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Refused(_) => "refused",
            Self::Password(_) => "password",
            Self::Address(_) => "address",
            Self::TimedOut => "timed_out",
            Self::Unreadable { .. } => "unreadable",
            Self::File { .. } => "file",
            Self::Contended => "contended",
        }
    }
}

/// A node's document as read: one that cannot be understood does not hide the others.
pub type NodeRead = Result<NodeRecord, UnreadableDocument>;

/// A document that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableDocument {
    /// Its `_id`, as text.
    pub id: String,
    /// What is wrong with it, naming the field.
    pub why: String,
}

/// Streams to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamQuery {
    /// Those that a node that has just begun must know, by name: the live ones, those with notes, and those that
    /// changed since.
    Known {
        /// In the database's time.
        ended_since: UnixMs,
    },
    /// Those that changed since, the longest unchanged first.
    Changed {
        /// In the database's time.
        since: UnixMs,
    },
}

/// Where a page of streams ended: the next one goes on behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageEnd {
    /// The last document's `_id`.
    pub key: String,
    /// When it changed.
    pub changed: UnixMs,
}

/// At most [`limits::STREAMS_PAGE`] streams.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StreamPage {
    /// The streams.
    pub streams: Vec<StreamRecord>,
    /// Those that cannot be understood.
    pub unreadable: Vec<UnreadableDocument>,
    /// Where it ended, unless it is the last one.
    pub end: Option<PageEnd>,
}

/// Reads all that `query` asks for, page by page, as long as it is not more than [`limits::STREAMS_KNOWN`]: as one
/// page, the last.
///
/// # Errors
/// What the store said.
pub async fn read_streams(store: &dyn ClusterStore, query: StreamQuery) -> Result<StreamPage, StoreError> {
    let mut read = store.streams(query, None).await?;
    while read.end.is_some() && read.streams.len() < limits::STREAMS_KNOWN {
        let page = store.streams(query, read.end).await?;
        read.streams.extend(page.streams);
        read.unreadable.extend(page.unreadable);
        read.end = page.end;
    }
    read.end = None;
    Ok(read)
}

/// The room to take on one of some origins.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomRequest {
    /// Origins that may be taken. The one that would then be the least loaded for its capacity wins.
    pub candidates: Vec<NodeId>,
    /// What to reserve. Its `mpx` must fit into the origin's room.
    pub reservation: Reservation,
    /// Origins whose heartbeat is older than this (database time) are passed over.
    pub heartbeat_after: UnixMs,
}

impl RoomRequest {
    /// How loaded an origin would be by it, a part of its capacity; by it origins are chosen, whatever their
    /// size. Of equals, the one with more room.
    #[must_use]
    pub fn choice(&self, capacity_mpx: f64, free_mpx: f64) -> LoadAfter {
        LoadAfter::new(capacity_mpx, free_mpx, self.reservation.mpx)
    }
}

/// The load of an origin after a publish, in the order in which origins are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadAfter {
    part: f64,
    free_mpx: f64,
}

impl LoadAfter {
    /// Of an origin of `capacity_mpx` with `free_mpx` of it left, after a publish that costs `mpx`.
    #[must_use]
    pub fn new(capacity_mpx: f64, free_mpx: f64, mpx: f64) -> Self {
        Self { part: (capacity_mpx - free_mpx + mpx) / capacity_mpx.max(f64::MIN_POSITIVE), free_mpx }
    }

    /// Which of two is chosen first: the lesser.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        self.part.total_cmp(&other.part).then(other.free_mpx.total_cmp(&self.free_mpx))
    }
}

/// The cluster's memory: documents changed by compare-and-set.
///
/// Every method is one round trip or few, each bounded by [`crate::limits::STORE_CALL`].
///
/// # Errors
/// Every method answers [`StoreError`] when the store cannot be asked.
#[async_trait]
pub trait ClusterStore: Send + Sync + 'static {
    /// `mongodb` or `embedded`.
    fn kind(&self) -> &'static str;

    /// AMS's documents; `None` in a store that AMS does not share.
    fn ams(&self) -> Option<&dyn AmsDocuments> {
        None
    }

    /// The database's clock, which all times in documents follow.
    async fn now(&self) -> Result<UnixMs, StoreError>;

    /// Makes what the store needs: indexes, or a file that can be written. Safe to repeat.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// All nodes, with their heartbeats and load.
    async fn nodes(&self) -> Result<Vec<NodeRead>, StoreError>;

    /// One node. `None` when there is no such document.
    async fn node(&self, id: &NodeId) -> Result<Option<NodeRecord>, StoreError>;

    /// The nodes of which more than the load has changed since, by the store's time, and the node `own`.
    async fn nodes_changed(&self, since: UnixMs, own: &NodeId) -> Result<Vec<NodeRead>, StoreError>;

    /// Writes `record` if the stored one has `rev == expected`; with `None`, if there is none. `false`:
    /// it was not so, and nothing was written. The node is changed by it.
    async fn put_node(&self, record: &NodeRecord, expected: Option<i64>) -> Result<bool, StoreError>;

    /// Writes heartbeat, room and load of `record` if the stored one has `rev == expected`. `false`: it was not
    /// so, and nothing was written. Everything else must be as stored: the node is not changed by it, so that
    /// a thousand heartbeats a second are read only by those that need them.
    async fn put_load(&self, record: &NodeRecord, expected: i64) -> Result<bool, StoreError>;

    /// Removes a node's document if the stored one has `rev == expected`. `false`: it was not so, and it stays.
    async fn remove_node(&self, id: &NodeId, expected: i64) -> Result<bool, StoreError>;

    /// Takes room: of the candidates that serve, whose heartbeat is recent and whose `freeMpx` covers the
    /// cost, the first by [`LoadAfter`] loses the cost, gains the reservation and a `rev`, all in one step.
    /// `None`: none of them has room.
    async fn take_room(&self, request: &RoomRequest) -> Result<Option<NodeId>, StoreError>;

    /// One stream. `None` when it never was.
    async fn stream(&self, key: &StreamKey) -> Result<Option<StreamRecord>, StoreError>;

    /// A page of the streams that `query` asks for, behind `after`, without why they were placed where they are,
    /// which [`ClusterStore::stream`] says.
    async fn streams(&self, query: StreamQuery, after: Option<PageEnd>) -> Result<StreamPage, StoreError>;

    /// Figures of live streams that were recorded since.
    async fn stream_figures(&self, since: UnixMs) -> Result<Vec<StreamFigures>, StoreError>;

    /// Writes `record` if the stored one is of the version `expected`; with `None`, if there is none. `false`: it
    /// was not so, and nothing was written. Stamps `changed` with the store's own time.
    async fn put_stream(
        &self,
        record: &StreamRecord,
        expected: Option<StreamVersion>,
    ) -> Result<bool, StoreError>;

    /// Records the progress of running streams in one round trip. Each names its epoch; stale ones, and
    /// those of a stream that has ended, match nothing. `sequence` never goes back. Stamps `sequenceAt` with
    /// `now`, and `changed` with the store's own time where there is news, and raises `rev`.
    async fn record_progress(&self, progress: &[StreamProgress], now: UnixMs) -> Result<(), StoreError>;
}
