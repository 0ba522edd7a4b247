//! What viewers cost their edge: CPU time for each packet, beside a program that only encrypts and sends
//! ([`super::floor`]), and beside another WHEP server where there is one; memory; and what the edge pulls for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sluicegate_cluster::clock;
use sluicegate_e2e::cluster::Cluster;

use super::pulls::Pulls;
use super::viewers::{self, Seen, Viewers};
use super::{Film, floor, pause, whep};
use crate::figure::{Figure, say};
use crate::peer::mediamtx::{self, MediaMtx};
use crate::{Run, cpu};

/// Names another WHEP server than MediaMTX to put the same viewers before: where it plays a stream, …
const PEER_WHEP: &str = "PEER_WHEP";
/// … its process, …
const PEER_PID: &str = "PEER_PID";
/// … and where it takes our film, `rtmp://…` or `rtsp://…`, unless something of its rate is there already.
const PEER_PUBLISH: &str = "PEER_PUBLISH";

/// A packet may cost so many times what it costs the floor.
const BY_FLOOR: f64 = 6.0;
/// And of what it costs another server.
const BY_PEER: f64 = 0.5;
const MIB_A_VIEWER: f64 = 0.4;
const CROWDS: [usize; 2] = [100, 200];
/// What is watched beside another server.
const BESIDE_PEER_KBPS: u32 = 1_200;
/// How many viewers that one is tried with, until it keeps all of them.
const PEER_CROWDS: [usize; 4] = [200, 100, 50, 25];
/// With a second rendition there is something to choose, so bandwidth is estimated.
const LADDER: [(&str, &str); 2] =
    [("[app]", "name = \"live\""), ("[app]", "ladder = [{ height = 90, kbps = 100, fps = 10 }]")];
/// After viewers came: their first pictures, and what their estimates begin with.
const SETTLE: Duration = Duration::from_secs(5);

/// A WHEP server under load.
struct Server {
    url: String,
    pid: u32,
}

/// What was used in a window, and what for.
#[derive(Debug, Clone, Copy)]
struct Spent {
    cpu: Duration,
    packets: u64,
    window: Duration,
}

impl Spent {
    fn packet_us(self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.packets.max(1) as f64
    }

    fn cores(self) -> f64 {
        self.cpu.as_secs_f64() / self.window.as_secs_f64()
    }
}

/// What a crowd of so many cost.
type Costs = BTreeMap<usize, Spent>;

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for kbps in [BESIDE_PEER_KBPS, 600] {
        let film = Film { kbps, keyframe_every_s: 2, b_frames: false };
        let theirs = if kbps == BESIDE_PEER_KBPS { peer(how, film)? } else { None };
        let mut crowds = BTreeSet::from(CROWDS);
        crowds.extend(theirs.map(|(viewers, _)| viewers));
        let ours = serve(how, film, &crowds, &mut figures)?;
        if let Some((viewers, theirs)) = theirs {
            let ours = ours.get(&viewers).context("as many came as to the peer")?.packet_us();
            let figure = Figure::new(format!("packet_{kbps}kbps_{viewers}_viewers_beside_peer_us"), ours);
            figures.push(figure.beside(theirs.packet_us()).at_most(BY_PEER * theirs.packet_us()));
        }
    }
    Ok(figures)
}

/// Puts crowds before an edge of ours, each larger than the one before.
fn serve(
    how: &Run,
    film: Film,
    crowds: &BTreeSet<usize>,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<Costs> {
    let kbps = film.kbps;
    let cluster = Cluster::start_set(&[1_000], &LADDER);
    let _publisher = film.publish_to(&how.folder, &cluster)?;
    let (edge, url) = (cluster.edge.pid(), whep(&cluster));
    let viewers = Viewers::new()?;
    let (mut crowd, mut costs, mut resident) = (Vec::new(), Costs::new(), Vec::new());
    let mut pulls = Pulls::default();
    for &size in crowds {
        crowd.extend(viewers.crowd(&url, size - crowd.len())?);
        pause(SETTLE);
        let least = floor::packet_us(kbps, floor_long(how))?;
        let cost = spend(how, edge, &crowd, &mut || pulls.look(&cluster))?;
        let least = least.midpoint(floor::packet_us(kbps, floor_long(how))?);
        if CROWDS.contains(&size) {
            figures.push(
                Figure::new(format!("packet_{kbps}kbps_{size}_viewers_us"), cost.packet_us())
                    .beside(least)
                    .at_most(BY_FLOOR * least),
            );
            let for_thousand = cost.cores() * 1_000.0 / size as f64;
            let figure = Figure::new(format!("cores_for_1000_viewers_{kbps}kbps_by_{size}"), for_thousand);
            figures.push(if kbps == 600 { figure.at_most(1.0) } else { figure });
            resident.push(cpu::resident_bytes(edge)? as f64);
        }
        costs.insert(size, cost);
    }
    let gone = crowd.iter().filter(|seen| seen.has_ended()).count();
    figures.push(Figure::new(format!("viewers_lost_{kbps}kbps"), gone as f64).at_most(0.0));
    if let (&[few, many], [less, more]) = (&resident[..], CROWDS) {
        let mib = (many - few) / (more - less) as f64 / f64::from(1 << 20);
        figures.push(Figure::new(format!("resident_mib_per_viewer_{kbps}kbps"), mib).at_most(MIB_A_VIEWER));
    }
    figures.extend(pulls.figures(kbps)?);
    Ok(costs)
}

/// As many of the same viewers as another server keeps, if there is one, and what they cost it.
fn peer(how: &Run, film: Film) -> anyhow::Result<Option<(usize, Spent)>> {
    let named = |name| std::env::var(name).ok();
    if let (Some(url), Some(pid)) = (named(PEER_WHEP), named(PEER_PID)) {
        let pid = pid.parse().with_context(|| format!("{PEER_PID} is no process: {pid}"))?;
        let publish = named(PEER_PUBLISH);
        return most_kept(|viewers| {
            before_peer(how, film, publish.as_deref(), &Server { url: url.clone(), pid }, viewers)
        });
    }
    let Some(program) = mediamtx::find() else {
        say(format!("no peer: setup/mediamtx builds one, {PEER_WHEP} and {PEER_PID} name another"))?;
        return Ok(None);
    };
    most_kept(|viewers| {
        let theirs = MediaMtx::start(&program, &how.folder)?;
        let server = Server { url: theirs.whep("film"), pid: theirs.pid() };
        before_peer(how, film, Some(&theirs.rtsp("film")), &server, viewers)
    })
}

/// The largest crowd that a server keeps.
fn most_kept(serve: impl Fn(usize) -> anyhow::Result<Spent>) -> anyhow::Result<Option<(usize, Spent)>> {
    for viewers in PEER_CROWDS {
        match serve(viewers) {
            Ok(spent) => return Ok(Some((viewers, spent))),
            Err(why) => say(format!("the peer does not keep {viewers} viewers: {why:#}"))?,
        }
    }
    bail!("the peer keeps no crowd")
}

fn before_peer(
    how: &Run,
    film: Film,
    publish: Option<&str>,
    server: &Server,
    viewers: usize,
) -> anyhow::Result<Spent> {
    let _publisher = publish.map(|url| film.publish(&how.folder, url)).transpose()?;
    // It may take a moment until it has something to play.
    pause(SETTLE);
    let place = Viewers::new()?;
    let crowd = place.crowd(&server.url, viewers)?;
    pause(SETTLE);
    let spent = spend(how, server.pid, &crowd, &mut || ())?;
    let gone = crowd.iter().filter(|seen| seen.has_ended()).count();
    ensure!(gone == 0, "{gone} were let go");
    // Whom it sends less than a third of the film is not watching it.
    let least = u64::from(film.kbps) * 1_000 / 8 / 1_200 * spent.window.as_secs() / 3;
    let each = spent.packets / viewers as u64;
    ensure!(each >= least, "each was sent {each} packets in {:?}", spent.window);
    Ok(spent)
}

/// What `pid` uses while `crowd` watches. `each_second` is done meanwhile.
fn spend(how: &Run, pid: u32, crowd: &[Arc<Seen>], each_second: &mut dyn FnMut()) -> anyhow::Result<Spent> {
    let (cpu, packets, begun) = (cpu::used(pid)?, viewers::packets(crowd), clock::now());
    for _ in 0..if how.quick { 4 } else { 15 } {
        pause(Duration::from_secs(1));
        each_second();
    }
    let spent = Spent {
        cpu: cpu::used(pid)?.saturating_sub(cpu),
        packets: viewers::packets(crowd) - packets,
        window: begun.elapsed(),
    };
    ensure!(spent.packets > 0, "nothing was sent");
    Ok(spent)
}

fn floor_long(how: &Run) -> Duration {
    Duration::from_millis(if how.quick { 300 } else { 1_000 })
}
