//! Requests on connections that are kept: as many as are answered, for the CPU time of each; and at a pace that leaves
//! processors idle, for the time that answers take.

use std::time::Duration;

use anyhow::Context as _;

use super::connections::tls_server;
use super::{Contender, PLAYLIST, Stage, us_each};
use crate::Run;
use crate::crowd::{Crowd, Request, Server};
use crate::figure::Figure;
use crate::stats::{median, ms, percentile};

/// Viewers with a connection each.
const VIEWERS: usize = 300;
/// Requests of each viewer in a turn.
const FLAT_OUT: usize = 60;
const PACED: usize = 20;
/// Between two requests of a viewer, where they have a pace: 2,000 a second in all.
const PACE: Duration = Duration::from_millis(150);

/// What is asked for, and how.
struct Kind {
    name: &'static str,
    request: Request,
    is_tls: bool,
    pace: Option<Duration>,
}

/// One turn of a contender.
struct Turn {
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let stage = Stage::set(how)?;
    let turns = if how.quick { 1 } else { 5 };
    let mut figures = Vec::new();
    for (site, ours, peer) in stage.pairs()? {
        let segment = site.segment_after(&stage.runtime, "");
        for kind in kinds(&segment) {
            let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
            let (mut our_crowd, mut peer_crowd) = (kind.crowd(&stage, &ours)?, kind.crowd(&stage, &peer)?);
            for _ in 0..turns {
                of_ours.push(kind.turn(&stage, &ours, &mut our_crowd)?);
                of_peer.push(kind.turn(&stage, &peer, &mut peer_crowd)?);
            }
            // Two of ours may take twice as much as two of the peer's: what is between them is signed.
            let most = if ours.pids.len() == 1 { 1.0 } else { 2.0 };
            figures.extend(kind.figures(ours.name, &of_ours, &of_peer, most)?);
        }
    }
    Ok(figures)
}

fn kinds(segment: &str) -> [Kind; 5] {
    let kind = |name, path: &str| Kind { name, request: Request::of(path), is_tls: false, pace: None };
    [
        kind("cached_segment", segment),
        Kind { pace: Some(PACE), ..kind("paced_segment", segment) },
        Kind { is_tls: true, ..kind("tls_segment", segment) },
        kind("playlist", PLAYLIST),
        Kind { request: Request { gzip: true, ..Request::of(PLAYLIST) }, ..kind("gzip_playlist", PLAYLIST) },
    ]
}

impl Kind {
    /// Viewers of `contender` whose connections, and its cache, are warm.
    fn crowd(&self, stage: &Stage, contender: &Contender) -> anyhow::Result<Crowd> {
        let server = if self.is_tls { tls_server(contender, true)? } else { Server::plain(contender.http) };
        let warm = async {
            let mut crowd = Crowd::connect(&server, VIEWERS).await?;
            crowd.ask_often(&self.request, 2, None).await?;
            anyhow::Ok(crowd)
        };
        stage.runtime.block_on(warm).with_context(|| format!("the viewers of {}", contender.name))
    }

    fn turn(&self, stage: &Stage, contender: &Contender, crowd: &mut Crowd) -> anyhow::Result<Turn> {
        let times = if self.pace.is_some() { PACED } else { FLAT_OUT };
        let asking = || stage.runtime.block_on(crowd.ask_often(&self.request, times, self.pace));
        let (took, cpu) = contender.cpu_of(asking)?;
        let took: Vec<f64> = took.into_iter().map(ms).collect();
        let at = |percent| percentile(&took, percent).context("nobody was served");
        Ok(Turn { cpu_us: us_each(cpu, took.len()), p50_ms: at(50.0)?, p99_ms: at(99.0)? })
    }

    fn figures(&self, of: &str, ours: &[Turn], peer: &[Turn], most: f64) -> anyhow::Result<Vec<Figure>> {
        let middle = |turns: &[Turn], of: fn(&Turn) -> f64| {
            median(&turns.iter().map(of).collect::<Vec<_>>()).context("there was no turn")
        };
        let figure = |what: &str, value: fn(&Turn) -> f64| {
            let name = format!("{}_{of}_{what}", self.name);
            anyhow::Ok(Figure::new(name, middle(ours, value)?).beside(middle(peer, value)?))
        };
        let cpu = |turn: &Turn| turn.cpu_us;
        let mut figures = vec![
            figure("cpu_us", cpu)?.at_most(most * middle(peer, cpu)?),
            Figure::new(format!("{}_{of}_cpu_spread_us", self.name), spread(ours)).beside(spread(peer)),
        ];
        if self.pace.is_some() {
            figures.push(figure("p50_ms", |turn| turn.p50_ms)?);
            figures.push(figure("p99_ms", |turn| turn.p99_ms)?);
        }
        Ok(figures)
    }
}

/// From the turn that took the least CPU time for a request to the one that took the most.
fn spread(turns: &[Turn]) -> f64 {
    let (least, most) = turns.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), turn| {
        (least.min(turn.cpu_us), most.max(turn.cpu_us))
    });
    (most - least).max(0.0)
}
