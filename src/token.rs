//! `sluicegate token sign|inspect`: publish and play tokens by the keys of the configuration.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::ValueEnum;
use serde_json::json;
use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_cluster::config::{AppSettings, Settings};
use sluicegate_cluster::ids::{AppName, StreamName};
use sluicegate_cluster::limits;
use sluicegate_cluster::token::{Grant, TokenRefusal, TokenUse};

/// What a token is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Purpose {
    /// To publish the stream.
    Publish,
    /// To watch it.
    Play,
}

/// A token for `stream` in `app`, by the app's first key.
pub(crate) fn sign(
    settings: &Settings,
    app: &AppName,
    stream: &StreamName,
    purpose: Purpose,
    ttl: Duration,
    json: bool,
) -> anyhow::Result<String> {
    let known = app_of(settings, app)?;
    let purpose = match purpose {
        Purpose::Publish => TokenUse::Publish,
        Purpose::Play => TokenUse::Play,
    };
    let expires = clock::unix_ms().plus(ttl);
    let grant = Grant { stream: stream.to_string(), purpose, expires, begins: None };
    let token =
        known.token_keys.sign(&grant).ok_or_else(|| anyhow!("{app} has no token_keys to sign with"))?;
    if !json {
        return Ok(token);
    }
    let answer = json!({
        "token": token, "app": app, "streamId": grant.stream, "type": purpose.as_str(),
        "exp": expires.0 / 1_000, "key": known.token_keys.ids().first(),
    });
    Ok(answer.to_string())
}

/// What `token` (`-`: from standard input) says, and whether it holds now.
///
/// # Errors
/// When no key has signed it, or its time is not now: a script can go by the exit status.
pub(crate) fn inspect(settings: &Settings, token: &str, json: bool) -> anyhow::Result<String> {
    let token = if token == "-" { read_token()? } else { token.to_owned() };
    let read = |app: &AppSettings| {
        let (grant, key) = app.token_keys.read(token.trim()).ok()?;
        Some((app.name.clone(), grant, key))
    };
    let Some((app, grant, key)) = settings.apps.iter().find_map(read) else {
        bail!("not a token that a key of an application here has signed");
    };
    let now = clock::unix_ms();
    let standing = grant.is_in_time(now);
    let report = if json { as_json(&app, &grant, &key, standing) } else { as_text(&app, &grant, &key, now) };
    match standing {
        Ok(()) => Ok(report),
        Err(refusal) => bail!("{refusal}: {report}"),
    }
}

fn as_json(app: &AppName, grant: &Grant, key: &str, standing: Result<(), TokenRefusal>) -> String {
    let answer = json!({
        "app": app, "streamId": grant.stream, "type": grant.purpose.as_str(), "exp": grant.expires.0 / 1_000,
        "nbf": grant.begins.map(|at| at.0 / 1_000), "key": key, "valid": standing.is_ok(),
    });
    answer.to_string()
}

fn as_text(app: &AppName, grant: &Grant, key: &str, now: UnixMs) -> String {
    let purpose = grant.purpose.as_str();
    let end = match grant.expires.age(now).as_secs() {
        0 => format!("for {} s more", now.age(grant.expires).as_secs()),
        ago => format!("until {ago} s ago"),
    };
    format!("{purpose} {app}/{}, {end}, signed with key {key}", grant.stream)
}

fn app_of<'a>(settings: &'a Settings, app: &AppName) -> anyhow::Result<&'a AppSettings> {
    settings.apps.iter().find(|a| a.name == *app).ok_or_else(|| anyhow!("there is no application {app}"))
}

fn read_token() -> anyhow::Result<String> {
    let mut text = String::new();
    let most = limits::TOKEN_BYTES as u64 + 1;
    std::io::stdin().take(most).read_to_string(&mut text).context("reading a token from standard input")?;
    Ok(text)
}

/// A duration with its unit: `90s`, `15m`, `2h`, `7d`.
pub(crate) fn ttl(text: &str) -> Result<Duration, String> {
    let wrong = || "a number with its unit: 90s, 15m, 2h, 7d".to_owned();
    let (number, unit_s) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u32>().ok().filter(|n| *n > 0).map(|n| u64::from(n) * unit_s);
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(ttl("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(ttl("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(ttl("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(ttl("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "90", "h", "0s", "-1s", "1.5h", "4294967296d", "1ü"] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }
}
