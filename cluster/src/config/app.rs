//! `[[app]]`: how an application's streams are packaged, what is encoded of them, and whom it lets in.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use super::ladder::{self, RawRung, RungSettings};
use super::secret::{RawSecret, Variables, Written};
use crate::ids::AppName;
use crate::token::TokenKeys;

/// `[[app]]`
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// Its name, the first part of its streams' paths.
    pub name: AppName,
    /// How long a segment should be. Cut at the next keyframe.
    pub segment: Duration,
    /// How long a part of a segment should be: what low-latency players wait for.
    pub part: Duration,
    /// How many segments a playlist lists.
    pub window: usize,
    /// What is encoded beside the source. Rungs that are not smaller than it are left out.
    pub ladder: Vec<RungSettings>,
    /// Who may publish.
    pub publish: Gate,
    /// Who may watch.
    pub play: Gate,
    /// What tokens are checked with. The first signs.
    pub token_keys: TokenKeys,
    /// What tokens for its REST interface are checked with.
    pub rest_keys: TokenKeys,
}

/// Whom an application lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Anybody.
    #[default]
    Open,
    /// Whoever brings a token that one of its keys signed.
    Token,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApp {
    name: AppName,
    segment_s: Option<f64>,
    part_s: Option<f64>,
    window: Option<usize>,
    publish: Option<Gate>,
    play: Option<Gate>,
    token_keys: Option<Vec<RawTokenKey>>,
    rest_keys: Option<Vec<RawTokenKey>>,
    ladder: Option<Vec<RawRung>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTokenKey {
    id: String,
    key: Option<RawSecret>,
    key_file: Option<PathBuf>,
    key_env: Option<String>,
}

pub(super) fn resolve(raw: Vec<RawApp>, variables: &Variables) -> Result<Vec<AppSettings>, ConfigError> {
    let mut apps: Vec<AppSettings> = Vec::with_capacity(raw.len().max(1));
    for app in raw {
        if apps.iter().any(|a| a.name == app.name) {
            return Err(ConfigError::invalid("app.name", format!("{} is there twice", app.name)));
        }
        apps.push(resolve_app(app, variables)?);
    }
    if apps.is_empty() {
        let name = "live".parse().map_err(|why| ConfigError::invalid("app.name", why))?;
        let live = RawApp {
            name,
            segment_s: None,
            part_s: None,
            window: None,
            ladder: None,
            publish: None,
            play: None,
            token_keys: None,
            rest_keys: None,
        };
        apps.push(resolve_app(live, variables)?);
    }
    Ok(apps)
}

fn resolve_app(raw: RawApp, variables: &Variables) -> Result<AppSettings, ConfigError> {
    let segment_s = raw.segment_s.unwrap_or(1.0);
    if !(0.5..=10.0).contains(&segment_s) {
        return Err(ConfigError::invalid("app.segment_s", "between 0.5 and 10 seconds"));
    }
    let part_s = raw.part_s.unwrap_or(0.2);
    if !(0.1..=segment_s.min(2.0)).contains(&part_s) {
        return Err(ConfigError::invalid(
            "app.part_s",
            "between 0.1 and 2 seconds, and no longer than segment_s",
        ));
    }
    let window = raw.window.unwrap_or(6);
    if !(3..=100).contains(&window) {
        return Err(ConfigError::invalid("app.window", "between 3 and 100 segments (RFC 8216 6.2.2)"));
    }
    let (publish, play) = (raw.publish.unwrap_or_default(), raw.play.unwrap_or_default());
    let token_keys = resolve_keys("app.token_keys", raw.token_keys.unwrap_or_default(), variables)?;
    let rest_keys = resolve_keys("app.rest_keys", raw.rest_keys.unwrap_or_default(), variables)?;
    if token_keys.is_empty() && [publish, play].contains(&Gate::Token) {
        let why = format!("{} asks for tokens: give it a key to check them with", raw.name);
        return Err(ConfigError::invalid("app.token_keys", why));
    }
    Ok(AppSettings {
        name: raw.name,
        segment: Duration::from_secs_f64(segment_s),
        part: Duration::from_secs_f64(part_s),
        window,
        ladder: ladder::resolve(raw.ladder.unwrap_or_default())?,
        publish,
        play,
        token_keys,
        rest_keys,
    })
}

fn resolve_keys(
    name: &'static str,
    raw: Vec<RawTokenKey>,
    variables: &Variables,
) -> Result<TokenKeys, ConfigError> {
    let named = |RawTokenKey { id, key, key_file, key_env }| {
        let written = Written { name, text: key, file: key_file, variable: key_env.as_deref() };
        let missing = || ConfigError::invalid(name, format!("{id}: set key, key_file or key_env"));
        let secret = written.locate(variables)?.ok_or_else(missing)?;
        Ok((id, secret))
    };
    let written = raw.into_iter().map(named).collect::<Result<Vec<_>, _>>()?;
    TokenKeys::read_from(written).map_err(|why| ConfigError::invalid(name, why))
}
