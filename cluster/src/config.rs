//! The configuration: one TOML file, overlaid by `SLUICEGATE_*` variables, overlaid by the command line.
//! Unknown keys are errors, and an error names its line.
//!
//! `SLUICEGATE_ROLES` and `SLUICEGATE_{SECTION}_{KEY}` (`SLUICEGATE_LB_HTTP`) hold a TOML value, or plain
//! text for a string.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

mod app;
mod cluster;
mod edge;
mod ladder;
mod lb;
mod limits;
mod node;
mod origin;
mod secret;
mod settings;
mod values;
mod webrtc;

pub use app::{AppSettings, Gate};
pub use cluster::{ClusterSettings, StoreSettings};
pub use edge::EdgeSettings;
pub use ladder::{RungSettings, stream_cost_mpx};
pub use lb::{CertificateFiles, LbSettings};
pub use limits::Limits;
pub use node::NodeSettings;
pub use origin::{DecoderChoice, EncoderChoice, OriginSettings};
use settings::Raw;
pub use settings::Settings;
pub use webrtc::{IceServer, WebRtcSettings};

const SECTIONS: [&str; 7] = ["node", "cluster", "lb", "edge", "origin", "webrtc", "limits"];

/// Variables that are not keys of the configuration: the log filter, and what tests are told.
const NOT_KEYS: [&str; 2] = ["SLUICEGATE_LOG", "SLUICEGATE_TEST_"];

/// What is wrong with the configuration, in one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// The file is not valid: a key that is not known, a value of the wrong type.
    #[error("{path}:{line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// A variable is not valid.
    #[error("{name}: {why}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A value, or two together, make no sense.
    #[error("{key}: {why}")]
    Invalid {
        /// The key, dotted.
        key: &'static str,
        /// What to change.
        why: String,
    },
}

impl ConfigError {
    fn invalid(key: &'static str, why: impl ToString) -> Self {
        Self::Invalid { key, why: why.to_string() }
    }
}

/// Where the configuration comes from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The file, if one is named.
    pub file: Option<PathBuf>,
    /// The process's environment.
    pub variables: Vec<(String, String)>,
    /// What the command line says, as a file would.
    pub command_line: Table,
    /// The host's name: the default node id.
    pub host_name: String,
}

impl Sources {
    /// Reads, overlays, checks.
    ///
    /// # Errors
    /// [`ConfigError`], in one line that names the file's line, the variable or the key.
    pub fn load(self) -> Result<Settings, ConfigError> {
        let mut table = match &self.file {
            Some(path) => read_file(path)?,
            None => Table::new(),
        };
        for (name, value) in &self.variables {
            if let Some(layer) = variable_layer(name, value)? {
                secret::replace_alternatives(&mut table, &layer);
                overlay(&mut table, layer);
            }
        }
        overlay(&mut table, self.command_line);
        let raw = Raw::deserialize(table).map_err(|e| ConfigError::invalid("configuration", e.message()))?;
        settings::resolve(raw, &self.host_name, &self.variables)
    }
}

/// The file as a table, once it is known to be valid on its own: only here are lines known.
fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|why| ConfigError::File { path: path.to_owned(), why })?;
    let at_line = |e: &toml::de::Error| ConfigError::Line {
        path: path.to_owned(),
        line: e.span().map_or(1, |s| line_of(&text, s.start)),
        why: e.message().to_owned(),
    };
    toml::from_str::<Raw>(&text).map_err(|e| at_line(&e))?;
    toml::from_str::<Table>(&text).map_err(|e| at_line(&e))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// The table that one variable stands for; `None` when it is not ours.
fn variable_layer(name: &str, value: &str) -> Result<Option<Table>, ConfigError> {
    let Some(key) = name.strip_prefix("SLUICEGATE_") else { return Ok(None) };
    if NOT_KEYS.iter().any(|n| name.starts_with(n)) {
        return Ok(None);
    }
    let fail = |why: String| ConfigError::Variable { name: name.to_owned(), why };
    let key = key.to_ascii_lowercase();
    let layer = if key == "roles" {
        Table::from_iter([(key, parse_value(value))])
    } else {
        let (section, key) = key
            .split_once('_')
            .filter(|(section, _)| SECTIONS.contains(section))
            .ok_or_else(|| fail("not a key of the configuration".to_owned()))?;
        // A secret is taken as it is: one of digits is no number.
        let value = if secret::is_secret(key) { Value::String(value.to_owned()) } else { parse_value(value) };
        let inner = Table::from_iter([(key.to_owned(), value)]);
        Table::from_iter([(section.to_owned(), Value::Table(inner))])
    };
    Raw::deserialize(layer.clone()).map_err(|e| fail(e.message().to_owned()))?;
    Ok(Some(layer))
}

fn parse_value(text: &str) -> Value {
    toml::from_str::<Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn overlay(base: &mut Table, layer: Table) {
    for (key, value) in layer {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(layer)) => overlay(inner, layer),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
