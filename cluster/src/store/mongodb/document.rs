//! Records as documents, and back. Documents are read one by one, so that one that cannot be understood
//! does not hide the others, and what is wrong with it is told by the field's name.

use mongodb::bson::{self, Bson, Document, RawDocumentBuf};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::short;
use crate::node::{Load, NodeRecord};
use crate::store::{StoreError, UnreadableDocument};
use crate::stream::{Owner, StreamRecord};

/// Why a document is not a record.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// Its `_id`, as text.
    pub(super) id: String,
    /// What is wrong, naming the field.
    pub(super) why: String,
}

impl Unreadable {
    pub(super) fn new(id: &str, why: &str) -> Self {
        Self { id: short(id), why: short(why) }
    }
}

impl From<Unreadable> for StoreError {
    fn from(Unreadable { id, why }: Unreadable) -> Self {
        Self::Unreadable { id, why }
    }
}

impl From<Unreadable> for UnreadableDocument {
    fn from(Unreadable { id, why }: Unreadable) -> Self {
        Self { id, why }
    }
}

pub(super) fn encode(id: &str, record: &impl Serialize) -> Result<Document, StoreError> {
    bson::serialize_to_document(record).map_err(|error| Unreadable::new(id, &error.to_string()).into())
}

pub(super) fn node(raw: &RawDocumentBuf) -> Result<NodeRecord, Unreadable> {
    record::<_, Load>(raw)
}

pub(super) fn stream(raw: &RawDocumentBuf) -> Result<StreamRecord, Unreadable> {
    record::<_, Owner>(raw)
}

/// A node's document from its bytes, for fuzzing; `None` when they are no document.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn read_node(bson: &[u8]) -> Option<Result<NodeRecord, String>> {
    let raw = RawDocumentBuf::from_bytes(bson.to_vec()).ok()?;
    Some(node(&raw).map_err(|unreadable| unreadable.why))
}

/// A stream's document, likewise.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn read_stream(bson: &[u8]) -> Option<Result<StreamRecord, String>> {
    let raw = RawDocumentBuf::from_bytes(bson.to_vec()).ok()?;
    Some(stream(&raw).map_err(|unreadable| unreadable.why))
}

/// `T`, which has `Flattened` in it. An error within that has lost its field's name on the way; reading
/// `Flattened` alone finds it.
fn record<T: DeserializeOwned, Flattened: DeserializeOwned>(raw: &RawDocumentBuf) -> Result<T, Unreadable> {
    // Nearly all can be read, and quickly; what is wrong with the others takes longer to find.
    if let Ok(record) = bson::deserialize_from_slice(raw.as_bytes()) {
        return Ok(record);
    }
    let document = decode(raw)?;
    parse(&document).map_err(|why| {
        let why = parse::<Flattened>(&document).err().unwrap_or(why);
        Unreadable::new(&id(&document), &why)
    })
}

fn decode(raw: &RawDocumentBuf) -> Result<Document, Unreadable> {
    Document::try_from(raw).map_err(|error| Unreadable::new(&raw_id(raw), &error.to_string()))
}

fn raw_id(raw: &RawDocumentBuf) -> String {
    raw.get_str("_id").unwrap_or("unknown").to_owned()
}

fn id(document: &Document) -> String {
    match document.get("_id") {
        Some(Bson::String(id)) => id.clone(),
        Some(other) => other.to_string(),
        None => "unknown".to_owned(),
    }
}

fn parse<T: DeserializeOwned>(document: &Document) -> Result<T, String> {
    let deserializer = bson::Deserializer::new(Bson::Document(document.clone()));
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let why = error.message.clone().unwrap_or_else(|| error.to_string());
        if path == "." { why } else { format!("{path}: {why}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMs;
    use crate::testing;
    use mongodb::bson::doc;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn changed(record: &impl Serialize, field: &str, value: Option<Bson>) -> RawDocumentBuf {
        let mut document = bson::serialize_to_document(record).unwrap();
        document.remove(field);
        if let Some(value) = value {
            document.insert(field, value);
        }
        RawDocumentBuf::try_from(document).unwrap()
    }

    #[track_caller]
    fn check_node(field: &str, value: Option<Bson>) {
        let why = node(&changed(&testing::node("o1", NOW), field, value)).unwrap_err();
        assert_eq!(why.id, "o1");
        assert!(why.why.contains(field), "{why:?}");
    }

    #[test]
    fn a_nodes_fault_names_its_field() {
        check_node("heartbeat", None);
        check_node("heartbeat", Some("yesterday".into()));
        check_node("cpu", Some("much".into()));
        check_node("gpus", None);
        check_node("addresses", Some(Bson::Document(doc! {"http": "nowhere"})));
        check_node("state", Some("asleep".into()));
        check_node("egressBps", Some((-1_i64).into()));
    }

    #[test]
    fn a_streams_fault_names_its_field() {
        let record = testing::stream_held_by("live/cam", "o1", "s1", NOW);
        let faults = [
            ("epoch", Some("x".into())),
            ("claims", None),
            ("node", Some("a b".into())),
            ("incarnation", None),
        ];
        for (field, value) in faults {
            let why = stream(&changed(&record, field, value)).unwrap_err();
            assert_eq!(why.id, "live/cam");
            assert!(why.why.contains(field), "{why:?}");
        }
    }

    #[test]
    fn integers_may_be_narrow_and_ids_may_be_anything() {
        let record = testing::stream_held_by("live/cam", "o1", "s1", NOW);
        let narrow = changed(&record, "epoch", Some(Bson::Int32(7)));
        assert_eq!(stream(&narrow).unwrap().epoch.0, 7);
        let numbered = changed(&record, "_id", Some(Bson::Int32(7)));
        assert_eq!(stream(&numbered).unwrap_err().id, "7");
    }
}
