//! Where a secret stands: in the configuration itself, or in a file of its own, which is read again when it changes.
//! Nothing of it is ever shown.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::limits;

/// A secret, or the file that holds it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Itself: it stays what it is while the process runs.
    Fixed(String),
    /// A file that holds it and nothing else.
    File(PathBuf),
}

impl Secret {
    /// What it is now.
    ///
    /// # Errors
    /// When its file cannot be read, or holds more than [`limits::SECRET_BYTES`].
    pub fn read(&self) -> Result<String, String> {
        match self {
            Self::Fixed(text) => Ok(text.clone()),
            Self::File(path) => read_file(path),
        }
    }

    /// The keys that it is now: a file may hold one on each line, so that one can follow another without a gap.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_keys(&self) -> Result<Vec<String>, String> {
        match self {
            Self::Fixed(text) => Ok(vec![text.clone()]),
            Self::File(path) => {
                let text = read_file(path)?;
                let keys: Vec<String> =
                    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
                if keys.is_empty() { Err(format!("{}: it is empty", path.display())) } else { Ok(keys) }
            }
        }
    }

    /// Its file, if it has one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Fixed(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("***"),
            Self::File(path) => write!(f, "in {}", path.display()),
        }
    }
}

/// The text of a file without the end of its last line.
fn read_file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(limits::SECRET_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(why) => Err(format!("{}: {why}", path.display())),
        Ok(bytes) if bytes as u64 > limits::SECRET_BYTES => {
            Err(format!("{}: longer than {} bytes", path.display(), limits::SECRET_BYTES))
        }
        Ok(_) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_secret_or_a_key_on_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let secret = Secret::File(path.clone());
        assert!(secret.read().unwrap_err().contains("secret"));
        std::fs::write(&path, "the first\r\n\nthe second\n").unwrap();
        assert_eq!(secret.read_keys().unwrap(), ["the first", "the second"]);
        std::fs::write(&path, "\n").unwrap();
        assert!(secret.read_keys().unwrap_err().ends_with("it is empty"));
        std::fs::write(&path, "x".repeat(5_000)).unwrap();
        assert!(secret.read().unwrap_err().contains("longer than"));
        assert_eq!(format!("{:?}", Secret::Fixed("geheim".to_owned())), "***");
    }
}
