//! What the cluster knows of a node: the document `clusterdb.sluicegate_node`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;
use crate::ids::{Incarnation, NodeId, ReservationId, StreamKey};
use crate::limits;

/// What a node does. It may hold several roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Balances publishers and viewers.
    Lb,
    /// Serves viewers.
    Edge,
    /// Takes publishers' streams.
    Origin,
}

impl Role {
    /// The role's name, as in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lb => "lb",
            Self::Edge => "edge",
            Self::Origin => "origin",
        }
    }
}

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Registered, not yet taking work.
    Joining,
    /// Taking work.
    Serving,
    /// Serving what it has, taking nothing new.
    Draining,
    /// Ended, or found dead by another node. Its streams are free to take.
    Gone,
}

impl NodeState {
    /// The state's name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Gone => "gone",
        }
    }
}

/// Where other nodes reach a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// `node.http`: what it serves to balancers and other nodes.
    pub http: SocketAddr,
    /// `origin.rtmp`: publishes from balancers. Origins only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtmp: Option<SocketAddr>,
}

/// Room taken on an origin before the publish reaches it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// Its name, which travels with the publish.
    pub id: ReservationId,
    /// The stream it is for.
    pub stream: StreamKey,
    /// Its cost in Mpx/s.
    pub mpx: f64,
    /// When the room is given back if no publish came.
    pub expires_at: UnixMs,
}

/// One graphics card of a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// The product's name.
    pub name: String,
    /// The card's UUID.
    pub uuid: String,
    /// Utilisation of its cores, percent.
    pub gpu: u32,
    /// Utilisation of its encoders, percent.
    pub encoder: u32,
    /// Utilisation of its decoders, percent.
    pub decoder: u32,
    /// Memory in use, bytes.
    pub memory_used: u64,
    /// Memory in all, bytes.
    pub memory_total: u64,
    /// Sessions of its encoders, those of other programs too.
    #[serde(default)]
    pub encoder_sessions: u32,
    /// Whether streams are placed on it.
    #[serde(default)]
    pub state: GpuState,
}

/// Whether a graphics card is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuState {
    /// It is.
    Good,
    /// It has not shown yet what it can.
    #[default]
    Untried,
    /// A stream broke down on it: it has to show again that it is well.
    Suspect,
    /// It failed at that, and is tried again later.
    Resting,
    /// It answers no more.
    Silent,
}

impl GpuState {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Good, Self::Untried, Self::Suspect, Self::Resting, Self::Silent];

    /// Its label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Untried => "untried",
            Self::Suspect => "suspect",
            Self::Resting => "resting",
            Self::Silent => "silent",
        }
    }
}

/// Memory of a machine, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryUse {
    /// In use: what is not available to a new program.
    pub used_bytes: u64,
    /// In all.
    pub total_bytes: u64,
}

/// Why an origin takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Full {
    /// Processors are busier than `limits.cpu_percent`.
    Cpu,
    /// More memory is in use than `limits.memory_percent`.
    Memory,
    /// Encoders fall behind, or rungs are given up so that they do not.
    Encoders,
}

impl Full {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Encoders];

    /// Its label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Encoders => "encoders",
        }
    }

    /// What operators are told.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Cpu => "takes no more publishes: its processors are busier than limits.cpu_percent",
            Self::Memory => "takes no more publishes: more memory is in use than limits.memory_percent",
            Self::Encoders => "takes no more publishes: its encoders fall behind",
        }
    }
}

/// What a node says of its load, once a second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// The machine's processors, percent of all together.
    pub cpu: f64,
    /// The machine's memory.
    pub memory: MemoryUse,
    /// Its graphics cards.
    pub gpus: Vec<Gpu>,
    /// Bits a second sent to viewers.
    pub egress_bps: u64,
    /// Viewers being served.
    pub viewers: u64,
    /// Streams being published to it.
    pub publishes: u64,
    /// How far its machine's clock is ahead of the cluster's time, milliseconds; negative when it is behind. Nodes go
    /// by the cluster's time.
    #[serde(default)]
    pub clock_ahead_ms: i64,
    /// Why it takes no more of them, if it does not.
    #[serde(default)]
    pub full: Option<Full>,
}

/// A node's document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRecord {
    /// Who it is.
    #[serde(rename = "_id")]
    pub id: NodeId,
    /// Which run of its process.
    pub incarnation: Incarnation,
    /// Raised by every write: the guard of compare-and-set.
    pub rev: i64,
    /// What it does.
    pub roles: Vec<Role>,
    /// Its region or site (AMS's nodeGroup).
    pub group: String,
    /// Where it is reached.
    pub addresses: Addresses,
    /// Where it is in its life.
    pub state: NodeState,
    /// An operator drains it ([`crate::membership::set_drain`]): it takes nothing new until that is taken back
    /// or the process ends.
    #[serde(default)]
    pub drain: bool,
    /// Who found this run of it dead; none when it lives, or ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_dead_by: Option<NodeId>,
    /// When it last began to take work, in the database's time. Long ago where nothing is known.
    #[serde(default)]
    pub serving_since: UnixMs,
    /// When it last wrote, in the database's time.
    pub heartbeat: UnixMs,
    /// What it can encode, Mpx/s. Zero unless it is an origin.
    pub capacity_mpx: f64,
    /// What is left of it, after running streams and reservations.
    pub free_mpx: f64,
    /// Room taken, not yet used.
    pub reservations: Vec<Reservation>,
    /// Its load.
    #[serde(flatten)]
    pub load: Load,
    /// The version it runs.
    pub version: String,
}

/// What heartbeats write of a node's document.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Beat<'a> {
    rev: i64,
    heartbeat: UnixMs,
    capacity_mpx: f64,
    free_mpx: f64,
    reservations: &'a [Reservation],
    #[serde(flatten)]
    load: &'a Load,
}

impl NodeRecord {
    /// The part of it that its heartbeats write.
    #[must_use]
    pub fn beat(&self) -> Beat<'_> {
        let Self { rev, heartbeat, capacity_mpx, free_mpx, .. } = *self;
        Beat { rev, heartbeat, capacity_mpx, free_mpx, reservations: &self.reservations, load: &self.load }
    }

    /// The same with the heartbeat of `other`.
    fn with_beat_of(&self, other: &Self) -> Self {
        let Beat { rev, heartbeat, capacity_mpx, free_mpx, reservations, load } = other.beat();
        let (reservations, load) = (reservations.to_vec(), load.clone());
        Self { rev, heartbeat, capacity_mpx, free_mpx, reservations, load, ..self.clone() }
    }

    /// Whether it holds `role`.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether it differs from `other` by no more than what heartbeats say: rev, time, room and load.
    #[must_use]
    pub fn differs_by_load(&self, other: &Self) -> bool {
        self.with_beat_of(other) == *other
    }

    /// Whether its heartbeat is recent enough at `now` (database time) and it has not ended.
    #[must_use]
    pub fn is_alive(&self, now: UnixMs) -> bool {
        self.state != NodeState::Gone && self.heartbeat.age(now) < limits::HEARTBEAT_GONE
    }
}
