//! ICE fragments of a session description (RFC 8840 section 9): what WHIP's and WHEP's PATCH carries.

use std::net::SocketAddr;

use str0m::IceCreds;

use crate::error::Refused;
use crate::{limits, sdp};

/// The media type of a fragment.
pub const MEDIA_TYPE: &str = "application/trickle-ice-sdpfrag";

/// A fragment that came: the credentials of the ICE session it is about. Its candidates are not needed: an
/// ICE-lite server answers checks and sends none (RFC 8445 2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    pub(crate) credentials: Option<IceCreds>,
}

/// What changing the ICE session brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IceChange {
    /// The ICE session goes on.
    Trickled,
    /// A new ICE session has begun.
    Restarted {
        /// The user name of its server side, which names it.
        ufrag: String,
        /// The fragment to answer with.
        fragment: String,
    },
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// [`Refused`] when it is too long, has a line that is none, or half of the credentials.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        if text.len() > limits::FRAGMENT_BYTES {
            return Err(Refused::TooLong);
        }
        let malformed = |why: &str| Refused::Malformed(why.to_owned());
        let is_line = |line: &str| line.as_bytes().get(1) == Some(&b'=');
        if text.is_empty() || !text.lines().all(|line| line.is_empty() || is_line(line)) {
            return Err(malformed("a fragment has lines like a=candidate:…"));
        }
        let credentials = match (sdp::value(text, "a=ice-ufrag:"), sdp::value(text, "a=ice-pwd:")) {
            (None, None) => None,
            // RFC 8839 5.4: 4 to 256 and 22 to 256 ICE characters.
            (Some(ufrag), Some(pass)) if is_ice(ufrag, 4) && is_ice(pass, 22) => {
                Some(IceCreds { ufrag: ufrag.to_owned(), pass: pass.to_owned() })
            }
            _ => return Err(malformed("a=ice-ufrag and a=ice-pwd come together, of 4 and 22 characters")),
        };
        Ok(Self { credentials })
    }
}

/// The fragment that tells a server's new credentials and where it is reached.
pub(crate) fn restarted(credentials: &IceCreds, local: &[SocketAddr], mid: &str) -> String {
    let mut text = format!(
        "a=ice-lite\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\n",
        credentials.ufrag, credentials.pass
    );
    for (n, address) in local.iter().enumerate() {
        let (ip, port, priority) = (address.ip(), address.port(), 2_130_706_431 - n);
        text.push_str(&format!("a=candidate:{n} 1 udp {priority} {ip} {port} typ host\r\n"));
    }
    text.push_str("a=end-of-candidates\r\n");
    text
}

fn is_ice(text: &str, least: usize) -> bool {
    let ice = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    (least..=256).contains(&text.len()) && text.bytes().all(ice)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Option<String>, Refused> {
        Fragment::parse(text).map(|fragment| fragment.credentials.map(|c| c.ufrag))
    }

    #[test]
    fn trickled_candidates_and_a_restart() {
        let pwd = "a=ice-pwd:P7dnX3HSRkkcJcuKZcGhyb7P\r\n";
        let trickle = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\n\
                       a=mid:0\r\na=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host\r\n";
        assert_eq!(parse(trickle), Ok(Some("EsAw".to_owned())));
        assert_eq!(parse("a=end-of-candidates\r\n"), Ok(None));
        assert!(matches!(parse(pwd), Err(Refused::Malformed(_))));
        assert!(matches!(parse(&format!("a=ice-ufrag:ab c\r\n{pwd}")), Err(Refused::Malformed(_))));
        assert!(matches!(parse("hello"), Err(Refused::Malformed(_))));
        assert!(matches!(parse(""), Err(Refused::Malformed(_))));
        assert_eq!(parse(&"a=x\r\n".repeat(limits::FRAGMENT_BYTES)), Err(Refused::TooLong));
    }

    #[test]
    fn what_is_answered_can_be_read() {
        let credentials = IceCreds { ufrag: "00abcd".to_owned(), pass: "p".repeat(32) };
        let text = restarted(&credentials, &[SocketAddr::from(([192, 0, 2, 1], 50_001))], "0");
        assert_eq!(Fragment::parse(&text).unwrap().credentials, Some(credentials));
        assert!(text.contains("a=candidate:0 1 udp 2130706431 192.0.2.1 50001 typ host\r\n"), "{text}");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "((a=ice-(ufrag|pwd):)?[ -~]{0,40}\r?\n){0,8}") {
            if let Ok(Fragment { credentials: Some(credentials) }) = Fragment::parse(&text) {
                prop_assert!(credentials.ufrag.len() >= 4 && credentials.pass.len() >= 22);
            }
        }
    }
}
