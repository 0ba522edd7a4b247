//! Streams in pages: what is asked for, in which order, and where a page ended.

use mongodb::bson::{self, Document, RawDocumentBuf, doc};

use crate::clock::UnixMs;
use crate::limits;
use crate::store::{PageEnd, StreamQuery};

/// A page of streams.
pub(super) const PAGE: i64 = limits::STREAMS_PAGE as i64;

/// The filter of a page of streams, and its order.
pub(super) fn page_of(query: StreamQuery, after: Option<PageEnd>) -> (Document, Document) {
    match query {
        StreamQuery::Known { ended_since } => {
            let mut filter = doc! {"$or": [
                {"endedAt": {"$exists": false}},
                {"changed": {"$gte": date(ended_since)}},
                {"notes": {"$exists": true}},
            ]};
            if let Some(after) = after {
                filter.insert("_id", doc! {"$gt": after.key});
            }
            (filter, doc! {"_id": 1})
        }
        StreamQuery::Changed { since } => {
            let filter = match after {
                None => doc! {"changed": {"$gte": date(since)}},
                Some(PageEnd { key, changed }) => doc! {"$or": [
                    {"changed": {"$gt": date(changed)}},
                    {"changed": date(changed), "_id": {"$gt": key}},
                ]},
            };
            (filter, doc! {"changed": 1, "_id": 1})
        }
    }
}

/// Where a page ends that ends with this document; `None` of one that no stream's name leads to.
pub(super) fn page_end(last: &RawDocumentBuf) -> Option<PageEnd> {
    let key = last.get_str("_id").ok()?.to_owned();
    let changed = last.get_datetime("changed").ok();
    Some(PageEnd { key, changed: UnixMs(changed.map_or(0, |at| at.timestamp_millis())) })
}

pub(super) fn date(at: UnixMs) -> bson::DateTime {
    bson::DateTime::from_millis(at.0)
}
