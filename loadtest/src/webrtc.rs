//! The WebRTC relay: what a viewer costs its edge, how late and how soon its picture is, and what it sees of an
//! origin that dies. Viewers are clients of our own ([`viewers`]), which any WHEP server can be put before.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluicegate_cluster::clock;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::process::{Process, command, run};
use sluicegate_e2e::until::until_true;

use crate::figure::Figure;
use crate::stats::percentile;
use crate::{Measurement, Run, camera};

mod cost;
mod death;
mod floor;
mod latency;
mod loss;
mod network;
mod pulls;
mod start;
mod viewers;

/// Everything that is measured.
pub(crate) const MEASUREMENTS: &[Measurement] = &[
    Measurement { title: "What a packet to a viewer costs", measure: cost::measure },
    Measurement { title: "From the origin to a viewer, through the edge", measure: latency::measure },
    Measurement { title: "From an offer to a picture", measure: start::measure },
    Measurement { title: "An origin that dies under its viewers", measure: death::measure },
    Measurement { title: "From the camera to a viewer in Chromium", measure: camera_to_screen },
    Measurement { title: "A network that loses one datagram in twenty", measure: loss::measure },
];

const CAMERA_TO_SCREEN_MS: f64 = 150.0;

/// For ffmpeg to encode a film.
const ENCODING: Duration = Duration::from_secs(120);
/// For a stream to be known to the balancer.
const ON_AIR: Duration = Duration::from_secs(20);
const FRAMES_PER_S: u32 = 30;

fn camera_to_screen(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let behind_ms = camera::look(how, camera::Engine::WebRtc)?.behind_ms;
    let at = |percent| percentile(&behind_ms, percent).context("no picture was seen");
    Ok(vec![
        Figure::new("webrtc_camera_to_screen_p50_ms", at(50.0)?).at_most(CAMERA_TO_SCREEN_MS),
        Figure::new("webrtc_camera_to_screen_p95_ms", at(95.0)?),
    ])
}

/// What is published again and again.
#[derive(Debug, Clone, Copy)]
struct Film {
    kbps: u32,
    keyframe_every_s: u32,
    /// As encoders make them by default: it cannot be passed through to WebRTC then.
    b_frames: bool,
}

impl Film {
    /// Encodes twenty seconds of it: a picture that moves all over, so that it has its rate, and a tone.
    fn encode(self, folder: &Path) -> anyhow::Result<PathBuf> {
        let b_frames = if self.b_frames { "2" } else { "0" };
        let file = folder.join(format!("film-{}-{}-{b_frames}.flv", self.kbps, self.keyframe_every_s));
        let picture =
            format!("testsrc2=size=640x360:rate={FRAMES_PER_S},noise=alls=12:allf=t,format=yuv420p");
        let rate = format!("{}k", self.kbps);
        let keyframes = (self.keyframe_every_s * FRAMES_PER_S).to_string();
        let mut ffmpeg = command("ffmpeg");
        ffmpeg.args(["-v", "error", "-y", "-f", "lavfi", "-i", &picture]);
        ffmpeg.args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "20"]);
        ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast", "-b:v", &rate, "-maxrate", &rate]);
        ffmpeg.args(["-bufsize", &rate, "-bf", b_frames, "-g", &keyframes, "-keyint_min", &keyframes]);
        ffmpeg.args(["-sc_threshold", "0", "-c:a", "aac", "-b:a", "64k", "-ac", "2", "-f", "flv"]).arg(&file);
        let finished = run("ffmpeg", ffmpeg, ENCODING);
        ensure!(finished.code == Some(0), "ffmpeg says {}", finished.stderr);
        Ok(file)
    }

    /// Publishes it at `url` in real time, without an end, until what is returned is dropped.
    fn publish(self, folder: &Path, url: &str) -> anyhow::Result<Process> {
        let file = self.encode(folder)?;
        let mut ffmpeg = command("ffmpeg");
        ffmpeg.args(["-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(&file).args(["-c:v", "copy"]);
        if url.starts_with("rtsp:") {
            // Who takes RTSP is sent what WebRTC carries.
            ffmpeg.args(["-c:a", "libopus", "-b:a", "64k", "-rtsp_transport", "tcp", "-f", "rtsp", url]);
        } else {
            ffmpeg.args(["-c:a", "copy", "-f", "flv", url]);
        }
        Ok(Process::start("ffmpeg", ffmpeg, folder.join("publisher.log")))
    }

    /// Publishes it as `live/film`, and waits until the balancer knows it.
    fn publish_to(self, folder: &Path, cluster: &Cluster) -> anyhow::Result<Process> {
        let process = self.publish(folder, &format!("rtmp://{}/{KEY}", cluster.lb.rtmp()))?;
        until_true("the film is on air", ON_AIR, || cluster.lb.stream(KEY).is_some());
        Ok(process)
    }
}

/// Lets time pass. A wake-up that was meant for something else does not end it.
fn pause(long: Duration) {
    let end = clock::now() + long;
    while let Some(left) = end.checked_duration_since(clock::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// The stream.
const KEY: &str = "live/film";

/// Where it is watched.
fn whep(cluster: &Cluster) -> String {
    cluster.lb.url("/live/whep/film")
}
