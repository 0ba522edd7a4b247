//! Proxies in front of a balancer, and whom they speak for. Those that the operator trusts (`lb.trusted_proxies`) may
//! say who is behind a connection, by a PROXY header, or behind a request, by `X-Forwarded-For`. Nobody else is
//! believed.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use ppp::{PartialResult as _, v1, v2};

/// The longest PROXY header: version 2 with all that load balancers add to it.
pub const HEADER_BYTES: usize = 2_048;

/// How a header of version 1 begins, and the longest.
const V1: &[u8] = b"PROXY ";
const V1_BYTES: usize = 107;

/// The networks whose hosts are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// No PROXY header.
    Other,
    /// Perhaps one; there must be more to tell.
    Incomplete,
    /// One.
    Header {
        /// How long it is.
        bytes: usize,
        /// The client; `None` when the proxy speaks for itself, as in a health check.
        client: Option<SocketAddr>,
    },
    /// One that is broken.
    Bad,
}

impl TrustedProxies {
    /// Addresses and networks (`10.0.0.0/8`) as they are written.
    ///
    /// # Errors
    /// The first that is neither.
    pub fn read(networks: &[String]) -> Result<Self, String> {
        let network = |text: &String| {
            let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
            text.parse()
                .ok()
                .or_else(address)
                .ok_or_else(|| format!("{text:?} is neither an address nor a network such as 10.0.1.0/24"))
        };
        networks.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the host at `address` is believed.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client behind a request that came from `peer`, by the values of `X-Forwarded-For`, the first header
    /// first: each proxy adds whom it was asked by, so the last that is not one of ours is the client. What comes
    /// before that anybody can have written.
    #[must_use]
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        for named in forwarded_for.rev().flat_map(|value| value.rsplit(',')) {
            if !self.trusts(client) {
                break;
            }
            let Some(address) = address_in(named.trim()) else { break };
            client = address.to_canonical();
        }
        client
    }
}

/// Reads the PROXY header, of version 1 or 2, at the start of a connection (HAProxy, `proxy-protocol.txt`).
#[must_use]
pub fn beginning(bytes: &[u8]) -> Beginning {
    match bytes {
        _ if V1.starts_with(bytes) || v2::PROTOCOL_PREFIX.starts_with(bytes) => Beginning::Incomplete,
        _ if bytes.starts_with(V1) => read_v1(bytes),
        _ if bytes.starts_with(v2::PROTOCOL_PREFIX) => read_v2(bytes),
        _ => Beginning::Other,
    }
}

fn read_v1(bytes: &[u8]) -> Beginning {
    let end = bytes.iter().take(V1_BYTES).position(|byte| *byte == b'\n');
    let Some(line) = end.and_then(|end| bytes.get(..=end)) else {
        return if bytes.len() < V1_BYTES { Beginning::Incomplete } else { Beginning::Bad };
    };
    match v1::Header::try_from(line) {
        Ok(header) => Beginning::Header { bytes: header.header.len(), client: v1_client(&header.addresses) },
        Err(_) => Beginning::Bad,
    }
}

fn read_v2(bytes: &[u8]) -> Beginning {
    match v2::Header::try_from(bytes) {
        Ok(header) => Beginning::Header { bytes: header.as_bytes().len(), client: v2_client(&header) },
        Err(error) if error.is_incomplete() && bytes.len() < HEADER_BYTES => Beginning::Incomplete,
        Err(_) => Beginning::Bad,
    }
}

fn v1_client(addresses: &v1::Addresses) -> Option<SocketAddr> {
    match addresses {
        v1::Addresses::Tcp4(a) => Some((a.source_address, a.source_port).into()),
        v1::Addresses::Tcp6(a) => Some((a.source_address, a.source_port).into()),
        v1::Addresses::Unknown => None,
    }
}

fn v2_client(header: &v2::Header<'_>) -> Option<SocketAddr> {
    match header.addresses {
        _ if header.command == v2::Command::Local => None,
        v2::Addresses::IPv4(a) => Some((a.source_address, a.source_port).into()),
        v2::Addresses::IPv6(a) => Some((a.source_address, a.source_port).into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    }
}

/// An address as proxies write it: alone, or with a port.
fn address_in(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port).or_else(bracketed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> TrustedProxies {
        TrustedProxies::read(&["10.0.0.0/8".to_owned(), "2001:db8::1".to_owned()]).unwrap()
    }

    #[track_caller]
    fn behind(peer: &str, headers: &[&str], expect: &str) {
        let client = trusted().client(peer.parse().unwrap(), headers.iter().copied());
        assert_eq!(client, expect.parse::<IpAddr>().unwrap(), "{peer} {headers:?}");
    }

    #[test]
    fn only_trusted_proxies_say_who_asks() {
        behind("192.0.2.1", &["198.51.100.7"], "192.0.2.1");
        behind("10.0.0.1", &[], "10.0.0.1");
        behind("10.0.0.1", &["198.51.100.7"], "198.51.100.7");
        behind("::ffff:10.0.0.1", &["198.51.100.7"], "198.51.100.7");
        behind("2001:db8::1", &["203.0.113.1, 198.51.100.7:4711, 10.9.9.9"], "198.51.100.7");
        behind("10.0.0.1", &["203.0.113.1", "198.51.100.7"], "198.51.100.7");
        behind("10.0.0.1", &["[2001:db8::7]:443"], "2001:db8::7");
        behind("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2");
        assert!(TrustedProxies::read(&["10.0.0.0/33".to_owned()]).is_err());
        assert!(!TrustedProxies::default().trusts("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn headers_of_both_versions_are_read() {
        let text = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\nGET /";
        let client = Some("192.0.2.7:4711".parse().unwrap());
        assert_eq!(beginning(text), Beginning::Header { bytes: text.len() - 5, client });
        let text = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n";
        let client = Some("[2001:db8::7]:4711".parse().unwrap());
        assert_eq!(beginning(text), Beginning::Header { bytes: text.len(), client });
        assert_eq!(beginning(b"PROXY UNKNOWN\r\n"), Beginning::Header { bytes: 15, client: None });

        let addresses = v2::Addresses::from(v2::IPv4::new([192, 0, 2, 7], [10, 0, 0, 1], 4_711, 443));
        let made = |command| {
            let stream = v2::Version::Two | command;
            v2::Builder::with_addresses(stream, v2::Protocol::Stream, addresses).build().unwrap()
        };
        let client = Some("192.0.2.7:4711".parse().unwrap());
        assert_eq!(beginning(&made(v2::Command::Proxy)), Beginning::Header { bytes: 28, client });
        assert_eq!(beginning(&made(v2::Command::Local)), Beginning::Header { bytes: 28, client: None });
    }

    #[test]
    fn what_is_none_is_told_from_what_is_broken() {
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"POST /",
            b"PROPFIND /",
            b"\x03\0\0\0",
            b"\x16\x03\x01",
            b"\r\n\r\nGET",
        ] {
            assert_eq!(beginning(other), Beginning::Other, "{other:?}");
        }
        for bad in [
            &b"PROXY TCP4 192.0.2.777 10.0.0.1 1 2\r\n"[..],
            b"PROXY TCP5 a b 1 2\r\n",
            b"PROXY TCP4 \xff\r\n",
        ] {
            assert_eq!(beginning(bad), Beginning::Bad, "{bad:?}");
        }
        let long = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff], &[0; HEADER_BYTES]].concat();
        assert_eq!(beginning(&long), Beginning::Bad, "longer than is read");
        assert_eq!(beginning(&[b"PROXY ", &[b'x'; 200][..]].concat()), Beginning::Bad);
    }

    proptest! {
        #[test]
        fn a_header_that_comes_in_pieces_is_incomplete_until_it_is_there(
            source: [u8; 4], port in 1u16.., text: bool, rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let header = if text {
                let [a, b, c, d] = source;
                format!("PROXY TCP4 {a}.{b}.{c}.{d} 10.0.0.1 {port} 443\r\n").into_bytes()
            } else {
                let addresses = v2::Addresses::from(v2::IPv4::new(source, [10, 0, 0, 1], port, 443));
                let stream = v2::Version::Two | v2::Command::Proxy;
                v2::Builder::with_addresses(stream, v2::Protocol::Stream, addresses).build().unwrap()
            };
            for length in 0..header.len() {
                prop_assert_eq!(beginning(&header[..length]), Beginning::Incomplete, "{}", length);
            }
            let whole = Beginning::Header { bytes: header.len(), client: Some((source, port).into()) };
            prop_assert_eq!(beginning(&[header, rest].concat()), whole);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(start in 0usize..3, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let starts = [&b""[..], V1, v2::PROTOCOL_PREFIX];
            let bytes = [starts[start], &rest].concat();
            if let Beginning::Header { bytes: length, .. } = beginning(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
