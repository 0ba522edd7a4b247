//! A WebRTC session's id as clients have it: `{node}~{id}~{signature}`. The node's own id of the session is
//! led by the node that has it and followed by a signature under the cluster's key, so that any balancer finds
//! the node, and nobody else's sessions can be guessed or reached through another stream's address.

use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::trust::{ClusterKey, Distrust};

use crate::http::route::Endpoint;

/// What the signature is for.
const PURPOSE: &str = "webrtc-session";
/// Between the parts: unreserved in a path (RFC 3986 section 2.3), and in no node's name.
const SEPARATOR: char = '~';
/// The longest id that a node may give a session.
const ID_BYTES_MAX: usize = 128;

/// Where a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionId {
    /// The node that has it.
    pub(super) node: NodeId,
    /// Its id there.
    pub(super) id: String,
}

impl SessionId {
    /// A session that `node` has just made and given `location`, whose last part is its id. `None`: no node
    /// of ours says that.
    pub(super) fn made(node: &NodeId, location: &str) -> Option<Self> {
        let id = location.rsplit('/').next()?;
        is_id(id).then(|| Self { node: node.clone(), id: id.to_owned() })
    }

    /// The id that the client of `endpoint` gets.
    ///
    /// # Errors
    /// [`Distrust`] when it cannot be signed.
    pub(super) fn public(&self, endpoint: &Endpoint, key: &ClusterKey) -> Result<String, Distrust> {
        let signature = key.sign(PURPOSE, &message(endpoint, self.node.as_str(), &self.id))?;
        Ok(format!("{}{SEPARATOR}{}{SEPARATOR}{signature}", self.node, self.id))
    }

    /// Reads the id that a client of `endpoint` brings.
    ///
    /// # Errors
    /// [`Distrust`] when no balancer of this cluster has given it to a client of that endpoint.
    pub(super) fn read(public: &str, endpoint: &Endpoint, key: &ClusterKey) -> Result<Self, Distrust> {
        let mut parts = public.split(SEPARATOR);
        let (Some(node), Some(id), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Distrust::Invalid);
        };
        key.check(PURPOSE, &message(endpoint, node, id), signature)?;
        Ok(Self { node: node.parse().map_err(|_| Distrust::Invalid)?, id: id.to_owned() })
    }
}

fn message(endpoint: &Endpoint, node: &str, id: &str) -> String {
    format!("{}/{}/{node}/{id}", endpoint.protocol.as_str(), endpoint.key)
}

fn is_id(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::signalling::Protocol;

    use super::*;

    fn endpoint(key: &str, protocol: Protocol) -> Endpoint {
        Endpoint { key: key.parse().unwrap(), protocol, session: None }
    }

    #[test]
    fn an_id_leads_back_to_its_session_through_its_own_endpoint_only() {
        let (key, here) = (ClusterKey::random(), endpoint("live/cam", Protocol::Whep));
        let made = SessionId::made(&"edge-1.site".parse().unwrap(), "/live/whep/cam/0f_a-7").unwrap();
        let public = made.public(&here, &key).unwrap();
        assert!(public.starts_with("edge-1.site~0f_a-7~"), "{public}");
        assert_eq!(SessionId::read(&public, &here, &key), Ok(made));
        for other in [endpoint("live/cam2", Protocol::Whep), endpoint("live/cam", Protocol::Whip)] {
            assert_eq!(SessionId::read(&public, &other, &key), Err(Distrust::Invalid));
        }
        assert_eq!(SessionId::read(&public, &here, &ClusterKey::random()), Err(Distrust::Invalid));
    }

    #[test]
    fn forged_ids_are_refused() {
        let (key, here) = (ClusterKey::random(), endpoint("live/cam", Protocol::Whep));
        let public =
            SessionId { node: "e1".parse().unwrap(), id: "7".to_owned() }.public(&here, &key).unwrap();
        let moved = public.replacen("e1", "e2", 1);
        let longer = format!("{public}~");
        for forged in ["", "e1", "e1~7", "e1~7~", "~~", &moved, &longer, &public[..public.len() - 1]] {
            assert_eq!(SessionId::read(forged, &here, &key), Err(Distrust::Invalid), "{forged}");
        }
    }

    #[test]
    fn a_location_without_an_id_is_none_of_ours() {
        let node = "e1".parse().unwrap();
        for location in ["", "/", "/live/whep/cam/", "/a/b~c", "/a/b%2f", &"x".repeat(ID_BYTES_MAX + 1)] {
            assert_eq!(SessionId::made(&node, location), None, "{location}");
        }
    }
}
