//! Messages out of chunks. Every chunk stream has a buffer of its own, which grows as bytes arrive: a
//! header's promise is checked against the limits and otherwise believed only as far as it is kept.

use bytes::{Buf, Bytes};

use super::{ABORT, EXTENDED_TIME, INITIAL_CHUNK_BYTES, Message, SET_CHUNK_SIZE};
use crate::rtmp::limits::{CHUNK_SIZE_MAX, Limits};
use crate::rtmp::{RtmpError, chunk};

/// A chunk's longest header: 3 bytes of chunk stream id, 11 of message header, 4 of extended time.
const HEADER_BYTES_MAX: usize = 18;
/// What a message's buffer begins with, if the message is that long: most are copied once and never moved.
const FIRST_RESERVE_BYTES: usize = 64 << 10;

/// Reads one direction of a connection after its handshake.
#[derive(Debug)]
pub struct ChunkReader {
    limits: Limits,
    chunk_size: usize,
    /// The start of a header whose end has not arrived.
    header: Vec<u8>,
    /// The chunk being read, with the bytes it still lacks. Its chunk stream is not among `streams`.
    current: Option<(ChunkStream, usize)>,
    streams: Vec<ChunkStream>,
    /// The sum of the capacities of all unfinished payloads.
    reserved_bytes: usize,
}

/// What is remembered of a chunk stream between chunks. A message is unfinished while `payload` is not
/// empty, because every chunk of a message that has a body carries at least one byte.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    timestamp_ms: u32,
    /// The last time field: what a header without one repeats.
    time: u32,
    extended: bool,
    length: usize,
    type_id: u8,
    stream_id: u32,
    payload: Vec<u8>,
}

impl ChunkReader {
    /// A reader with the initial chunk size of 128 bytes.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk_size: usize::try_from(INITIAL_CHUNK_BYTES).unwrap_or(usize::MAX),
            header: Vec::with_capacity(HEADER_BYTES_MAX),
            current: None,
            streams: Vec::new(),
            reserved_bytes: 0,
        }
    }

    /// Takes bytes from the front of `input` up to the end of the next message. `None` means that all of
    /// `input` was taken and the next message has not ended. Set Chunk Size and Abort are obeyed here and
    /// not handed out.
    ///
    /// # Errors
    /// The stream breaks a rule or a limit; the reader is of no further use.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, RtmpError> {
        loop {
            let (mut stream, missing) = match self.current.take() {
                Some(chunk) => chunk,
                None => match self.read_header(input) {
                    Some(header) => self.begin_chunk(&header)?,
                    None => return Ok(None),
                },
            };
            let (body, rest) = input.split_at(missing.min(input.len()));
            *input = rest;
            self.append(&mut stream, body)?;
            if body.len() < missing {
                self.current = Some((stream, missing - body.len()));
                return Ok(None);
            }
            let message = self.end_chunk(&mut stream);
            self.streams.push(stream);
            let Some(message) = message else { continue };
            match message.type_id {
                SET_CHUNK_SIZE => self.set_chunk_size(&message.payload)?,
                ABORT => self.abort(&message.payload)?,
                _ => return Ok(Some(message)),
            }
        }
    }

    /// A whole header, or all of `input` kept until the rest of one arrives.
    fn read_header(&mut self, input: &mut &[u8]) -> Option<Header> {
        let held = self.header.len();
        let (head, rest) = input.split_at(input.len().min(HEADER_BYTES_MAX - held));
        self.header.extend_from_slice(head);
        let repeats_time = |id| self.streams.iter().any(|stream| stream.id == id && stream.extended);
        let Some((header, used)) = Header::parse(&self.header, repeats_time) else {
            *input = rest;
            return None;
        };
        input.advance(used - held);
        self.header.clear();
        Some(header)
    }

    /// The chunk stream of `header`, made ready for the chunk's body, and that body's length.
    fn begin_chunk(&mut self, header: &Header) -> Result<(ChunkStream, usize), RtmpError> {
        let mut stream = self.take_stream(header)?;
        if stream.payload.is_empty() {
            stream.begin_message(header);
            let limit = body_limit(&self.limits, stream.type_id);
            if stream.length > limit {
                let (type_id, bytes) = (stream.type_id, stream.length);
                return Err(RtmpError::MessageTooLong { type_id, bytes, limit });
            }
        } else if header.format != 3 {
            return Err(RtmpError::HeaderInsideMessage(header.id));
        }
        let missing = stream.length - stream.payload.len();
        Ok((stream, missing.min(self.chunk_size)))
    }

    fn take_stream(&mut self, header: &Header) -> Result<ChunkStream, RtmpError> {
        if let Some(at) = self.streams.iter().position(|stream| stream.id == header.id) {
            return Ok(self.streams.swap_remove(at));
        }
        // A first header without a stream id is taken as the connection's: librtmp pings like that.
        if header.format > 1 {
            return Err(RtmpError::NoEarlierHeader(header.id));
        }
        if self.streams.len() >= self.limits.chunk_streams {
            return Err(RtmpError::ChunkStreams(self.limits.chunk_streams));
        }
        Ok(ChunkStream::new(header.id))
    }

    fn append(&mut self, stream: &mut ChunkStream, body: &[u8]) -> Result<(), RtmpError> {
        let (length, capacity) = (stream.payload.len(), stream.payload.capacity());
        let needed = length + body.len();
        if needed > capacity {
            let target = needed.max(capacity * 2).max(FIRST_RESERVE_BYTES).min(stream.length);
            if self.reserved_bytes + (target - capacity) > self.limits.partial_bytes {
                return Err(RtmpError::PartialBytes(self.limits.partial_bytes));
            }
            stream.payload.reserve_exact(target - length);
            self.reserved_bytes += stream.payload.capacity() - capacity;
        }
        stream.payload.extend_from_slice(body);
        Ok(())
    }

    /// The message, if this chunk was its last one.
    fn end_chunk(&mut self, stream: &mut ChunkStream) -> Option<Message> {
        if stream.payload.len() < stream.length {
            return None;
        }
        Some(Message {
            type_id: stream.type_id,
            stream_id: stream.stream_id,
            timestamp_ms: stream.timestamp_ms,
            payload: Bytes::from(release(&mut self.reserved_bytes, stream)),
        })
    }

    fn set_chunk_size(&mut self, mut payload: &[u8]) -> Result<(), RtmpError> {
        let size = payload.try_get_u32().map_err(|_| RtmpError::ControlTooShort(SET_CHUNK_SIZE))?;
        if size == 0 || size > CHUNK_SIZE_MAX {
            return Err(RtmpError::ChunkSize(size));
        }
        self.chunk_size = usize::try_from(size).unwrap_or(usize::MAX);
        Ok(())
    }

    fn abort(&mut self, mut payload: &[u8]) -> Result<(), RtmpError> {
        let id = payload.try_get_u32().map_err(|_| RtmpError::ControlTooShort(ABORT))?;
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
            release(&mut self.reserved_bytes, stream);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) const fn reserved_bytes(&self) -> usize {
        self.reserved_bytes
    }
}

fn release(reserved_bytes: &mut usize, stream: &mut ChunkStream) -> Vec<u8> {
    let payload = std::mem::take(&mut stream.payload);
    *reserved_bytes -= payload.capacity();
    payload
}

const fn body_limit(limits: &Limits, type_id: u8) -> usize {
    match type_id {
        chunk::AUDIO | chunk::VIDEO | chunk::DATA | chunk::DATA_AMF3 => limits.message_bytes,
        _ => limits.command_bytes,
    }
}

impl ChunkStream {
    const fn new(id: u32) -> Self {
        Self {
            id,
            timestamp_ms: 0,
            time: 0,
            extended: false,
            length: 0,
            type_id: 0,
            stream_id: 0,
            payload: Vec::new(),
        }
    }

    /// Takes over what the header says; what it leaves out stays as it was (5.3.1.2).
    fn begin_message(&mut self, header: &Header) {
        if header.format == 0 {
            self.stream_id = header.stream_id;
        }
        if header.format <= 1 {
            self.length = header.length;
            self.type_id = header.type_id;
        }
        if header.format <= 2 {
            self.time = header.time;
            self.extended = header.extended;
        }
        // After a header with an absolute time, one without any repeats that time as its delta
        // (5.3.1.2.4): strange, but ffmpeg writes by that rule.
        self.timestamp_ms =
            if header.format == 0 { self.time } else { self.timestamp_ms.wrapping_add(self.time) };
    }
}

/// A chunk's header; fields that its format leaves out are zero.
#[derive(Debug)]
struct Header {
    format: u8,
    id: u32,
    time: u32,
    extended: bool,
    length: usize,
    type_id: u8,
    stream_id: u32,
}

impl Header {
    /// The header at the front of `bytes` and its length, or `None` if it has not fully arrived.
    /// `repeats_time` says of a chunk stream whether headers without a time have an extended one.
    fn parse(bytes: &[u8], repeats_time: impl Fn(u32) -> bool) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let first = rest.try_get_u8().ok()?;
        let id = match first & 0x3F {
            0 => 64 + u32::from(rest.try_get_u8().ok()?),
            1 => 64 + u32::from(rest.try_get_u16_le().ok()?),
            id => u32::from(id),
        };
        let format = first >> 6;
        let mut header = Self { format, id, time: 0, extended: false, length: 0, type_id: 0, stream_id: 0 };
        if format <= 2 {
            header.time = get_u24(&mut rest)?;
        }
        if format <= 1 {
            header.length = usize::try_from(get_u24(&mut rest)?).ok()?;
            header.type_id = rest.try_get_u8().ok()?;
        }
        if format == 0 {
            header.stream_id = rest.try_get_u32_le().ok()?;
        }
        header.extended = if format == 3 { repeats_time(id) } else { header.time == EXTENDED_TIME };
        if header.extended {
            header.time = rest.try_get_u32().ok()?;
        }
        Some((header, bytes.len() - rest.len()))
    }
}

fn get_u24(bytes: &mut &[u8]) -> Option<u32> {
    let high = bytes.try_get_u8().ok()?;
    let low = bytes.try_get_u16().ok()?;
    Some(u32::from(high) << 16 | u32::from(low))
}
