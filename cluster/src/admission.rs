//! Who may publish and who may play: for each application, anybody or whoever brings a token of its own keys.
//! Asked by balancers for publishers and by edges for viewers, and answered from memory.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::{IntCounterVec, Opts, Registry};

use crate::clock::UnixMs;
use crate::config::{AppSettings, Gate};
use crate::ids::{AppName, StreamKey};
use crate::token::{TokenKeys, TokenRefusal, TokenUse};

/// The gates of every application.
pub struct Admission {
    apps: HashMap<AppName, Gates>,
    refused: IntCounterVec,
}

struct Gates {
    publish: Gate,
    play: Gate,
    keys: TokenKeys,
}

impl Admission {
    /// The gates of `apps`, which count in `registry` whom they refuse.
    ///
    /// # Errors
    /// When the counter is registered already.
    pub fn new(apps: &[AppSettings], registry: &Registry) -> prometheus::Result<Arc<Self>> {
        let opts =
            Opts::new("sluicegate_tokens_refused_total", "Publishers and viewers without a good token");
        let refused = IntCounterVec::new(opts, &["use", "reason"])?;
        registry.register(Box::new(refused.clone()))?;
        let gates =
            |app: &AppSettings| Gates { publish: app.publish, play: app.play, keys: app.token_keys.clone() };
        let apps = apps.iter().map(|app| (app.name.clone(), gates(app))).collect();
        Ok(Arc::new(Self { apps, refused }))
    }

    /// Whether `purpose` needs a token in `app`.
    #[must_use]
    pub fn is_guarded(&self, app: &AppName, purpose: TokenUse) -> bool {
        self.apps.get(app).is_some_and(|gates| gates.gate(purpose) == Gate::Token)
    }

    /// Checks that whoever presents `token` at `now` may do this with `stream`.
    ///
    /// # Errors
    /// [`TokenRefusal`], which is counted.
    pub fn admit(
        &self,
        stream: &StreamKey,
        purpose: TokenUse,
        token: Option<&str>,
        now: UnixMs,
    ) -> Result<(), TokenRefusal> {
        let Some(gates) = self.apps.get(&stream.app) else { return Err(TokenRefusal::Missing) };
        if gates.gate(purpose) == Gate::Open {
            return Ok(());
        }
        gates.keys.check(token, &stream.stream, purpose, now).inspect_err(|refusal| {
            self.refused.with_label_values(&[purpose.as_str(), refusal.kind()]).inc();
        })
    }
}

impl Gates {
    fn gate(&self, purpose: TokenUse) -> Gate {
        match purpose {
            TokenUse::Publish => self.publish,
            TokenUse::Play => self.play,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing;
    use crate::token::Grant;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    #[test]
    fn each_use_of_each_app_has_its_own_gate() {
        let apps = testing::apps(
            "[[app]]\nname = \"live\"\nplay = \"token\"\ntoken_keys = [{ id = \"a\", key = \"0123456789abcdef\" }]\n\
             [[app]]\nname = \"open\"\n",
        );
        let registry = Registry::new();
        let admission = Admission::new(&apps, &registry).unwrap();
        let (guarded, open): (StreamKey, StreamKey) =
            ("live/cam1".parse().unwrap(), "open/cam1".parse().unwrap());
        assert!(admission.is_guarded(&guarded.app, TokenUse::Play));
        assert!(!admission.is_guarded(&guarded.app, TokenUse::Publish));
        assert_eq!(admission.admit(&open, TokenUse::Play, None, NOW), Ok(()));
        assert_eq!(admission.admit(&guarded, TokenUse::Publish, None, NOW), Ok(()));
        assert_eq!(admission.admit(&guarded, TokenUse::Play, None, NOW), Err(TokenRefusal::Missing));
        let grant = Grant {
            stream: "cam1".to_owned(),
            purpose: TokenUse::Play,
            expires: NOW.plus(Duration::from_secs(60)),
            begins: None,
        };
        let token = apps[0].token_keys.sign(&grant).unwrap();
        assert_eq!(admission.admit(&guarded, TokenUse::Play, Some(&token), NOW), Ok(()));
        assert_eq!(admission.refused.with_label_values(&["play", "missing"]).get(), 1);
    }
}
