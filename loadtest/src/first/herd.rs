//! Many viewers ask for the same cold segment at once, of an origin that takes its time: what reaches the
//! origin, and how long the viewers wait. The control is the same viewers asking for the same segment once
//! more, when it is cached. Through the balancer with the edge in its own process, through a balancer and an
//! edge in processes of their own, and through nginx, in turns.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluicegate_e2e::address::Host;
use sluicegate_e2e::process::Process;
use tokio::runtime::Runtime;

use crate::Run;
use crate::crowd::{Crowd, Server};
use crate::figure::Figure;
use crate::peer::nginx::{self, Behind, Nginx};
use crate::site::Site;
use crate::stats::{median, ms, percentile};

const VIEWERS: usize = 200;
/// The origin's own time.
const ORIGIN: Duration = Duration::from_millis(200);
/// How much later than a cached segment a cold one may come: the origin's time and 15 per cent.
const AIM_MS: f64 = 230.0;

/// How one round went.
struct Round {
    origin_requests: f64,
    p50_ms: f64,
    p99_ms: f64,
    cached_p99_ms: f64,
}

/// Somebody who serves the viewers of a site.
struct Contender<'a> {
    name: &'static str,
    runtime: &'a Runtime,
    site: &'a Site,
    crowd: Crowd,
    /// The path that was asked for last.
    path: String,
    rounds: Vec<Round>,
}

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let runtime = Runtime::new()?;
    let one = Site::one_process(&runtime, ORIGIN)?;
    let two = Site::two_processes(&runtime, ORIGIN)?;
    let host = Host::claim();
    let _nginx = start_nginx(how, &one, host.port(5080))?;
    let mut contenders = [
        Contender::new("one_process", &runtime, &one, one.front()?)?,
        Contender::new("two_processes", &runtime, &two, two.front()?)?,
        Contender::new("nginx", &runtime, &one, host.port(5080))?,
    ];
    for _ in 0..if how.quick { 2 } else { 10 } {
        for contender in &mut contenders {
            contender.round()?;
        }
    }
    let [one, two, nginx] = &contenders;
    let mut figures = one.figures(nginx)?;
    figures.extend(two.figures(nginx)?);
    Ok(figures)
}

fn start_nginx(how: &Run, site: &Site, listen: SocketAddr) -> anyhow::Result<Process> {
    let cache = Nginx { listen, tls: None, behind: Behind::Origin(site.slow_origin()) };
    nginx::start(&how.folder.join("nginx"), &cache)
}

impl<'a> Contender<'a> {
    /// Connects the viewers to `front`, and warms their connections with the newest segment.
    fn new(
        name: &'static str,
        runtime: &'a Runtime,
        site: &'a Site,
        front: SocketAddr,
    ) -> anyhow::Result<Self> {
        let crowd = runtime.block_on(Crowd::connect(&Server::plain(front), VIEWERS))?;
        let path = site.segment_after(runtime, "");
        let mut contender = Self { name, runtime, site, crowd, path, rounds: Vec::new() };
        contender.ask()?;
        Ok(contender)
    }

    /// A cold segment, then the same one cached.
    fn round(&mut self) -> anyhow::Result<()> {
        self.path = self.site.segment_after(self.runtime, &self.path);
        // Another contender of the same site may have asked for it before.
        let _earlier = self.site.take_requests(&self.path);
        let cold = self.ask()?;
        let origin_requests = self.site.take_requests(&self.path);
        ensure!(origin_requests > 0, "{} had {} already", self.name, self.path);
        let cached = self.ask()?;
        let of = |samples: &[f64], percent| percentile(samples, percent).context("nobody was served");
        self.rounds.push(Round {
            origin_requests: f64::from(origin_requests),
            p50_ms: of(&cold, 50.0)?,
            p99_ms: of(&cold, 99.0)?,
            cached_p99_ms: of(&cached, 99.0)?,
        });
        Ok(())
    }

    /// When each viewer was served, ms.
    fn ask(&mut self) -> anyhow::Result<Vec<f64>> {
        let took = self.runtime.block_on(self.crowd.ask_at_once(&self.path));
        let took = took.with_context(|| format!("the viewers of {}", self.name))?;
        Ok(took.into_iter().map(ms).collect())
    }

    fn median(&self, figure: impl Fn(&Round) -> f64) -> anyhow::Result<f64> {
        let all: Vec<f64> = self.rounds.iter().map(figure).collect();
        median(&all).context("there was no round")
    }

    fn figures(&self, peer: &Contender<'_>) -> anyhow::Result<Vec<Figure>> {
        let worst = |of: &Contender<'_>| of.rounds.iter().map(|r| r.origin_requests).fold(0.0, f64::max);
        let figure = |what: &str, figure: fn(&Round) -> f64| {
            let name = format!("herd_{}_{what}", self.name);
            anyhow::Ok(Figure::new(name, self.median(figure)?).beside(peer.median(figure)?))
        };
        Ok(vec![
            Figure::new(format!("herd_{}_origin_requests", self.name), worst(self))
                .beside(worst(peer))
                .at_most(1.0),
            figure("p99_over_cached_ms", |r| r.p99_ms - r.cached_p99_ms)?.at_most(AIM_MS),
            figure("p50_ms", |r| r.p50_ms)?,
            figure("p99_ms", |r| r.p99_ms)?,
            figure("cached_p99_ms", |r| r.cached_p99_ms)?,
        ])
    }
}
