//! What is written: documents guarded by a field and stamped by the server, and progress in bulk.

use mongodb::Collection;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use serde::Serialize;

use super::{bounded, document, failure};
use crate::clock::UnixMs;
use crate::store::StoreError;
use crate::stream::{StreamProgress, StreamVersion};

/// Fields that are not there when they say nothing.
pub(super) const OPTIONAL_OF_NODES: [&str; 1] = ["foundDeadBy"];
pub(super) const OPTIONAL_OF_STREAMS: [&str; 4] = ["endedAt", "size", "placed", "notes"];

/// The most updates in one command. MongoDB takes 100,000, older ones 1,000.
pub(super) const UPDATES_MAX: usize = 1_000;

/// What a stream's document has that is of this version. Older programs wrote no `rev`.
pub(super) fn is_of_version(version: StreamVersion) -> Document {
    let rev = if version.rev == 0 {
        doc! {"$in": [0_i64, Bson::Null]}
    } else {
        doc! {"$eq": version.rev}
    };
    doc! {"epoch": version.epoch.0, "rev": rev}
}

/// Writes the document `id` if it is as `guard` says; without a guard, if there is none that has `always`, a field
/// of all of them. The server stamps `changed`. `optional` are the fields that are taken off where `record` has
/// them not.
pub(super) async fn put(
    collection: &Collection<RawDocumentBuf>,
    id: &str,
    record: &impl Serialize,
    guard: Option<Document>,
    always: &str,
    optional: &[&str],
) -> Result<bool, StoreError> {
    let mut set = document::encode(id, record)?;
    set.remove("_id");
    set.remove("changed");
    let absent = optional.iter().filter(|field| !set.contains_key(*field));
    let unset: Document = absent.map(|field| ((*field).to_owned(), Bson::Int32(1))).collect();
    let mut update = doc! {"$set": set, "$currentDate": {"changed": true}};
    if !unset.is_empty() {
        update.insert("$unset", unset);
    }
    let Some(mut guarded) = guard else {
        // Only an update is stamped by the server, so this is one that finds nothing and inserts. A document
        // that is there already has the field, and is in the way of the insert by its name.
        let absent = doc! {"_id": id, always: {"$exists": false}};
        return bounded(async {
            match collection.update_one(absent, update).upsert(true).await {
                Ok(_) => Ok(true),
                Err(error) if failure::is_duplicate_key(&error) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await;
    };
    guarded.insert("_id", id);
    let written = bounded(collection.update_one(guarded, update)).await?;
    Ok(written.matched_count == 1)
}

/// One element of an `update` command's `updates`.
pub(super) fn progress_update(step: &StreamProgress, now: UnixMs) -> Document {
    let mut set = doc! {
        "bitrateBps": signed(step.bitrate_bps),
        "viewers": signed(step.viewers),
        "webrtcViewers": signed(step.webrtc_viewers),
        "renditions": &step.renditions,
        "ladder": {
            "givenUp": &step.ladder.given_up,
            "lagMs": signed(step.ladder.lag_ms),
            "framesLost": signed(step.ladder.frames_lost),
            "restarts": signed(step.ladder.restarts),
            "decodePercent": step.ladder.decode_percent,
            "scalePercent": step.ladder.scale_percent,
            "encodePercent": step.ladder.encode_percent,
        },
        "sequenceAt": now.0,
    };
    if let Some(size) = step.size {
        let (width, height) = (i64::from(size.width), i64::from(size.height));
        set.insert("size", doc! {"width": width, "height": height, "fps": size.fps});
    }
    let mut update = doc! {"$set": set, "$max": {"sequence": step.sequence}, "$inc": {"rev": 1_i64}};
    if step.is_news {
        update.insert("$currentDate", doc! {"changed": true});
    }
    let seen = doc! {"_id": step.key.to_string(), "epoch": step.epoch.0, "endedAt": {"$exists": false}};
    doc! {"q": seen, "u": update}
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An `update` command is answered with `ok: 1` even when some of its updates failed.
pub(super) fn check_update(reply: &Document) -> Result<(), StoreError> {
    let first = reply.get_array("writeErrors").ok().and_then(|errors| errors.first());
    let failed = first.or_else(|| reply.get("writeConcernError")).and_then(Bson::as_document);
    match failed {
        None => Ok(()),
        Some(error) => {
            let message = error.get_str("errmsg").unwrap_or("a write failed");
            Err(StoreError::Unavailable(failure::short(message)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_update_within_a_command_is_an_error() {
        assert!(check_update(&doc! {"ok": 1, "n": 3, "nModified": 3}).is_ok());
        let failed = doc! {"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": 2, "errmsg": "bad"}]};
        assert_eq!(check_update(&failed).unwrap_err().to_string(), "the database does not answer: bad");
        let unconfirmed = doc! {"ok": 1, "n": 1, "writeConcernError": {"code": 64, "errmsg": "late"}};
        assert_eq!(check_update(&unconfirmed).unwrap_err().kind(), "unavailable");
    }
}
