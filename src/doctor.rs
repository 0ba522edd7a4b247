//! `sluicegate doctor`: what this machine can carry, and what is in the way.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sluicegate_cluster::config::{EncoderChoice, OriginSettings, Settings, StoreSettings};
use sluicegate_cluster::node::Role;
use sluicegate_cluster::store::{ClusterStore, MongoStore};
use sluicegate_cluster::{clock, limits};

/// Open files a balancer wants: two for each of some thousand connections.
const FILES_WANTED: u64 = 65_536;

/// Something is in the way. The report says what.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unhealthy(String);

#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    /// `good`, `note` (works, could be better) or `bad` (will not start, or not work).
    state: &'static str,
    detail: String,
}

impl Finding {
    fn new(state: &'static str, what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), state, detail: detail.into() }
    }
}

/// Examines the machine for `settings`.
///
/// # Errors
/// [`Unhealthy`] with the report, when something is bad.
pub(crate) fn examine(settings: &Settings, json: bool) -> anyhow::Result<String> {
    let mut findings = vec![files()];
    findings.extend(ports(settings));
    findings.extend(store(&settings.cluster.store)?);
    if settings.roles.contains(&Role::Origin) {
        findings.extend(encoders());
        findings.extend(gpus(settings));
        findings.push(capacity(&settings.origin));
    }
    let report = if json { serde_json::to_string_pretty(&findings)? } else { table(&findings) };
    if findings.iter().any(|f| f.state == "bad") {
        return Err(Unhealthy(format!("something is in the way\n{report}")).into());
    }
    Ok(report)
}

fn table(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|f| format!("{:<5} {:<24} {}", f.state, f.what, f.detail));
    lines.collect::<Vec<_>>().join("\n")
}

fn files() -> Finding {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap_or_default();
    let soft: u64 = line.split_whitespace().nth(3).and_then(|n| n.parse().ok()).unwrap_or(0);
    let state = if soft >= FILES_WANTED { "good" } else { "note" };
    Finding::new(state, "open files", format!("{soft} allowed; {FILES_WANTED} carry some thousand viewers"))
}

fn ports(settings: &Settings) -> Vec<Finding> {
    let mut wanted = vec![("node.http", settings.node.http), ("node.admin", settings.node.admin)];
    if settings.roles.contains(&Role::Lb) {
        let lb = &settings.lb;
        wanted.extend(lb.http.iter().map(|a| ("lb.http", *a)));
        wanted.extend(lb.https.iter().map(|a| ("lb.https", *a)));
        wanted.extend(lb.rtmp.iter().map(|a| ("lb.rtmp", *a)));
    }
    if settings.roles.contains(&Role::Origin) {
        wanted.push(("origin.rtmp", settings.origin.rtmp));
    }
    wanted.into_iter().map(|(key, address)| port(key, address)).collect()
}

fn port(key: &str, address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::new("good", key, format!("{address} is free")),
        Err(why) => Finding::new("bad", key, format!("{address}: {why}")),
    }
}

fn store(settings: &StoreSettings) -> anyhow::Result<Vec<Finding>> {
    let StoreSettings::Mongo(address) = settings else {
        return Ok(vec![Finding::new("good", "cluster.store", "embedded")]);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let store: Arc<dyn ClusterStore> = Arc::new(MongoStore::open(address).await?);
        store.now().await
    });
    Ok(match answer {
        Ok(now) => vec![
            Finding::new("good", "cluster.store", format!("{address} answers")),
            clock(clock::unix_ms().0.saturating_sub(now.0)),
        ],
        Err(why) => vec![Finding::new("bad", "cluster.store", format!("{address}: {why}"))],
    })
}

/// This machine's clock, so far ahead of the database's, by which nodes go.
fn clock(ahead_ms: i64) -> Finding {
    let off = Duration::from_millis(ahead_ms.unsigned_abs());
    let state = if off > limits::CLOCK_OFF_TOLD { "note" } else { "good" };
    let which = if ahead_ms > 0 { "ahead of" } else { "behind" };
    Finding::new(state, "clock", format!("{:.1} s {which} the database's, which counts", off.as_secs_f64()))
}

#[cfg(feature = "ffmpeg")]
fn encoders() -> Vec<Finding> {
    let trials = sluicegate_origin::encoders::try_all();
    let finding = |t: sluicegate_origin::encoders::EncoderTrial| match t.why_not {
        None => Finding::new("good", format!("encoder {}", t.name), "opens"),
        Some(why) => Finding::new("note", format!("encoder {}", t.name), why),
    };
    trials.into_iter().map(finding).collect()
}

#[cfg(not(feature = "ffmpeg"))]
fn encoders() -> Vec<Finding> {
    vec![Finding::new("note", "FFmpeg", "this program was built without it")]
}

fn gpus(settings: &Settings) -> Vec<Finding> {
    let origin = &settings.origin;
    // Nothing is registered, so that nothing can be registered twice.
    let Ok(gpus) = sluicegate_origin::Gpus::start(origin, &settings.limits, None) else { return Vec::new() };
    let cards = gpus.report();
    let only_cards = origin.encoder == EncoderChoice::Nvenc && gpus.capacity_mpx() <= 0.0;
    gpus.stop();
    let mut findings: Vec<Finding> = cards.into_iter().map(card).collect();
    if findings.is_empty() {
        findings.push(Finding::new("note", "graphics cards", "none that CUDA can open, or none is wanted"));
    }
    if only_cards {
        let why = "\"nvenc\", and no graphics card encodes: nothing will be encoded";
        findings.push(Finding::new("bad", "origin.encoder", why));
    }
    findings
}

fn card(card: sluicegate_origin::CardReport) -> Finding {
    let used = format!("{} of {} MiB in use", card.gpu.memory_used >> 20, card.gpu.memory_total >> 20);
    let state = if card.good { "good" } else { "note" };
    Finding::new(state, card.gpu.name, format!("{}; {}, {used}", card.state, card.gpu.uuid))
}

fn capacity(settings: &OriginSettings) -> Finding {
    let mpx = sluicegate_origin::capacity::known(settings).unwrap_or_else(|| settings.capacity());
    let streams = (mpx / OriginSettings::MPX_PER_CORE).floor();
    Finding::new("good", "processors", format!("{mpx:.0} Mpx/s: {streams} streams of 1080p30 to encode"))
}
