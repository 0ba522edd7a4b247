//! `clusterdb.clusternode`: how AMS knows the nodes of a cluster (AMS `cluster/ClusterNode.java`).

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::loose;
use crate::clock::UnixMs;
use crate::node::{NodeRecord, Role};

/// AMS shows a node as dead whose `lastUpdateTime` is older (`NODE_UPDATE_PERIOD`, 5 s, times four).
pub const DEAD_AFTER: Duration = Duration::from_secs(20);

/// A document of it. Fields that are missing, or hold something else, are `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNode {
    /// Its name. AMS's scripts find the node's address in it.
    #[serde(rename = "_id")]
    pub id: String,
    /// Its address.
    #[serde(deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// When it last wrote, milliseconds since 1970.
    #[serde(deserialize_with = "loose::integer", skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<i64>,
    /// Memory as `used/total`, megabytes.
    #[serde(deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Processors, percent, as text.
    #[serde(deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// How long the database takes to answer (the name is AMS's).
    #[serde(
        rename = "dbQueryAveargeTimeMs",
        deserialize_with = "loose::integer",
        skip_serializing_if = "Option::is_none"
    )]
    pub db_query_average_time_ms: Option<i64>,
    /// Of which node of ours it is the mirror.
    #[serde(deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub sluicegate_node: Option<String>,
}

impl ClusterNode {
    /// The mirror of `record`.
    #[must_use]
    pub fn of(record: &NodeRecord, db_query: Duration) -> Self {
        let memory = record.load.memory;
        Self {
            id: mirror_id(record),
            ip: Some(record.addresses.http.ip().to_string()),
            last_update_time: Some(record.heartbeat.0),
            memory: Some(format!("{}/{}", memory.used_bytes >> 20, memory.total_bytes >> 20)),
            cpu: Some(format!("{:.0}", record.load.cpu.clamp(0.0, 100.0))),
            db_query_average_time_ms: i64::try_from(db_query.as_millis()).ok(),
            sluicegate_node: Some(record.id.to_string()),
        }
    }

    /// Where it is reached: by `ip`, or by the address that `_id` begins with.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let from_id = || self.id.split([':', '_', '/']).next().and_then(|ip| ip.parse().ok());
        self.ip.as_deref().and_then(|ip| ip.trim().parse().ok()).or_else(from_id)
    }

    /// Processors in use, percent. One that does not say is taken to be half loaded.
    #[must_use]
    pub fn cpu_percent(&self) -> f64 {
        let said = self.cpu.as_deref().and_then(|cpu| cpu.trim().parse::<f64>().ok());
        said.filter(|cpu| cpu.is_finite()).map_or(50.0, |cpu| cpu.clamp(0.0, 100.0))
    }

    /// Memory in use and in all, bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<(u64, u64)> {
        let (used, total) = self.memory.as_deref()?.split_once('/')?;
        let bytes = |megabytes: &str| megabytes.trim().parse::<u64>().ok()?.checked_mul(1 << 20);
        Some((bytes(used)?, bytes(total)?))
    }

    /// Whether AMS would call it alive at `now`, the database's time.
    #[must_use]
    pub fn is_alive(&self, now: UnixMs) -> bool {
        self.last_update_time.is_some_and(|at| UnixMs(at).age(now) < DEAD_AFTER)
    }
}

/// Whether a node has a mirror. A balancer alone has none: AMS knows no such node, and its scripts would take
/// it for one that serves.
#[must_use]
pub fn is_mirrored(record: &NodeRecord) -> bool {
    record.has(Role::Edge) || record.has(Role::Origin)
}

/// The `_id` of a node's mirror. Known without reading the mirror: others may save over it.
#[must_use]
pub fn mirror_id(record: &NodeRecord) -> String {
    record.addresses.http.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::MemoryUse;
    use crate::testing::node;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn read(document: serde_json::Value) -> ClusterNode {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_mirror_has_ams_names_and_types() {
        let mut record = node("edge-1", NOW);
        record.load.cpu = 41.6;
        record.load.memory = MemoryUse { used_bytes: 3 << 30, total_bytes: 8 << 30 };
        let mirror = ClusterNode::of(&record, Duration::from_millis(7));
        let document = serde_json::to_value(&mirror).unwrap();
        let expect = json!({
            "_id": "127.0.0.1:5080", "ip": "127.0.0.1", "lastUpdateTime": 1_700_000_000_000_i64,
            "memory": "3072/8192", "cpu": "42", "dbQueryAveargeTimeMs": 7, "sluicegateNode": "edge-1",
        });
        assert_eq!(document, expect);
        assert_eq!(read(document), mirror);
    }

    #[test]
    fn numbers_and_text_are_both_read() {
        let enterprise = json!({
            "_id": "10.0.1.5", "_t": "ClusterNode", "ip": "10.0.1.5", "lastUpdateTime": 1_700_000_000_000_i64,
            "memory": "812/15921", "cpu": "37", "dbQueryAveargeTimeMs": 3,
        });
        let node = read(enterprise);
        assert_eq!((node.address(), node.cpu.as_deref()), (Some("10.0.1.5".parse().unwrap()), Some("37")));
        assert_eq!(node.memory_bytes(), Some((812 << 20, 15_921 << 20)));
        assert!(node.is_alive(NOW.plus(Duration::from_secs(19))));
        assert!(!node.is_alive(NOW.plus(Duration::from_secs(20))));
        let redis = read(json!({"_id": "10.0.1.6:5000", "cpu": 12.0, "lastUpdateTime": "1700000000000"}));
        assert_eq!(redis.address(), Some("10.0.1.6".parse().unwrap()));
        assert!((redis.cpu_percent() - 12.0).abs() < f64::EPSILON);
        assert!(redis.is_alive(NOW));
    }

    #[test]
    fn what_is_missing_or_odd_is_left_out_and_the_rest_stays() {
        let odd = read(json!({"_id": "x", "ip": {"a": 1}, "cpu": [], "lastUpdateTime": true, "memory": "?"}));
        assert_eq!((odd.address(), odd.memory_bytes(), odd.is_alive(NOW)), (None, None, false));
        assert!((odd.cpu_percent() - 50.0).abs() < f64::EPSILON);
    }
}
