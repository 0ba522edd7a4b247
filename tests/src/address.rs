//! An address of 127.0.0.0/8 for each node, so that many nodes have their usual ports on one machine.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Whoever listens on this port of an address has claimed the address. Above the ports that the kernel hands
/// out, and used by nothing else.
const CLAIM_PORT: u16 = 61_999;

/// Addresses tried before giving up.
const TRIES: u32 = 1_000;

/// An address that no other test uses while this is held.
pub struct Host {
    ip: Ipv4Addr,
    _claim: TcpListener,
}

impl Host {
    /// Claims one.
    ///
    /// # Panics
    /// When none is free.
    #[must_use]
    pub fn claim() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..TRIES {
            // Processes start 64 addresses apart; where they meet, the claim decides.
            let number =
                std::process::id().wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let [_, a, b, c] = number.to_be_bytes();
            let ip = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
            if let Ok(claim) = TcpListener::bind((ip, CLAIM_PORT)) {
                return Self { ip, _claim: claim };
            }
        }
        panic!("{TRIES} addresses of 127.0.0.0/8 are taken");
    }

    /// The address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// A port of it.
    #[must_use]
    pub fn port(&self, port: u16) -> SocketAddr {
        (self.ip, port).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_nobody_elses_while_it_is_held() {
        let hosts: Vec<Host> = (0..300).map(|_| Host::claim()).collect();
        let mut ips: Vec<Ipv4Addr> = hosts.iter().map(Host::ip).collect();
        ips.sort_unstable();
        ips.dedup();
        assert_eq!(ips.len(), 300);
        assert!(TcpListener::bind(hosts[0].port(5080)).is_ok());
        assert!(TcpListener::bind(hosts[0].port(CLAIM_PORT)).is_err());
    }
}
