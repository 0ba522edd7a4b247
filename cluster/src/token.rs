//! Publish and play tokens, as Ant Media Server's: a JWT (HS256) whose claims are `streamId`, `type`
//! (`publish` or `play`) and `exp`, signed with a key of the application
//! (`TokenFilterManager` and `JWTFilter` of AMS). It comes as `?token=` or as `Authorization: Bearer`.
//!
//! Unlike AMS, a token without `exp` is refused: nobody could ever take it back.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;
use crate::ids::StreamName;
use crate::limits;
use crate::secret::Secret;
use crate::watched::Reread;

/// The parameter of an address that carries a token (AMS).
pub const PARAMETER: &str = "token";

/// How far the clock of who signed a token may be off.
const LEEWAY: Duration = Duration::from_secs(5);

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenUse {
    /// To publish a stream.
    Publish,
    /// To watch it.
    Play,
}

impl TokenUse {
    /// The claim, and the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Play => "play",
        }
    }
}

/// What a token allows, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// `streamId`: the one stream it is for.
    pub stream: String,
    /// `type`: what it is for.
    pub purpose: TokenUse,
    /// `exp`, to the second.
    pub expires: UnixMs,
    /// `nbf`: from when on, if not from ever.
    pub begins: Option<UnixMs>,
}

/// Why a token does not open what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// There is none.
    #[error("a token is needed here")]
    Missing,
    /// Not a JWT that a key of this application signed, or one without the claims that it needs.
    #[error("the token is not valid")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    Early,
    /// It is for another stream.
    #[error("the token is for another stream")]
    OtherStream,
    /// It is for publishing, not for playing, or the other way round.
    #[error("the token is for another use")]
    OtherUse,
}

impl TokenRefusal {
    /// Whether a better token could open it (401); otherwise this one is good, but not for this (403): RFC 6750
    /// section 3.1.
    #[must_use]
    pub fn status(self) -> http::StatusCode {
        match self {
            Self::Missing | Self::Invalid | Self::Expired | Self::Early => http::StatusCode::UNAUTHORIZED,
            Self::OtherStream | Self::OtherUse => http::StatusCode::FORBIDDEN,
        }
    }

    /// The label of metrics.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::OtherStream => "other_stream",
            Self::OtherUse => "other_use",
        }
    }
}

/// Why a key cannot sign tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTokenKey {
    /// Its file cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It could be found by trying, offline, against any token that was seen.
    #[error("a key is at least {} bytes", limits::TOKEN_KEY_BYTES)]
    Short,
    /// Another key has this id.
    #[error("two keys have this id")]
    Twice,
    /// More than [`limits::TOKEN_KEYS`].
    #[error("at most {} keys", limits::TOKEN_KEYS)]
    TooMany,
}

/// The keys of one application. The first signs; all are taken, so that a key is replaced without a gap. Clones are
/// the same keys: those in files are read again for all of them ([`Reread`]).
#[derive(Clone, Default)]
pub struct TokenKeys(Arc<Keys>);

#[derive(Default)]
struct Keys {
    written: Vec<(String, Secret)>,
    in_force: ArcSwap<Vec<TokenKey>>,
}

#[derive(Clone)]
struct TokenKey {
    id: String,
    sign: EncodingKey,
    verify: DecodingKey,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    stream_id: String,
    r#type: TokenUse,
    exp: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<f64>,
}

impl TokenKeys {
    /// The keys under their ids, which travel with what they sign (`kid`). A file may hold more than one under an
    /// id, a line each, the one that signs first.
    ///
    /// # Errors
    /// Which of them is no good and why, without the key.
    pub fn read_from(written: Vec<(String, Secret)>) -> Result<Self, String> {
        let keys = Keys { in_force: ArcSwap::from_pointee(read_keys(&written)?), written };
        Ok(Self(Arc::new(keys)))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.in_force.load().is_empty()
    }

    /// The keys' ids, the signing one first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.0.written.iter().map(|(id, _)| id.clone()).collect()
    }

    /// A token for `grant`, by the first key. `None` without a key.
    #[must_use]
    pub fn sign(&self, grant: &Grant) -> Option<String> {
        let keys = self.0.in_force.load();
        let key = keys.first()?;
        let claims = Claims {
            stream_id: grant.stream.clone(),
            r#type: grant.purpose,
            exp: seconds(grant.expires),
            nbf: grant.begins.map(seconds),
        };
        let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims, &key.sign).ok()
    }

    /// Checks that `token` opens `stream` for `purpose` at `now`.
    ///
    /// # Errors
    /// [`TokenRefusal`].
    pub fn check(
        &self,
        token: Option<&str>,
        stream: &StreamName,
        purpose: TokenUse,
        now: UnixMs,
    ) -> Result<(), TokenRefusal> {
        let (grant, _) = self.read(token.ok_or(TokenRefusal::Missing)?)?;
        grant.is_in_time(now)?;
        if grant.stream != stream.as_str() {
            return Err(TokenRefusal::OtherStream);
        }
        if grant.purpose == purpose { Ok(()) } else { Err(TokenRefusal::OtherUse) }
    }

    /// Whether one of the keys signed `token`, and it holds at `now`: AMS's REST asks for no more. What is
    /// made for viewers or publishers is none of these, even if the same key signed it.
    #[must_use]
    pub fn has_signed(&self, token: &str, now: UnixMs) -> bool {
        #[derive(Deserialize)]
        struct Ends {
            exp: f64,
            r#type: Option<serde::de::IgnoredAny>,
        }
        let ends = self.0.in_force.load().iter().find_map(|key| key.claims::<Ends>(token));
        ends.is_some_and(|ends| ends.r#type.is_none() && now < UnixMs((ends.exp * 1_000.0) as i64))
    }

    /// What `token` says, whenever that holds, and the id of the key that signed it.
    ///
    /// # Errors
    /// [`TokenRefusal::Invalid`].
    pub fn read(&self, token: &str) -> Result<(Grant, String), TokenRefusal> {
        if token.len() > limits::TOKEN_BYTES {
            return Err(TokenRefusal::Invalid);
        }
        let named = decode_header(token).map_err(|_| TokenRefusal::Invalid)?.kid;
        // AMS's own tokens name no key: then each may have signed it.
        let is_named = |key: &&TokenKey| named.as_ref().is_none_or(|id| *id == key.id);
        let keys = self.0.in_force.load();
        let signed = |key: &TokenKey| Some((key.claims::<Claims>(token)?.into(), key.id.clone()));
        keys.iter().filter(is_named).find_map(signed).ok_or(TokenRefusal::Invalid)
    }
}

impl Reread for TokenKeys {
    fn what(&self) -> &'static str {
        "token_keys"
    }

    fn files(&self) -> Vec<PathBuf> {
        self.0.written.iter().filter_map(|(_, secret)| secret.file()).map(Path::to_owned).collect()
    }

    fn reread(&self) -> Result<(), String> {
        self.0.in_force.store(Arc::new(read_keys(&self.0.written)?));
        Ok(())
    }
}

fn read_keys(written: &[(String, Secret)]) -> Result<Vec<TokenKey>, String> {
    let mut keys: Vec<TokenKey> = Vec::new();
    for (at, (id, secret)) in written.iter().enumerate() {
        let is_there = written.iter().take(at).any(|(other, _)| other == id);
        let read = if is_there { Err(BadTokenKey::Twice) } else { read_key(id, secret) };
        keys.extend(read.map_err(|why| format!("{id}: {why}"))?);
    }
    if keys.len() > limits::TOKEN_KEYS { Err(BadTokenKey::TooMany.to_string()) } else { Ok(keys) }
}

fn read_key(id: &str, secret: &Secret) -> Result<Vec<TokenKey>, BadTokenKey> {
    let key = |secret: String| {
        if secret.len() < limits::TOKEN_KEY_BYTES {
            return Err(BadTokenKey::Short);
        }
        let secret = secret.as_bytes();
        let (sign, verify) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        Ok(TokenKey { id: id.to_owned(), sign, verify })
    };
    secret.read_keys().map_err(BadTokenKey::Unreadable)?.into_iter().map(key).collect()
}

impl TokenKey {
    fn claims<T: serde::de::DeserializeOwned>(&self, token: &str) -> Option<T> {
        let mut rules = Validation::new(Algorithm::HS256);
        // Times are checked by the cluster's own clock, and AMS looks at no audience.
        rules.validate_exp = false;
        rules.validate_aud = false;
        decode::<T>(token, &self.verify, &rules).ok().map(|data| data.claims)
    }
}

impl Grant {
    /// # Errors
    /// When it is over, or has not begun.
    pub fn is_in_time(&self, now: UnixMs) -> Result<(), TokenRefusal> {
        if self.expires.plus(LEEWAY) <= now {
            return Err(TokenRefusal::Expired);
        }
        match self.begins {
            Some(begins) if begins > now.plus(LEEWAY) => Err(TokenRefusal::Early),
            _ => Ok(()),
        }
    }
}

impl From<Claims> for Grant {
    fn from(claims: Claims) -> Self {
        // Out of range it saturates: at the end of time, or at its beginning.
        let ms = |seconds: f64| UnixMs((seconds * 1_000.0) as i64);
        Self {
            stream: claims.stream_id,
            purpose: claims.r#type,
            expires: ms(claims.exp),
            begins: claims.nbf.map(ms),
        }
    }
}

fn seconds(at: UnixMs) -> f64 {
    (at.0 / 1_000) as f64
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

/// The token that an HTTP request presents: in its query, else as a bearer.
#[must_use]
pub fn presented<'a>(query: Option<&'a str>, headers: &'a HeaderMap) -> Option<&'a str> {
    query.and_then(in_query).or_else(|| bearer(headers))
}

/// The token in a query (`a=b&token=…`), as written: a JWT needs no escapes.
#[must_use]
pub fn in_query(query: &str) -> Option<&str> {
    let values = query.split('&').filter_map(|pair| pair.split_once('='));
    values.into_iter().find(|(name, value)| *name == PARAMETER && !value.is_empty()).map(|(_, value)| value)
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests;
