//! The least that sending to viewers can cost: payloads copied and encrypted (AES-128-GCM, as SRTP has it, RFC
//! 7714), and handed to the kernel a frame at a time (GSO). No sessions, no feedback, no timers.

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use super::FRAMES_PER_S;
use crate::cpu;

const VIEWERS: usize = 100;
/// What an RTP packet of a picture carries.
const PAYLOAD_BYTES: usize = 1_150;
const SOUND_BYTES: usize = 160;
const HEADER_BYTES: usize = 20;
const TAG_BYTES: usize = 16;
/// Pictures and packets of sound in a tenth of a second.
const PICTURES: usize = 3;
const SOUNDS: usize = 5;

/// CPU time of a packet, µs, for a stream of so many kbit/s, measured for `long`.
pub(super) fn packet_us(kbps: u32, long: Duration) -> anyhow::Result<f64> {
    let receivers: Vec<UdpSocket> =
        (0..VIEWERS).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let addresses = receivers.iter().map(UdpSocket::local_addr).collect::<Result<Vec<_>, _>>()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| read(&receivers, &over));
        let sent = send(&addresses, kbps, long);
        over.store(true, Ordering::Relaxed);
        reading.join().map_err(|_| anyhow!("the receivers broke off"))??;
        sent
    })
}

fn send(viewers: &[SocketAddr], kbps: u32, long: Duration) -> anyhow::Result<f64> {
    let mut wire = Wire::new()?;
    let picture = vec![0x5a; (kbps * 1_000 / 8 / FRAMES_PER_S) as usize];
    let sound = [0x5a; SOUND_BYTES];
    let (begun, mut packets) = (cpu::used_by_this_thread()?, 0);
    loop {
        for frame in
            std::iter::repeat_n(&picture[..], PICTURES).chain(std::iter::repeat_n(&sound[..], SOUNDS))
        {
            for viewer in viewers {
                packets += wire.send(*viewer, frame)?;
            }
        }
        let used = cpu::used_by_this_thread()?.saturating_sub(begun);
        if used >= long {
            return Ok(used.as_secs_f64() * 1e6 / packets as f64);
        }
    }
}

struct Wire {
    socket: UdpSocket,
    state: UdpSocketState,
    key: LessSafeKey,
    packets: u64,
    out: Vec<u8>,
}

impl Wire {
    fn new() -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(|_| anyhow!("no key"))?;
        Ok(Self { socket, state, key: LessSafeKey::new(key), packets: 0, out: Vec::new() })
    }

    /// Sends a frame in one call. Returns its packets.
    fn send(&mut self, to: SocketAddr, frame: &[u8]) -> anyhow::Result<u64> {
        self.out.clear();
        for payload in frame.chunks(PAYLOAD_BYTES) {
            self.seal(payload)?;
        }
        let segment = HEADER_BYTES + PAYLOAD_BYTES + TAG_BYTES;
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: &self.out,
            segment_size: (self.out.len() > segment).then_some(segment),
            src_ip: None,
        };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit)?;
        Ok(frame.len().div_ceil(PAYLOAD_BYTES) as u64)
    }

    fn seal(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.packets += 1;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.packets.to_be_bytes());
        let begin = self.out.len();
        self.out.extend([0x80; HEADER_BYTES]);
        self.out.extend_from_slice(payload);
        let (header, body) = self.out[begin..].split_at_mut(HEADER_BYTES);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(header), body);
        self.out.extend_from_slice(tag.map_err(|_| anyhow!("nothing was encrypted"))?.as_ref());
        Ok(())
    }
}

/// Takes what comes, as the viewers of the comparison do, so that the sender meets sockets with room.
fn read(receivers: &[UdpSocket], over: &AtomicBool) -> anyhow::Result<()> {
    let states = receivers.iter().map(|socket| UdpSocketState::new(UdpSockRef::from(socket)));
    let states: Vec<_> = states.collect::<Result<_, _>>().context("a receiver")?;
    let mut bytes = vec![0; 1 << 16];
    while !over.load(Ordering::Relaxed) {
        for (socket, state) in receivers.iter().zip(&states) {
            let (mut slices, mut metas) = ([IoSliceMut::new(&mut bytes)], [RecvMeta::default()]);
            // A socket without anything is no failure.
            while state.recv(UdpSockRef::from(socket), &mut slices, &mut metas).is_ok() {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives_cut_into_packets() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut wire = Wire::new().unwrap();
        assert_eq!(wire.send(receiver.local_addr().unwrap(), &[1; 2_500]).unwrap(), 3);
        let mut bytes = [0; 2_000];
        let overhead = HEADER_BYTES + TAG_BYTES;
        for payload in [PAYLOAD_BYTES, PAYLOAD_BYTES, 200] {
            assert_eq!(receiver.recv(&mut bytes).unwrap(), payload + overhead);
            assert_ne!(&bytes[HEADER_BYTES..HEADER_BYTES + 16], &[1; 16], "it is encrypted");
        }
    }
}
