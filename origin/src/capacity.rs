//! What this machine can encode: as it was kept, or measured and then kept.

use std::path::Path;

use sluicegate_cluster::config::OriginSettings;

use crate::transcode;

/// What can be encoded here, Mpx/s: as the configuration says, as `origin.capacity_file` has it, or measured, which
/// takes a few tenths of a second. `None` when it cannot be measured.
#[must_use]
pub fn known(settings: &OriginSettings) -> Option<f64> {
    let file = settings.capacity_file.as_deref();
    settings.capacity_mpx.or_else(|| file.and_then(read)).or_else(|| {
        let mpx = transcode::measure_capacity()?;
        if let Some(file) = file
            && let Err(error) = std::fs::write(file, format!("{mpx:.1} {}\n", cores()))
        {
            tracing::warn!(%error, file = %file.display(), "what can be encoded cannot be kept");
        }
        Some(mpx)
    })
}

/// What was kept, if it was measured on as many cores.
fn read(file: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let (mpx, on_cores) = text.trim().split_once(' ')?;
    let mpx: f64 = mpx.parse().ok()?;
    (mpx.is_finite() && mpx > 0.0 && on_cores == cores().to_string()).then_some(mpx)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_counts_on_as_many_cores() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, expect) in [
            (format!("120.5 {}\n", cores()), Some(120.5)),
            (format!("120.5 {}\n", cores() + 1), None),
            (format!("-1 {}\n", cores()), None),
            ("nonsense".to_owned(), None),
        ] {
            std::fs::write(file.path(), &text).unwrap();
            assert_eq!(read(file.path()), expect, "{text}");
        }
    }

    #[test]
    #[cfg(feature = "ffmpeg")]
    fn it_is_measured_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("capacity");
        let settings = OriginSettings {
            rtmp: "127.0.0.1:1935".parse().unwrap(),
            capacity_mpx: None,
            capacity_file: Some(file.clone()),
            udp: "127.0.0.1:20001".parse().unwrap(),
        };
        let measured = known(&settings).unwrap();
        assert!((1.0..100_000.0).contains(&measured), "{measured}");
        assert!((read(&file).unwrap() - measured).abs() < 0.06);
        std::fs::write(&file, format!("7.0 {}", cores())).unwrap();
        assert_eq!(known(&settings), Some(7.0));
    }
}
