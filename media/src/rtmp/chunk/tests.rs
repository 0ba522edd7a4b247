//! Reader and writer against each other, and the reader against an interleaver of its own that uses every
//! header the protocol has.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::rtmp::{Limits, RtmpError};

/// Reads all of `bytes`, given in pieces that end at `cuts`, with the reader's memory watched.
fn read_all(bytes: &[u8], cuts: &[usize], limits: Limits) -> Result<Vec<Message>, RtmpError> {
    let mut reader = ChunkReader::new(limits);
    let mut messages = Vec::new();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        let mut input = &bytes[start..end];
        while let Some(message) = reader.read(&mut input)? {
            assert!(reader.reserved_bytes() <= limits.partial_bytes);
            messages.push(message);
        }
        assert!(input.is_empty() && reader.reserved_bytes() <= limits.partial_bytes);
        start = end;
    }
    Ok(messages)
}

fn any_message() -> impl Strategy<Value = Message> {
    let type_id = prop::sample::select(vec![AUDIO, VIDEO, DATA, COMMAND, WINDOW_SIZE]);
    let time = prop_oneof![0_u32..200, 0xFF_FFF0_u32..0x100_0010, any::<u32>()];
    let payload =
        prop_oneof![0_usize..10, 0_usize..2000].prop_flat_map(|n| prop::collection::vec(any::<u8>(), n));
    (type_id, 0_u32..3, time, payload).prop_map(|(type_id, stream_id, timestamp_ms, payload)| Message {
        type_id,
        stream_id,
        timestamp_ms,
        payload: Bytes::from(payload),
    })
}

/// One message as chunks on chunk stream `id`; `last` is the message before it there and its delta.
fn chunks_of(id: u32, message: &Message, last: Option<(&Message, u32)>, size: usize) -> (Vec<Vec<u8>>, u32) {
    let delta = last.map(|(before, _)| message.timestamp_ms.wrapping_sub(before.timestamp_ms));
    let (format, time) = match (last, delta) {
        (Some((before, _)), Some(delta)) if before.stream_id == message.stream_id => {
            let same = before.type_id == message.type_id && before.payload.len() == message.payload.len();
            let repeated = last.is_some_and(|(_, time)| time == delta);
            (
                if same && repeated {
                    3
                } else if same {
                    2
                } else {
                    1
                },
                delta,
            )
        }
        _ => (0_u8, message.timestamp_ms),
    };
    let extended = time >= EXTENDED_TIME;
    let mut chunks = Vec::new();
    let mut rest = &message.payload[..];
    while chunks.is_empty() || !rest.is_empty() {
        let format = if chunks.is_empty() { format } else { 3 };
        let mut chunk = basic_header(format, id);
        if format <= 2 {
            chunk.put_uint(u64::from(time.min(EXTENDED_TIME)), 3);
        }
        if format <= 1 {
            chunk.put_uint(message.payload.len() as u64, 3);
            chunk.put_u8(message.type_id);
        }
        if format == 0 {
            chunk.put_u32_le(message.stream_id);
        }
        if extended {
            chunk.put_u32(time);
        }
        let (body, tail) = rest.split_at(size.min(rest.len()));
        chunk.put_slice(body);
        rest = tail;
        chunks.push(chunk);
    }
    (chunks, time)
}

fn basic_header(format: u8, id: u32) -> Vec<u8> {
    let mut header = Vec::new();
    match id {
        2..=63 => header.put_u8(format << 6 | id as u8),
        64..=319 => header.extend([format << 6, (id - 64) as u8]),
        _ => {
            header.put_u8(format << 6 | 1);
            header.put_u16_le((id - 64) as u16);
        }
    }
    header
}

/// Messages per chunk stream, their chunks interleaved as `order` says; with the bytes come the messages
/// in the order in which they end.
fn interleave(lanes: &[(u32, Vec<Message>)], order: &[u8], size: usize) -> (Vec<u8>, Vec<Message>) {
    let mut queues: Vec<Vec<(Vec<u8>, Option<Message>)>> = lanes
        .iter()
        .map(|(id, messages)| {
            let (mut queue, mut last): (Vec<_>, Option<(&Message, u32)>) = (Vec::new(), None);
            for message in messages {
                let (chunks, time) = chunks_of(*id, message, last, size);
                last = Some((message, time));
                queue.extend(chunks.into_iter().map(|chunk| (chunk, None)));
                queue.last_mut().unwrap().1 = Some(message.clone());
            }
            queue.reverse();
            queue
        })
        .collect();
    let (mut bytes, mut ended) = (Vec::new(), Vec::new());
    let mut turns = order.iter().cycle();
    while queues.iter().any(|queue| !queue.is_empty()) {
        let turn = usize::from(*turns.next().unwrap());
        queues.retain(|queue| !queue.is_empty());
        let at = turn % queues.len();
        let (chunk, message) = queues[at].pop().unwrap();
        bytes.extend(chunk);
        ended.extend(message);
    }
    (bytes, ended)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        messages in prop::collection::vec(any_message(), 1..12),
        sizes in prop::collection::vec(1_u32..3000, 1..4),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let mut writer = ChunkWriter::new();
        let mut out = BytesMut::new();
        for (n, message) in messages.iter().enumerate() {
            if let Some(size) = sizes.get(n) {
                writer.set_chunk_size(*size, &mut out).unwrap();
            }
            let Message { type_id, stream_id, timestamp_ms, payload } = message;
            writer.write(*type_id, *stream_id, *timestamp_ms, payload, &mut out).unwrap();
        }
        prop_assert_eq!(read_all(&out, &cuts, Limits::default()).unwrap(), messages);
    }

    #[test]
    fn interleaved_chunk_streams_are_told_apart(
        ids in prop::sample::subsequence(vec![3_u32, 4, 63, 64, 319, 320, 65_599], 1..6),
        messages in prop::collection::vec(prop::collection::vec(any_message(), 1..6), 6),
        order in prop::collection::vec(any::<u8>(), 1..40),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let lanes: Vec<_> = ids.into_iter().zip(messages).collect();
        let (bytes, ended) = interleave(&lanes, &order, 128);
        prop_assert_eq!(read_all(&bytes, &cuts, Limits::default()).unwrap(), ended);
    }

    #[test]
    fn random_bytes_neither_panic_nor_pass_the_limits(
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let limits = Limits { message_bytes: 1000, partial_bytes: 1500, chunk_streams: 4, ..Limits::default() };
        let _ = read_all(&bytes, &cuts, limits);
    }

    #[test]
    fn broken_streams_neither_panic_nor_pass_the_limits(
        messages in prop::collection::vec(any_message(), 1..8),
        breaks in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let (mut bytes, _) = interleave(&[(4, messages.clone()), (5, messages)], &[0, 1, 1], 128);
        for (at, byte) in breaks {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let limits = Limits { message_bytes: 3000, partial_bytes: 4000, ..Limits::default() };
        let _ = read_all(&bytes, &[], limits);
    }
}

/// A full header on chunk stream `id`, as a peer would write it by hand.
fn full_header(id: u8, length: u32, type_id: u8) -> Vec<u8> {
    let mut header = vec![id, 0, 0, 0];
    header.put_uint(u64::from(length), 3);
    header.put_u8(type_id);
    header.put_u32_le(1);
    header
}

#[track_caller]
fn refused(bytes: &[u8], error: RtmpError) {
    assert_eq!(read_all(bytes, &[], Limits::default()), Err(error));
}

#[test]
fn a_lying_length_is_refused_at_the_header() {
    let error = |type_id, limit| RtmpError::MessageTooLong { type_id, bytes: 0xFF_FFFF, limit };
    refused(&full_header(6, 0xFF_FFFF, VIDEO), error(VIDEO, Limits::default().message_bytes));
    refused(&full_header(3, 0xFF_FFFF, COMMAND), error(COMMAND, Limits::default().command_bytes));
    refused(&full_header(2, 0xFF_FFFF, WINDOW_SIZE), error(WINDOW_SIZE, Limits::default().command_bytes));
}

#[test]
fn a_promise_takes_no_memory() {
    let mut reader = ChunkReader::new(Limits::default());
    assert_eq!(reader.read(&mut &full_header(6, 4 << 20, VIDEO)[..]), Ok(None));
    assert_eq!(reader.reserved_bytes(), 0);
    assert_eq!(reader.read(&mut &[0; 100][..]), Ok(None));
    assert_eq!(reader.reserved_bytes(), 64 << 10);
}

#[test]
fn unfinished_messages_share_one_bound() {
    let mut bytes = Vec::new();
    for id in 3..20 {
        bytes.extend(full_header(id, 1 << 20, VIDEO));
        bytes.extend([0; 128]);
    }
    let limits = Limits { partial_bytes: 1 << 20, ..Limits::default() };
    assert_eq!(read_all(&bytes, &[], limits), Err(RtmpError::PartialBytes(1 << 20)));
    assert_eq!(read_all(&bytes, &[], Limits::default()), Ok(vec![]));
}

#[test]
fn chunk_streams_are_counted() {
    let limits = Limits { chunk_streams: 3, ..Limits::default() };
    let mut bytes: Vec<u8> = (3..6).flat_map(|id| full_header(id, 0, AUDIO)).collect();
    assert_eq!(read_all(&bytes, &[], limits).unwrap().len(), 3);
    bytes.extend(full_header(6, 0, AUDIO));
    assert_eq!(read_all(&bytes, &[], limits), Err(RtmpError::ChunkStreams(3)));
}

#[test]
fn a_chunk_size_out_of_range_is_refused() {
    for size in [0, 0x8000_0000] {
        let mut bytes = full_header(2, 4, SET_CHUNK_SIZE);
        bytes.put_u32(size);
        refused(&bytes, RtmpError::ChunkSize(size));
        let mut out = BytesMut::new();
        assert_eq!(ChunkWriter::new().set_chunk_size(size, &mut out), Err(RtmpError::ChunkSize(size)));
        assert!(out.is_empty());
    }
    refused(&full_header(2, 0, SET_CHUNK_SIZE), RtmpError::ControlTooShort(SET_CHUNK_SIZE));
}

#[test]
fn headers_that_refer_to_nothing_are_refused() {
    refused(&[0xC5], RtmpError::NoEarlierHeader(5));
    refused(&[0x85, 0, 0, 0], RtmpError::NoEarlierHeader(5));
}

#[test]
fn a_message_inside_another_is_refused() {
    let mut bytes = full_header(6, 200, VIDEO);
    bytes.extend([0; 128]);
    bytes.extend(full_header(6, 200, VIDEO));
    refused(&bytes, RtmpError::HeaderInsideMessage(6));
}

#[test]
fn an_aborted_message_leaves_room_for_the_next() {
    let mut bytes = full_header(6, 200, VIDEO);
    bytes.extend([1; 128]);
    bytes.extend(full_header(2, 4, ABORT));
    bytes.put_u32(6);
    bytes.extend(full_header(6, 2, VIDEO));
    bytes.extend([7, 8]);
    let messages = read_all(&bytes, &[], Limits::default()).unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(&messages[0].payload[..], [7, 8]);
}

#[test]
fn a_time_that_steps_back_is_written_in_full() {
    let mut writer = ChunkWriter::new();
    let mut out = BytesMut::new();
    let mut header_of = |timestamp_ms| {
        out.clear();
        writer.write(AUDIO, 1, timestamp_ms, b"a", &mut out).unwrap();
        out[0] >> 6
    };
    assert_eq!([1000, 1023, 1000, 1010, 0x200_0000].map(&mut header_of), [0, 1, 0, 1, 0]);
}

#[test]
fn a_body_past_24_bits_is_not_written() {
    let mut out = BytesMut::new();
    let body = vec![0; 0x100_0000];
    assert!(ChunkWriter::new().write(VIDEO, 1, 0, &body, &mut out).is_err());
    assert!(out.is_empty());
}
