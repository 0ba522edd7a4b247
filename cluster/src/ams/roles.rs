//! What AMS's nodes do: origin or edge. Their documents do not say it; AMS's own load balancer is told by
//! network (its script's `ORIGIN_NETWORK` and `EDGE_NETWORK`), and so is ours, by `lb.roles`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::node::Role;

/// Networks and roles; the first that holds an address counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleRules(Vec<(IpNet, Role)>);

/// Why a rule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// Neither an address nor a network.
    #[error("{0:?} is neither an address nor a network such as 10.0.1.0/24")]
    Network(String),
    /// AMS has no balancers.
    #[error("{0}: AMS's nodes are \"origin\" or \"edge\"")]
    Role(IpNet),
}

impl RoleRules {
    /// Rules as written: an address or a network, and a role.
    ///
    /// # Errors
    /// [`BadRule`] names the first that cannot be used.
    pub fn read(rules: impl IntoIterator<Item = (String, Role)>) -> Result<Self, BadRule> {
        let read = |(text, role): (String, Role)| {
            let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
            let network = text.parse().ok().or_else(address).ok_or_else(|| BadRule::Network(text.clone()))?;
            if role == Role::Lb { Err(BadRule::Role(network)) } else { Ok((network, role)) }
        };
        rules.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The role of the node at `address`.
    #[must_use]
    pub fn role_of(&self, address: IpAddr) -> Option<Role> {
        self.0.iter().find(|(network, _)| network.contains(&address)).map(|(_, role)| *role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: &[(&str, Role)]) -> Result<RoleRules, BadRule> {
        RoleRules::read(rules.iter().map(|(network, role)| ((*network).to_owned(), *role)))
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rules =
            rules(&[("10.0.1.7", Role::Edge), ("10.0.1.0/24", Role::Origin), ("fd00::/8", Role::Edge)]);
        let role = |ip: &str| rules.as_ref().unwrap().role_of(ip.parse().unwrap());
        assert_eq!(role("10.0.1.7"), Some(Role::Edge));
        assert_eq!(role("10.0.1.8"), Some(Role::Origin));
        assert_eq!(role("fd00::1"), Some(Role::Edge));
        assert_eq!(role("10.0.2.1"), None);
    }

    #[test]
    fn rules_that_mean_nothing_are_refused() {
        assert_eq!(rules(&[("10.0.1/24", Role::Edge)]), Err(BadRule::Network("10.0.1/24".to_owned())));
        assert!(matches!(rules(&[("10.0.1.0/24", Role::Lb)]), Err(BadRule::Role(_))));
    }
}
