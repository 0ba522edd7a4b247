//! Files that are replaced while a node runs: certificates, keys, passwords. They are looked at every
//! [`limits::FILES_EVERY`] and read again when what is in them has changed; what cannot be used is told of, and what
//! was read before stays in force. It is tried again, ever more seldom: a password may be in its file before the
//! database takes it. Looking at the contents finds every way of replacing a file: written anew, renamed over, or
//! behind a link that leads elsewhere now.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use tokio_util::sync::CancellationToken;

use crate::limits;

/// The most looks between two tries of what is refused.
const LOOKS_WAITED_MAX: u32 = 16;

/// What is read from files, and read again when they change.
pub trait Reread: Send + Sync + 'static {
    /// What it is, for the log and as a label: one of a few words of this program.
    fn what(&self) -> &'static str;

    /// The files.
    fn files(&self) -> Vec<PathBuf>;

    /// Takes over what they hold now. May block.
    ///
    /// # Errors
    /// Why that cannot be used; what was read before stays in force.
    fn reread(&self) -> Result<(), String>;
}

/// What happened to changed files.
#[derive(Clone)]
struct Metrics {
    read: IntCounterVec,
    refused: IntGaugeVec,
}

/// Those that are looked at.
pub struct WatchedFiles {
    watched: Vec<Watched>,
    metrics: Metrics,
}

struct Watched {
    content: Arc<dyn Reread>,
    looks: Looks,
    /// Why what is in its files now is not in force.
    refused: Option<String>,
}

impl WatchedFiles {
    /// All that is to be looked at; what is in no file is left out.
    ///
    /// # Errors
    /// When its metrics are registered already.
    pub fn new(
        contents: impl IntoIterator<Item = Arc<dyn Reread>>,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let contents = contents.into_iter().filter(|content| !content.files().is_empty());
        let watched = contents.map(|content| Watched { content, looks: Looks::default(), refused: None });
        Ok(Self { watched: watched.collect(), metrics: Metrics::register(registry)? })
    }

    /// Looks at them until cancelled.
    pub async fn follow(mut self, stop: CancellationToken) {
        if self.watched.is_empty() {
            return;
        }
        let mut ticks = tokio::time::interval(limits::FILES_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let looking = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looking.await {
                Ok(looked) => self = looked,
                Err(error) => return tracing::error!(%error, "files are no longer looked at"),
            }
        }
    }

    fn look(&mut self) {
        for Watched { content, looks, refused } in &mut self.watched {
            let is_first = looks.tried.is_none();
            let Some(due) = looks.due(fingerprint(&content.files())) else { continue };
            let why = content.reread().err();
            looks.ended(why.is_none());
            // What is tried again is told of when that ends otherwise.
            if due == Due::Changed || why != *refused {
                self.metrics.note(content.what(), why.as_deref(), is_first);
            }
            *refused = why;
        }
        for Watched { content, .. } in &self.watched {
            let refused =
                self.watched.iter().filter(|w| w.refused.is_some() && w.content.what() == content.what());
            let refused = i64::try_from(refused.count()).unwrap_or(i64::MAX);
            self.metrics.refused.with_label_values(&[content.what()]).set(refused);
        }
    }
}

impl Metrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let read = IntCounterVec::new(
            Opts::new("sluicegate_files_reread_total", "Changed certificates, keys and passwords"),
            &["what", "result"],
        )?;
        let refused = IntGaugeVec::new(
            Opts::new(
                "sluicegate_files_refused",
                "Certificates, keys and passwords that cannot be used as they are in their files",
            ),
            &["what"],
        )?;
        registry.register(Box::new(read.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self { read, refused })
    }

    fn note(&self, what: &'static str, refused: Option<&str>, is_first: bool) {
        let result = if refused.is_none() { "ok" } else { "refused" };
        match refused {
            // Nothing has changed since the node started.
            None if is_first => return,
            None => tracing::info!(what, "changed files were read, and are in force"),
            Some(why) => {
                tracing::error!(what, why, "changed files cannot be used; what was read before stays");
            }
        }
        self.read.with_label_values(&[what, result]).inc();
    }
}

/// What was seen of a set of files.
#[derive(Debug, Default)]
struct Looks {
    last: Option<u64>,
    tried: Option<u64>,
    /// After a refusal: how many looks were waited since, of how many.
    again: Option<(u32, u32)>,
}

/// Why files are to be read.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// They are others than those that were tried last.
    Changed,
    /// They were refused a while ago.
    Again,
}

impl Looks {
    /// Whether files whose fingerprint is `now` are to be read. Never when they have changed between two looks, so
    /// that a certificate is not tried before its key is there as well.
    fn due(&mut self, now: u64) -> Option<Due> {
        if self.last.replace(now) != Some(now) {
            return None;
        }
        if self.tried.replace(now) != Some(now) {
            self.again = None;
            return Some(Due::Changed);
        }
        let (waited, of) = self.again.as_mut()?;
        *waited += 1;
        (*waited >= *of).then_some(Due::Again)
    }

    /// What was due was read: whether it is in force.
    fn ended(&mut self, is_in_force: bool) {
        let wait = self.again.map_or(1, |(_, of)| of.saturating_mul(2)).min(LOOKS_WAITED_MAX);
        self.again = (!is_in_force).then_some((0, wait));
    }
}

/// What tells the contents of files from others. A file that cannot be read is one more content.
fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        read(file).map_err(|error| error.kind()).hash(&mut hasher);
    }
    hasher.finish()
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(limits::FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use super::*;

    /// A file whose text must be one word.
    struct Word {
        file: PathBuf,
        word: Mutex<String>,
    }

    impl Reread for Word {
        fn what(&self) -> &'static str {
            "word"
        }

        fn files(&self) -> Vec<PathBuf> {
            vec![self.file.clone()]
        }

        fn reread(&self) -> Result<(), String> {
            let text = fs::read_to_string(&self.file).map_err(|error| error.to_string())?;
            if text.contains(' ') {
                return Err("more than one word".to_owned());
            }
            *self.word.lock().unwrap() = text;
            Ok(())
        }
    }

    #[test]
    fn files_are_read_once_they_rest() {
        let mut looks = Looks::default();
        let due: Vec<bool> = [1, 1, 1, 2, 3, 3, 3, 1, 3, 3].map(|now| looks.due(now).is_some()).to_vec();
        let expected = [false, true, false, false, false, true, false, false, false, false];
        assert_eq!(due, expected, "3 for a moment as 1 is still 3");
    }

    #[test]
    fn what_was_refused_is_tried_again_ever_more_seldom() {
        let mut looks = Looks::default();
        let mut tries = Vec::new();
        for look in 0..50 {
            if looks.due(1).is_some() {
                tries.push(look);
                looks.ended(look >= 40);
            }
        }
        assert_eq!(tries, [1, 2, 4, 8, 16, 32, 48], "and no more once it is in force");
        assert_eq!((looks.due(2), looks.due(2)), (None, Some(Due::Changed)));
    }

    #[test]
    fn what_cannot_be_used_is_shown_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let word = Arc::new(Word { file: folder.path().join("word"), word: Mutex::default() });
        let registry = Registry::new();
        let mut files = WatchedFiles::new([Arc::clone(&word) as Arc<dyn Reread>], &registry).unwrap();
        let mut look_at = |text: Option<&str>| {
            match text {
                Some(text) => fs::write(&word.file, text).unwrap(),
                None => fs::remove_file(&word.file).unwrap(),
            }
            files.look();
            files.look();
            let metrics = files.metrics.clone();
            let count = |result| metrics.read.with_label_values(&["word", result]).get();
            let refused = metrics.refused.with_label_values(&["word"]).get();
            (word.word.lock().unwrap().clone(), refused, count("ok"), count("refused"))
        };
        assert_eq!(look_at(Some("one")), ("one".to_owned(), 0, 0, 0), "as at the start");
        assert_eq!(look_at(Some("two")), ("two".to_owned(), 0, 1, 0));
        assert_eq!(look_at(Some("not one")), ("two".to_owned(), 1, 1, 1));
        assert_eq!(look_at(Some("not one")), ("two".to_owned(), 1, 1, 1), "told of once");
        assert_eq!(look_at(None), ("two".to_owned(), 1, 1, 2));
        assert_eq!(look_at(Some("two")), ("two".to_owned(), 0, 2, 2));
    }
}
