//! The `ffmpeg` program as a transcoder: one process, the source decoded once, its pictures split and scaled, three
//! encoders with the options that ours have, and HLS of the same segments.

use std::path::{Path, PathBuf};
use std::process::Command;

use sluicegate_e2e::film::Film;
use sluicegate_e2e::process;

use super::{RUNGS, Rung};

/// Reads `film` in real time and writes HLS into `folder`.
pub(super) fn command(film: &Film, folder: &Path) -> Command {
    let mut ffmpeg = process::command("ffmpeg");
    ffmpeg.args(["-v", "error", "-threads", "1", "-re", "-i"]).arg(&film.file);
    // The film begins some milliseconds in: nothing is to be made up for that.
    ffmpeg.args(["-vsync", "vfr", "-filter_complex_threads", "1", "-filter_complex", &filters()]);
    ffmpeg.args(["-map", "0:v", "-map", "0:a", "-c", "copy"]);
    hls(&mut ffmpeg, &folder.join("source.m3u8"));
    for (at, rung) in RUNGS.iter().enumerate() {
        let rate = format!("{}k", rung.kbps);
        ffmpeg.args(["-map", &format!("[scaled{at}]"), "-map", "0:a", "-c:a", "copy"]);
        ffmpeg.args([
            "-c:v",
            "libx264",
            "-preset",
            "superfast",
            "-tune",
            "zerolatency",
            "-profile:v",
            "high",
        ]);
        ffmpeg.args(["-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate, "-bf", "0", "-threads", "1"]);
        ffmpeg.args(["-g", &i32::MAX.to_string(), "-sc_threshold", "0"]);
        ffmpeg.args(["-forced-idr", "1", "-force_key_frames", "source"]);
        hls(&mut ffmpeg, &playlist(folder, rung));
    }
    ffmpeg
}

/// The playlist of a rung.
pub(super) fn playlist(folder: &Path, rung: &Rung) -> PathBuf {
    folder.join(format!("{}p.m3u8", rung.height))
}

fn filters() -> String {
    let outputs: String = (0..RUNGS.len()).map(|at| format!("[copy{at}]")).collect();
    let scalers = RUNGS.iter().enumerate().map(|(at, Rung { width, height, .. })| {
        format!(";[copy{at}]scale={width}:{height}:flags=bicubic[scaled{at}]")
    });
    format!("[0:v]split={}{outputs}{}", RUNGS.len(), scalers.collect::<String>())
}

fn hls(ffmpeg: &mut Command, playlist: &Path) {
    let name = playlist.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    ffmpeg.args(["-f", "hls", "-hls_time", "1", "-hls_list_size", "0", "-hls_segment_type", "fmp4"]);
    ffmpeg.args(["-hls_fmp4_init_filename", &format!("{name}.mp4"), "-hls_segment_filename"]);
    ffmpeg.arg(playlist.with_file_name(format!("{name}_%d.m4s"))).arg(playlist);
}
