//! What this machine can encode, its processors and its graphics cards: as it was kept, or measured and then kept.
//! The first line of the file is `MPX CORES`, each after it `UUID DRIVER MPX`, of a card.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sluicegate_cluster::config::OriginSettings;

#[cfg(feature = "ffmpeg")]
use crate::gpus::Ability;
use crate::transcode;

/// What can be encoded here, Mpx/s: as the configuration says, as `origin.capacity_file` has it, or measured, which
/// takes a few tenths of a second. `None` when it cannot be measured.
#[must_use]
pub fn known(settings: &OriginSettings) -> Option<f64> {
    let file = settings.capacity_file.as_deref();
    settings.capacity_mpx.or_else(|| file.and_then(read)).or_else(|| {
        let mpx = transcode::measure_capacity()?;
        keep(file, |lines| {
            if !lines.is_empty() {
                lines.remove(0);
            }
            lines.insert(0, format!("{mpx:.1} {}", cores()));
        });
        Some(mpx)
    })
}

/// What a card can, by `measure`, which is told the Mpx/s that were kept of this card under this driver, if any were.
#[cfg(feature = "ffmpeg")]
pub(crate) fn of_card<E>(
    file: Option<&Path>,
    uuid: &str,
    driver: &str,
    measure: impl FnOnce(Option<f64>) -> Result<Ability, E>,
) -> Result<Ability, E> {
    let known = file.and_then(|file| read_card(file, uuid, driver));
    let ability = measure(known)?;
    if known.is_none() {
        keep(file, |lines| {
            lines.retain(|line| !line.starts_with(uuid));
            if lines.is_empty() {
                lines.push(String::new());
            }
            lines.push(format!("{uuid} {driver} {:.1}", ability.capacity_mpx));
        });
    }
    Ok(ability)
}

/// What was kept, if it was measured on as many cores.
fn read(file: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let (mpx, on_cores) = text.lines().next()?.trim().split_once(' ')?;
    number(mpx).filter(|_| on_cores == cores().to_string())
}

#[cfg(feature = "ffmpeg")]
fn read_card(file: &Path, uuid: &str, driver: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let is_it = |line: &&str| line.split_whitespace().take(2).eq([uuid, driver]);
    let line = text.lines().skip(1).find(is_it)?;
    number(line.split_whitespace().nth(2)?)
}

fn number(mpx: &str) -> Option<f64> {
    mpx.parse().ok().filter(|mpx: &f64| mpx.is_finite() && *mpx > 0.0)
}

/// Changes what is kept.
fn keep(file: Option<&Path>, change: impl FnOnce(&mut Vec<String>)) {
    /// Cards are measured at the same time.
    static KEEPING: Mutex<()> = Mutex::new(());
    let Some(file) = file else { return };
    let _keeping = KEEPING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    if let Err(error) = std::fs::write(file, lines.join("\n") + "\n") {
        tracing::warn!(%error, file = %file.display(), "what can be encoded cannot be kept");
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "ffmpeg")]
    use sluicegate_cluster::config::{DecoderChoice, EncoderChoice};

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
            encoder: EncoderChoice::Auto,
            decoder: DecoderChoice::Auto,
        };
        let measured = known(&settings).unwrap();
        assert!((1.0..100_000.0).contains(&measured), "{measured}");
        assert!((read(&file).unwrap() - measured).abs() < 0.06);
        std::fs::write(&file, format!("7.0 {}", cores())).unwrap();
        assert_eq!(known(&settings), Some(7.0));
    }

    #[test]
    #[cfg(feature = "ffmpeg")]
    fn a_card_is_measured_once_under_each_driver() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("capacity");
        let ability = |mpx| Ability { decodes: true, encodes: true, capacity_mpx: mpx };
        let ask = |uuid, driver, measured| {
            let mut told = None;
            of_card(Some(&file), uuid, driver, |known| {
                told = known;
                Ok::<_, ()>(ability(known.unwrap_or(measured)))
            })
            .unwrap();
            told
        };
        assert_eq!(ask("GPU-1", "550.1", 4_000.0), None);
        assert_eq!(ask("GPU-2", "550.1", 5_000.0), None);
        assert_eq!(ask("GPU-1", "550.1", 0.0), Some(4_000.0));
        assert_eq!(read(&file), None, "of the processors nothing is known");
        keep(Some(&file), |lines| lines[0] = format!("99.0 {}", cores()));
        assert_eq!(ask("GPU-1", "560.2", 4_500.0), None, "another driver");
        assert_eq!(ask("GPU-1", "560.2", 0.0), Some(4_500.0));
        assert_eq!((ask("GPU-2", "550.1", 0.0), read(&file)), (Some(5_000.0), Some(99.0)));
        let failed = of_card(Some(&file), "GPU-3", "1", |_| Err::<Ability, _>("no"));
        assert_eq!((failed, ask("GPU-3", "1", 1.0)), (Err("no"), None));
    }
}
