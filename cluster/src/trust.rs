//! How nodes trust each other: a short-lived JWT (HS256) signed with the cluster's key, in the header
//! `ClusterAuthorization`, which is AMS's, or among the properties of RTMP's `connect` ([`crate::ticket`]).
//! What clients carry from one node to another is signed with the same key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, crypto, decode, encode};
use serde::{Deserialize, Serialize};

use crate::clock::{self, UnixMs};
use crate::ids::NodeId;
use crate::limits;
use crate::secret::Secret;
use crate::watched::Reread;

/// The header that carries the token between nodes.
pub const HEADER: &str = "clusterauthorization";

const AUDIENCE: &str = "sluicegate-cluster";
/// That of tokens for people and programs that administer the cluster.
const ADMIN_AUDIENCE: &str = "sluicegate-admin";

/// Keys at once: the one that signs, the one before it and the next one.
const KEYS_MAX: usize = 3;

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// There is none.
    #[error("no cluster token")]
    Missing,
    /// Not ours, forged, or too old.
    #[error("the cluster token is not valid")]
    Invalid,
    /// Below [`limits::CLUSTER_KEY_BYTES`].
    #[error("the cluster key is shorter than {} bytes", limits::CLUSTER_KEY_BYTES)]
    ShortKey,
}

/// The secret that a cluster's nodes share. Its file may hold more than one, a line each: the first signs, all are
/// taken, so that one follows another without a gap. Clones are the same key, read again for all of them.
#[derive(Clone)]
pub struct ClusterKey(Arc<Keys>);

struct Keys {
    written: Option<Secret>,
    in_force: ArcSwap<KeyRing>,
}

/// The keys in force.
struct KeyRing {
    sign: EncodingKey,
    verify: Vec<DecodingKey>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: NodeId,
    aud: String,
    exp: u64,
}

impl ClusterKey {
    /// A key from its text.
    ///
    /// # Errors
    /// [`Distrust::ShortKey`] when it could be guessed.
    pub fn new(secret: &str) -> Result<Self, Distrust> {
        Ok(Self::of(None, KeyRing::new(&[secret])?))
    }

    /// The key that is written in `secret`.
    ///
    /// # Errors
    /// Why it is none, without the key.
    pub fn read_from(secret: Secret) -> Result<Self, String> {
        let ring = KeyRing::read(&secret)?;
        Ok(Self::of(Some(secret), ring))
    }

    /// A new key, for a cluster that is one process.
    #[must_use]
    pub fn random() -> Self {
        Self::of(None, KeyRing::of(&[&rand::random::<[u8; 32]>()]))
    }

    fn of(written: Option<Secret>, ring: KeyRing) -> Self {
        Self(Arc::new(Keys { written, in_force: ArcSwap::from_pointee(ring) }))
    }

    /// A token that says the request comes from `node`.
    ///
    /// # Errors
    /// [`Distrust::Invalid`] when it cannot be signed.
    pub fn token(&self, node: &NodeId) -> Result<String, Distrust> {
        self.token_for(AUDIENCE, node, clock::cluster_ms().plus(limits::CLUSTER_TOKEN))
    }

    /// A token that opens what operators use for as long as `life`, signed in the name of `node`.
    ///
    /// # Errors
    /// [`Distrust::Invalid`] when it cannot be signed.
    pub fn admin_token(&self, node: &NodeId, life: Duration) -> Result<String, Distrust> {
        self.token_for(ADMIN_AUDIENCE, node, clock::cluster_ms().plus(life))
    }

    fn token_for(&self, audience: &str, node: &NodeId, expires: UnixMs) -> Result<String, Distrust> {
        let claims = Claims {
            iss: node.clone(),
            aud: audience.to_owned(),
            exp: u64::try_from(expires.0 / 1_000).unwrap_or(0),
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.0.in_force.load().sign)
            .map_err(|_| Distrust::Invalid)
    }

    /// A signature of `message` that is good for `purpose` only: HMAC-SHA256 in base64url. The purpose is a
    /// word of this program, without a line's end, so that no message of one purpose is one of another.
    ///
    /// # Errors
    /// [`Distrust::Invalid`] when it cannot be signed.
    pub fn sign(&self, purpose: &'static str, message: &str) -> Result<String, Distrust> {
        let keys = self.0.in_force.load();
        crypto::sign(signed_bytes(purpose, message).as_bytes(), &keys.sign, Algorithm::HS256)
            .map_err(|_| Distrust::Invalid)
    }

    /// Checks a signature that a client brings.
    ///
    /// # Errors
    /// [`Distrust::Invalid`] when it is not that of `message` for `purpose`.
    pub fn check(&self, purpose: &'static str, message: &str, signature: &str) -> Result<(), Distrust> {
        let bytes = signed_bytes(purpose, message);
        let is_of = |key: &DecodingKey| {
            crypto::verify(signature, bytes.as_bytes(), key, Algorithm::HS256).unwrap_or(false)
        };
        if self.0.in_force.load().verify.iter().any(is_of) { Ok(()) } else { Err(Distrust::Invalid) }
    }

    /// Which node a token comes from.
    ///
    /// # Errors
    /// [`Distrust`] when there is none or it is not valid.
    pub fn verify(&self, token: Option<&str>) -> Result<NodeId, Distrust> {
        let token = token.ok_or(Distrust::Missing)?;
        self.verify_for(AUDIENCE, token, limits::CLUSTER_TOKEN, clock::cluster_ms())
    }

    /// In whose name an operator's token is signed.
    ///
    /// # Errors
    /// [`Distrust::Invalid`].
    pub fn verify_admin(&self, token: &str) -> Result<NodeId, Distrust> {
        self.verify_for(ADMIN_AUDIENCE, token, Duration::ZERO, clock::cluster_ms())
    }

    fn verify_for(
        &self,
        audience: &str,
        token: &str,
        leeway: Duration,
        now: UnixMs,
    ) -> Result<NodeId, Distrust> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_audience(&[audience]);
        // By the cluster's clock, not by this machine's: that is below.
        rules.validate_exp = false;
        let keys = self.0.in_force.load();
        let claims = |key: &DecodingKey| Some(decode::<Claims>(token, key, &rules).ok()?.claims);
        let claims = keys.verify.iter().find_map(claims).ok_or(Distrust::Invalid)?;
        let good_until = UnixMs(i64::try_from(claims.exp).unwrap_or(i64::MAX).saturating_mul(1_000));
        if good_until.plus(leeway) < now { Err(Distrust::Invalid) } else { Ok(claims.iss) }
    }
}

impl KeyRing {
    fn new(secrets: &[impl AsRef<str>]) -> Result<Self, Distrust> {
        let secrets: Vec<&[u8]> = secrets.iter().map(|secret| secret.as_ref().as_bytes()).collect();
        let is_short = |secret: &&[u8]| secret.len() < limits::CLUSTER_KEY_BYTES;
        if secrets.is_empty() || secrets.iter().any(is_short) {
            return Err(Distrust::ShortKey);
        }
        Ok(Self::of(&secrets))
    }

    fn of(secrets: &[&[u8]]) -> Self {
        let first = secrets.first().copied().unwrap_or_default();
        let verify = secrets.iter().map(|secret| DecodingKey::from_secret(secret)).collect();
        Self { sign: EncodingKey::from_secret(first), verify }
    }

    fn read(secret: &Secret) -> Result<Self, String> {
        let keys = secret.read_keys()?;
        if keys.len() > KEYS_MAX {
            return Err(format!("at most {KEYS_MAX} keys"));
        }
        Self::new(&keys).map_err(|why| why.to_string())
    }
}

impl Reread for ClusterKey {
    fn what(&self) -> &'static str {
        "cluster_key"
    }

    fn files(&self) -> Vec<PathBuf> {
        self.0.written.iter().filter_map(Secret::file).map(Path::to_owned).collect()
    }

    fn reread(&self) -> Result<(), String> {
        if let Some(secret) = &self.0.written {
            self.0.in_force.store(Arc::new(KeyRing::read(secret)?));
        }
        Ok(())
    }
}

/// A token's signature is over base64url and dots: a line's end keeps the two kinds apart.
fn signed_bytes(purpose: &str, message: &str) -> String {
    format!("{purpose}\n{message}")
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_own_cluster_only() {
        let node: NodeId = "edge-1".parse().unwrap();
        let (ours, theirs) = (ClusterKey::random(), ClusterKey::random());
        let token = ours.token(&node).unwrap();
        assert_eq!(ours.verify(Some(&token)), Ok(node));
        assert_eq!(theirs.verify(Some(&token)), Err(Distrust::Invalid));
        assert_eq!(ours.verify(Some(&token[..token.len() - 2])), Err(Distrust::Invalid));
        assert_eq!(ours.verify(None), Err(Distrust::Missing));
    }

    #[test]
    fn a_nodes_token_is_no_operators_token() {
        let (node, key): (NodeId, _) = ("edge-1".parse().unwrap(), ClusterKey::random());
        let admin = key.admin_token(&node, Duration::from_secs(60)).unwrap();
        assert_eq!(key.verify_admin(&admin), Ok(node.clone()));
        assert_eq!(key.verify(Some(&admin)), Err(Distrust::Invalid));
        assert_eq!(key.verify_admin(&key.token(&node).unwrap()), Err(Distrust::Invalid));
        assert_eq!(ClusterKey::random().verify_admin(&admin), Err(Distrust::Invalid));
    }

    #[test]
    fn a_token_is_good_for_its_time_by_the_clusters_clock() {
        let (node, key): (NodeId, _) = ("edge-1".parse().unwrap(), ClusterKey::random());
        let (expires, leeway) = (UnixMs(1_000_000), limits::CLUSTER_TOKEN);
        let token = key.token_for(AUDIENCE, &node, expires).unwrap();
        let at = |now: UnixMs| key.verify_for(AUDIENCE, &token, leeway, now);
        assert_eq!(at(UnixMs(0)), Ok(node.clone()));
        assert_eq!(at(expires.plus(leeway)), Ok(node));
        assert_eq!(at(expires.plus(leeway + Duration::from_millis(1))), Err(Distrust::Invalid));
    }

    #[test]
    fn a_signature_is_good_for_its_message_purpose_and_cluster_only() {
        let key = ClusterKey::random();
        let signature = key.sign("session", "e1~7").unwrap();
        assert_eq!(key.check("session", "e1~7", &signature), Ok(()));
        for (purpose, message) in [("session", "e2~7"), ("other", "e1~7")] {
            assert_eq!(key.check(purpose, message, &signature), Err(Distrust::Invalid));
        }
        for forged in ["", "!", &signature[1..], &"A".repeat(43)] {
            assert_eq!(key.check("session", "e1~7", forged), Err(Distrust::Invalid), "{forged}");
        }
        assert_eq!(ClusterKey::random().check("session", "e1~7", &signature), Err(Distrust::Invalid));
    }

    #[test]
    fn a_key_in_a_file_follows_another_without_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let file = |node: &str| folder.path().join(node);
        let node: NodeId = "edge-1".parse().unwrap();
        let (old, new) = ("the key of last year", "the key of this year");
        let [a, b] = ["a", "b"].map(|node| {
            std::fs::write(file(node), old).unwrap();
            ClusterKey::read_from(Secret::File(file(node))).unwrap()
        });
        let token = a.token(&node).unwrap();
        let signature = a.sign("session", "e1~7").unwrap();
        // One node after the other, in the three steps that are told to operators.
        for lines in [[old, new].join("\n"), [new, old].join("\n"), new.to_owned()] {
            for (name, key) in [("a", &a), ("b", &b)] {
                if lines == new {
                    assert_eq!(key.verify(Some(&token)), Ok(node.clone()), "until the last step");
                    assert_eq!(key.check("session", "e1~7", &signature), Ok(()));
                }
                std::fs::write(file(name), &lines).unwrap();
                key.reread().unwrap();
                for (from, to) in [(&a, &b), (&b, &a)] {
                    assert_eq!(to.verify(Some(&from.token(&node).unwrap())), Ok(node.clone()), "{lines}");
                }
            }
        }
        assert_eq!(a.verify(Some(&token)), Err(Distrust::Invalid));
        std::fs::write(file("a"), "password").unwrap();
        assert!(a.reread().is_err());
        assert!(b.verify(Some(&a.token(&node).unwrap())).is_ok(), "the one before stays");
    }

    #[test]
    fn a_short_key_is_refused() {
        assert_eq!(ClusterKey::new("password").err(), Some(Distrust::ShortKey));
    }
}
