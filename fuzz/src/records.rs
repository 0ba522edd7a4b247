//! Inputs that are sequences: a kind, a length, so many bytes, and again. A mutation within one leaves the
//! others as they are, so that a fuzzer gets past the first of them.

use bytes::Bytes;

/// One element of a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is; each target says what its numbers mean.
    pub kind: u8,
    /// Its bytes, as many as there are.
    pub body: Bytes,
}

/// The sequence that `data` is. A length past the end means all that is left.
pub fn read(data: &[u8]) -> impl Iterator<Item = Record> + '_ {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (&[kind, high, low], after) = rest.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (body, after) = after.split_at(length);
        rest = after;
        Some(Record { kind, body: Bytes::copy_from_slice(body) })
    })
}

/// The bytes of a sequence; bodies are cut at 65,535 bytes.
#[must_use]
pub fn write(records: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (kind, body) in records {
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
        data.push(*kind);
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(&body[..usize::from(length)]);
    }
    data
}
