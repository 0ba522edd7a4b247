//! How often a password may be tried.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Wrong passwords from one address within [`WINDOW`]; more tries are not looked at.
const WRONG_MAX: u32 = 5;
/// How long a wrong password counts.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses remembered. When so many fail at once, none of the others is looked at either.
const ADDRESSES_MAX: usize = 1_024;

/// Who failed lately.
#[derive(Debug, Default)]
pub(super) struct Tries(HashMap<IpAddr, Wrong>);

#[derive(Debug)]
struct Wrong {
    count: u32,
    since: Instant,
}

impl Tries {
    /// Takes a try for `from` at `now`; `false` when it has none left. A try that succeeds gives all of them
    /// back ([`Tries::succeeded`]).
    pub(super) fn take(&mut self, from: IpAddr, now: Instant) -> bool {
        self.0.retain(|_, wrong| now.duration_since(wrong.since) < WINDOW);
        if self.0.len() >= ADDRESSES_MAX && !self.0.contains_key(&from) {
            return false;
        }
        let wrong = self.0.entry(from).or_insert(Wrong { count: 0, since: now });
        wrong.count = wrong.count.saturating_add(1);
        wrong.count <= WRONG_MAX
    }

    /// Forgets what `from` got wrong.
    pub(super) fn succeeded(&mut self, from: IpAddr) {
        self.0.remove(&from);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::clock;

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from(n).into()
    }

    #[test]
    fn tries_run_out_and_come_back_with_time_or_success() {
        let (mut tries, now) = (Tries::default(), clock::now());
        for _ in 0..WRONG_MAX {
            assert!(tries.take(address(1), now));
        }
        assert!(!tries.take(address(1), now));
        assert!(tries.take(address(2), now), "others are not touched");
        assert!(tries.take(address(1), now + WINDOW));
        tries.succeeded(address(1));
        assert!((0..WRONG_MAX).all(|_| tries.take(address(1), now + WINDOW)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut tries, now) = (Tries::default(), clock::now());
        let taken = (0..5_000).filter(|n| tries.take(address(*n), now)).count();
        assert_eq!((taken, tries.0.len()), (ADDRESSES_MAX, ADDRESSES_MAX));
    }
}
