//! What graphics cards carry: a ladder of three rungs for as many 1080p30 streams as their origin takes, and the same
//! ladder by the processors of the same machine beside it.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluicegate_cluster::clock;
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::process::{Process, command, run};
use sluicegate_e2e::until::until_true;

use crate::figure::{Figure, say};
use crate::{Measurement, Run, cpu};

/// Everything that is measured.
pub(crate) const MEASUREMENTS: &[Measurement] =
    &[Measurement { title: "Ladders on the graphics cards, beside the processors", measure }];

const LADDER: &str = "ladder = [{ height = 720, kbps = 2_500 }, { height = 480, kbps = 1_200 }, \
                      { height = 360, kbps = 700 }]";
/// What a stream's ladder encodes, Mpx/s.
const STREAM_MPX: f64 = (1_280.0 * 720.0 + 854.0 * 480.0 + 640.0 * 360.0) * 30.0 / 1e6;
/// Streams at most: publishers take processors too.
const STREAMS_MAX: usize = 96;
/// For ffmpeg to encode the film.
const ENCODING: Duration = Duration::from_secs(180);
/// For the cards' trial, which compiles their scaler once, and for all streams' first segments.
const ON_AIR: Duration = Duration::from_secs(90);

fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let film = how.folder.join("gpu.flv");
    make_film(&film, how.quick)?;
    let window = Duration::from_secs(if how.quick { 5 } else { 30 });
    let processors = Origin::start("encoder = \"x264\"\ndecoder = \"software\"")?;
    let few = if how.quick { 1 } else { 2 };
    let by_processors = processors.carry(&film, few.min(processors.room()), window)?;
    drop(processors);
    let cards = Origin::start("encoder = \"auto\"\ndecoder = \"auto\"")?;
    let count = cards.node.count("sluicegate_gpu_cards", &[("state", "good")]);
    let mut figures = vec![Figure::new("gpu_cards", count as f64)];
    if count == 0 {
        say("There is no graphics card here that is of use: what follows are the processors alone.")?;
        figures.push(Figure::new("x264_cpu_percent_per_stream", by_processors.cpu_percent));
        return Ok(figures);
    }
    let by_cards = cards.carry(&film, cards.room(), window)?;
    let per_card = by_cards.on_cards / count as f64;
    figures.extend([
        Figure::new("gpu_capacity_mpx_per_card", cards.capacity_mpx() / count as f64),
        Figure::new("gpu_streams_per_card", per_card),
        Figure::new("gpu_streams_by_processors_alone", by_cards.elsewhere),
        Figure::new("gpu_rungs_dropped", by_cards.rungs_dropped),
        Figure::new("gpu_encoder_percent", by_cards.encoder_percent),
        Figure::new("gpu_decoder_percent", by_cards.decoder_percent),
        Figure::new("gpu_memory_mib_per_stream", by_cards.memory_mib / by_cards.on_cards.max(1.0)),
        Figure::new("gpu_cpu_percent_per_stream", by_cards.cpu_percent).beside(by_processors.cpu_percent),
    ]);
    Ok(figures)
}

/// Ten seconds of 1080p30 with B-frames, as an encoder would send them.
fn make_film(file: &Path, quick: bool) -> anyhow::Result<()> {
    let mut ffmpeg = command("ffmpeg");
    let seconds = if quick { "4" } else { "10" };
    ffmpeg.args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=30", "-t", seconds]);
    ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast", "-b:v", "5M", "-g", "60", "-keyint_min", "60"]);
    ffmpeg.args(["-sc_threshold", "0", "-bf", "2", "-pix_fmt", "yuv420p", "-f", "flv"]).arg(file);
    let finished = run("ffmpeg", ffmpeg, ENCODING);
    ensure!(finished.code == Some(0), "ffmpeg says {}", finished.stderr);
    Ok(())
}

/// A node with an origin, and its processes.
struct Origin {
    node: NodeProcess,
    pids: Vec<u32>,
}

/// What came of some streams.
struct Carried {
    /// Of one core, for each stream.
    cpu_percent: f64,
    on_cards: f64,
    elsewhere: f64,
    rungs_dropped: f64,
    encoder_percent: f64,
    decoder_percent: f64,
    memory_mib: f64,
}

impl Origin {
    fn start(origin: &'static str) -> anyhow::Result<Self> {
        let config = NodeConfig::standalone().set("[app]", "name = \"live\"").set("[app]", LADDER);
        let config = origin.lines().fold(config, |config, line| config.set("origin", line));
        let config = config.set("limits", "gpu_percent = 100.0").set("limits", "gpu_memory_percent = 90.0");
        let (mut node, pids) = cpu::started_by(|| config.launch())?;
        node.wait_until_ready();
        Ok(Self { node, pids })
    }

    /// Publishes the film so often at once, and watches that for `window`.
    fn carry(&self, film: &Path, streams: usize, window: Duration) -> anyhow::Result<Carried> {
        let memory_before = self.metric("sluicegate_gpu_memory_bytes", &[("memory", "used")]);
        let publishers: Vec<_> = (0..streams).map(|n| self.publish(film, n)).collect();
        let made = |n| http::try_get(&self.node.url(&format!("/live/streams/s{n}_360p700kbps.m3u8")));
        let all = || (0..streams).all(|n| made(n).is_ok_and(|answer| answer.status == 200));
        until_true("all streams have their rungs", ON_AIR, all);
        let (before, began) = (self.used()?, clock::now());
        while began.elapsed() < window {
            thread::park_timeout(window.saturating_sub(began.elapsed()));
        }
        let cpu_s = self.used()?.saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64();
        let place = |place| self.metric("sluicegate_gpu_transcoders", &[("place", place)]);
        let busy = |part| self.metric("sluicegate_gpu_percent", &[("part", part)]);
        let memory = self.metric("sluicegate_gpu_memory_bytes", &[("memory", "used")]) - memory_before;
        let carried = Carried {
            cpu_percent: 100.0 * cpu_s / streams as f64,
            on_cards: place("card") + place("both"),
            elsewhere: place("cpu"),
            rungs_dropped: self.metric("sluicegate_origin_rungs_dropped_total", &[]),
            encoder_percent: busy("encoder"),
            decoder_percent: busy("decoder"),
            memory_mib: memory / f64::from(1 << 20),
        };
        drop(publishers);
        Ok(carried)
    }

    fn publish(&self, film: &Path, n: usize) -> Process {
        let mut ffmpeg = command("ffmpeg");
        ffmpeg
            .args(["-v", "error", "-re", "-stream_loop", "-1", "-i"])
            .arg(film)
            .args(["-c", "copy", "-f", "flv"]);
        ffmpeg.arg(format!("rtmp://{}/live/s{n}", self.node.rtmp()));
        Process::start(&format!("publisher {n}"), ffmpeg, film.with_extension(format!("{n}.log")))
    }

    /// Streams that it has room for: on its cards, if it has any.
    fn room(&self) -> usize {
        let origin_mpx = self.metric("sluicegate_origin_capacity_mpx", &[]);
        let cards_mpx = Some(self.capacity_mpx()).filter(|mpx| *mpx > 0.0).unwrap_or(origin_mpx);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred")]
        let streams = (origin_mpx.min(cards_mpx) / STREAM_MPX) as usize;
        streams.clamp(1, STREAMS_MAX)
    }

    /// What goes through all cards together.
    fn capacity_mpx(&self) -> f64 {
        self.metric("sluicegate_gpu_mpx", &[("mpx", "capacity")])
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        sluicegate_e2e::metrics::sum(&self.node.metrics(), name, labels)
    }

    fn used(&self) -> anyhow::Result<Duration> {
        let used = self.pids.iter().map(|pid| cpu::used(*pid)).sum::<anyhow::Result<Duration>>();
        used.context("the node's CPU time")
    }
}
