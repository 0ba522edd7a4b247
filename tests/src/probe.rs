//! What ffprobe makes of a stream.

use std::time::Duration;

use serde_json::Value;

use crate::process::{command, run};

/// For ffprobe to read [`SECONDS`] of a live stream.
const PROBE: Duration = Duration::from_secs(25);

/// What is read and decoded.
const SECONDS: u32 = 2;

/// A stream's tracks as ffprobe found them when it decoded two seconds.
#[derive(Debug)]
pub struct Probed(Vec<Value>);

/// Plays two seconds of `url`.
///
/// # Panics
/// When ffprobe cannot, with what it says.
#[track_caller]
#[must_use]
pub fn probe(url: &str) -> Probed {
    let mut ffprobe = command("ffprobe");
    ffprobe.args(["-v", "error", "-of", "json", "-show_streams", "-count_frames"]);
    ffprobe.args(["-read_intervals", &format!("%+{SECONDS}"), url]);
    let finished = run("ffprobe", ffprobe, PROBE);
    assert_eq!(finished.code, Some(0), "ffprobe {url}: {}", finished.stderr);
    let found: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
    Probed(found["streams"].as_array().cloned().unwrap_or_default())
}

/// Decodes a stream in memory, of ffmpeg's `format`.
///
/// # Panics
/// When ffprobe cannot, with what it says.
#[track_caller]
#[must_use]
pub fn probe_file(stream: &[u8], format: &str) -> Probed {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), stream).expect("a temporary file");
    let mut ffprobe = command("ffprobe");
    ffprobe
        .args(["-v", "error", "-of", "json", "-show_streams", "-count_frames", "-f", format])
        .arg(file.path());
    let finished = run("ffprobe", ffprobe, PROBE);
    assert_eq!(finished.code, Some(0), "ffprobe: {}", finished.stderr);
    let found: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
    Probed(found["streams"].as_array().cloned().unwrap_or_default())
}

/// How loud the sound of `url` is on average over four seconds, decibels below the loudest; silence is −91.
///
/// # Panics
/// When ffmpeg cannot tell, with what it says.
#[track_caller]
#[must_use]
pub fn mean_volume_db(url: &str) -> f64 {
    let mut ffmpeg = command("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostats", "-t", "4", "-i", url, "-vn"]);
    ffmpeg.args(["-af", "volumedetect", "-f", "null", "-"]);
    let finished = run("ffmpeg", ffmpeg, PROBE);
    let mean = finished.stderr.lines().find_map(|line| line.split_once("mean_volume: "));
    let db = mean.and_then(|(_, db)| db.trim().strip_suffix(" dB")?.parse().ok());
    db.unwrap_or_else(|| panic!("{url}: {}", finished.stderr))
}

impl Probed {
    /// The tracks' codecs, sorted.
    #[must_use]
    pub fn codecs(&self) -> Vec<&str> {
        let mut codecs: Vec<&str> = self.0.iter().filter_map(|track| track["codec_name"].as_str()).collect();
        codecs.sort_unstable();
        codecs
    }

    /// The picture's width and height; 0 when there is none.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        let number = |name: &str| self.track("video")[name].as_u64().unwrap_or(0);
        (number("width"), number("height"))
    }

    /// Frames that were decoded of the track of this kind, `video` or `audio`.
    #[must_use]
    pub fn frames(&self, kind: &str) -> u64 {
        self.track(kind)["nb_read_frames"].as_str().and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    fn track(&self, kind: &str) -> Value {
        self.0.iter().find(|track| track["codec_type"] == kind).cloned().unwrap_or_default()
    }
}
