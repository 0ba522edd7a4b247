//! What viewers are served by: nodes whose edge reaches its origin through a slow relay. The origin advertises
//! the relay's address as its own, so neither the edge nor the balancer knows.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_e2e::address::Host;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::mongo::TestMongo;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::publisher::{Publisher, publish};
use sluicegate_e2e::until::{until, until_true};
use tokio::runtime::Runtime;

use super::relay::Relay;
use crate::cpu;

const KEY: &str = "only-for-measurements-0123456789";
const STREAM: &str = "live/herd";
const FOLDER: &str = "/live/streams/";
const PLAYLIST: &str = "/live/streams/herd.m3u8";
/// For nodes to know each other, the stream to be there, and its next segment.
const PATIENCE: Duration = Duration::from_secs(30);

/// The nodes, the relay and the publisher. All end when it is dropped.
pub(super) struct Site {
    _publisher: Publisher,
    /// Its balancer, and whatever has no process of its own.
    lb: NodeProcess,
    _edge: Option<NodeProcess>,
    origin: Option<NodeProcess>,
    /// The processes that viewers' bytes go through.
    pids: Vec<u32>,
    slow: SlowOrigin,
    _mongo: Option<TestMongo>,
}

/// The address that an origin advertises, and what listens there.
struct SlowOrigin {
    http: Relay,
    _rtmp: Relay,
    address: SocketAddr,
    _host: Host,
}

impl Site {
    /// Balancer, edge and origin in one process: the edge answers within the balancer.
    pub(super) fn one_process(runtime: &Runtime, delay: Duration) -> anyhow::Result<Self> {
        let host = Host::claim();
        let config = NodeConfig::standalone().set("cluster", &format!("key = {KEY:?}"));
        let (mut node, pids) = cpu::started_by(|| advertise(config, &host).launch())?;
        let slow = SlowOrigin::start(host, &node, runtime, delay)?;
        node.wait_until_ready();
        let _publisher = publish(node.rtmp(), STREAM);
        let (_edge, origin, _mongo) = (None, None, None);
        Ok(Self { _publisher, lb: node, _edge, origin, pids, slow, _mongo }.on_air())
    }

    /// Balancer and edge in processes of their own, and the origin in a third.
    pub(super) fn two_processes(runtime: &Runtime, delay: Duration) -> anyhow::Result<Self> {
        let mongo = TestMongo::start()?;
        let host = Host::claim();
        let config = |role| NodeConfig::role(role, role, mongo.uri(), KEY);
        let mut origin = advertise(config("origin"), &host).launch();
        let ((mut lb, mut edge), pids) =
            cpu::started_by(|| (config("lb").launch(), config("edge").launch()))?;
        let slow = SlowOrigin::start(host, &origin, runtime, delay)?;
        [&mut lb, &mut edge, &mut origin].into_iter().for_each(NodeProcess::wait_until_ready);
        until_true("the balancer knows the edge and the origin", PATIENCE, || {
            let nodes = lb.cluster()["nodes"].clone();
            nodes.as_array().is_some_and(|n| n.iter().filter(|n| n["state"] == "serving").count() == 3)
        });
        let _publisher = publish(lb.rtmp(), STREAM);
        let (_edge, origin, _mongo) = (Some(edge), Some(origin), Some(mongo));
        Ok(Self { _publisher, lb, _edge, origin, pids, slow, _mongo }.on_air())
    }

    /// Waits until viewers are served.
    fn on_air(self) -> Self {
        let url = self.lb.url(PLAYLIST);
        until_true("the stream is on air", PATIENCE, || MediaPlaylist::fetch(&url).is_some());
        self
    }

    /// Where viewers connect.
    pub(super) fn front(&self) -> anyhow::Result<SocketAddr> {
        address_of(&self.lb.url(""))
    }

    /// The origin as others see it.
    pub(super) fn slow_origin(&self) -> SocketAddr {
        self.slow.address
    }

    /// The processes that viewers' bytes go through.
    pub(super) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// The newest segment's path, as soon as that is not `last`. Read from the origin itself: no edge has
    /// heard of it.
    pub(super) fn segment_after(&self, runtime: &Runtime, last: &str) -> String {
        let origin = self.origin.as_ref().unwrap_or(&self.lb);
        let url = origin.node_url(&format!("/origin{PLAYLIST}"));
        until("another segment", PATIENCE, || {
            let playlist = runtime.block_on(read_as_a_node(&url)).ok()?;
            let newest = playlist.lines().rfind(|line| !line.is_empty() && !line.starts_with('#'))?;
            Some(format!("{FOLDER}{newest}")).filter(|path| path != last)
        })
    }

    /// How many requests for `path` have come to the origin since this was asked last.
    pub(super) fn take_requests(&self, path: &str) -> u32 {
        self.slow.http.take_count(path)
    }
}

impl SlowOrigin {
    /// Stands on `host` before `origin`: requests come late, publishes do not.
    fn start(host: Host, origin: &NodeProcess, runtime: &Runtime, delay: Duration) -> anyhow::Result<Self> {
        let (http, rtmp) = (address_of(&origin.node_url(""))?, origin.origin_rtmp());
        let address = host.port(http.port());
        let relays = async {
            anyhow::Ok((
                Relay::slow_http(address, http, delay).await?,
                Relay::plain(host.port(rtmp.port()), rtmp).await?,
            ))
        };
        let (http, rtmp) = runtime.block_on(relays)?;
        Ok(Self { http, _rtmp: rtmp, address, _host: host })
    }
}

/// The header that an origin trusts, and its value: good for a minute or two.
pub(super) fn trusted() -> anyhow::Result<(&'static str, String)> {
    let node = "bench".parse().context("a node's name")?;
    Ok((trust::HEADER, ClusterKey::new(KEY)?.token(&node)?))
}

fn advertise(config: NodeConfig, host: &Host) -> NodeConfig {
    config.set("node", &format!("advertise = \"{}\"", host.ip()))
}

fn address_of(url: &str) -> anyhow::Result<SocketAddr> {
    let address = url.trim_start_matches("http://");
    address.parse().with_context(|| format!("the address in {url}"))
}

async fn read_as_a_node(url: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let (name, value) = trusted()?;
    Ok(client.get(url).header(name, value).send().await?.error_for_status()?.text().await?)
}
