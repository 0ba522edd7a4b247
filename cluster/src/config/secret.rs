//! Secrets in the configuration: each may stand in the file itself, in a file of its own or in a variable, and
//! none is ever quoted, whatever is wrong with it.

use std::fmt;
use std::path::PathBuf;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use toml::Table;

use super::ConfigError;
use crate::secret::Secret;

/// Keys of a section that stand for one another, `(the secret, the file that holds it)`. Which one is given
/// last counts, so that a variable can replace what a file says.
const ALTERNATIVES: [(&str, &str); 2] = [("key", "key_file"), ("password", "password_file")];

/// The process's environment, for keys that name a variable.
pub(super) type Variables = [(String, String)];

/// A secret as it is written.
pub(super) struct RawSecret(String);

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Text(String),
            Other(IgnoredAny),
        }
        // serde's own message would quote what is there instead of text.
        match Any::deserialize(deserializer)? {
            Any::Text(text) => Ok(Self(text)),
            Any::Other(_) => Err(D::Error::custom("a secret is text, in quotes")),
        }
    }
}

impl fmt::Debug for RawSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The places where one secret may stand.
pub(super) struct Written<'a> {
    /// The key it belongs to, dotted.
    pub(super) name: &'static str,
    /// Itself.
    pub(super) text: Option<RawSecret>,
    /// A file that holds it and nothing else.
    pub(super) file: Option<PathBuf>,
    /// A variable that holds it.
    pub(super) variable: Option<&'a str>,
}

impl Written<'_> {
    /// For a secret whose variable is the key's own (`SLUICEGATE_CLUSTER_PASSWORD`).
    pub(super) fn text_or_file(name: &'static str, text: Option<RawSecret>, file: Option<PathBuf>) -> Self {
        Self { name, text, file, variable: None }
    }

    /// The secret; `None` when it is written nowhere.
    ///
    /// # Errors
    /// When it stands in two places, or cannot be read.
    pub(super) fn read(self) -> Result<Option<String>, ConfigError> {
        let name = self.name;
        let read = |secret: Secret| secret.read().map_err(|why| ConfigError::invalid(name, why));
        self.locate(&[])?.map(read).transpose()
    }

    /// Where it stands, if anywhere. A variable of `variables` may be named.
    ///
    /// # Errors
    /// When it stands in two places, and when there is no such variable.
    pub(super) fn locate(self, variables: &Variables) -> Result<Option<Secret>, ConfigError> {
        let fail = |why: String| ConfigError::invalid(self.name, why);
        match (self.text, self.file, self.variable) {
            (Some(RawSecret(text)), None, None) => Ok(Some(Secret::Fixed(text))),
            (None, Some(path), None) => Ok(Some(Secret::File(path))),
            (None, None, Some(name)) => {
                let value = variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
                let value = value.ok_or_else(|| fail(format!("the variable {name} is not set")))?;
                Ok(Some(Secret::Fixed(value)))
            }
            (None, None, None) => Ok(None),
            _ => Err(fail("it is written in two places: leave one".to_owned())),
        }
    }
}

/// Whether `key`, of any section, is a secret in itself.
pub(super) fn is_secret(key: &str) -> bool {
    ALTERNATIVES.iter().any(|(secret, _)| *secret == key)
}

/// Takes from `base` what `layer` says in another way.
pub(super) fn replace_alternatives(base: &mut Table, layer: &Table) {
    for (section, values) in layer {
        let (Some(base), Some(values)) =
            (base.get_mut(section).and_then(|v| v.as_table_mut()), values.as_table())
        else {
            continue;
        };
        for (one, other) in ALTERNATIVES.iter().flat_map(|(a, b)| [(a, b), (b, a)]) {
            if values.contains_key(*one) {
                base.remove(*other);
            }
        }
    }
}
