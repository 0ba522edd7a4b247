//! In front of a large Ant Media Server cluster: 200 nodes and 20,000 live streams in the store. How soon a
//! balancer that starts is routing, and what the console of such a cluster costs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluicegate_cluster::clock;
use sluicegate_e2e::address::Host;
use sluicegate_e2e::ams::{AmsDatabase, AmsServer};
use sluicegate_e2e::browser;
use sluicegate_e2e::http;
use sluicegate_e2e::mongo::TestMongo;
use sluicegate_e2e::node::{NodeConfig, NodeProcess, START};
use sluicegate_e2e::rtmp_client::RtmpClient;

use crate::figure::Figure;
use crate::stats::{median, ms};
use crate::{Measurement, Run};

const NODES: usize = 200;
const STREAMS: usize = 20_000;

/// From the balancer's start to its first answers.
const ROUTING_MS: f64 = 5_000.0;
/// From opening the console to the nodes on it.
const FIRST_VIEW_MS: f64 = 1_000.0;
/// An update of it.
const UPDATE_BYTES: f64 = 20.0 * 1_024.0;

/// Between two looks: a small part of what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// For all 20,000 streams to be known.
const KNOWN: Duration = Duration::from_secs(60);
const KEY: &str = "only-for-benchmarks-0123456789";

/// Everything that is measured.
pub(crate) const MEASUREMENTS: &[Measurement] =
    &[Measurement { title: "200 AMS nodes and 20,000 streams in the store", measure }];

/// The cluster: most nodes only answer that they live; one is an AMS-shaped server with a stream.
struct AmsCluster {
    mongo: TestMongo,
    _hosts: Vec<Host>,
    _server: AmsServer,
    _publisher: RtmpClient,
}

fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let cluster = AmsCluster::fill()?;
    let uri = cluster.mongo.uri();
    let mut edge = NodeConfig::role("edge", "edge-1", uri, KEY).launch();
    edge.wait_until_ready();
    let (lb, routing_ms) = start_balancer(uri)?;
    wait_for_all_streams(&lb)?;
    let views = if how.quick { 1 } else { 5 };
    let first: Vec<f64> = (0..views).map(|_| first_view(&lb)).collect();
    let sizes = [
        "",
        "nodes_sort=cpu&nodes_descending=true&streams_sort=viewers&streams_descending=true",
        "streams_from=19995&nodes_from=195",
        "streams_filter=camera-1",
    ];
    let sizes =
        sizes.into_iter().map(|query| update_bytes(&lb, query)).collect::<anyhow::Result<Vec<f64>>>()?;
    Ok(vec![
        Figure::new("balancer_start_to_routing_ms", routing_ms).at_most(ROUTING_MS),
        Figure::new("console_first_view_ms", median(&first).context("nothing was viewed")?)
            .at_most(FIRST_VIEW_MS),
        Figure::new("console_update_bytes", sizes.into_iter().fold(0.0, f64::max)).at_most(UPDATE_BYTES),
    ])
}

impl AmsCluster {
    fn fill() -> anyhow::Result<Self> {
        let mongo = TestMongo::start()?;
        let hosts: Vec<Host> = (1..NODES).map(|_| Host::claim()).collect();
        let ips: Vec<IpAddr> = hosts.iter().map(|host| host.ip().into()).collect();
        hosts.iter().try_for_each(answer_that_it_lives)?;
        AmsDatabase::at(mongo.uri()).fill(&ips, "live", STREAMS - 1);
        let server = AmsServer::start(mongo.uri(), "20");
        let publisher = RtmpClient::publish((server.ip(), 1935).into(), "live", "bench");
        let publisher = publisher.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
        Ok(Self { mongo, _hosts: hosts, _server: server, _publisher: publisher })
    }
}

/// A node as far as probes can tell. It ends with this process.
fn answer_that_it_lives(host: &Host) -> anyhow::Result<()> {
    let listener = TcpListener::bind(host.port(5080))?;
    thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            let Ok(reading) = connection.try_clone() else { continue };
            let head = BufReader::new(reading).lines().map_while(Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            // Whoever asked may be gone: that is its own affair.
            let _ =
                connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
        }
    });
    Ok(())
}

/// Starts a balancer; how long it takes until it serves a stream of an AMS origin from our edge and passes on
/// what is for AMS's nodes.
fn start_balancer(uri: &str) -> anyhow::Result<(NodeProcess, f64)> {
    let rules = "roles = [{ match = \"127.0.0.0/8\", role = \"edge\" }]";
    let config = NodeConfig::role("lb", "lb-1", uri, KEY).set("lb", rules);
    let began = clock::now();
    let lb = config.launch();
    let (media, page) = (lb.url("/live/streams/bench.m3u8"), lb.url("/live/any/page"));
    let answers = |url: &str| http::try_get(url).is_ok_and(|answer| answer.status == 200);
    while !(answers(&media) && answers(&page)) {
        ensure!(began.elapsed() < START, "it is not routing after {START:?}");
        thread::park_timeout(LOOK_EVERY);
    }
    Ok((lb, ms(began.elapsed())))
}

fn wait_for_all_streams(lb: &NodeProcess) -> anyhow::Result<()> {
    let began = clock::now();
    loop {
        let update = http::get(&lb.admin_url("/api/v1/console"));
        let update: serde_json::Value = serde_json::from_slice(&update.body)?;
        let (nodes, streams) = (&update["nodes_page"]["all"], &update["streams_page"]["all"]);
        if (nodes.as_u64(), streams.as_u64()) == (Some(NODES as u64 + 2), Some(STREAMS as u64)) {
            return Ok(());
        }
        ensure!(began.elapsed() < KNOWN, "{nodes} nodes and {streams} streams are known after {KNOWN:?}");
        thread::park_timeout(Duration::from_millis(200));
    }
}

/// From opening the console in a browser to the nodes on it.
fn first_view(lb: &NodeProcess) -> f64 {
    let shown = ["Nodes", "Ant Media Server", "Streams", "live/camera-"];
    browser::read_timed(&lb.admin_url("/#/cluster"), &shown, Duration::from_secs(30))
}

/// The first event that a console gets.
fn update_bytes(lb: &NodeProcess, query: &str) -> anyhow::Result<f64> {
    let url = lb.admin_url("");
    let address = url.strip_prefix("http://").context("an address")?;
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(connection, "GET /api/v1/console/events?{query} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    for line in BufReader::new(connection).lines() {
        if let Some(data) = line?.strip_prefix("data:") {
            return Ok(data.len() as f64);
        }
    }
    anyhow::bail!("the console's events ended before the first")
}
