//! What viewers cost their edge: CPU time for each packet, beside a program that only encrypts and sends
//! ([`super::floor`]), and beside another WHEP server where one is named; and memory.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluicegate_cluster::clock;
use sluicegate_e2e::cluster::Cluster;

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

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for kbps in [1_200, 600] {
        let film = Film { kbps, keyframe_every_s: 2, b_frames: false };
        let cluster = Cluster::start_set(&[1_000], &LADDER);
        let _publisher = film.publish_to(&how.folder, &cluster)?;
        let edge = Server { url: whep(&cluster), pid: cluster.edge.pid() };
        let ours = serve(how, film, &edge, &mut figures)?;
        let pulls = cluster.edge.count("sluicegate_edge_pulls_begun_total", &[("result", "agreed")]);
        figures.push(Figure::new(format!("pulls_{kbps}kbps_200_viewers"), pulls as f64).at_most(1.0));
        drop(cluster);
        if let Some(theirs) = peer(how, film)? {
            let figure =
                Figure::new(format!("packet_{kbps}kbps_200_viewers_beside_peer_us"), ours.packet_us());
            figures.push(figure.beside(theirs.packet_us()).at_most(BY_PEER * theirs.packet_us()));
        }
    }
    Ok(figures)
}

/// Puts crowds before our edge. Returns what the last one cost.
fn serve(how: &Run, film: Film, edge: &Server, figures: &mut Vec<Figure>) -> anyhow::Result<Spent> {
    let kbps = film.kbps;
    let viewers = Viewers::new()?;
    let (mut crowd, mut spent, mut resident) = (Vec::new(), None, Vec::new());
    for size in CROWDS {
        crowd.extend(viewers.crowd(&edge.url, size - crowd.len())?);
        pause(SETTLE);
        let least = floor::packet_us(kbps, floor_long(how))?;
        let cost = spend(how, edge.pid, &crowd)?;
        let least = least.midpoint(floor::packet_us(kbps, floor_long(how))?);
        figures.push(
            Figure::new(format!("packet_{kbps}kbps_{size}_viewers_us"), cost.packet_us())
                .beside(least)
                .at_most(BY_FLOOR * least),
        );
        let for_thousand = cost.cores() * 1_000.0 / size as f64;
        let figure = Figure::new(format!("cores_for_1000_viewers_{kbps}kbps_by_{size}"), for_thousand);
        figures.push(if kbps == 600 { figure.at_most(1.0) } else { figure });
        resident.push(cpu::resident_bytes(edge.pid)? as f64);
        spent = Some(cost);
    }
    let gone = crowd.iter().filter(|seen| seen.has_ended()).count();
    figures.push(Figure::new(format!("viewers_lost_{kbps}kbps"), gone as f64).at_most(0.0));
    if let (&[few, many], [less, more]) = (&resident[..], CROWDS) {
        let mib = (many - few) / (more - less) as f64 / f64::from(1 << 20);
        figures.push(Figure::new(format!("resident_mib_per_viewer_{kbps}kbps"), mib).at_most(MIB_A_VIEWER));
    }
    spent.context("there was no crowd")
}

/// The same viewers before another server, if there is one.
fn peer(how: &Run, film: Film) -> anyhow::Result<Option<Spent>> {
    let named = |name| std::env::var(name).ok();
    if let (Some(url), Some(pid)) = (named(PEER_WHEP), named(PEER_PID)) {
        let pid = pid.parse().with_context(|| format!("{PEER_PID} is no process: {pid}"))?;
        let publish = named(PEER_PUBLISH);
        return before_peer(how, film, publish.as_deref(), &Server { url, pid }).map(Some);
    }
    let Some(program) = mediamtx::find() else {
        say(format!("no peer: setup/mediamtx builds one, {PEER_WHEP} and {PEER_PID} name another"))?;
        return Ok(None);
    };
    let theirs = MediaMtx::start(&program, &how.folder)?;
    let server = Server { url: theirs.whep("film"), pid: theirs.pid() };
    before_peer(how, film, Some(&theirs.rtsp("film")), &server).map(Some)
}

fn before_peer(how: &Run, film: Film, publish: Option<&str>, server: &Server) -> anyhow::Result<Spent> {
    let _publisher = publish.map(|url| film.publish(&how.folder, url)).transpose()?;
    // It may take a moment until it has something to play.
    pause(SETTLE);
    let viewers = Viewers::new()?;
    let crowd = viewers.crowd(&server.url, CROWDS[1])?;
    pause(SETTLE);
    spend(how, server.pid, &crowd)
}

/// What `pid` uses while `crowd` watches.
fn spend(how: &Run, pid: u32, crowd: &[Arc<Seen>]) -> anyhow::Result<Spent> {
    let long = Duration::from_secs(if how.quick { 4 } else { 15 });
    let (cpu, packets, begun) = (cpu::used(pid)?, viewers::packets(crowd), clock::now());
    pause(long);
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
