//! A publisher: ffmpeg, with a test picture and a tone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, command, run};

/// What is published.
#[derive(Debug, Clone)]
pub struct Broadcast {
    size: &'static str,
    video: &'static str,
    audio: &'static str,
    seconds: Option<u32>,
    b_frames: bool,
}

impl Default for Broadcast {
    /// 320×180 at 30 frames a second in H.264, a keyframe each second, no B-frames; AAC. Without end.
    fn default() -> Self {
        Self { size: "320x180", video: "libx264", audio: "aac", seconds: None, b_frames: false }
    }
}

impl Broadcast {
    /// With this picture size, `1280x720`.
    #[must_use]
    pub fn size(self, size: &'static str) -> Self {
        Self { size, ..self }
    }

    /// With this encoder of ffmpeg's for the picture.
    #[must_use]
    pub fn video(self, video: &'static str) -> Self {
        Self { video, ..self }
    }

    /// With this encoder of ffmpeg's for the tone.
    #[must_use]
    pub fn audio(self, audio: &'static str) -> Self {
        Self { audio, ..self }
    }

    /// With B-frames, as OBS sends by default.
    #[must_use]
    pub fn b_frames(self) -> Self {
        Self { b_frames: true, ..self }
    }

    /// It ends after so long.
    #[must_use]
    pub fn seconds(self, seconds: u32) -> Self {
        Self { seconds: Some(seconds), ..self }
    }

    /// Publishes it at `address` as `key`: `live/demo`.
    ///
    /// # Panics
    /// When ffmpeg cannot be started.
    #[must_use]
    pub fn publish(self, address: SocketAddr, key: &str) -> Publisher {
        let picture = format!("testsrc2=size={}:rate=30", self.size);
        let mut ffmpeg = command("ffmpeg");
        ffmpeg.args(["-hide_banner", "-loglevel", "info", "-nostats", "-re", "-f", "lavfi", "-i", &picture]);
        ffmpeg.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]);
        ffmpeg.args(["-c:v", self.video, "-g", "30", "-b:v", "300k", "-pix_fmt", "yuv420p"]);
        match (self.video, self.b_frames) {
            ("libx264", true) => {
                ffmpeg.args(["-preset", "veryfast", "-profile:v", "high", "-bf", "2"]);
            }
            ("libx264", false) => {
                ffmpeg.args(["-preset", "ultrafast", "-tune", "zerolatency"]);
                ffmpeg.args(["-keyint_min", "30", "-sc_threshold", "0"]);
            }
            _ => {}
        }
        ffmpeg.args(["-c:a", self.audio, "-ac", "2", "-b:a", "64k"]);
        if let Some(seconds) = self.seconds {
            ffmpeg.args(["-t", &seconds.to_string()]);
        }
        ffmpeg.args(["-f", "flv", &format!("rtmp://{address}/{key}")]);
        let folder = TempDir::new().expect("a temporary folder");
        let process = Process::start(&format!("ffmpeg to {key}"), ffmpeg, folder.path().join("log"));
        Publisher { process, _folder: folder }
    }
}

/// A film that is published again and again, as it was encoded: that costs its publisher nothing.
pub struct Recording {
    folder: TempDir,
}

impl Recording {
    /// Ten seconds of this size and so many kbit/s, a keyframe each second.
    ///
    /// # Panics
    /// When ffmpeg does not make it.
    #[must_use]
    pub fn make(size: &str, kbps: u32) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let picture = format!("testsrc2=size={size}:rate=30:duration=10");
        let (rate, buffer) = (format!("{kbps}k"), format!("{}k", kbps / 2));
        let mut ffmpeg = command("ffmpeg");
        ffmpeg.args(["-loglevel", "error", "-f", "lavfi", "-i", &picture]);
        ffmpeg.args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=10"]);
        ffmpeg.args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "30",
            "-sc_threshold",
            "0",
            "-bf",
            "0",
        ]);
        ffmpeg.args(["-b:v", &rate, "-maxrate", &rate, "-bufsize", &buffer, "-pix_fmt", "yuv420p"]);
        ffmpeg.args(["-c:a", "aac", "-ac", "2", "-b:a", "64k", "-f", "flv"]);
        ffmpeg.arg(folder.path().join("film"));
        let made = run("ffmpeg", ffmpeg, Duration::from_secs(60));
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        Self { folder }
    }

    /// Publishes it at `address` as `key`, without end.
    ///
    /// # Panics
    /// When ffmpeg cannot be started.
    #[must_use]
    pub fn publish(self, address: SocketAddr, key: &str) -> Publisher {
        let mut ffmpeg = command("ffmpeg");
        ffmpeg.args(["-hide_banner", "-loglevel", "info", "-nostats", "-re", "-stream_loop", "-1", "-i"]);
        ffmpeg.arg(self.folder.path().join("film")).args(["-c", "copy", "-f", "flv"]);
        ffmpeg.arg(format!("rtmp://{address}/{key}"));
        let process = Process::start(&format!("ffmpeg to {key}"), ffmpeg, self.folder.path().join("log"));
        Publisher { process, _folder: self.folder }
    }
}

/// Publishes the usual broadcast at `address` as `key`.
///
/// # Panics
/// When ffmpeg cannot be started.
#[must_use]
pub fn publish(address: SocketAddr, key: &str) -> Publisher {
    Broadcast::default().publish(address, key)
}

/// A running ffmpeg. It is killed when this is dropped.
pub struct Publisher {
    process: Process,
    _folder: TempDir,
}

impl Publisher {
    /// Whether it is still running.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.process.exit_status().is_none()
    }

    /// Waits until it ends by itself. Returns what it said.
    ///
    /// # Panics
    /// At the deadline.
    #[track_caller]
    #[must_use]
    pub fn ends_within(&mut self, deadline: Duration) -> String {
        let _ = self.process.exit_within(deadline);
        self.process.last_lines()
    }

    /// Ends its stream in good order.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn stop(mut self) {
        self.process.signal("INT");
        let _ = self.process.exit_within(Duration::from_secs(10));
    }

    /// Keeps its connection and sends nothing any more, like an encoder whose network is gone.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Its sockets: the connection to the balancer is one of them.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn sockets(&self) -> BTreeSet<PathBuf> {
        self.process.sockets()
    }

    /// The lines in which it complains.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        const WORDS: [&str; 4] = ["error", "fail", "broken", "invalid"];
        let log = self.process.log().to_lowercase();
        log.lines().filter(|line| WORDS.iter().any(|word| line.contains(word))).map(str::to_owned).collect()
    }

    /// The last it has said.
    #[must_use]
    pub fn last_lines(&self) -> String {
        self.process.last_lines()
    }
}
