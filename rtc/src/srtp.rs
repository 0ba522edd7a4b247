//! SRTP and SRTCP for the media that is sent past the engine (RFC 3711, RFC 7714): the sending side of RTP, both
//! sides of RTCP.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{self, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use str0m::crypto::dtls::SrtpProfile;

use crate::keying::Agreed;

/// Labels of the keys that are derived of a master key (RFC 3711 section 4.3.2).
const RTP: Labels = Labels { key: 0, authentication: 1, salt: 2 };
const RTCP: Labels = Labels { key: 3, authentication: 4, salt: 5 };

/// What AES-CM's packets are authenticated with, in bytes: the key, and what is sent of the tag.
const HMAC_KEY_BYTES: usize = 20;
const HMAC_TAG_BYTES: usize = 10;
const GCM_TAG_BYTES: usize = 16;
const CM_SALT_BYTES: usize = 14;
const GCM_SALT_BYTES: usize = 12;
/// RTCP's header and SSRC, which stay readable.
const RTCP_CLEAR_BYTES: usize = 8;
const RTCP_INDEX_BYTES: usize = 4;
/// Says that a packet of RTCP is encrypted, beside its index.
const ENCRYPTED: u32 = 1 << 31;

struct Labels {
    key: u8,
    authentication: u8,
    salt: u8,
}

/// Encrypts what a session sends.
pub(crate) struct Sealer {
    rtp: Cipher,
    rtcp: Cipher,
    rtcp_index: u32,
}

/// Decrypts the RTCP that a session is sent.
pub(crate) struct Opener {
    rtcp: Cipher,
}

/// Both, of the keys that DTLS has agreed on. `None`: keys of a profile that nobody has offered.
pub(crate) fn contexts(agreed: &Agreed) -> Option<(Sealer, Opener)> {
    let ours = Master::of(agreed, agreed.is_client)?;
    let theirs = Master::of(agreed, !agreed.is_client)?;
    let sealer = Sealer { rtp: ours.derive(&RTP).ok()?, rtcp: ours.derive(&RTCP).ok()?, rtcp_index: 0 };
    Some((sealer, Opener { rtcp: theirs.derive(&RTCP).ok()? }))
}

impl Sealer {
    /// By how much encryption makes an RTP packet longer, bytes.
    pub(crate) fn tag_bytes(&self) -> usize {
        self.rtp.tag_bytes()
    }

    /// Encrypts an RTP packet in place, after its header; the last [`Self::tag_bytes`] of it become the tag.
    /// `index` is the sequence number continued beyond 16 bits. The same index twice has to be the same packet:
    /// a counter that is used again gives the key away.
    pub(crate) fn rtp(
        &self,
        ssrc: u32,
        index: u64,
        packet: &mut [u8],
        header: usize,
    ) -> Result<(), Unspecified> {
        let tag_at = packet.len().checked_sub(self.tag_bytes()).ok_or(Unspecified)?;
        let (packet, tag) = packet.split_at_mut_checked(tag_at).ok_or(Unspecified)?;
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let (header, body) = packet.split_at_mut_checked(header).ok_or(Unspecified)?;
                let nonce = gcm_nonce(*salt, ssrc, index);
                let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), body)?;
                tag.copy_from_slice(sealed.as_ref());
            }
            Cipher::Cm { keys, salt } => {
                let body = packet.get_mut(header..).ok_or(Unspecified)?;
                cm_crypt(&keys.key, *salt, ssrc, index, body)?;
                let turns = u32::try_from((index >> 16) & u64::from(u32::MAX)).map_err(|_| Unspecified)?;
                let mut signed = hmac::Context::with_key(&keys.mac);
                signed.update(packet);
                signed.update(&turns.to_be_bytes());
                copy_start(tag, signed.sign().as_ref());
            }
        }
        Ok(())
    }

    /// Encrypts a compound RTCP packet.
    pub(crate) fn rtcp(&mut self, packet: &mut Vec<u8>) -> Result<(), Unspecified> {
        let index = self.rtcp_index;
        self.rtcp_index = index.checked_add(1).filter(|next| *next < ENCRYPTED).ok_or(Unspecified)?;
        let ssrc = ssrc_of(packet).ok_or(Unspecified)?;
        let word = (ENCRYPTED | index).to_be_bytes();
        let (clear, body) = packet.split_at_mut_checked(RTCP_CLEAR_BYTES).ok_or(Unspecified)?;
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let nonce = gcm_nonce(*salt, ssrc, index.into());
                let tag = key.seal_in_place_separate_tag(nonce, gcm_rtcp_aad(clear, word), body)?;
                packet.extend_from_slice(tag.as_ref());
                packet.extend_from_slice(&word);
            }
            Cipher::Cm { keys, salt } => {
                cm_crypt(&keys.key, *salt, ssrc, index.into(), body)?;
                packet.extend_from_slice(&word);
                let tag = hmac::sign(&keys.mac, packet);
                packet.extend(tag.as_ref().iter().take(HMAC_TAG_BYTES));
            }
        }
        Ok(())
    }
}

impl Opener {
    /// Decrypts an RTCP datagram in place. What it carries; `None` when it is not the other side's.
    pub(crate) fn rtcp<'a>(&self, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        let ssrc = ssrc_of(datagram)?;
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let (rest, word) = datagram.split_last_chunk_mut::<RTCP_INDEX_BYTES>()?;
                let index = index_of(*word)?;
                let (clear, body) = rest.split_at_mut_checked(RTCP_CLEAR_BYTES)?;
                let nonce = gcm_nonce(*salt, ssrc, index.into());
                key.open_in_place(nonce, gcm_rtcp_aad(clear, *word), body).ok()?;
                let length = rest.len().checked_sub(GCM_TAG_BYTES)?;
                rest.get(..length)
            }
            Cipher::Cm { keys, salt } => {
                let (signed, tag) = datagram.split_last_chunk_mut::<HMAC_TAG_BYTES>()?;
                let is_theirs = aws_lc_rs::constant_time::verify_slices_are_equal(
                    hmac::sign(&keys.mac, signed).as_ref().get(..HMAC_TAG_BYTES)?,
                    tag,
                );
                is_theirs.ok()?;
                let (packet, word) = signed.split_last_chunk_mut::<RTCP_INDEX_BYTES>()?;
                let body = packet.get_mut(RTCP_CLEAR_BYTES..)?;
                cm_crypt(&keys.key, *salt, ssrc, index_of(*word)?.into(), body).ok()?;
                Some(packet)
            }
        }
    }
}

enum Cipher {
    Gcm { key: LessSafeKey, salt: [u8; GCM_SALT_BYTES] },
    Cm { keys: Box<CmKeys>, salt: [u8; CM_SALT_BYTES] },
}

/// What encrypts by AES in counter mode, and what authenticates that.
struct CmKeys {
    key: EncryptingKey,
    mac: hmac::Key,
}

impl Cipher {
    fn tag_bytes(&self) -> usize {
        match self {
            Self::Gcm { .. } => GCM_TAG_BYTES,
            Self::Cm { .. } => HMAC_TAG_BYTES,
        }
    }
}

/// The master key and salt of one side.
struct Master<'a> {
    profile: SrtpProfile,
    key: &'a [u8],
    salt: &'a [u8],
}

impl<'a> Master<'a> {
    fn of(agreed: &'a Agreed, is_client: bool) -> Option<Self> {
        let (key_bytes, salt_bytes) = match agreed.profile {
            SrtpProfile::AES128_CM_SHA1_80 => (16, CM_SALT_BYTES),
            SrtpProfile::AEAD_AES_128_GCM => (16, GCM_SALT_BYTES),
            SrtpProfile::AEAD_AES_256_GCM => (32, GCM_SALT_BYTES),
            _ => return None,
        };
        let side = usize::from(!is_client);
        let (keys, salts) = agreed.material.split_at_checked(2 * key_bytes)?;
        let key = keys.chunks_exact(key_bytes).nth(side)?;
        let salt = salts.chunks_exact(salt_bytes).nth(side)?;
        Some(Self { profile: agreed.profile, key, salt })
    }

    fn derive(&self, labels: &Labels) -> Result<Cipher, Unspecified> {
        let mut key = vec![0; self.key.len()];
        self.stream(labels.key, &mut key)?;
        if self.profile == SrtpProfile::AES128_CM_SHA1_80 {
            let (mut salt, mut mac) = ([0; CM_SALT_BYTES], [0; HMAC_KEY_BYTES]);
            self.stream(labels.salt, &mut salt)?;
            self.stream(labels.authentication, &mut mac)?;
            let key = EncryptingKey::ctr(UnboundCipherKey::new(&cipher::AES_128, &key)?)?;
            let mac = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &mac);
            return Ok(Cipher::Cm { keys: Box::new(CmKeys { key, mac }), salt });
        }
        let algorithm =
            if self.profile == SrtpProfile::AEAD_AES_128_GCM { &AES_128_GCM } else { &AES_256_GCM };
        let mut salt = [0; GCM_SALT_BYTES];
        self.stream(labels.salt, &mut salt)?;
        Ok(Cipher::Gcm { key: LessSafeKey::new(UnboundKey::new(algorithm, &key)?), salt })
    }

    /// The key derivation: AES in counter mode, whose counter begins with the salt and the label (RFC 3711
    /// section 4.3.3, RFC 6188 section 3 for longer keys).
    fn stream(&self, label: u8, out: &mut [u8]) -> Result<(), Unspecified> {
        let mut counter = [0; 16];
        counter.iter_mut().zip(self.salt).for_each(|(counter, salt)| *counter = *salt);
        counter[7] ^= label;
        let algorithm = if self.key.len() == 16 { &cipher::AES_128 } else { &cipher::AES_256 };
        let key = EncryptingKey::ctr(UnboundCipherKey::new(algorithm, self.key)?)?;
        out.fill(0);
        key.less_safe_encrypt(out, EncryptionContext::Iv128(counter.into()))?;
        Ok(())
    }
}

/// The salt with the SSRC and the index in it, of RTP 48 bits and of RTCP 31 (RFC 7714 sections 8.1 and 9.1).
fn gcm_nonce(salt: [u8; GCM_SALT_BYTES], ssrc: u32, index: u64) -> Nonce {
    let mut nonce = [0; 16];
    let (_, low) = nonce.split_at_mut(16 - GCM_SALT_BYTES);
    low.copy_from_slice(&salt);
    let mask = (u128::from(ssrc) << 48) | u128::from(index & 0xffff_ffff_ffff);
    let nonce = (u128::from_be_bytes(nonce) ^ mask).to_be_bytes();
    let mut low = [0; GCM_SALT_BYTES];
    copy_start(&mut low, nonce.split_at(16 - GCM_SALT_BYTES).1);
    Nonce::assume_unique_for_key(low)
}

/// Encrypts or decrypts by AES in counter mode (RFC 3711 section 4.1.1).
fn cm_crypt(
    key: &EncryptingKey,
    salt: [u8; CM_SALT_BYTES],
    ssrc: u32,
    index: u64,
    body: &mut [u8],
) -> Result<(), Unspecified> {
    let mut counter = [0; 16];
    copy_start(&mut counter, &salt);
    let mask = (u128::from(ssrc) << 64) | (u128::from(index & 0xffff_ffff_ffff) << 16);
    let counter = (u128::from_be_bytes(counter) ^ mask).to_be_bytes();
    key.less_safe_encrypt(body, EncryptionContext::Iv128(counter.into()))?;
    Ok(())
}

/// What is authenticated and stays readable of RTCP: header, SSRC, and the index.
fn gcm_rtcp_aad(clear: &[u8], word: [u8; RTCP_INDEX_BYTES]) -> Aad<[u8; 12]> {
    let mut aad = [0; RTCP_CLEAR_BYTES + RTCP_INDEX_BYTES];
    copy_start(&mut aad, clear);
    let (_, at_end) = aad.split_at_mut(RTCP_CLEAR_BYTES);
    at_end.copy_from_slice(&word);
    Aad::from(aad)
}

fn copy_start(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

fn ssrc_of(rtcp: &[u8]) -> Option<u32> {
    let bytes = rtcp.get(4..8)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn index_of(word: [u8; RTCP_INDEX_BYTES]) -> Option<u32> {
    let word = u32::from_be_bytes(word);
    // What is not encrypted, WebRTC does not know (RFC 8827 section 6.5).
    (word & ENCRYPTED != 0).then_some(word & !ENCRYPTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter(char::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap()).collect()
    }

    fn agreed(profile: SrtpProfile, is_client: bool) -> Agreed {
        let material = (0..profile.keying_material_len()).map(|n| u8::try_from(n * 2).unwrap()).collect();
        Agreed { profile, material, is_client }
    }

    const PROFILES: [SrtpProfile; 3] =
        [SrtpProfile::AES128_CM_SHA1_80, SrtpProfile::AEAD_AES_128_GCM, SrtpProfile::AEAD_AES_256_GCM];

    /// RFC 3711 appendix B.3.
    #[test]
    fn keys_are_derived_as_in_the_standard() {
        let (key, salt) = (bytes("E1F97A0D3E018BE0D64FA32C06DE4139"), bytes("0EC675AD498AFEEBB6960B3AABE6"));
        let master = Master { profile: SrtpProfile::AES128_CM_SHA1_80, key: &key, salt: &salt };
        let derived = |label, length| {
            let mut out = vec![0; length];
            master.stream(label, &mut out).unwrap();
            out
        };
        assert_eq!(derived(RTP.key, 16), bytes("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derived(RTP.salt, 14), bytes("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(derived(RTP.authentication, 20), bytes("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    /// RFC 7714 section 16.1.1.
    #[test]
    fn packets_are_encrypted_as_in_the_standard() {
        let key = bytes("000102030405060708090a0b0c0d0e0f");
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap());
        let salt = bytes("517569642070726f2071756f").try_into().unwrap();
        let unused = contexts(&agreed(SrtpProfile::AEAD_AES_128_GCM, true)).unwrap().0.rtcp;
        let sealer = Sealer { rtp: Cipher::Gcm { key, salt }, rtcp: unused, rtcp_index: 0 };
        let mut packet = bytes("8040f17b8041f8d35501a0b2");
        packet.extend(b"Gallia est omnis divisa in partes tres");
        packet.extend([0; GCM_TAG_BYTES]);
        sealer.rtp(0x5501_a0b2, 0xf17b, &mut packet, 12).unwrap();
        let expected = "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce";
        assert_eq!(packet, bytes(expected));
    }

    /// RFC 3711 appendix B.2, and the packet that implementations compare themselves by.
    #[test]
    fn packets_are_encrypted_in_counter_mode_as_in_the_standard() {
        let key = bytes("2B7E151628AED2A6ABF7158809CF4F3C");
        let key = EncryptingKey::ctr(UnboundCipherKey::new(&cipher::AES_128, &key).unwrap()).unwrap();
        let salt = bytes("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        let mut stream = [0; 32];
        cm_crypt(&key, salt, 0, 0, &mut stream).unwrap();
        let expected = "E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB";
        assert_eq!(stream[..], bytes(expected));

        let (key, salt) = (bytes("e1f97a0d3e018be0d64fa32c06de4139"), bytes("0ec675ad498afeebb6960b3aabe6"));
        let master = Master { profile: SrtpProfile::AES128_CM_SHA1_80, key: &key, salt: &salt };
        let derived = |labels| master.derive(labels).unwrap();
        let sealer = Sealer { rtp: derived(&RTP), rtcp: derived(&RTCP), rtcp_index: 0 };
        let mut packet = bytes("800f1234decafbadcafebabe");
        packet.extend([0xab; 16]);
        packet.extend([0; HMAC_TAG_BYTES]);
        sealer.rtp(0xcafe_babe, 0x1234, &mut packet, 12).unwrap();
        let expected = "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb";
        assert_eq!(packet, bytes(expected));
    }

    #[test]
    fn the_other_side_reads_rtcp_once_it_is_whole() {
        for profile in PROFILES {
            let (mut sealer, _) = contexts(&agreed(profile, true)).unwrap();
            let (_, opener) = contexts(&agreed(profile, false)).unwrap();
            let (_, own) = contexts(&agreed(profile, true)).unwrap();
            let plain = bytes("80c90001000000070102030405060708");
            let mut sealed = [Vec::new(), Vec::new()];
            for out in &mut sealed {
                out.clone_from(&plain);
                sealer.rtcp(out).unwrap();
            }
            assert_ne!(sealed[0], sealed[1], "each has an index of its own");
            assert_eq!(opener.rtcp(&mut sealed[1].clone()), Some(&plain[..]));
            assert_eq!(own.rtcp(&mut sealed[1].clone()), None, "that is what this side has sent");
            for at in 0..sealed[0].len() {
                let mut damaged = sealed[0].clone();
                damaged[at] ^= 0x40;
                assert_eq!(opener.rtcp(&mut damaged), None, "{profile} {at}");
                assert_eq!(opener.rtcp(&mut sealed[0][..at].to_vec()), None, "{profile} {at}");
            }
        }
    }

    #[test]
    fn keys_that_are_too_short_are_none() {
        for profile in PROFILES {
            let mut agreed = agreed(profile, true);
            agreed.material.pop();
            assert!(contexts(&agreed).is_none());
        }
    }
}
