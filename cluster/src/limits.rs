//! Limits that hold everywhere and are not configurable. What an operator may change is in
//! [`crate::config::Limits`].

use std::time::Duration;

/// The longest name of an application, a stream or a node.
pub const NAME_BYTES: usize = 128;

/// How often a node writes its heartbeat. Everything about liveness is counted in these.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// A node whose heartbeat is older takes nothing new; its streams may be taken by others.
pub const HEARTBEAT_GONE: Duration = Duration::from_secs(5);

/// A balancer whose probes of a node fail takes it for dead when its heartbeat is older.
pub const HEARTBEAT_GONE_UNANSWERED: Duration = Duration::from_secs(3);

/// A node whose heartbeat is older is not sent reservations, even if it answers: nobody would settle them.
pub const HEARTBEAT_LATE: Duration = Duration::from_secs(30);

/// How often a node reads what changed of nodes and streams.
pub const VIEW_EVERY: Duration = Duration::from_millis(500);

/// What was written this long before the last reading is read again. The store stamps changes when it makes
/// them, so this covers only a reader's error about the store's clock, and the moment between stamp and sight.
pub const VIEW_OVERLAP: Duration = Duration::from_secs(2);

/// Now and then changes are read again from much longer ago...
pub const VIEW_SWEEP_EVERY: Duration = Duration::from_secs(30);

/// ...namely this long: when the database fails over, the next primary's clock may be behind.
pub const VIEW_SWEEP: Duration = Duration::from_secs(120);

/// How often a balancer reads all nodes with their heartbeats and load; others while somebody looks.
pub const LOADS_EVERY: Duration = Duration::from_secs(1);

/// How often all nodes are read by those that need no heartbeats, for documents that others removed.
pub const NODES_EVERY: Duration = Duration::from_secs(60);

/// The most streams that a node knows.
pub const STREAMS_KNOWN: usize = 250_000;

/// Streams in one answer of the store.
pub const STREAMS_PAGE: usize = 5_000;

/// How long figures of other nodes' streams are read after somebody has looked at them.
pub const LOOKED_AT: Duration = Duration::from_secs(10);

/// The longest that a look waits for figures.
pub const LOOK_WAIT: Duration = Duration::from_secs(1);

/// How long nodes go on knowing a stream that ended.
pub const ENDED_KNOWN: Duration = Duration::from_secs(600);

/// A reservation that no publish has come for is given back after this.
pub const RESERVATION: Duration = Duration::from_secs(15);

/// Tries of one compare-and-set that others keep winning, before it is reported as contended.
pub const CAS_TRIES: usize = 16;

/// The longest wait for one command of the store.
pub const STORE_CALL: Duration = Duration::from_secs(3);

/// How long a token between nodes is valid.
pub const CLUSTER_TOKEN: Duration = Duration::from_secs(60);

/// A machine's clock that is further off is told of. Nothing depends on it, but its log is dated by it.
pub const CLOCK_OFF_TOLD: Duration = Duration::from_secs(2);

/// The shortest cluster key: 256 bits in base64 or hexadecimal are longer.
pub const CLUSTER_KEY_BYTES: usize = 16;

/// The shortest key of publish and play tokens: below it a key can be found by trying.
pub const TOKEN_KEY_BYTES: usize = 16;

/// Keys of one application at once: the one that signs and those on their way out.
pub const TOKEN_KEYS: usize = 8;

/// The longest publish or play token. AMS's are about 150 bytes.
pub const TOKEN_BYTES: usize = 2_048;

/// The longest secret in a file.
pub const SECRET_BYTES: u64 = 4_096;

/// How often certificates, keys and passwords are looked at; a change is taken over at the second look.
pub const FILES_EVERY: Duration = Duration::from_secs(1);

/// The largest of those files that is looked at whole.
pub const FILE_BYTES: u64 = 1 << 20;

/// How often an origin records its streams' progress, all in one write (AMS: `STAT_UPDATE_PERIOD_MS`).
pub const PROGRESS_EVERY: Duration = Duration::from_secs(10);

const _: () = assert!(HEARTBEAT_GONE_UNANSWERED.as_millis() > 2 * HEARTBEAT_EVERY.as_millis());
const _: () = assert!(HEARTBEAT_GONE.as_millis() >= 3 * HEARTBEAT_EVERY.as_millis());
const _: () = assert!(VIEW_OVERLAP.as_millis() > VIEW_EVERY.as_millis());
const _: () = assert!(VIEW_SWEEP.as_millis() > VIEW_SWEEP_EVERY.as_millis() + VIEW_OVERLAP.as_millis());
