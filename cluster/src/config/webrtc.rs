//! `[webrtc]`: how clients reach this node's UDP ports, and which STUN and TURN servers they are told of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use serde::Deserialize;

use super::ConfigError;
use super::secret::{RawSecret, Written};

/// ICE servers told to clients at most.
const ICE_SERVERS_MAX: usize = 8;
/// An address of the documentation's (RFC 5737): nothing is ever sent there.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// `[webrtc]`
#[derive(Debug, Clone)]
pub struct WebRtcSettings {
    /// Where clients reach this node, when it is not where it listens.
    pub public_address: Option<IpAddr>,
    /// STUN and TURN servers told to clients.
    pub ice_servers: Vec<IceServer>,
    /// Threads that serve sessions, for each role.
    pub threads: usize,
}

/// A STUN or TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:…`, `turn:…` or `turns:…` (RFC 7064, RFC 7065).
    pub url: String,
    /// TURN's user.
    pub username: Option<String>,
    /// Its password, which clients are told.
    pub credential: Option<String>,
}

impl WebRtcSettings {
    /// Where clients are told that they reach a UDP port which listens on `listen`, best first; `advertise`
    /// is where other nodes reach this one.
    #[must_use]
    pub fn candidates(&self, listen: SocketAddr, advertise: IpAddr) -> Vec<SocketAddr> {
        let mut addresses = Vec::from_iter(self.public_address);
        if listen.ip().is_unspecified() {
            addresses.extend(
                [Some(advertise).filter(|a| !a.is_loopback()), default_route()].into_iter().flatten(),
            );
            addresses.push(Ipv4Addr::LOCALHOST.into());
        } else {
            addresses.push(listen.ip());
        }
        let mut candidates: Vec<SocketAddr> = Vec::new();
        for address in addresses.into_iter().filter(|a| !a.is_unspecified()) {
            let candidate = SocketAddr::new(address, listen.port());
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
        candidates
    }
}

impl IceServer {
    /// The value of a `Link` header that tells of it (RFC 9725 section 4.6).
    #[must_use]
    pub fn link(&self) -> String {
        let mut link = format!("<{}>; rel=\"ice-server\"", self.url);
        if let (Some(username), Some(credential)) = (&self.username, &self.credential) {
            link.push_str(&format!(
                "; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\""
            ));
        }
        link
    }
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer")
            .field("url", &self.url)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWebRtc {
    public_address: Option<IpAddr>,
    ice_servers: Option<Vec<RawIceServer>>,
    threads: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIceServer {
    url: String,
    username: Option<String>,
    credential: Option<RawSecret>,
}

pub(super) fn resolve(raw: RawWebRtc, cores: usize) -> Result<WebRtcSettings, ConfigError> {
    let servers = raw.ice_servers.unwrap_or_default();
    if servers.len() > ICE_SERVERS_MAX {
        return Err(ConfigError::invalid("webrtc.ice_servers", format!("at most {ICE_SERVERS_MAX}")));
    }
    if raw.public_address.is_some_and(|address| address.is_unspecified()) {
        return Err(ConfigError::invalid("webrtc.public_address", "the one address that clients reach"));
    }
    let threads = raw.threads.unwrap_or_else(|| cores.min(64));
    if !(1..=64).contains(&threads) {
        return Err(ConfigError::invalid("webrtc.threads", "between 1 and 64"));
    }
    let ice_servers = servers.into_iter().map(resolve_server).collect::<Result<_, _>>()?;
    Ok(WebRtcSettings { public_address: raw.public_address, ice_servers, threads })
}

fn resolve_server(raw: RawIceServer) -> Result<IceServer, ConfigError> {
    const KEY: &str = "webrtc.ice_servers";
    let credential = Written::text_or_file(KEY, raw.credential, None).read()?;
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\".contains(&b))
    };
    if ![Some(&raw.url), raw.username.as_ref(), credential.as_ref()].into_iter().flatten().all(|t| plain(t)) {
        return Err(ConfigError::invalid(KEY, "visible ASCII characters without quotes, < and >"));
    }
    let is_turn = raw.url.starts_with("turn:") || raw.url.starts_with("turns:");
    if !is_turn && !raw.url.starts_with("stun:") {
        return Err(ConfigError::invalid(KEY, "a url begins with stun:, turn: or turns:"));
    }
    if is_turn != (raw.username.is_some() && credential.is_some()) {
        return Err(ConfigError::invalid(
            KEY,
            "TURN servers, and only they, have a username and a credential",
        ));
    }
    Ok(IceServer { url: raw.url, username: raw.username, credential })
}

/// The address that this machine speaks to others from, by its routes.
fn default_route() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ELSEWHERE).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Result<WebRtcSettings, ConfigError> {
        resolve(toml::from_str(text).unwrap(), 4)
    }

    #[test]
    fn servers_are_told_by_link_headers() {
        let text = "ice_servers = [{ url = \"stun:s.example\" }, \
                    { url = \"turn:t.example?transport=udp\", username = \"u\", credential = \"c\" }]";
        let settings = raw(text).unwrap();
        let links: Vec<_> = settings.ice_servers.iter().map(IceServer::link).collect();
        assert_eq!(links[0], "<stun:s.example>; rel=\"ice-server\"");
        assert!(links[1].ends_with("; username=\"u\"; credential=\"c\"; credential-type=\"password\""));
        assert!(!format!("{settings:?}").contains("\"c\""));
        assert_eq!(settings.threads, 4);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "ice_servers = [{ url = \"http://x\" }]",
            "ice_servers = [{ url = \"turn:x\" }]",
            "ice_servers = [{ url = \"stun:x\\\"\" }]",
            "public_address = \"0.0.0.0\"",
            "threads = 0",
        ] {
            assert!(raw(text).is_err(), "{text}");
        }
    }

    #[test]
    fn clients_are_told_of_addresses_that_they_can_reach() {
        let advertise: IpAddr = "10.0.0.5".parse().unwrap();
        let listen: SocketAddr = "10.0.0.5:50001".parse().unwrap();
        let settings = raw("").unwrap();
        assert_eq!(settings.candidates(listen, advertise), [listen]);
        let any = settings.candidates("0.0.0.0:50001".parse().unwrap(), advertise);
        assert_eq!(any[0], listen);
        assert!(any.iter().all(|a| a.port() == 50_001 && !a.ip().is_unspecified()));
        let natted = raw("public_address = \"203.0.113.7\"").unwrap().candidates(listen, advertise);
        assert_eq!(natted, ["203.0.113.7:50001".parse().unwrap(), listen]);
    }
}
