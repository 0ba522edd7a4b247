//! The operator's password: a file that holds its argon2id hash, or the password itself. A file that is not
//! there is made, with a password that is told once.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use argon2::password_hash::{self, PasswordHashString, SaltString};
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};

/// The shortest password.
const PASSWORD_BYTES_MIN: usize = 8;
/// What marks a hash (PHC string format).
const HASHED: &str = "$argon2id$";

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read or made.
    #[error("{0}")]
    File(#[from] io::Error),
    /// It holds neither a hash nor a password.
    #[error("it holds no argon2id hash, and no password of {PASSWORD_BYTES_MIN} bytes or more")]
    Unusable,
    /// It could not be hashed.
    #[error("hashing: {0}")]
    Hash(password_hash::Error),
}

/// A password that can be checked, not read.
#[derive(Clone)]
pub(super) struct Password(PasswordHashString);

impl Password {
    /// From the file. With it the password itself, when it was made just now.
    pub(super) fn open(file: &Path) -> Result<(Self, Option<String>), PasswordError> {
        match fs::read_to_string(file) {
            Ok(text) => Self::read(text.trim_end_matches(['\r', '\n'])).map(|password| (password, None)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(file),
            Err(error) => Err(error.into()),
        }
    }

    /// Another one, if that is in the file by now.
    pub(super) fn changed(&self, file: &Path) -> Result<Option<Self>, PasswordError> {
        let text = fs::read_to_string(file)?;
        let text = text.trim_end_matches(['\r', '\n']);
        let is_same = if text.starts_with(HASHED) { text == self.0.as_str() } else { self.is(text) };
        if is_same { Ok(None) } else { Self::read(text).map(Some) }
    }

    fn read(text: &str) -> Result<Self, PasswordError> {
        if text.starts_with(HASHED) {
            let kept = PasswordHashString::new(text).map_err(|_| PasswordError::Unusable)?;
            // One may end before the hash itself: nothing would ever match it.
            return if kept.hash().is_some() { Ok(Self(kept)) } else { Err(PasswordError::Unusable) };
        }
        if text.len() < PASSWORD_BYTES_MIN { Err(PasswordError::Unusable) } else { Self::hash(text) }
    }

    fn make(file: &Path) -> Result<(Self, Option<String>), PasswordError> {
        let text = format!("{:032x}", rand::random::<u128>());
        let password = Self::hash(&text)?;
        let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        writeln!(made, "{}", password.0)?;
        Ok((password, Some(text)))
    }

    fn hash(text: &str) -> Result<Self, PasswordError> {
        let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(PasswordError::Hash)?;
        let hash = Argon2::default().hash_password(text.as_bytes(), &salt).map_err(PasswordError::Hash)?;
        Ok(Self(hash.serialize()))
    }

    /// Whether it is this one. Takes tens of milliseconds of one core.
    pub(super) fn is(&self, text: &str) -> bool {
        Argon2::default().verify_password(text.as_bytes(), &self.0.password_hash()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_password_is_made_once_and_kept_as_a_hash() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let (first, told) = Password::open(&file).unwrap();
        let told = told.unwrap();
        assert!(first.is(&told) && !first.is("something else"));
        let kept = fs::read_to_string(&file).unwrap();
        assert!(kept.starts_with(HASHED) && !kept.contains(&told), "{kept}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let (again, told_again) = Password::open(&file).unwrap();
        assert!(again.is(&told) && told_again.is_none());
    }

    #[test]
    fn a_password_may_be_written_plainly_but_not_short() {
        assert!(Password::read("correct horse").unwrap().is("correct horse"));
        assert!(matches!(Password::read("short"), Err(PasswordError::Unusable)));
        assert!(matches!(Password::read("$argon2id$v=19$nonsense"), Err(PasswordError::Unusable)));
    }
}
