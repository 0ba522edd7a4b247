//! How far a player is behind the camera: a picture that is a clock goes through ffmpeg, RTMP, the balancer,
//! the origin, the edge and headless Chromium, which compares it with its own clock. All on one machine, so
//! there is one clock.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::process::{command, run};
use sluicegate_e2e::until::until_true;

use crate::Run;

mod clock;

const SIZE: clock::Size = clock::Size { width: 640, height: 360 };
const FRAMES_PER_S: u32 = 30;
/// Between two looks at the player's picture.
const LOOK_EVERY_MS: u32 = 100;
/// For the stream to be there.
const ON_AIR: Duration = Duration::from_secs(30);
/// For the browser to start, open the page and play.
const BROWSER: Duration = Duration::from_secs(60);
/// For the browser to end after that.
const BROWSER_END: Duration = Duration::from_secs(15);

/// How long to look.
struct Plan {
    /// Played before the first look, so that the player has found its place.
    settle_s: u32,
    looks: u32,
    /// Looks that must have seen a clock.
    readable: usize,
}

/// How the player plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Segments and parts.
    Hls,
    /// From a camera without a microphone: ffmpeg holds pictures back until it has the sound that belongs between
    /// them, a quarter of a second.
    WebRtc,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Self::Hls => "hls",
            Self::WebRtc => "webrtc",
        }
    }
}

/// What was seen of the player.
pub(crate) struct Seen {
    /// How far each picture was behind, in milliseconds.
    pub(crate) behind_ms: Vec<f64>,
    /// How often it had to wait for media.
    pub(crate) stalls: u32,
}

/// Looks at the player.
pub(crate) fn look(how: &Run, engine: Engine) -> anyhow::Result<Seen> {
    let plan = if how.quick {
        Plan { settle_s: 2, looks: 30, readable: 15 }
    } else {
        Plan { settle_s: 5, looks: 150, readable: 100 }
    };
    let node = NodeConfig::standalone().start();
    let log = how.folder.join("camera.log");
    let _camera = Camera::start(node.rtmp(), "live/clock", engine, &log)?;
    let playlist = node.url("/live/streams/clock.m3u8");
    until_true("the camera is on air", ON_AIR, || MediaPlaylist::fetch(&playlist).is_some());
    let watched = watch(&node.url(&format!("/live/play.html?id=clock&playOrder={}", engine.name())), &plan)?;
    let behind_ms = watched.behind_ms();
    ensure!(
        behind_ms.len() >= plan.readable,
        "a clock was seen in {} of {} pictures; the page is {:?} and says {:?}; ffmpeg says {:?}",
        behind_ms.len(),
        watched.samples.len(),
        watched.state,
        watched.errors,
        fs::read_to_string(&log).unwrap_or_default(),
    );
    Ok(Seen { behind_ms, stalls: watched.stalls })
}

/// What the browser reports.
#[derive(Deserialize)]
struct Watched {
    samples: Vec<Sample>,
    stalls: u32,
    state: Option<String>,
    errors: Vec<String>,
}

/// One look at the player's picture.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sample {
    seen_at_ms: u64,
    /// Of each block of the clock, 0 to 255.
    brightness: Vec<u8>,
}

impl Watched {
    /// How far each picture that showed a clock was behind.
    fn behind_ms(&self) -> Vec<f64> {
        let behind = |sample: &Sample| {
            let filmed_ms = clock::read(&sample.brightness)?;
            Some(sample.seen_at_ms as f64 - filmed_ms as f64)
        };
        self.samples.iter().filter_map(behind).collect()
    }
}

fn watch(url: &str, plan: &Plan) -> anyhow::Result<Watched> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    ensure!(
        folder.join("../tests/browser/node_modules").exists(),
        "the browser's driver is missing: `npm --prefix tests/browser ci` installs it"
    );
    let looking = Duration::from_secs(u64::from(plan.settle_s))
        + Duration::from_millis(u64::from(LOOK_EVERY_MS)) * plan.looks * 2;
    let deadline = BROWSER + looking;
    let mut browser = command("node");
    browser.arg(folder.join("browser/watch-clock.mjs")).args(["--url", url]);
    for (option, value) in [
        ("--columns", clock::COLUMNS.to_string()),
        ("--rows", clock::ROWS.to_string()),
        ("--settle-s", plan.settle_s.to_string()),
        ("--count", plan.looks.to_string()),
        ("--every-ms", LOOK_EVERY_MS.to_string()),
        ("--deadline-ms", deadline.as_millis().to_string()),
    ] {
        browser.args([option, &value]);
    }
    let finished = run("the browser", browser, deadline + BROWSER_END);
    serde_json::from_str(&finished.stdout).with_context(|| format!("the browser says {:?}", finished.stderr))
}

/// An encoder whose camera films a clock, and a tone. It ends when it is dropped.
struct Camera {
    ffmpeg: Child,
    /// Closed to end the filming.
    film: Option<Sender<()>>,
    filming: Option<JoinHandle<()>>,
}

impl Camera {
    /// Publishes at `address` as `key`; what ffmpeg says goes to `log`.
    fn start(address: SocketAddr, key: &str, engine: Engine, log: &Path) -> anyhow::Result<Self> {
        let rate = FRAMES_PER_S.to_string();
        let mut ffmpeg = command("ffmpeg");
        ffmpeg.args(["-hide_banner", "-nostats", "-loglevel", "warning", "-probesize", "32"]);
        ffmpeg.args(["-f", "rawvideo", "-pixel_format", "yuv420p", "-framerate", &rate]);
        ffmpeg.args(["-video_size", &format!("{}x{}", SIZE.width, SIZE.height), "-i", "pipe:0"]);
        if engine == Engine::Hls {
            ffmpeg.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
        }
        ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-b:v", "1000k"]);
        ffmpeg.args(["-g", &rate, "-keyint_min", &rate, "-sc_threshold", "0", "-c:a", "aac"]);
        ffmpeg.args(["-f", "flv", &format!("rtmp://{address}/{key}")]);
        ffmpeg.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::create(log)?);
        let mut ffmpeg = ffmpeg.spawn().context("running ffmpeg")?;
        let lens = ffmpeg.stdin.take();
        let (film, cut) = mpsc::channel();
        let filming = lens.map(|lens| thread::spawn(move || record(lens, &cut)));
        Ok(Self { ffmpeg, film: Some(film), filming })
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.film = None;
        // With ffmpeg gone, nothing that is being written to it blocks. It may have ended already.
        let _ = self.ffmpeg.kill();
        let _ = self.ffmpeg.wait();
        if let Some(filming) = self.filming.take() {
            let _ = filming.join();
        }
    }
}

/// Writes a picture of the time at the time, frame by frame, until it is `cut` or nobody reads any more.
fn record(mut lens: ChildStdin, cut: &Receiver<()>) {
    use sluicegate_cluster::clock::{now, unix_ms};
    let began = now();
    for frame in 0.. {
        let due = began + Duration::from_secs(1) * frame / FRAMES_PER_S;
        let waited = cut.recv_timeout(due.saturating_duration_since(now()));
        let unix_ms = u64::try_from(unix_ms().0).unwrap_or(0);
        if waited != Err(RecvTimeoutError::Timeout) || lens.write_all(&clock::picture(unix_ms, SIZE)).is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_without_a_clock_do_not_count() {
        let report = r#"{"state": "live", "stalls": 0, "errors": [], "samples": [{"seenAtMs": 5, "brightness": [0, 0]}]}"#;
        let mut watched: Watched = serde_json::from_str(report).unwrap();
        assert_eq!(watched.behind_ms(), Vec::<f64>::new());

        let picture = clock::picture(1_700_000_000_000, clock::Size { width: 16, height: 4 });
        watched.samples.push(Sample { seen_at_ms: 1_700_000_001_250, brightness: picture[..64].to_vec() });
        assert_eq!(watched.behind_ms(), [1_250.0]);
    }
}
