//! Messages into chunks. Each kind of message has a chunk stream of its own. The first message of one, and
//! any whose time steps back or far ahead, gets a full header with its absolute time; the others a delta.

use bytes::{BufMut, BytesMut};

use super::{AUDIO, COMMAND, DATA, EXTENDED_TIME, INITIAL_CHUNK_BYTES, SET_CHUNK_SIZE, VIDEO};
use crate::rtmp::RtmpError;
use crate::rtmp::limits::CHUNK_SIZE_MAX;

/// The longest body that a header's 24 bits can name.
const BODY_BYTES_MAX: usize = 0xFF_FFFF;
/// Room for a message's first header.
const HEADER_BYTES_MAX: usize = 16;

/// Writes one direction of a connection after its handshake.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk_size: usize,
    last: [Option<Last>; 5],
}

/// The message that the next one on the same chunk stream is told apart from.
#[derive(Debug, Clone, Copy)]
struct Last {
    stream_id: u32,
    timestamp_ms: u32,
}

/// The chunk streams in use. Ids begin at 2, which protocol control must have (5.3.1.1).
#[derive(Debug, Clone, Copy)]
enum Lane {
    Control,
    Command,
    Audio,
    Data,
    Video,
}

impl Lane {
    const fn of(type_id: u8) -> Self {
        match type_id {
            AUDIO => Self::Audio,
            VIDEO => Self::Video,
            DATA => Self::Data,
            COMMAND => Self::Command,
            _ => Self::Control,
        }
    }

    const fn id(self) -> u8 {
        self as u8 + 2
    }
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkWriter {
    /// A writer with the initial chunk size of 128 bytes.
    #[must_use]
    pub fn new() -> Self {
        Self { chunk_size: usize::try_from(INITIAL_CHUNK_BYTES).unwrap_or(usize::MAX), last: [None; 5] }
    }

    /// Tells the peer a new chunk size in bytes and uses it from then on.
    ///
    /// # Errors
    /// [`RtmpError::ChunkSize`] unless it is 1 to [`CHUNK_SIZE_MAX`].
    pub fn set_chunk_size(&mut self, bytes: u32, out: &mut BytesMut) -> Result<(), RtmpError> {
        if bytes == 0 || bytes > CHUNK_SIZE_MAX {
            return Err(RtmpError::ChunkSize(bytes));
        }
        self.write(SET_CHUNK_SIZE, 0, 0, &bytes.to_be_bytes(), out)?;
        self.chunk_size = usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(())
    }

    /// Appends one message to `out`.
    ///
    /// # Errors
    /// [`RtmpError::MessageTooLong`] if the payload has more than 0xFFFFFF bytes; nothing is appended.
    pub fn write(
        &mut self,
        type_id: u8,
        stream_id: u32,
        timestamp_ms: u32,
        payload: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), RtmpError> {
        let bytes = payload.len();
        if bytes > BODY_BYTES_MAX {
            return Err(RtmpError::MessageTooLong { type_id, bytes, limit: BODY_BYTES_MAX });
        }
        out.reserve(HEADER_BYTES_MAX + bytes + bytes / self.chunk_size * 5);
        let lane = Lane::of(type_id);
        let last = self.last[lane as usize].replace(Last { stream_id, timestamp_ms });
        // A step back wraps to a large delta, so one comparison finds both kinds of jump.
        let delta_ms = last
            .filter(|last| last.stream_id == stream_id)
            .map(|last| timestamp_ms.wrapping_sub(last.timestamp_ms))
            .filter(|delta_ms| *delta_ms < EXTENDED_TIME);
        let (format, time) = delta_ms.map_or((0, timestamp_ms), |delta_ms| (1_u8, delta_ms));
        out.put_u8(format << 6 | lane.id());
        out.put_uint(u64::from(time.min(EXTENDED_TIME)), 3);
        out.put_uint(bytes as u64, 3);
        out.put_u8(type_id);
        if format == 0 {
            out.put_u32_le(stream_id);
        }
        let extended = (time >= EXTENDED_TIME).then_some(time);
        if let Some(time) = extended {
            out.put_u32(time);
        }
        let mut chunks = payload.chunks(self.chunk_size);
        out.put_slice(chunks.next().unwrap_or_default());
        for body in chunks {
            out.put_u8(3 << 6 | lane.id());
            if let Some(time) = extended {
                out.put_u32(time);
            }
            out.put_slice(body);
        }
        Ok(())
    }
}
