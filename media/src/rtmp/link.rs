//! What both sides of a connection share: handshake, chunks in both directions, and the control messages
//! that need no decision (acknowledgements, pings).

use bytes::{Buf, Bytes, BytesMut};

use super::amf::AmfValue;
use super::chunk::{self, ChunkReader, ChunkWriter, Message};
use super::handshake::{Handshake, RANDOM_BYTES};
use super::limits::{OWN_CHUNK_BYTES, WINDOW_BYTES, WINDOW_BYTES_MIN};
use super::{Limits, RtmpError, command};

/// User control events (6.2).
const STREAM_BEGIN: u16 = 0;
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: u16 = 7;
/// Set Peer Bandwidth's limit type "dynamic" (5.4.5).
const DYNAMIC: u8 = 2;

#[derive(Debug)]
pub(super) struct Link {
    limits: Limits,
    handshake: Handshake,
    reader: ChunkReader,
    writer: ChunkWriter,
    output: BytesMut,
    /// Bytes received after the handshake, wrapping as the protocol's count does.
    received: u32,
    acknowledged: u32,
    window_bytes: u32,
}

impl Link {
    pub(super) fn server(limits: Limits, random: &[u8; RANDOM_BYTES]) -> Self {
        Self::new(limits, Handshake::server(random), BytesMut::new())
    }

    pub(super) fn client(limits: Limits, random: &[u8; RANDOM_BYTES]) -> Self {
        let mut output = BytesMut::new();
        let handshake = Handshake::client(random, &mut output);
        Self::new(limits, handshake, output)
    }

    fn new(limits: Limits, handshake: Handshake, output: BytesMut) -> Self {
        Self {
            limits,
            handshake,
            reader: ChunkReader::new(limits),
            writer: ChunkWriter::new(),
            output,
            received: 0,
            acknowledged: 0,
            window_bytes: WINDOW_BYTES,
        }
    }

    /// Whether the handshake is done, after taking what belongs to it from `input`.
    pub(super) fn shake_hands(&mut self, input: &mut &[u8]) -> Result<bool, RtmpError> {
        self.handshake.read(input, &mut self.output)?;
        Ok(self.handshake.is_done())
    }

    /// The next message that is not this link's own business. AMF3's wrapping of data and commands is
    /// taken off.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, RtmpError> {
        loop {
            let before = input.len();
            let message = self.reader.read(input)?;
            self.count(before - input.len())?;
            let Some(mut message) = message else { return Ok(None) };
            match message.type_id {
                chunk::ACKNOWLEDGEMENT => {}
                chunk::USER_CONTROL => self.user_control(&message.payload)?,
                chunk::WINDOW_SIZE => {
                    self.window_bytes = get_u32(&message)?.max(WINDOW_BYTES_MIN);
                }
                chunk::PEER_BANDWIDTH => self.send_control(chunk::WINDOW_SIZE, get_u32(&message)?)?,
                chunk::DATA_AMF3 | chunk::COMMAND_AMF3 => {
                    // 15 and 17 are 18 and 20 with a byte before them.
                    message.type_id += 3;
                    message.payload.advance(message.payload.len().min(1));
                    return Ok(Some(message));
                }
                _ => return Ok(Some(message)),
            }
        }
    }

    /// Sends one message; the output may grow to its limit.
    pub(super) fn send(
        &mut self,
        type_id: u8,
        stream_id: u32,
        timestamp_ms: u32,
        payload: &[u8],
    ) -> Result<(), RtmpError> {
        if self.output.len().saturating_add(payload.len()) > self.limits.output_bytes {
            return Err(RtmpError::OutputFull(self.limits.output_bytes));
        }
        self.writer.write(type_id, stream_id, timestamp_ms, payload, &mut self.output)
    }

    pub(super) fn send_command(
        &mut self,
        stream_id: u32,
        name: &str,
        transaction: f64,
        arguments: &[AmfValue],
    ) -> Result<(), RtmpError> {
        self.send(chunk::COMMAND, stream_id, 0, &command::encode(name, transaction, arguments))
    }

    pub(super) fn send_chunk_size(&mut self) -> Result<(), RtmpError> {
        self.writer.set_chunk_size(OWN_CHUNK_BYTES, &mut self.output)
    }

    /// What a server says about flow before it answers `connect`.
    pub(super) fn send_windows(&mut self) -> Result<(), RtmpError> {
        self.send_control(chunk::WINDOW_SIZE, WINDOW_BYTES)?;
        let [a, b, c, d] = WINDOW_BYTES.to_be_bytes();
        self.send(chunk::PEER_BANDWIDTH, 0, 0, &[a, b, c, d, DYNAMIC])
    }

    pub(super) fn send_stream_begin(&mut self, stream_id: u32) -> Result<(), RtmpError> {
        self.send_user_control(STREAM_BEGIN, stream_id)
    }

    pub(super) fn take_output(&mut self) -> Bytes {
        self.output.split().freeze()
    }

    /// Acknowledges whenever the peer's window has been received (5.4.3).
    fn count(&mut self, bytes: usize) -> Result<(), RtmpError> {
        // The count wraps by design; one read never takes 4 GiB.
        self.received = self.received.wrapping_add(bytes as u32);
        if self.received.wrapping_sub(self.acknowledged) < self.window_bytes {
            return Ok(());
        }
        self.acknowledged = self.received;
        self.send_control(chunk::ACKNOWLEDGEMENT, self.received)
    }

    fn user_control(&mut self, mut payload: &[u8]) -> Result<(), RtmpError> {
        let short = |_| RtmpError::ControlTooShort(chunk::USER_CONTROL);
        if payload.try_get_u16().map_err(short)? != PING_REQUEST {
            return Ok(());
        }
        let time = payload.try_get_u32().map_err(short)?;
        self.send_user_control(PING_RESPONSE, time)
    }

    fn send_user_control(&mut self, event: u16, value: u32) -> Result<(), RtmpError> {
        let [a, b] = event.to_be_bytes();
        let [c, d, e, f] = value.to_be_bytes();
        self.send(chunk::USER_CONTROL, 0, 0, &[a, b, c, d, e, f])
    }

    fn send_control(&mut self, type_id: u8, value: u32) -> Result<(), RtmpError> {
        self.send(type_id, 0, 0, &value.to_be_bytes())
    }
}

fn get_u32(message: &Message) -> Result<u32, RtmpError> {
    message.payload.as_ref().try_get_u32().map_err(|_| RtmpError::ControlTooShort(message.type_id))
}
