//! Many publishers at once, each with a thread that sends a film over and over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, anyhow};
use sluicegate_cluster::ids::PublisherSession;
use sluicegate_cluster::ticket::PublishTicket;
use sluicegate_cluster::trust::ClusterKey;
use sluicegate_e2e::film::Film;
use sluicegate_e2e::rtmp_client::RtmpClient;

/// The key of clusters whose origins are published to by ourselves.
pub(crate) const KEY: &str = "only-for-benchmarks-0123456789";

/// Publishers of the streams `s0`, `s1` and so on. They end when this is dropped.
pub(crate) struct Publishers {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Publishers {
    /// Starts `count` of them that send `film` in real time, each to where `publish` leads its stream.
    ///
    /// # Errors
    /// When one is refused.
    pub(crate) fn start(
        film: &Arc<Film>,
        count: usize,
        publish: impl Fn(&str) -> anyhow::Result<RtmpClient>,
    ) -> anyhow::Result<Self> {
        let mut publishers = Self { over: Arc::default(), threads: Vec::new() };
        for number in 0..count {
            let mut client = publish(&format!("s{number}"))?;
            let (film, over) = (Arc::clone(film), Arc::clone(&publishers.over));
            let goes_on = move |_| !over.load(Ordering::Relaxed);
            publishers.threads.push(thread::spawn(move || film.repeat(&mut client, 1.0, goes_on)));
        }
        Ok(publishers)
    }

    /// Ends them.
    ///
    /// # Errors
    /// When one had to end before.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.threads.drain(..).map(JoinHandle::join).collect::<Result<Vec<()>, _>>();
        ended.map(drop).map_err(|_| anyhow!("a publisher broke off"))
    }
}

impl Drop for Publishers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Publishes `stream` in `live` straight to an origin, as a balancer that holds the cluster's `key` would.
///
/// # Errors
/// When it is refused.
pub(crate) fn publish_to_origin(address: SocketAddr, key: &str, stream: &str) -> anyhow::Result<RtmpClient> {
    let session = PublisherSession::random();
    let ticket = PublishTicket {
        session,
        reservation: None,
        address: None,
        handover: false,
        placed: None,
        reached: None,
    };
    let node = "bench".parse().context("a node's name")?;
    let properties = ticket.properties(&node, &ClusterKey::new(key)?)?;
    let properties: Vec<(&str, &str)> = properties.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let taken = RtmpClient::publish_with(address, "live", stream, &properties);
    taken.map_err(|refusal| anyhow!("the publish was refused: {refusal:?}"))
}
