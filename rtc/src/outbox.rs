//! Datagrams on their way out. Those for one address that follow each other and have one size leave together,
//! in one system call where the kernel can cut them apart again (GSO).

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

/// What the kernel takes in one call.
const SEGMENTS_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 63 << 10;

/// Where datagrams go.
pub trait Wire: Send {
    /// Sends `bytes`, which are datagrams of `segment` bytes each, the last one perhaps shorter, from the
    /// address `from` where the socket has several. What cannot be sent is lost, as on any network.
    fn send(&mut self, from: Option<IpAddr>, to: SocketAddr, bytes: &[u8], segment: usize);
}

/// Gathers datagrams.
pub(crate) struct Outbox {
    wire: Box<dyn Wire>,
    bytes: Vec<u8>,
    from: Option<IpAddr>,
    to: Option<SocketAddr>,
    segment: usize,
    segments: usize,
    /// A shorter one was the last.
    complete: bool,
}

impl Outbox {
    pub(crate) fn new(wire: Box<dyn Wire>) -> Self {
        let bytes = Vec::with_capacity(BATCH_BYTES_MAX);
        Self { wire, bytes, from: None, to: None, segment: 0, segments: 0, complete: false }
    }

    pub(crate) fn push(&mut self, from: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) {
        let copy = |room: &mut [u8]| {
            room.copy_from_slice(datagram);
            Ok::<_, Infallible>(())
        };
        let Ok(()) = self.write(from, to, datagram.len(), copy);
    }

    /// Has a datagram of `len` bytes written in its place, so that it is not copied there. One that fails is not
    /// sent.
    pub(crate) fn write<E>(
        &mut self,
        from: Option<IpAddr>,
        to: SocketAddr,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if len == 0 {
            return Ok(());
        }
        if !self.joins(from, to, len) {
            self.flush();
            self.from = from;
            (self.to, self.segment, self.complete) = (Some(to), len, false);
        }
        let begin = self.bytes.len();
        self.bytes.resize(begin + len, 0);
        if let Err(error) = write(self.bytes.get_mut(begin..).unwrap_or_default()) {
            self.bytes.truncate(begin);
            self.complete = true;
            return Err(error);
        }
        self.segments += 1;
        self.complete = len < self.segment;
        Ok(())
    }

    /// Sends what was gathered.
    pub(crate) fn flush(&mut self) {
        if let Some(to) = self.to.take()
            && !self.bytes.is_empty()
        {
            self.wire.send(self.from, to, &self.bytes, self.segment);
        }
        self.bytes.clear();
        self.segments = 0;
    }

    fn joins(&self, from: Option<IpAddr>, to: SocketAddr, len: usize) -> bool {
        self.to == Some(to)
            && self.from == from
            && !self.complete
            && len <= self.segment
            && self.segments < SEGMENTS_MAX
            && self.bytes.len() + len <= BATCH_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use proptest::prelude::*;

    use super::*;

    type Sent = (SocketAddr, Vec<u8>, usize);

    struct Recorder(mpsc::Sender<Sent>);

    impl Wire for Recorder {
        fn send(&mut self, _: Option<IpAddr>, to: SocketAddr, bytes: &[u8], segment: usize) {
            self.0.send((to, bytes.to_vec(), segment)).unwrap();
        }
    }

    fn run(datagrams: &[(u16, usize)]) -> Vec<Sent> {
        let (sender, sent) = mpsc::channel();
        let mut outbox = Outbox::new(Box::new(Recorder(sender)));
        for (n, (port, len)) in datagrams.iter().enumerate() {
            let fill = u8::try_from(n % 251).unwrap();
            outbox.push(None, SocketAddr::from(([127, 0, 0, 1], *port)), &vec![fill; *len]);
        }
        outbox.flush();
        drop(outbox);
        sent.into_iter().collect()
    }

    #[test]
    fn a_frame_to_one_address_leaves_in_one_piece() {
        let sent = run(&[(1, 1200), (1, 1200), (1, 300), (1, 1200), (2, 1200)]);
        let shape: Vec<_> =
            sent.iter().map(|(to, bytes, segment)| (to.port(), bytes.len(), *segment)).collect();
        assert_eq!(shape, [(1, 2700, 1200), (1, 1200, 1200), (2, 1200, 1200)]);
    }

    proptest! {
        #[test]
        fn cutting_them_apart_gives_back_every_datagram(
            datagrams in proptest::collection::vec((1..4_u16, 1..1_500_usize), 0..200),
        ) {
            let mut cut = Vec::new();
            for (to, bytes, segment) in run(&datagrams) {
                prop_assert!(bytes.len() <= BATCH_BYTES_MAX && bytes.len().div_ceil(segment) <= SEGMENTS_MAX);
                cut.extend(bytes.chunks(segment).map(|piece| (to.port(), piece.len(), piece[0])));
            }
            let asked: Vec<_> = datagrams
                .iter()
                .enumerate()
                .map(|(n, (port, len))| (*port, *len, u8::try_from(n % 251).unwrap()))
                .collect();
            prop_assert_eq!(cut, asked);
        }
    }
}
