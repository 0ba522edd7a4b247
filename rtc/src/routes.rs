//! Which session a datagram is for: by its source address once an ICE check from there was proven, by the
//! ICE user name before. Maps, no scans; everything in them is bounded by the number of sessions.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::limits;

/// Where an address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// A session of this shard.
    Here(usize),
    /// Another shard.
    Neighbour(u8),
}

/// One shard's tables.
#[derive(Default)]
pub(crate) struct Routes {
    addresses: HashMap<SocketAddr, Route>,
    neighbours: usize,
    ufrags: HashMap<String, usize>,
}

impl Routes {
    pub(crate) fn by_address(&self, source: SocketAddr) -> Option<Route> {
        self.addresses.get(&source).copied()
    }

    pub(crate) fn by_ufrag(&self, ufrag: &str) -> Option<usize> {
        self.ufrags.get(ufrag).copied()
    }

    pub(crate) fn add_ufrag(&mut self, ufrag: String, session: usize) {
        self.ufrags.insert(ufrag, session);
    }

    pub(crate) fn remove_ufrag(&mut self, ufrag: &str) {
        self.ufrags.remove(ufrag);
    }

    /// `source` has proven to be `session`'s.
    pub(crate) fn add_address(&mut self, source: SocketAddr, session: usize) {
        if let Some(Route::Neighbour(_)) = self.addresses.insert(source, Route::Here(session)) {
            self.neighbours -= 1;
        }
    }

    /// `source` is `session`'s no more.
    pub(crate) fn remove_address(&mut self, source: SocketAddr, session: usize) {
        if self.addresses.get(&source) == Some(&Route::Here(session)) {
            self.addresses.remove(&source);
        }
    }

    /// What comes from `source` is for `shard`, which has proven it. When there are too many, they are all
    /// forgotten: each is told of again at its next check.
    pub(crate) fn learn(&mut self, source: SocketAddr, shard: u8) {
        if self.neighbours >= limits::NEIGHBOURS_ADDRESSES {
            self.addresses.retain(|_, route| matches!(route, Route::Here(_)));
            self.neighbours = 0;
        }
        match self.addresses.insert(source, Route::Neighbour(shard)) {
            Some(Route::Neighbour(_)) => {}
            _ => self.neighbours += 1,
        }
    }

    /// `shard` has no session at `source` any more.
    pub(crate) fn forget(&mut self, source: SocketAddr, shard: u8) {
        if self.addresses.get(&source) == Some(&Route::Neighbour(shard)) {
            self.addresses.remove(&source);
            self.neighbours -= 1;
        }
    }
}

/// How many ICE checks come from where nobody is known, counted by the second.
#[derive(Default)]
pub(crate) struct StunBudget {
    since: Option<Instant>,
    sources: HashMap<IpAddr, u32>,
    others: u32,
}

impl StunBudget {
    /// Whether one more check from `source` may be looked at.
    pub(crate) fn allows(&mut self, source: IpAddr, per_source: u32, now: Instant) -> bool {
        let fresh =
            self.since.is_some_and(|since| now.saturating_duration_since(since) < Duration::from_secs(1));
        if !fresh {
            (self.since, self.others) = (Some(now), 0);
            self.sources.clear();
        }
        let room = self.sources.len() < limits::STUN_SOURCES;
        let count = match self.sources.get_mut(&source) {
            Some(count) => count,
            None if room => self.sources.entry(source).or_default(),
            None => &mut self.others,
        };
        *count = count.saturating_add(1);
        *count <= per_source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn an_address_leads_to_whoever_proved_it_last() {
        let mut routes = Routes::default();
        routes.learn(address(1), 3);
        assert_eq!(routes.by_address(address(1)), Some(Route::Neighbour(3)));
        routes.add_address(address(1), 7);
        routes.forget(address(1), 3);
        assert_eq!(routes.by_address(address(1)), Some(Route::Here(7)));
        routes.add_address(address(1), 8);
        routes.remove_address(address(1), 7);
        assert_eq!(routes.by_address(address(1)), Some(Route::Here(8)));
        routes.remove_address(address(1), 8);
        assert_eq!((routes.by_address(address(1)), routes.neighbours), (None, 0));
    }

    #[test]
    fn neighbours_are_bounded_and_sessions_kept() {
        let mut routes = Routes::default();
        routes.add_address(address(1), 7);
        for n in 0..limits::NEIGHBOURS_ADDRESSES + 10 {
            let host = u32::try_from(n).unwrap().to_be_bytes();
            routes.learn(SocketAddr::from((host, 9)), 3);
        }
        assert_eq!(routes.neighbours, 10);
        assert_eq!(routes.addresses.len(), 11);
        assert_eq!(routes.by_address(address(1)), Some(Route::Here(7)));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    fn a_flood_from_one_source_leaves_room_for_others() {
        let (mut budget, begin) = (StunBudget::default(), Instant::now());
        let (flood, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let allowed = (0..1_000).filter(|_| budget.allows(flood, 10, begin)).count();
        assert_eq!(allowed, 10);
        assert!(budget.allows(other, 10, begin));
        assert!(budget.allows(flood, 10, begin + Duration::from_secs(1)));
        for n in 0..100_000_u32 {
            budget.allows(IpAddr::from(n.to_be_bytes()), 10, begin + Duration::from_secs(1));
        }
        assert!(budget.sources.len() <= limits::STUN_SOURCES);
    }
}
