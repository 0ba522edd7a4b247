//! The HTTP side of the AMS-shaped server: liveness, HLS under AMS's names, WebSocket signalling; any other
//! path answers with what was asked and by whom.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::json;

use super::server::{Seen, State};
use super::socket;

/// Serves one connection until its end.
pub(super) fn serve(state: &Arc<State>, mut connection: TcpStream) {
    let mut reader = BufReader::new(connection.try_clone().expect("a second handle"));
    while let Some(seen) = request(&mut reader) {
        state.saw(seen.clone());
        if let Some(key) = field(&seen, "sec-websocket-key") {
            let app = seen.target.split('/').nth(1).unwrap_or_default();
            socket::serve(state, app, connection, reader, key);
            return;
        }
        let (status, kind, body) = answer(state, &seen);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nETag: W/\"{}-1\"\r\n\r\n",
            body.len(),
            body.len()
        );
        let body = if seen.method == "HEAD" { "" } else { &body };
        if connection.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let pairs = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let fields = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let seen = Seen { method, target, fields };
    let length = field(&seen, "content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    reader.read_exact(&mut vec![0; length]).ok()?;
    Some(seen)
}

fn field<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
}

fn answer(state: &State, seen: &Seen) -> (&'static str, &'static str, String) {
    let path = seen.target.split('?').next().unwrap_or_default();
    if path == "/rest/v2/liveness" {
        let body = json!({"host": state.ip.to_string(), "status": "ok"});
        return ("200 OK", "application/json", body.to_string());
    }
    if let Some((_, file)) = path.split_once("/streams/") {
        return media(state, file)
            .unwrap_or_else(|| ("404 Not Found", "text/html", "no such file".to_owned()));
    }
    let who = json!({"node": state.ip.to_string(), "target": seen.target, "method": seen.method});
    ("200 OK", "application/json", who.to_string())
}

/// `{id}.m3u8`, or `{id}{nine digits}.ts`, whose content tells one run of a stream from another.
fn media(state: &State, file: &str) -> Option<(&'static str, &'static str, String)> {
    if let Some(stream) = file.strip_suffix(".m3u8") {
        state.run(stream)?;
        let segments: String = (0..3).map(|n| format!("#EXTINF:2.000000,\n{stream}{n:09}.ts\n")).collect();
        let text = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n{segments}"
        );
        return Some(("200 OK", "application/vnd.apple.mpegurl", text));
    }
    let stem = file.strip_suffix(".ts")?;
    let (stream, number) = stem.split_at_checked(stem.len().checked_sub(9)?)?;
    let run = state.run(stream)?;
    Some(("200 OK", "video/MP2T", format!("segment {number} of the run that began at {}", run.began_ms)))
}
