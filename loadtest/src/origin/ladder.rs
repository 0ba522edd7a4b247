//! What a ladder costs: a source of 1080p30 that is passed through, and three rungs encoded of it, by an origin and
//! by one `ffmpeg` that does the same with the same presets; in turns, both in real time. And what the rungs look
//! like: nothing is saved at their expense.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluicegate_e2e::film::{Film, Script};
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::process::run;
use sluicegate_e2e::until::until;
use tempfile::TempDir;

use crate::figure::Figure;
use crate::publishers::{KEY, publish_to_origin};
use crate::{Run, cpu};

mod peer;
mod quality;

use quality::Quality;

/// What the CPU time may be, by that of ffmpeg.
const CPU_BY_PEERS: f64 = 1.05;
/// How much worse than ffmpeg's a rung may look.
const BEHIND_DB: f64 = 0.1;
/// For the last segments.
const ENDING: Duration = Duration::from_secs(20);

/// Texture, movement and some noise, so that encoders have to work as they do for most pictures.
const FILM: Script = Script {
    name: "ladder",
    picture: "testsrc2=size=1920x1080:rate=30,noise=alls=8:allf=t",
    sound: Some("sine=frequency=440:sample_rate=48000"),
    seconds: 20.0,
    gop: 30,
    encoders: &[
        "-preset",
        "superfast",
        "-b:v",
        "6000k",
        "-maxrate",
        "6000k",
        "-bufsize",
        "6000k",
        "-bf",
        "0",
    ],
};

/// An encoded rung.
struct Rung {
    width: u32,
    height: u32,
    kbps: u32,
}

const RUNGS: [Rung; 3] = [
    Rung { width: 1_280, height: 720, kbps: 2_500 },
    Rung { width: 854, height: 480, kbps: 1_200 },
    Rung { width: 640, height: 360, kbps: 700 },
];

/// What one run made.
struct Made {
    cpu: Duration,
    /// A file or playlist of each rung.
    rungs: Vec<PathBuf>,
}

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    // A minute of film in all.
    let rounds = if how.quick { 1 } else { 3 };
    let film = Film::make(&how.folder, &FILM)?;
    let (node, pids) = cpu::started_by(|| origin().start())?;
    let folder = TempDir::new()?;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        ours.push(by_us(&node, &pids, &film, &folder.path().join(format!("ours{round}")))?);
        peers.push(by_ffmpeg(&film, &folder.path().join(format!("ffmpeg{round}")))?);
    }
    let seconds = |runs: &[Made]| runs.iter().map(|made| made.cpu.as_secs_f64()).sum::<f64>();
    let (used, by_peer) = (seconds(&ours), seconds(&peers));
    let mut figures = vec![
        Figure::new("ladder_cpu_s", used).beside(by_peer),
        Figure::new("ladder_cpu_by_ffmpegs", used / by_peer).at_most(CPU_BY_PEERS),
    ];
    let (Some(ours), Some(peer)) = (ours.last(), peers.last()) else { return Ok(figures) };
    for (rung, (ours, peer)) in RUNGS.iter().zip(ours.rungs.iter().zip(&peer.rungs)) {
        let (ours, peer) = (Quality::of(ours, &film, rung)?, Quality::of(peer, &film, rung)?);
        figures.extend(compared(rung.height, &ours, &peer));
    }
    Ok(figures)
}

fn compared(height: u32, ours: &Quality, peer: &Quality) -> [Figure; 4] {
    let name = |what: &str| format!("ladder_{height}p_{what}");
    [
        Figure::new(name("psnr_db"), ours.psnr_db).beside(peer.psnr_db),
        Figure::new(name("psnr_db_behind"), peer.psnr_db - ours.psnr_db).at_most(BEHIND_DB),
        Figure::new(name("ssim_db_behind"), peer.ssim_db - ours.ssim_db).at_most(BEHIND_DB),
        Figure::new(name("kbps"), ours.kbps).beside(peer.kbps),
    ]
}

fn origin() -> NodeConfig {
    let rung = |rung: &Rung| format!("{{ height = {}, kbps = {} }}", rung.height, rung.kbps);
    let ladder = RUNGS.iter().map(rung).collect::<Vec<_>>().join(", ");
    // The playlist keeps all of the film, and room is no matter: whether it kept up is seen by its pictures.
    NodeConfig::standalone()
        .set("cluster", &format!("key = {KEY:?}"))
        .set("origin", "capacity_mpx = 10000")
        .set("[app]", "name = \"live\"")
        .set("[app]", "window = 100")
        .set("[app]", &format!("ladder = [{ladder}]"))
}

/// By the origin of `node`, whose processes are `pids`. What it made is read afterwards.
fn by_us(node: &NodeProcess, pids: &[u32], film: &Film, folder: &Path) -> anyhow::Result<Made> {
    let stream = folder.file_name().and_then(|name| name.to_str()).context("a stream's name")?;
    let used = || pids.iter().map(|pid| cpu::used(*pid)).sum::<anyhow::Result<Duration>>();
    let before = used()?;
    send(node.origin_rtmp(), film, stream)?;
    let playlists = until("all renditions have ended", ENDING, || ended(node, stream));
    let cpu = used()?.saturating_sub(before);
    fs::create_dir(folder)?;
    let rungs = playlists.iter().enumerate().map(|(at, playlist)| {
        let file = folder.join(format!("{at}.mp4"));
        fs::write(&file, playlist.whole())?;
        anyhow::Ok(file)
    });
    Ok(Made { cpu, rungs: rungs.collect::<Result<_, _>>()? })
}

fn send(address: SocketAddr, film: &Film, stream: &str) -> anyhow::Result<()> {
    let mut client = publish_to_origin(address, KEY, stream)?;
    film.play(&mut client, |_| ());
    client.end();
    Ok(())
}

/// The playlists of the encoded rungs, once they and the source's have ended.
fn ended(node: &NodeProcess, stream: &str) -> Option<Vec<MediaPlaylist>> {
    let fetch = |name: String| {
        let playlist = MediaPlaylist::fetch(&node.url(&format!("/live/streams/{stream}{name}.m3u8")));
        playlist.filter(|playlist| playlist.ended)
    };
    fetch(String::new())?;
    RUNGS.iter().map(|rung| fetch(format!("_{}p{}kbps", rung.height, rung.kbps))).collect()
}

fn by_ffmpeg(film: &Film, folder: &Path) -> anyhow::Result<Made> {
    fs::create_dir(folder)?;
    let before = cpu::used_by_ended_children()?;
    let finished =
        run("ffmpeg", peer::command(film, folder), Duration::from_millis(film.length_ms.into()) * 4);
    let cpu = cpu::used_by_ended_children()?.saturating_sub(before);
    ensure!(finished.code == Some(0), "ffmpeg says {}", finished.stderr);
    Ok(Made { cpu, rungs: RUNGS.iter().map(|rung| peer::playlist(folder, rung)).collect() })
}
