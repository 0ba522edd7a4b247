//! ICE user names that say which shard a session is on, so that whichever socket a check arrives at, it can
//! be passed on without a table.

use rand::Rng as _;
use str0m::IceCreds;

/// Characters of the user name after the shard. 24 of them have 142 bits; ICE asks for 24 (RFC 8445 5.3).
const RANDOM: usize = 22;
/// Characters of the password; ICE asks for 22 (RFC 8445 5.3).
const PASSWORD: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// New credentials of a session on `shard`.
pub(crate) fn credentials(shard: u8) -> IceCreds {
    IceCreds { ufrag: format!("{shard:02x}{}", random(RANDOM)), pass: random(PASSWORD) }
}

/// The shard that a user name belongs to; `None` when it is none of ours.
pub(crate) fn shard_of(ufrag: &str) -> Option<u8> {
    if ufrag.len() != 2 + RANDOM || !ufrag.is_ascii() {
        return None;
    }
    let shard = ufrag.get(..2)?;
    // `from_str_radix` would take a sign.
    shard.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(shard, 16).ok())?
}

fn random(characters: usize) -> String {
    let mut rng = rand::rng();
    let mut one = || char::from(ALPHABET.get(rng.random_range(0..ALPHABET.len())).copied().unwrap_or(b'0'));
    (0..characters).map(|_| one()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_user_name_tells_its_shard(shard in any::<u8>()) {
            prop_assert_eq!(shard_of(&credentials(shard).ufrag), Some(shard));
        }

        #[test]
        fn any_text_is_read(text in ".{0,40}") {
            let _ = shard_of(&text);
        }
    }

    #[test]
    fn other_user_names_have_no_shard() {
        for other in ["", "0", "abcd", "+1ABCDEFGHIJKLMNOPQRSTUV", "zzABCDEFGHIJKLMNOPQRSTUV"] {
            assert_eq!(shard_of(other), None, "{other}");
        }
    }
}
