//! Records for tests, alive and full of room unless the test says otherwise.
#![allow(clippy::unwrap_used, reason = "names written in tests are valid, or the test fails")]

use crate::claims::Taker;
use crate::clock::UnixMs;
use crate::config::{AppSettings, Settings, Sources};
use crate::ids::Epoch;
use crate::node::{Addresses, Load, NodeRecord, NodeState, Role};
use crate::stream::{Owner, PublishType, StreamRecord};

/// The applications that a configuration file with this text names.
#[must_use]
pub fn apps(text: &str) -> Vec<AppSettings> {
    settings(text).apps
}

/// What a configuration file with this text says.
#[must_use]
pub fn settings(text: &str) -> Settings {
    let command_line = toml::from_str(text).unwrap();
    let sources = Sources { command_line, host_name: "host".to_owned(), ..Sources::default() };
    sources.load().unwrap()
}

/// A serving node of all roles whose heartbeat is `now`; its incarnation is `{id}-1`.
#[must_use]
pub fn node(id: &str, now: UnixMs) -> NodeRecord {
    NodeRecord {
        id: id.parse().unwrap(),
        incarnation: format!("{id}-1").as_str().into(),
        rev: 1,
        roles: vec![Role::Lb, Role::Edge, Role::Origin],
        group: "default".to_owned(),
        addresses: Addresses {
            http: "127.0.0.1:5080".parse().unwrap(),
            rtmp: Some("127.0.0.1:1935".parse().unwrap()),
        },
        state: NodeState::Serving,
        drain: false,
        found_dead_by: None,
        serving_since: UnixMs(0),
        heartbeat: now,
        capacity_mpx: 124.0,
        free_mpx: 124.0,
        reservations: Vec::new(),
        load: Load::default(),
        version: "0.0.0".to_owned(),
    }
}

/// A live stream of `node`, published over `session`, claimed once at `now`.
#[must_use]
pub fn stream_held_by(key: &str, node: &str, session: &str, now: UnixMs) -> StreamRecord {
    StreamRecord {
        key: key.parse().unwrap(),
        owner: Owner { node: node.parse().unwrap(), incarnation: format!("{node}-1").as_str().into() },
        ended_at: None,
        epoch: Epoch(now.0),
        rev: 1,
        claims: 1,
        session: session.into(),
        renditions: vec!["source".to_owned()],
        size: None,
        sequence: 0,
        sequence_at: now,
        started_at: now,
        bitrate_bps: 0,
        viewers: 0,
        webrtc_viewers: 0,
        publish_type: PublishType::default(),
        placed: None,
        ladder: Box::default(),
        notes: None,
        changed: now,
    }
}

/// Returns when `store`'s time has come to `moment`.
pub async fn until_it_is(store: &dyn crate::store::ClusterStore, moment: UnixMs) {
    while store.now().await.unwrap() < moment {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// A taker on `node` (incarnation `{node}-1`) that holds `session`.
#[must_use]
pub fn taker(node: &str, session: &str) -> Taker {
    Taker {
        node: node.parse().unwrap(),
        incarnation: format!("{node}-1").as_str().into(),
        session: session.into(),
        publish_type: PublishType::default(),
        placed: None,
        reached: None,
    }
}

/// A node's document as the store of a cluster reads it: the record, or what is wrong with it, naming the
/// field. `None` when `bson` is no document.
#[must_use]
pub fn read_node(bson: &[u8]) -> Option<Result<NodeRecord, String>> {
    crate::store::read_node(bson)
}

/// A stream's document, likewise.
#[must_use]
pub fn read_stream(bson: &[u8]) -> Option<Result<StreamRecord, String>> {
    crate::store::read_stream(bson)
}

/// A record as the document that it is stored as.
#[must_use]
pub fn bson(record: &impl serde::Serialize) -> Vec<u8> {
    mongodb::bson::serialize_to_document(record).unwrap().to_vec().unwrap()
}
