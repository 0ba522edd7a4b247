//! Viewers by WHEP, as many as are wanted on two threads: of ours, and of any other server that speaks it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sluicegate_cluster::clock;
use sluicegate_rtc::{Client, Delivery, Direction, Event, SessionOptions};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::pause;

/// For a server's answer.
const ANSWER: Duration = Duration::from_secs(10);
/// For media to come once it has answered.
const FIRST_PACKETS: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Viewers that come at the same time.
const AT_ONCE: usize = 10;

/// Where viewers live. They end with it.
pub(super) struct Viewers {
    runtime: Runtime,
    http: reqwest::Client,
}

/// What a viewer of a crowd has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    packets: AtomicU64,
    ended: AtomicBool,
}

impl Seen {
    /// RTP packets that came.
    pub(super) fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Whether its session is over.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn note(&self, event: &Event) {
        match event {
            Event::Packet(_) => _ = self.packets.fetch_add(1, Ordering::Relaxed),
            Event::Ended(_) => self.ended.store(true, Ordering::Relaxed),
            _ => {}
        }
    }
}

/// All packets that a crowd got.
pub(super) fn packets(crowd: &[Arc<Seen>]) -> u64 {
    crowd.iter().map(|seen| seen.packets()).sum()
}

impl Viewers {
    pub(super) fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?;
        Ok(Self { runtime, http })
    }

    /// A viewer of `url`. What happens in its session is told to `on`. Returns when it was asked for.
    pub(super) fn watch(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        delivery: Delivery,
        on: impl FnMut(Event) + Send + 'static,
    ) -> anyhow::Result<Instant> {
        let (asked, client) = self.runtime.block_on(begin(&self.http, url, headers, delivery))?;
        self.runtime.spawn(follow(client, on));
        Ok(asked)
    }

    /// Viewers of `url`, each of whom has got media when this returns.
    ///
    /// # Errors
    /// When the server refuses one, or lets one wait for too long.
    pub(super) fn crowd(&self, url: &str, viewers: usize) -> anyhow::Result<Vec<Arc<Seen>>> {
        let mut crowd = Vec::with_capacity(viewers);
        while crowd.len() < viewers {
            let some = AT_ONCE.min(viewers - crowd.len());
            crowd.extend(self.runtime.block_on(self.come(url, some))?);
        }
        let (begun, is_blind) = (clock::now(), |seen: &&Arc<Seen>| seen.packets() == 0);
        while crowd.iter().any(|seen| is_blind(&seen)) {
            let blind = crowd.iter().filter(is_blind).count();
            ensure!(begun.elapsed() < FIRST_PACKETS, "{blind} of {viewers} see nothing");
            pause(LOOK_EVERY);
        }
        Ok(crowd)
    }

    async fn come(&self, url: &str, viewers: usize) -> anyhow::Result<Vec<Arc<Seen>>> {
        let mut coming = JoinSet::new();
        for _ in 0..viewers {
            let (http, url) = (self.http.clone(), url.to_owned());
            coming.spawn(async move { begin(&http, &url, &[], Delivery::Packets).await });
        }
        let mut crowd = Vec::with_capacity(viewers);
        while let Some(came) = coming.join_next().await {
            let (_, client) = came??;
            let seen = Arc::<Seen>::default();
            crowd.push(Arc::clone(&seen));
            tokio::spawn(follow(client, move |event| seen.note(&event)));
        }
        Ok(crowd)
    }
}

/// Offers, and takes the answer. Returns when it was asked, and the session.
async fn begin(
    http: &reqwest::Client,
    url: &str,
    headers: &[(&str, &str)],
    delivery: Delivery,
) -> anyhow::Result<(Instant, Client)> {
    let options = SessionOptions { direction: Direction::Receive, delivery, estimate_from_bps: None };
    let client = Client::start(IpAddr::V4(Ipv4Addr::LOCALHOST), options, clock::now)?;
    let request = http.post(url).header("content-type", "application/sdp").body(client.offer().to_owned());
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let asked = clock::now();
    let answer = request.send().await?;
    let (status, sdp) = (answer.status(), answer.text().await?);
    ensure!(status == 201, "{url}: {status}: {sdp}");
    client.answer(sdp).await.with_context(|| format!("the answer of {url}"))?;
    Ok((asked, client))
}

async fn follow(mut client: Client, mut on: impl FnMut(Event)) {
    while let Some(event) = client.next().await {
        on(event);
    }
}
