//! What a balancer needs before a large cluster: 1,000 nodes that write heartbeats and answer its probes, and
//! 100,000 streams, none of which changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_cluster::node::{NodeRecord, Role};
use sluicegate_cluster::store::{ClusterStore, MongoAddress, MongoStore};
use sluicegate_cluster::testing;
use sluicegate_e2e::address::Host;
use sluicegate_e2e::cluster::KEY;
use sluicegate_e2e::metrics;
use sluicegate_e2e::mongo::TestMongo;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::until::until_true;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::figure::Figure;
use crate::{Run, cpu};

/// Writes under way at once.
const AT_ONCE: usize = 32;
/// For the balancer to know everything.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let (nodes, streams) = if how.quick { (100, 5_000) } else { (1_000, 100_000) };
    let window = Duration::from_secs(if how.quick { 5 } else { 20 });
    let runtime = Runtime::new()?;
    let mongo = TestMongo::start_large()?;
    let address = MongoAddress { uri: mongo.uri().to_owned(), user: None, password: None, tls_ca: None };
    let store: Arc<dyn ClusterStore> = Arc::new(runtime.block_on(MongoStore::open(&address))?);
    runtime.block_on(store.prepare())?;
    let (mut lb, pids) = cpu::started_by(|| NodeConfig::role("lb", "lb-large", mongo.uri(), KEY).launch())?;
    lb.wait_until_ready();
    let small = Use::of(&lb, &pids, window)?;

    let host = Host::claim();
    let answering = runtime.block_on(TcpListener::bind(host.port(5080)))?;
    runtime.spawn(answer(answering));
    let records = runtime.block_on(fill(&store, &host, nodes, streams))?;
    let over = Arc::new(AtomicBool::new(false));
    runtime.spawn(beat(Arc::clone(&store), records, Arc::clone(&over)));
    until_true("the balancer knows all nodes and streams", PATIENCE, || {
        let (known_nodes, known_streams) = known(&lb);
        known_nodes > nodes && known_streams == streams
    });
    let large = Use::of(&lb, &pids, window)?;
    over.store(true, Ordering::Relaxed);
    let of = |what: &str| format!("balancer_{what}_{nodes}_nodes_{streams}_streams");
    Ok(vec![
        Figure::new(of("rss_mib"), large.rss_mib).beside(small.rss_mib),
        Figure::new(of("cpu_percent"), large.cpu_percent).beside(small.cpu_percent),
    ])
}

/// Nodes and streams that a balancer knows.
fn known(lb: &NodeProcess) -> (usize, usize) {
    let text = lb.metrics();
    let count = |name| metrics::sum(&text, name, &[]) as usize;
    (count("sluicegate_nodes"), count("sluicegate_streams_live"))
}

/// What a process uses.
struct Use {
    rss_mib: f64,
    /// Of one processor.
    cpu_percent: f64,
}

impl Use {
    /// Its CPU time is the system's: the process's own metric counts whole seconds.
    fn of(node: &NodeProcess, pids: &[u32], window: Duration) -> anyhow::Result<Self> {
        let used = || pids.iter().map(|pid| cpu::used(*pid)).sum::<anyhow::Result<Duration>>();
        let (before, began) = (used()?, clock::now());
        while began.elapsed() < window {
            thread::park_timeout(window.saturating_sub(began.elapsed()));
        }
        let used = used()?.saturating_sub(before).as_secs_f64();
        let rss = metrics::sum(&node.metrics(), "process_resident_memory_bytes", &[]);
        Ok(Self {
            rss_mib: rss / f64::from(1 << 20),
            cpu_percent: used / began.elapsed().as_secs_f64() * 100.0,
        })
    }
}

/// Writes all documents; those of the nodes.
async fn fill(
    store: &Arc<dyn ClusterStore>,
    host: &Host,
    nodes: usize,
    streams: usize,
) -> anyhow::Result<Vec<NodeRecord>> {
    let now = store.now().await?;
    let mut records: Vec<NodeRecord> = (0..nodes).map(|at| node(host, at, now)).collect();
    for record in &mut records {
        store.put_node(record, None).await?;
    }
    let mut writing = JoinSet::new();
    for at in 0..streams {
        if writing.len() >= AT_ONCE {
            writing.join_next().await.context("a write is under way")???;
        }
        let owner = format!("large-{}", at % nodes);
        let record = testing::stream_held_by(&format!("live/stream-{at}"), &owner, "session", now);
        let store = Arc::clone(store);
        writing.spawn(async move { anyhow::Ok(store.put_stream(&record, None).await.map(drop)?) });
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    Ok(records)
}

fn node(host: &Host, at: usize, now: UnixMs) -> NodeRecord {
    let mut record = testing::node(&format!("large-{at}"), now);
    record.roles = vec![if at.is_multiple_of(4) { Role::Edge } else { Role::Origin }];
    record.addresses.http = host.port(5080);
    record
}

/// All nodes' heartbeats, once a second.
async fn beat(store: Arc<dyn ClusterStore>, mut records: Vec<NodeRecord>, over: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let Ok(now) = store.now().await else { continue };
        for record in &mut records {
            let next = NodeRecord { rev: record.rev + 1, heartbeat: now, ..record.clone() };
            if store.put_node(&next, Some(record.rev)).await.unwrap_or(false) {
                *record = next;
            }
        }
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
