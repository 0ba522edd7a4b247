//! WebSocket (RFC 6455) as far as AMS's signalling needs it: text frames in one piece, those that are read of up to
//! 64 KiB; the side of the AMS-shaped server and that of a client.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::server::State;

/// For the other side to answer.
const ANSWER: Duration = Duration::from_secs(10);
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const TEXT: u8 = 0x81;

/// The server's side, from the handshake to the end of the connection.
pub(super) fn serve(
    state: &State,
    app: &str,
    mut connection: TcpStream,
    mut reader: BufReader<TcpStream>,
    key: &str,
) {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept(key)
    );
    if connection.write_all(head.as_bytes()).is_err() {
        return;
    }
    state.count_socket(|| {
        while let Some(text) = read_frame(&mut reader) {
            let message: Value = serde_json::from_str(&text).unwrap_or_default();
            let body = answer(state, app, &message).to_string();
            let length = u16::try_from(body.len()).expect("a short answer").to_be_bytes();
            let head = match length {
                [0, short] if short < 126 => vec![TEXT, short],
                _ => vec![TEXT, 126, length[0], length[1]],
            };
            if connection.write_all(&[&head, body.as_bytes()].concat()).is_err() {
                return;
            }
        }
    });
}

/// As AMS answers, without any media.
fn answer(state: &State, app: &str, message: &Value) -> Value {
    let id = &message["streamId"];
    let is_live = || id.as_str().is_some_and(|stream| state.is_live(app, stream));
    let notification =
        |definition: &str| json!({"command": "notification", "definition": definition, "streamId": id});
    match message["command"].as_str() {
        Some("ping") => json!({"command": "pong"}),
        Some("publish") if is_live() => {
            json!({"command": "error", "definition": "streamIdInUse", "streamId": id})
        }
        Some("publish") => json!({"command": "start", "streamId": id, "subscriberId": ""}),
        Some("play") if is_live() => json!({
            "command": "takeConfiguration", "streamId": id, "type": "offer", "sdp": "v=0\r\n".repeat(200),
            "idMapping": {"0": id},
        }),
        Some("takeConfiguration") => notification("play_started"),
        Some("stop") => notification("play_finished"),
        Some("getStreamInfo") if is_live() => {
            json!({"command": "streamInformation", "streamId": id, "streamInfo": [{"streamHeight": 720}]})
        }
        Some("getBroadcastObject") if is_live() => {
            json!({"command": "broadcastObject", "streamId": id, "broadcast": "{}"})
        }
        _ => {
            json!({"command": "error", "definition": "no_stream_exist", "streamId": id, "error_code": "404"})
        }
    }
}

/// A client's connection.
pub struct Socket {
    connection: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Socket {
    /// Opens `target` at `address`.
    ///
    /// # Errors
    /// The status line, when it is no WebSocket.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn open(address: SocketAddr, target: &str) -> Result<Self, String> {
        let mut connection = TcpStream::connect(address).expect("a listener");
        connection.set_read_timeout(Some(ANSWER)).expect("a read timeout");
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).expect("an open connection");
        let mut reader = BufReader::new(connection.try_clone().expect("a second handle"));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            reader.read_exact(&mut byte).expect("an answer's head");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let accepted = head.to_ascii_lowercase().contains(&accept(KEY).to_ascii_lowercase());
        if head.contains(" 101 ") && accepted { Ok(Self { connection, reader }) } else { Err(head) }
    }

    /// Sends a message, and returns the answer to it.
    ///
    /// # Panics
    /// When there is none.
    pub fn ask(&mut self, message: &Value) -> Value {
        self.say(&message.to_string()).expect("an open socket");
        self.hear().expect("an answer")
    }

    /// Sends a text.
    ///
    /// # Errors
    /// When the socket is closed.
    pub fn say(&mut self, body: &str) -> std::io::Result<()> {
        let mask = [1, 2, 3, 4];
        let masked = body.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let mut frame = vec![TEXT, 0x80 | 127];
        frame.extend((body.len() as u64).to_be_bytes());
        frame.extend(mask);
        frame.extend(masked);
        self.connection.write_all(&frame)
    }

    /// The next message; `None` when the socket is closed, or nothing comes.
    ///
    /// # Panics
    /// When it is no JSON.
    pub fn hear(&mut self) -> Option<Value> {
        let text = read_frame(&mut self.reader)?;
        Some(serde_json::from_str(&text).expect("JSON"))
    }
}

/// The text of the next frame; `None` at the end.
fn read_frame(reader: &mut impl Read) -> Option<String> {
    let mut head = [0; 2];
    reader.read_exact(&mut head).ok()?;
    if head[0] != TEXT {
        return None;
    }
    let mut length = usize::from(head[1] & 0x7f);
    if length == 126 {
        let mut long = [0; 2];
        reader.read_exact(&mut long).ok()?;
        length = usize::from(u16::from_be_bytes(long));
    }
    if length == 127 {
        let mut long = [0; 8];
        reader.read_exact(&mut long).ok()?;
        length = usize::try_from(u64::from_be_bytes(long)).ok().filter(|length| *length <= 1 << 16)?;
    }
    let mut mask = [0; 4];
    if head[1] & 0x80 != 0 {
        reader.read_exact(&mut mask).ok()?;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    body.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    String::from_utf8(body).ok()
}

/// Section 1.3.
fn accept(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_the_rfcs() {
        assert_eq!(accept(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
