//! Commands and bytes a second between a cluster and its database, as nodes, streams and viewers grow: commands
//! follow the nodes, and neither streams nor viewers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use sluicegate_cluster::{clock, limits};
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::film::{Film, Script};
use sluicegate_e2e::http;
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::store_relay::StoreRelay;
use sluicegate_e2e::until::until_true;
use sluicegate_e2e::viewer::Viewer;

use crate::Run;
use crate::figure::{Figure, say};
use crate::publishers::Publishers;

/// Origins of each cluster; two nodes more are its balancer and its edge.
const ORIGINS: [usize; 3] = [2, 6, 14];
const STREAMS: usize = 40;
const VIEWERS: usize = 40;
/// What each of the streams sends: little.
const FILM: Script = Script {
    name: "little",
    picture: "testsrc2=size=128x72:rate=10",
    sound: None,
    seconds: 10.0,
    gop: 10,
    encoders: &["-preset", "ultrafast", "-tune", "zerolatency", "-b:v", "50k"],
};
/// What is flat may differ by as much: windows do not begin where heartbeats do.
const FLAT: f64 = 1.15;
const PATIENCE: Duration = Duration::from_secs(30);

/// What was passed on in a second.
#[derive(Debug, Clone, Copy)]
struct Rate {
    commands: f64,
    bytes: f64,
}

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    // Two periods of what origins record of their streams.
    let window = Duration::from_secs(if how.quick { 5 } else { 20 });
    say(format!("{:>8}{:>10}{:>10}{:>14}{:>14}", "nodes", "streams", "viewers", "commands/s", "bytes/s"))?;
    let mut figures = Vec::new();
    let mut by_nodes = Vec::new();
    for origins in ORIGINS {
        let (relay, cluster) = Cluster::start_behind_a_relay(&vec![1_000; origins]);
        let rate = Rate::of(&relay, window);
        by_nodes.push((origins + 2, rate));
        rate.tell(origins + 2, 0, 0)?;
        figures.extend(rate.figures(&format!("{}_nodes", origins + 2)));
        if origins == ORIGINS[0] {
            figures.extend(with_streams_and_viewers(how, &relay, &cluster, rate, window)?);
        }
    }
    let per_node = |(nodes, rate): &(usize, Rate)| rate.commands / *nodes as f64;
    let (few, many) = (by_nodes.first().map_or(0.0, per_node), by_nodes.last().map_or(0.0, per_node));
    figures.push(Figure::new("store_commands_per_node_many_by_few", many / few).at_most(FLAT));
    Ok(figures)
}

fn with_streams_and_viewers(
    how: &Run,
    relay: &StoreRelay,
    cluster: &Cluster,
    idle: Rate,
    window: Duration,
) -> anyhow::Result<Vec<Figure>> {
    let film = Arc::new(Film::make(&how.folder, &FILM)?);
    let publishers = Publishers::start(&film, STREAMS, |stream| {
        let taken = RtmpClient::publish(cluster.lb.rtmp(), "live", stream);
        taken.map_err(|refusal| anyhow!("the publish was refused: {refusal:?}"))
    })?;
    let url = cluster.lb.url("/live/streams/s0.m3u8");
    let _ = Viewer::watch(&url);
    let all_play = || {
        let streams = cluster.lb.cluster()["streams"].clone();
        let plays = |stream: &serde_json::Value| stream["live"] == true && stream["width"] != 0;
        streams.as_array().is_some_and(|all| all.len() == STREAMS && all.iter().all(plays))
    };
    until_true("all streams play", PATIENCE, all_play);
    // What begins is recorded at once, and this has just looked at the cluster's figures: both pass.
    thread::park_timeout(2 * limits::LOOKED_AT);
    let streams = Rate::of(relay, window);
    let viewers = while_watched(&url, || Rate::of(relay, window));
    // Ends of streams would be counted with those that live.
    ensure!(all_play(), "streams ended before their figures were taken");
    publishers.stop()?;
    streams.tell(ORIGINS[0] + 2, STREAMS, 0)?;
    viewers.tell(ORIGINS[0] + 2, STREAMS, VIEWERS)?;
    let flat = |what: &str, rate: Rate, than: Rate| {
        Figure::new(format!("store_commands_{what}"), rate.commands / than.commands).at_most(FLAT)
    };
    let mut figures = streams.figures(&format!("4_nodes_{STREAMS}_streams")).to_vec();
    figures.extend(viewers.figures(&format!("4_nodes_{STREAMS}_streams_{VIEWERS}_viewers")));
    figures.push(flat("by_streams", streams, idle));
    figures.push(flat("by_viewers", viewers, streams));
    Ok(figures)
}

/// What `act` returns, with viewers that reload the playlist once a second meanwhile.
fn while_watched<T>(url: &str, act: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..VIEWERS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = http::try_get(url);
                    thread::park_timeout(Duration::from_secs(1));
                }
            });
        }
        let result = act();
        over.store(true, Ordering::Relaxed);
        result
    })
}

impl Rate {
    fn of(relay: &StoreRelay, window: Duration) -> Self {
        let (before, began) = (relay.traffic(), clock::now());
        while began.elapsed() < window {
            thread::park_timeout(window.saturating_sub(began.elapsed()));
        }
        let (after, seconds) = (relay.traffic(), began.elapsed().as_secs_f64());
        Self {
            commands: (after.commands - before.commands) as f64 / seconds,
            bytes: (after.bytes - before.bytes) as f64 / seconds,
        }
    }

    /// A line of the table.
    fn tell(self, nodes: usize, streams: usize, viewers: usize) -> std::io::Result<()> {
        let Self { commands, bytes } = self;
        say(format!("{nodes:>8}{streams:>10}{viewers:>10}{commands:>14.1}{bytes:>14.0}"))
    }

    fn figures(self, of: &str) -> [Figure; 2] {
        [
            Figure::new(format!("store_commands_per_s_{of}"), self.commands),
            Figure::new(format!("store_bytes_per_s_{of}"), self.bytes),
        ]
    }
}
