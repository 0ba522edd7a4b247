//! Rendezvous hashing: every node orders the edges for a stream alike, and an edge that comes or
//! goes moves only the streams that it wins or loses.

use std::hash::{Hash, Hasher};

/// A 64-bit hash that is the same in every process and version: FNV-1a, then a finaliser that spreads it
/// over all bits (MurmurHash3's).
#[derive(Debug, Clone)]
pub(super) struct StableHasher(u64);

impl Default for StableHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let mut h = self.0;
        h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        h ^ (h >> 33)
    }
}

/// A number in `(0, 1)`, evenly spread, that is always the same for `value`.
pub(super) fn unit(value: &impl Hash) -> f64 {
    let mut hasher = StableHasher::default();
    value.hash(&mut hasher);
    // 53 bits fill a double's mantissa; the half keeps it off both ends.
    ((hasher.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// A candidate's score for a key: the highest wins. Of two candidates the one with twice the weight wins
/// twice the keys, and one that gains weight only wins more (weighted rendezvous hashing: -w / ln u).
pub(super) fn score(key: &impl Hash, candidate: &str, weight: f64) -> f64 {
    -weight / unit(&(candidate, HashOf(key))).ln()
}

struct HashOf<'a, K>(&'a K);

impl<K: Hash> Hash for HashOf<'_, K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
