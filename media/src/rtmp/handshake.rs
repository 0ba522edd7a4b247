//! The plain handshake (5.2): each side sends a version byte and 1,536 bytes, and echoes the peer's. The
//! four bytes after the time stay zero, which tells Flash-era peers not to look for a signed digest.

use bytes::{BufMut, BytesMut};

use super::RtmpError;

/// Random bytes in each side's packet, after four bytes of time and four of zero.
pub const RANDOM_BYTES: usize = 1528;

const VERSION: u8 = 3;
const PACKET_BYTES: usize = 1536;

/// One side of a handshake. It holds at most one packet of the peer.
#[derive(Debug)]
pub struct Handshake {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The peer's version byte is awaited; our own packet is still unsent on the server's side.
    Version {
        unsent: Option<Box<[u8; RANDOM_BYTES]>>,
    },
    /// The peer's packet arrives.
    Packet {
        unsent: Option<Box<[u8; RANDOM_BYTES]>>,
        received: Vec<u8>,
    },
    /// The echo of our packet arrives. Encoders differ in what they send, so it is not compared.
    Echo {
        missing: usize,
    },
    Done,
}

impl Handshake {
    /// The server's side: it says nothing before the client has shown that it speaks RTMP.
    #[must_use]
    pub fn server(random: &[u8; RANDOM_BYTES]) -> Self {
        Self { stage: Stage::Version { unsent: Some(Box::new(*random)) } }
    }

    /// The client's side, whose first bytes go to `out` at once.
    #[must_use]
    pub fn client(random: &[u8; RANDOM_BYTES], out: &mut BytesMut) -> Self {
        put_hello(random, out);
        Self { stage: Stage::Version { unsent: None } }
    }

    /// Whether everything was sent and received.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Takes what belongs to the handshake from the front of `input` and appends what is to be sent.
    ///
    /// # Errors
    /// [`RtmpError::Version`] unless the peer's first byte is 3.
    pub fn read(&mut self, input: &mut &[u8], out: &mut BytesMut) -> Result<(), RtmpError> {
        while !input.is_empty() && !self.is_done() {
            self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Version { unsent } => {
                    let version = take(input, 1).first().copied().unwrap_or_default();
                    if version != VERSION {
                        return Err(RtmpError::Version(version));
                    }
                    Stage::Packet { unsent, received: Vec::with_capacity(PACKET_BYTES) }
                }
                Stage::Packet { unsent, mut received } => {
                    received.extend_from_slice(take(input, PACKET_BYTES - received.len()));
                    if received.len() < PACKET_BYTES {
                        Stage::Packet { unsent, received }
                    } else {
                        if let Some(random) = unsent {
                            put_hello(&random, out);
                        }
                        out.put_slice(&received);
                        Stage::Echo { missing: PACKET_BYTES }
                    }
                }
                Stage::Echo { missing } => match missing - take(input, missing).len() {
                    0 => Stage::Done,
                    missing => Stage::Echo { missing },
                },
                Stage::Done => Stage::Done,
            };
        }
        Ok(())
    }
}

fn put_hello(random: &[u8; RANDOM_BYTES], out: &mut BytesMut) {
    out.put_u8(VERSION);
    out.put_u64(0);
    out.put_slice(random);
}

/// Cuts up to `count` bytes off the front.
fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, rest) = input.split_at(count.min(input.len()));
    *input = rest;
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(side: &mut Handshake, bytes: &[u8], piece: usize) -> BytesMut {
        let mut out = BytesMut::new();
        for part in bytes.chunks(piece) {
            let mut input = part;
            side.read(&mut input, &mut out).unwrap();
            assert!(input.is_empty(), "nothing follows the handshake here");
        }
        out
    }

    #[test]
    fn both_sides_finish_whatever_the_pieces() {
        for piece in [1, 7, 1536, 1537, 4000] {
            let mut to_server = BytesMut::new();
            let mut client = Handshake::client(&[7; RANDOM_BYTES], &mut to_server);
            let mut server = Handshake::server(&[9; RANDOM_BYTES]);
            let to_client = feed(&mut server, &to_server, piece);
            assert_eq!(to_client.len(), 1 + 2 * PACKET_BYTES);
            assert_eq!(&to_client[1 + PACKET_BYTES..], &to_server[1..], "the echo");
            let echo = feed(&mut client, &to_client, piece);
            assert!(client.is_done());
            assert_eq!(&echo[..], &to_client[1..=PACKET_BYTES]);
            assert!(feed(&mut server, &echo, piece).is_empty());
            assert!(server.is_done());
        }
    }

    #[test]
    fn bytes_after_the_handshake_stay() {
        let mut server = Handshake::server(&[0; RANDOM_BYTES]);
        let mut bytes = vec![3_u8];
        bytes.resize(1 + 2 * PACKET_BYTES, 0);
        bytes.extend_from_slice(b"rest");
        let mut input = &bytes[..];
        server.read(&mut input, &mut BytesMut::new()).unwrap();
        assert_eq!(input, b"rest");
    }

    #[test]
    fn another_version_is_refused_without_a_word() {
        let mut out = BytesMut::new();
        for first in [0, 6, b'G', 0x16] {
            let mut server = Handshake::server(&[0; RANDOM_BYTES]);
            assert_eq!(server.read(&mut &[first][..], &mut out), Err(RtmpError::Version(first)));
        }
        assert!(out.is_empty());
    }
}
