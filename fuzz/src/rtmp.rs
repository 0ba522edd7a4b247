//! RTMP: the chunk reader, AMF0, and both sides' sessions with their commands.

use bytes::BytesMut;
use sluicegate_media::rtmp::chunk::{ChunkReader, ChunkWriter, Message};
use sluicegate_media::rtmp::handshake::RANDOM_BYTES;
use sluicegate_media::rtmp::limits::AMF_DEPTH;
use sluicegate_media::rtmp::{
    AmfValue, ClientSession, Limits, PublishTarget, RtmpError, ServerEvent, ServerSession,
};

use crate::records;

/// One half of a handshake (RTMP 1.0, 5.2): version, the peer's packet, the echo of ours.
const HANDSHAKE_BYTES: usize = 1 + 2 * (RANDOM_BYTES + 8);

/// Limits that small inputs reach.
const TIGHT: Limits = Limits {
    message_bytes: 2 << 10,
    partial_bytes: 4 << 10,
    command_bytes: 1 << 10,
    chunk_streams: 6,
    amf_depth: AMF_DEPTH,
    output_bytes: 64 << 10,
};

/// The chunk reader: the same messages however the bytes arrive, none longer than its limit, and together no
/// longer than what was sent. The first byte says how the input is cut.
pub fn chunks(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    for limits in [Limits::default(), TIGHT] {
        let whole = read_in_pieces(limits, stream, stream.len().max(1));
        let cut = read_in_pieces(limits, stream, usize::from(cut % 19) + 1);
        assert_eq!(whole, cut, "how the bytes arrive changes what they mean");
        let bodies: usize = whole.0.iter().map(|message| message.payload.len()).sum();
        assert!(bodies <= stream.len(), "{bodies} bytes out of {}", stream.len());
        let longest = whole.0.iter().map(|message| message.payload.len()).max().unwrap_or(0);
        assert!(longest <= limits.message_bytes.max(limits.command_bytes), "a message of {longest} bytes");
    }
}

fn read_in_pieces(limits: Limits, stream: &[u8], piece: usize) -> (Vec<Message>, Option<RtmpError>) {
    let (mut reader, mut messages) = (ChunkReader::new(limits), Vec::new());
    for mut piece in stream.chunks(piece) {
        loop {
            match reader.read(&mut piece) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(piece.is_empty(), "bytes are left that nobody asked for");
    }
    (messages, None)
}

/// AMF0: what can be read is written as something that is read as the same.
pub fn amf(data: &[u8]) {
    let mut input = data;
    let Ok(value) = AmfValue::decode(&mut input, AMF_DEPTH) else { return };
    let mut written = BytesMut::new();
    value.encode(&mut written);
    let again = AmfValue::decode(&mut &written[..], AMF_DEPTH).expect("what was written can be read");
    let mut rewritten = BytesMut::new();
    again.encode(&mut rewritten);
    // Compared as bytes: a number may be NaN.
    assert_eq!(written, rewritten);
}

/// Both sides of a connection, each fed the same messages after its handshake, as if the other side sent them.
/// A record's kind is the message's type. Every question is answered with yes.
pub fn sessions(data: &[u8]) {
    let _messages = converse(data);
}

/// The same; how many messages of media the server took.
#[must_use]
pub fn converse(data: &[u8]) -> usize {
    let mut stream = BytesMut::zeroed(HANDSHAKE_BYTES);
    stream[0] = 3;
    let mut writer = ChunkWriter::new();
    for (at, record) in (0_u32..).zip(records::read(data)) {
        let written = writer.write(record.kind, at % 2, at * 40, &record.body, &mut stream);
        written.expect("a body of up to 65,535 bytes");
    }
    publish(&stream);
    serve(&stream)
}

fn serve(mut stream: &[u8]) -> usize {
    let mut session = ServerSession::new(TIGHT, &[7; RANDOM_BYTES]);
    let (mut published, mut messages) = (false, 0);
    loop {
        let Ok(Some(event)) = session.read(&mut stream) else { return messages };
        let answered = match event {
            ServerEvent::Connect(request) => {
                let _ = (request.app_name(), request.app_rest(), request.query());
                session.accept_connect()
            }
            ServerEvent::Publish(_) => {
                published = true;
                session.accept_publish()
            }
            ServerEvent::Media(message) | ServerEvent::Metadata(message) => {
                assert!(published && !message.payload.is_empty(), "media without a publish: {message:?}");
                messages += 1;
                Ok(())
            }
            ServerEvent::Unpublish | ServerEvent::HandedOver => Ok(()),
        };
        assert!(matches!(answered, Ok(()) | Err(RtmpError::OutputFull(_))), "{answered:?}");
        assert!(session.take_output().len() <= TIGHT.output_bytes * 2);
    }
}

fn publish(mut stream: &[u8]) {
    let target = PublishTarget {
        app: "live".to_owned(),
        tc_url: "rtmp://origin/live".to_owned(),
        stream: "cam".to_owned(),
        properties: Vec::new(),
    };
    let mut session = ClientSession::new(target, TIGHT, &[7; RANDOM_BYTES]);
    while let Ok(Some(_)) = session.read(&mut stream) {
        assert!(session.take_output().len() <= TIGHT.output_bytes * 2);
    }
    let _ = session.unpublish();
}
