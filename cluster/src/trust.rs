//! How nodes trust each other: a short-lived JWT (HS256) signed with the cluster's key, in the header
//! `ClusterAuthorization`, which is AMS's, or among the properties of RTMP's `connect` ([`crate::ticket`]).

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::ids::NodeId;
use crate::limits;

/// The header that carries the token between nodes.
pub const HEADER: &str = "clusterauthorization";

const AUDIENCE: &str = "sluicegate-cluster";

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

/// The secret that a cluster's nodes share.
#[derive(Clone)]
pub struct ClusterKey {
    sign: EncodingKey,
    verify: DecodingKey,
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
        if secret.len() < limits::CLUSTER_KEY_BYTES {
            return Err(Distrust::ShortKey);
        }
        Ok(Self::from_bytes(secret.as_bytes()))
    }

    /// A new key, for a cluster that is one process.
    #[must_use]
    pub fn random() -> Self {
        Self::from_bytes(&rand::random::<[u8; 32]>())
    }

    fn from_bytes(secret: &[u8]) -> Self {
        Self { sign: EncodingKey::from_secret(secret), verify: DecodingKey::from_secret(secret) }
    }

    /// A token that says the request comes from `node`.
    ///
    /// # Errors
    /// [`Distrust::Invalid`] when it cannot be signed.
    pub fn token(&self, node: &NodeId) -> Result<String, Distrust> {
        let expires = clock::unix_ms().plus(limits::CLUSTER_TOKEN);
        let claims = Claims {
            iss: node.clone(),
            aud: AUDIENCE.to_owned(),
            exp: u64::try_from(expires.0 / 1_000).unwrap_or(0),
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.sign).map_err(|_| Distrust::Invalid)
    }

    /// Which node a token comes from.
    ///
    /// # Errors
    /// [`Distrust`] when there is none or it is not valid.
    pub fn verify(&self, token: Option<&str>) -> Result<NodeId, Distrust> {
        let token = token.ok_or(Distrust::Missing)?;
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_audience(&[AUDIENCE]);
        rules.leeway = limits::CLUSTER_TOKEN.as_secs();
        decode::<Claims>(token, &self.verify, &rules)
            .map(|data| data.claims.iss)
            .map_err(|_| Distrust::Invalid)
    }
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
    fn a_short_key_is_refused() {
        assert_eq!(ClusterKey::new("password").err(), Some(Distrust::ShortKey));
    }
}
