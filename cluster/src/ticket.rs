//! What a balancer tells an origin about a publish: as properties of RTMP's `connect` command object, or, for
//! WHIP, as headers of the same names (HTTP's names have no case).

use std::net::IpAddr;

use crate::claims::Reached;
use crate::ids::{NodeId, PublisherSession, ReservationId};
use crate::placed::Placed;
use crate::trust::{ClusterKey, Distrust};

const TOKEN: &str = "clusterAuthorization";
const SESSION: &str = "sluicegateSession";
const RESERVATION: &str = "sluicegateReservation";
const ADDRESS: &str = "sluicegateAddress";
const HANDOVER: &str = "sluicegateHandover";
const PLACED: &str = "sluicegatePlaced";
const REACHED: &str = "sluicegateReached";

/// A publish that a balancer sends to an origin.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishTicket {
    /// The publisher's connection. Whoever holds it may move the stream.
    pub session: PublisherSession,
    /// The room that was taken for it; none when the store was away.
    pub reservation: Option<ReservationId>,
    /// The publisher's address.
    pub address: Option<IpAddr>,
    /// The stream is still fed to another origin. It moves when the first media comes here, and this origin
    /// claims it when it has something to list.
    pub handover: bool,
    /// Why it comes to this origin.
    pub placed: Option<Placed>,
    /// What its last claim had come to, as far as the balancer knows.
    pub reached: Option<Reached>,
}

impl PublishTicket {
    /// The properties that carry it, signed in the name of `node`.
    ///
    /// # Errors
    /// [`Distrust`] when the token cannot be signed.
    pub fn properties(&self, node: &NodeId, key: &ClusterKey) -> Result<Vec<(String, String)>, Distrust> {
        let mut properties =
            vec![(TOKEN.to_owned(), key.token(node)?), (SESSION.to_owned(), self.session.to_string())];
        properties.extend(self.reservation.as_ref().map(|r| (RESERVATION.to_owned(), r.to_string())));
        properties.extend(self.handover.then(|| (HANDOVER.to_owned(), "1".to_owned())));
        properties.extend(self.address.map(|a| (ADDRESS.to_owned(), a.to_string())));
        properties.extend(self.placed.as_ref().and_then(|p| Some((PLACED.to_owned(), p.text()?))));
        properties.extend(self.reached.and_then(|r| Some((REACHED.to_owned(), r.text()?))));
        Ok(properties)
    }

    /// Reads it from properties, and checks who sent it.
    ///
    /// # Errors
    /// [`Distrust`] when it does not come from a node of this cluster.
    pub fn read<'a>(
        property: impl Fn(&str) -> Option<&'a str>,
        key: &ClusterKey,
    ) -> Result<(Self, NodeId), Distrust> {
        let node = key.verify(property(TOKEN))?;
        let ticket = Self {
            session: property(SESSION).map_or_else(PublisherSession::random, Into::into),
            reservation: property(RESERVATION).map(Into::into),
            handover: property(HANDOVER).is_some(),
            address: property(ADDRESS).and_then(|a| a.parse().ok()),
            placed: property(PLACED).and_then(Placed::read),
            reached: property(REACHED).and_then(Reached::read),
        };
        Ok((ticket, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMs;
    use crate::ids::Epoch;
    use crate::placed::Because;

    #[test]
    fn a_ticket_whose_token_was_tampered_with_is_refused() {
        let key = ClusterKey::random();
        let token = key.token(&"lb-1".parse().unwrap()).unwrap();
        let read = |token: &str| PublishTicket::read(|name| (name == TOKEN).then_some(token), &key);
        assert!(read(&token).is_ok());
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            // Another letter of its alphabet, which is more than a stray bit that only pads.
            bytes[at] = if bytes[at] == b'A' { b'Q' } else { b'A' };
            let tampered = String::from_utf8(bytes).unwrap();
            assert_eq!(read(&tampered).err(), Some(Distrust::Invalid), "{tampered}");
        }
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        assert_eq!(read(unsigned).err(), Some(Distrust::Invalid));
        assert_eq!(read(&format!("{unsigned}.")).err(), Some(Distrust::Invalid));
    }

    #[test]
    fn a_ticket_arrives_as_it_was_sent_and_only_within_the_cluster() {
        let key = ClusterKey::random();
        let node: NodeId = "lb-1".parse().unwrap();
        let ticket = PublishTicket {
            session: PublisherSession::random(),
            reservation: Some(ReservationId::random()),
            address: Some("192.0.2.7".parse().unwrap()),
            handover: true,
            placed: Some(Placed {
                by: node.clone(),
                at: UnixMs(7),
                because: Because::HasTheStream,
                cost_mpx: 2.0,
                of: 1,
                candidates: Vec::new(),
            }),
            reached: Some(Reached { epoch: Epoch(8), claims: 2, sequence: 5, sequence_at: UnixMs(9) }),
        };
        let sent = ticket.properties(&node, &key).unwrap();
        let find = |name: &str| sent.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(PublishTicket::read(find, &key), Ok((ticket, node)));
        assert_eq!(PublishTicket::read(find, &ClusterKey::random()), Err(Distrust::Invalid));
        assert_eq!(PublishTicket::read(|_| None, &key), Err(Distrust::Missing));
    }
}
