//! What viewers by HLS cost the servers, beside nginx: a request, a handshake, a connection that waits, and how long
//! they wait for answers. A balancer with its own edge beside an nginx that is a cache; a balancer before an edge
//! beside an nginx before another that is a cache. All are asked in turns, by the same viewers, for the same bytes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use sluicegate_e2e::address::Host;
use sluicegate_e2e::process::Process;
use tokio::runtime::Runtime;

use crate::peer::nginx::{self, Behind, Nginx};
use crate::site::{PLAYLIST, Site};
use crate::{Measurement, Run, cpu};

mod connections;
mod requests;

/// Everything that is measured.
pub(crate) const MEASUREMENTS: &[Measurement] = &[
    Measurement { title: "Requests for what is cached", measure: requests::measure },
    Measurement { title: "Connections: new ones, and 10,000 that wait", measure: connections::measure },
];

/// The origin takes its time for nobody here.
const NO_DELAY: Duration = Duration::ZERO;

/// Servers of the same stream. All end when this is dropped.
struct Stage {
    runtime: Runtime,
    one: Site,
    two: Site,
    nginx: [Process; 3],
    hosts: [Host; 3],
}

/// One of those that viewers may ask.
struct Contender {
    name: &'static str,
    http: SocketAddr,
    https: SocketAddr,
    /// Whom its certificate is for, and who signed it.
    certified: IpAddr,
    authority: PathBuf,
    pids: Vec<u32>,
}

impl Contender {
    /// The CPU time that its processes use for `act`.
    fn cpu_of<T>(&self, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Duration)> {
        let meter = cpu::Meter::start(&self.pids)?;
        let done = act().with_context(|| format!("the viewers of {}", self.name))?;
        Ok((done, meter.used()?))
    }

    fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.pids.iter().map(|pid| cpu::resident_bytes(*pid)).sum()
    }
}

impl Stage {
    /// Starts them, with logs in the folder of `how`.
    fn set(how: &Run) -> anyhow::Result<Self> {
        let runtime = Runtime::new()?;
        let one = Site::one_process(&runtime, NO_DELAY)?;
        let two = Site::two_processes(&runtime, NO_DELAY)?;
        let hosts = [Host::claim(), Host::claim(), Host::claim()];
        let [cache, proxied, proxy] = &hosts;
        let certificates = one.lb()?.authority();
        let file = |name: &str| certificates.with_file_name(name);
        let start = |name: &str, host: &Host, behind: Behind| {
            let tls = Some((host.port(5443), file("cert.pem"), file("key.pem")));
            nginx::start(&how.folder.join(name), &Nginx { listen: host.port(5080), tls, behind })
        };
        let nginx = [
            start("nginx-cache", cache, Behind::Origin(one.slow_origin()))?,
            start("nginx-proxied", proxied, Behind::Origin(two.slow_origin()))?,
            start("nginx-proxy", proxy, Behind::Cache(proxied.port(5080)))?,
        ];
        Ok(Self { runtime, one, two, nginx, hosts })
    }

    /// Ours and its peer, by the number of their processes.
    fn pairs(&self) -> anyhow::Result<[(&Site, Contender, Contender); 2]> {
        let [cache, proxied, proxy] = &self.nginx;
        let [cache_host, _, proxy_host] = &self.hosts;
        Ok([
            (&self.one, ours("one_process", &self.one)?, self.peer("nginx", cache_host, vec![cache.pid()])?),
            (
                &self.two,
                ours("two_processes", &self.two)?,
                self.peer("two nginx", proxy_host, vec![proxy.pid(), proxied.pid()])?,
            ),
        ])
    }

    fn peer(&self, name: &'static str, host: &Host, pids: Vec<u32>) -> anyhow::Result<Contender> {
        let (http, https) = (host.port(5080), host.port(5443));
        Ok(Contender { name, http, https, pids, ..ours(name, &self.one)? })
    }
}

fn ours(name: &'static str, site: &Site) -> anyhow::Result<Contender> {
    let (lb, pids) = (site.lb()?, site.pids());
    let (certified, authority) = (lb.ip().into(), lb.authority());
    Ok(Contender { name, http: site.front()?, https: lb.https(), certified, authority, pids })
}

/// Microseconds of `cpu` for each of so many.
fn us_each(cpu: Duration, times: usize) -> f64 {
    cpu.as_secs_f64() * 1e6 / times.max(1) as f64
}
