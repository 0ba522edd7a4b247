//! What a balancer and an edge need before a large cluster: 1,000 nodes that write heartbeats and answer probes, and
//! 100,000 streams whose progress is recorded; and what it costs that streams change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_cluster::ids::{Epoch, StreamKey};
use sluicegate_cluster::limits;
use sluicegate_cluster::node::{NodeRecord, Role};
use sluicegate_cluster::store::{ClusterStore, MongoAddress, MongoStore};
use sluicegate_cluster::stream::{StreamProgress, StreamRecord};
use sluicegate_cluster::testing;
use sluicegate_e2e::address::Host;
use sluicegate_e2e::cluster::KEY;
use sluicegate_e2e::metrics;
use sluicegate_e2e::mongo::TestMongo;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::store_relay::StoreRelay;
use sluicegate_e2e::until::until_true;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::figure::Figure;
use crate::{Run, cpu};

/// Writes under way at once.
const AT_ONCE: usize = 32;
/// Tasks that write heartbeats.
const HEARTS: usize = 8;
/// For a node to know everything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Streams that change while the cost of changes is measured.
const CHANGES_PER_S: u32 = 100;
/// Streams whose progress is recorded in a second: beyond it the tests' database would be what is measured.
const RECORDED_MAX: usize = 2_000;

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let (nodes, streams) = if how.quick { (100, 5_000) } else { (1_000, 100_000) };
    // As long as it is from one reading of older changes to the next.
    let window = if how.quick { Duration::from_secs(5) } else { limits::VIEW_SWEEP_EVERY };
    let runtime = Runtime::new()?;
    let mongo = TestMongo::start_large()?;
    let address = MongoAddress { uri: mongo.uri().to_owned(), user: None, password: None, tls_ca: None };
    let store: Arc<dyn ClusterStore> = Arc::new(runtime.block_on(MongoStore::open(&address))?);
    runtime.block_on(store.prepare())?;
    let lb = Watched::start("lb", &mongo)?;
    let small = lb.watch(window)?;

    let over = Arc::new(AtomicBool::new(false));
    populate(&runtime, &store, (nodes, streams), &over)?;
    let filled = clock::now();
    lb.until_it_knows(nodes, streams);
    // One that begins where all of it is there already.
    let edge = Watched::start("edge", &mongo)?;
    edge.until_it_knows(nodes, streams);
    // What was written is read again for a while.
    pass(filled, limits::VIEW_SWEEP + limits::VIEW_SWEEP_EVERY);
    let [large, of_edge] = both(&lb, &edge, window)?;

    let changes = Arc::new(AtomicU64::new(0));
    runtime.spawn(change(Arc::clone(&store), streams, Arc::clone(&changes), Arc::clone(&over)));
    let [lb_changing, edge_changing] = both(&lb, &edge, window)?;
    let changed = changes.load(Ordering::Relaxed) as f64 / edge_changing.seconds;
    over.store(true, Ordering::Relaxed);
    ensure!(changed > 0.0, "no stream changed: the tests' database does not keep up");
    let size = format!("{nodes}_nodes_{streams}_streams");
    let mut figures = small.figures("balancer", "alone");
    figures.extend(large.figures("balancer", &size));
    figures.extend(of_edge.figures("edge", &size));
    figures.push(Figure::new("streams_changed_per_s", changed));
    figures.extend(lb_changing.figures("balancer", &format!("{size}_changing")));
    figures.extend(edge_changing.figures("edge", &format!("{size}_changing")));
    Ok(figures)
}

/// Writes the documents of so many nodes and streams; until it is over, the nodes live, and streams are recorded.
fn populate(
    runtime: &Runtime,
    store: &Arc<dyn ClusterStore>,
    (nodes, streams): (usize, usize),
    over: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let host = Host::claim();
    let answering = runtime.block_on(TcpListener::bind(host.port(5080)))?;
    runtime.spawn(answer(answering));
    let records = runtime.block_on(fill(store, &host, nodes, streams))?;
    for some in records.chunks(nodes.div_ceil(HEARTS)) {
        runtime.spawn(beat(Arc::clone(store), some.to_vec(), Arc::clone(over)));
    }
    runtime.spawn(record(Arc::clone(store), nodes, streams, Arc::clone(over)));
    Ok(())
}

/// Returns when so much time has passed since `began`.
fn pass(began: Instant, time: Duration) {
    while began.elapsed() < time {
        thread::park_timeout(time.saturating_sub(began.elapsed()));
    }
}

/// A node whose use of the machine and of the database is measured.
struct Watched {
    node: NodeProcess,
    pids: Vec<u32>,
    relay: StoreRelay,
}

impl Watched {
    fn start(role: &'static str, mongo: &TestMongo) -> anyhow::Result<Self> {
        let relay = StoreRelay::to(mongo.uri());
        relay.open();
        let start = || NodeConfig::role(role, &format!("{role}-large"), &relay.uri(), KEY).launch();
        let (mut node, pids) = cpu::started_by(start)?;
        node.wait_until_ready();
        Ok(Self { node, pids, relay })
    }

    fn until_it_knows(&self, nodes: usize, streams: usize) {
        until_true("it knows all nodes and streams", PATIENCE, || {
            let text = self.node.metrics();
            let count = |name| metrics::sum(&text, name, &[]) as usize;
            count("sluicegate_nodes") > nodes && count("sluicegate_streams_live") >= streams
        });
    }

    /// Its CPU time is the system's: the process's own metric counts whole seconds.
    fn watch(&self, window: Duration) -> anyhow::Result<Use> {
        let used = || self.pids.iter().map(|pid| cpu::used(*pid)).sum::<anyhow::Result<Duration>>();
        let (cpu_before, before, began) = (used()?, self.relay.traffic(), clock::now());
        pass(began, window);
        let (after, seconds) = (self.relay.traffic(), began.elapsed().as_secs_f64());
        let cpu = used()?.saturating_sub(cpu_before).as_secs_f64();
        let rss = metrics::sum(&self.node.metrics(), "process_resident_memory_bytes", &[]);
        Ok(Use {
            rss_mib: rss / f64::from(1 << 20),
            cpu_ms: cpu / seconds * 1_000.0,
            commands: (after.commands - before.commands) as f64 / seconds,
            bytes: (after.bytes - before.bytes) as f64 / seconds,
            seconds,
        })
    }
}

impl Use {
    /// What `node` needs `when`.
    fn figures(&self, node: &str, when: &str) -> Vec<Figure> {
        let of = |what: &str, value| Figure::new(format!("{node}_{what}_{when}"), value);
        vec![
            of("rss_mib", self.rss_mib),
            of("cpu_ms_per_s", self.cpu_ms),
            of("store_commands_per_s", self.commands),
            of("store_bytes_per_s", self.bytes),
        ]
    }
}

/// What both use in the same time.
fn both(lb: &Watched, edge: &Watched, window: Duration) -> anyhow::Result<[Use; 2]> {
    thread::scope(|scope| {
        let lb = scope.spawn(|| lb.watch(window));
        let of_edge = edge.watch(window)?;
        Ok([lb.join().map_err(|_| anyhow!("the balancer could not be watched"))??, of_edge])
    })
}

/// What a process uses.
struct Use {
    rss_mib: f64,
    /// CPU time, milliseconds a second.
    cpu_ms: f64,
    /// Of the database, a second.
    commands: f64,
    /// From and to it, a second.
    bytes: f64,
    seconds: f64,
}

/// Writes the documents of the streams, then those of the nodes, which have to live on from there: these are
/// returned.
async fn fill(
    store: &Arc<dyn ClusterStore>,
    host: &Host,
    nodes: usize,
    streams: usize,
) -> anyhow::Result<Vec<NodeRecord>> {
    let now = store.now().await?;
    let mut writing = JoinSet::new();
    for at in 0..streams {
        if writing.len() >= AT_ONCE {
            writing.join_next().await.context("a write is under way")???;
        }
        let record = stream(at, nodes, now);
        let store = Arc::clone(store);
        writing.spawn(async move { anyhow::Ok(store.put_stream(&record, None).await.map(drop)?) });
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    let now = store.now().await?;
    let records: Vec<NodeRecord> = (0..nodes).map(|at| node(host, at, now)).collect();
    for record in &records {
        store.put_node(record, None).await?;
    }
    Ok(records)
}

fn node(host: &Host, at: usize, now: UnixMs) -> NodeRecord {
    let mut record = testing::node(&format!("large-{at}"), now);
    record.roles = vec![if at.is_multiple_of(4) { Role::Edge } else { Role::Origin }];
    record.addresses.http = host.port(5080);
    record
}

/// The heartbeats of some nodes, once a second.
async fn beat(store: Arc<dyn ClusterStore>, mut records: Vec<NodeRecord>, over: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        for record in &mut records {
            let Ok(heartbeat) = store.now().await else { continue };
            let next = NodeRecord { rev: record.rev + 1, heartbeat, ..record.clone() };
            if store.put_load(&next, record.rev).await.unwrap_or(false) {
                *record = next;
            }
        }
    }
}

/// What origins record of their streams, as many a second as a tenth of them is.
async fn record(store: Arc<dyn ClusterStore>, nodes: usize, streams: usize, over: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let a_tenth = (streams / 10).min(RECORDED_MAX);
    for second in 0_usize.. {
        ticks.tick().await;
        let Ok(now) = store.now().await else { continue };
        let first = second * a_tenth % streams;
        let recorded = (first..(first + a_tenth).min(streams)).map(|at| {
            let held = stream(at, nodes, now);
            StreamProgress {
                key: held.key,
                epoch: Epoch(0),
                size: None,
                renditions: held.renditions,
                sequence: 0,
                bitrate_bps: 2_000_000,
                viewers: second as u64,
                webrtc_viewers: 0,
                ladder: Box::default(),
                is_news: false,
            }
        });
        let _ = store.record_progress(&recorded.collect::<Vec<_>>(), now).await;
        if over.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Streams that begin anew, one after another, [`CHANGES_PER_S`].
async fn change(
    store: Arc<dyn ClusterStore>,
    streams: usize,
    changes: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / CHANGES_PER_S);
    for at in (0..streams).cycle() {
        ticks.tick().await;
        if over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(key) = format!("live/stream-{at}").parse::<StreamKey>() else { continue };
        let Ok(Some(seen)) = store.stream(&key).await else { continue };
        let next = StreamRecord { rev: seen.next_rev(), claims: seen.claims + 1, ..seen.clone() };
        if store.put_stream(&next, Some(seen.version())).await.unwrap_or(false) {
            changes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The record of one of the streams, under a claim that all of them have.
fn stream(at: usize, nodes: usize, now: UnixMs) -> StreamRecord {
    let owner = format!("large-{}", at % nodes);
    StreamRecord {
        epoch: Epoch(0),
        ..testing::stream_held_by(&format!("live/stream-{at}"), &owner, "session", now)
    }
}

/// Answers probes, for all nodes.
async fn answer(listener: TcpListener) {
    while let Ok((mut connection, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut request = [0; 512];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n").await;
        });
    }
}
