//! What a rung looks like beside its source, scaled as it was: PSNR and SSIM by ffmpeg's filters.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluicegate_e2e::film::Film;
use sluicegate_e2e::process::{command, run};

use super::Rung;

/// For ffmpeg to decode and compare.
const COMPARING: Duration = Duration::from_secs(300);

/// How near a rung is to its source.
#[derive(Debug, PartialEq)]
pub(super) struct Quality {
    pub(super) psnr_db: f64,
    pub(super) ssim_db: f64,
    pub(super) kbps: f64,
}

impl Quality {
    /// That of `rung`, encoded of `film`, in a file or playlist.
    pub(super) fn of(encoded: &Path, film: &Film, rung: &Rung) -> anyhow::Result<Self> {
        let kbps = kbps(encoded, film)?;
        let Rung { width, height, .. } = rung;
        // Pictures are compared by their number: times are rounded differently, each in its own unit.
        let filters = format!(
            "[0:v]settb=1/30,setpts=N,split[a][b];\
             [1:v]scale={width}:{height}:flags=bicubic,settb=1/30,setpts=N,split[c][d];\
             [a][c]psnr;[b][d]ssim"
        );
        let mut ffmpeg = command("ffmpeg");
        ffmpeg.args(["-hide_banner", "-nostats", "-i"]).arg(encoded).arg("-i").arg(&film.file);
        ffmpeg.args(["-lavfi", &filters, "-f", "null", "-"]);
        let finished = run("ffmpeg", ffmpeg, COMPARING);
        let psnr_db = number_after(&finished.stderr, "PSNR ", "average:");
        let ssim_db = number_after(&finished.stderr, "SSIM ", "(").filter(|_| finished.code == Some(0));
        let (psnr_db, ssim_db) = psnr_db.zip(ssim_db).with_context(|| finished.stderr.clone())?;
        Ok(Self { psnr_db, ssim_db, kbps })
    }
}

/// Its bit rate, once it is certain that no picture is missing.
fn kbps(encoded: &Path, film: &Film) -> anyhow::Result<f64> {
    let mut ffprobe = command("ffprobe");
    ffprobe.args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=size", "-of", "csv=p=0"]);
    let finished = run(
        "ffprobe",
        {
            ffprobe.arg(encoded);
            ffprobe
        },
        COMPARING,
    );
    let sizes: Vec<u64> = finished.stdout.split_whitespace().filter_map(first_number).collect();
    let (pictures, all) = (sizes.len(), film.pictures());
    ensure!(pictures == all, "{} has {pictures} pictures of {all}: it fell behind", encoded.display());
    Ok(sizes.iter().sum::<u64>() as f64 * 8.0 / f64::from(film.length_ms))
}

fn first_number(line: &str) -> Option<u64> {
    line.split(',').next()?.parse().ok()
}

/// The number behind `label` in the line of a log that has `mark`; ffmpeg writes the last line at the end.
fn number_after(log: &str, mark: &str, label: &str) -> Option<f64> {
    let line = log.lines().rfind(|line| line.contains(mark) && line.contains(label))?;
    // A label may stand more than once (`U:0.9 (11.2) All:0.9 (10.5)`): the last is that of all planes.
    let after = &line[line.rfind(label)? + label.len()..];
    let end = after.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(after.len());
    after[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_filters_say_is_read() {
        let log = "[Parsed_psnr_6 @ 0x5] PSNR y:36.1 u:40.2 v:40.0 average:37.24 min:35.9 max:44.1\n\
                   [Parsed_ssim_7 @ 0x5] SSIM Y:0.94 (12.5) U:0.96 (14.2) V:0.96 (14.1) All:0.95 (13.05)\n";
        assert_eq!(number_after(log, "PSNR ", "average:"), Some(37.24));
        assert_eq!(number_after(log, "SSIM ", "("), Some(13.05));
        assert_eq!(number_after("nothing", "SSIM ", "("), None);
    }
}
