//! What viewers are served by: nodes whose edge reaches its origin through a slow relay. The origin advertises
//! the relay's address as its own, so neither the edge nor the balancer knows.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_e2e::address::Host;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::mongo::TestMongo;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::publisher::{Publisher, publish};
use sluicegate_e2e::until::{until, until_true};
use tokio::runtime::Runtime;

mod relay;

use relay::Relay;

const KEY: &str = "only-for-measurements-0123456789";
const STREAM: &str = "live/herd";
const FOLDER: &str = "/live/streams/";
/// The media playlist of what is published.
pub(crate) const PLAYLIST: &str = "/live/streams/herd.m3u8";
/// For nodes to know each other, the stream to be there, and its next segment.
const PATIENCE: Duration = Duration::from_secs(30);

/// The nodes, the relay and the publisher. All end when it is dropped.
pub(crate) struct Site {
    _publisher: Publisher,
    /// The balancer, and the edge where that has a process of its own: viewers' bytes go through these.
    fronts: Vec<NodeProcess>,
    origin: NodeProcess,
    slow: SlowOrigin,
    _mongo: TestMongo,
}

/// The address that an origin advertises, and what listens there.
struct SlowOrigin {
    http: Relay,
    _rtmp: Relay,
    address: SocketAddr,
    _host: Host,
}

impl Site {
    /// Balancer and edge in one process: the edge answers within the balancer.
    pub(crate) fn one_process(runtime: &Runtime, delay: Duration) -> anyhow::Result<Self> {
        Self::start(runtime, delay, &[&["lb", "edge"]])
    }

    /// Balancer and edge in processes of their own.
    pub(crate) fn two_processes(runtime: &Runtime, delay: Duration) -> anyhow::Result<Self> {
        Self::start(runtime, delay, &[&["lb"], &["edge"]])
    }

    /// Processes of these roles, the balancer's first, and the origin in another.
    fn start(runtime: &Runtime, delay: Duration, fronts: &[&[&'static str]]) -> anyhow::Result<Self> {
        let mongo = TestMongo::start()?;
        let host = Host::claim();
        let config = |roles: &[&'static str]| NodeConfig::roles(roles, &roles.join("-"), mongo.uri(), KEY);
        let advertised = format!("advertise = \"{}\"", host.ip());
        let mut origin = config(&["origin"]).set("node", &advertised).launch();
        let front = |roles: &&[&'static str]| match roles.contains(&"lb") {
            true => config(roles).with_certificate().launch(),
            false => config(roles).launch(),
        };
        let mut fronts: Vec<NodeProcess> = fronts.iter().map(front).collect();
        let slow = SlowOrigin::start(host, &origin, runtime, delay)?;
        fronts.iter_mut().chain([&mut origin]).for_each(NodeProcess::wait_until_ready);
        let lb = fronts.first().context("there is no balancer")?;
        until_true("the balancer knows the other nodes", PATIENCE, || {
            let nodes = lb.cluster()["nodes"].clone();
            let serving = |nodes: &Vec<Value>| nodes.iter().filter(|n| n["state"] == "serving").count();
            nodes.as_array().is_some_and(|nodes| serving(nodes) == fronts.len() + 1)
        });
        let _publisher = publish(lb.rtmp(), STREAM);
        let url = lb.url(PLAYLIST);
        until_true("the stream is on air", PATIENCE, || MediaPlaylist::fetch(&url).is_some());
        Ok(Self { _publisher, fronts, origin, slow, _mongo: mongo })
    }

    /// Its balancer: viewers connect there.
    pub(crate) fn lb(&self) -> anyhow::Result<&NodeProcess> {
        self.fronts.first().context("there is no balancer")
    }

    /// Where viewers connect.
    pub(crate) fn front(&self) -> anyhow::Result<SocketAddr> {
        address_of(&self.lb()?.url(""))
    }

    /// The origin as others see it.
    pub(crate) fn slow_origin(&self) -> SocketAddr {
        self.slow.address
    }

    /// The processes that viewers' bytes go through.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.fronts.iter().map(NodeProcess::pid).collect()
    }

    /// The newest segment's path, as soon as that is not `last`. Read from the origin itself: no edge has
    /// heard of it.
    pub(crate) fn segment_after(&self, runtime: &Runtime, last: &str) -> String {
        let url = self.origin.node_url(&format!("/origin{PLAYLIST}"));
        until("another segment", PATIENCE, || {
            let playlist = runtime.block_on(read_as_a_node(&url)).ok()?;
            let newest = playlist.lines().rfind(|line| !line.is_empty() && !line.starts_with('#'))?;
            Some(format!("{FOLDER}{newest}")).filter(|path| path != last)
        })
    }

    /// How many requests for `path` have come to the origin since this was asked last.
    pub(crate) fn take_requests(&self, path: &str) -> u32 {
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

/// The header that an origin trusts, and its value, which is good for a minute or two.
fn trusted() -> anyhow::Result<(&'static str, String)> {
    let node = "bench".parse().context("a node's name")?;
    Ok((trust::HEADER, ClusterKey::new(KEY)?.token(&node)?))
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
