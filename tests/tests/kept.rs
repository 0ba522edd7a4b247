//! A viewer's connection, kept from request to request: what the edge has in memory and what it has not, what is
//! whole and what comes in pieces, what is asked well and badly, one after another.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use sluicegate_e2e::node::NodeProcess;

use crate::demo;

/// For an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The connection.
struct Kept(BufReader<TcpStream>);

/// An answer: its head in lower case, and its body.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Kept {
    fn connect(node: &NodeProcess) -> Self {
        let url = node.url("");
        let stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a request in two pieces, the first of `first_bytes`, and reads the answer. Neither is to have a body but
    /// for that of a GET's answer.
    #[track_caller]
    fn ask_in_pieces(&mut self, first_bytes: usize, line: &str, headers: &str) -> Answer {
        let request = format!("{line} HTTP/1.1\r\nHost: tv.example\r\n{headers}\r\n");
        let (first, rest) = request.split_at(first_bytes.min(request.len()));
        for piece in [first, rest] {
            self.0.get_mut().write_all(piece.as_bytes()).unwrap();
        }
        self.answer(line.starts_with("GET")).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[track_caller]
    fn ask(&mut self, line: &str, headers: &str) -> Answer {
        self.ask_in_pieces(usize::MAX, line, headers)
    }

    fn answer(&mut self, has_body: bool) -> io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut answer = Answer { head: head.to_ascii_lowercase(), body: Vec::new() };
        let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if has_body {
            answer.body = vec![0; length];
            self.0.read_exact(&mut answer.body)?;
        }
        Ok(answer)
    }
}

impl Answer {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

#[test]
fn a_connection_is_kept_whatever_is_asked_for_on_it() {
    let node = demo::node();
    let newest = demo::playlist(&node, "demo").segments.pop().unwrap().uri;
    let (list, segment) = ("/live/streams/demo.m3u8", format!("/live/streams/{newest}"));
    let mut viewer = Kept::connect(&node);
    let whole = viewer.ask(&format!("GET {segment}"), "");
    assert_eq!((whole.status(), whole.header("content-type")), ("200", Some("video/mp4")), "{}", whole.head);
    let tag = whole.header("etag").unwrap().to_owned();
    let hits = || node.count("sluicegate_edge_cache_requests_total", &[("result", "hit")]);
    let before = hits();
    for first_bytes in [1, 40, usize::MAX] {
        let again = viewer.ask_in_pieces(first_bytes, &format!("GET {segment}"), "");
        assert_eq!(again.body, whole.body, "{}", again.head);
        for name in ["content-type", "cache-control", "etag", "accept-ranges", "access-control-allow-origin"]
        {
            assert_eq!(again.header(name), whole.header(name), "{name}");
        }
        assert_eq!(again.header("connection"), Some("keep-alive"));
        assert!(again.header("date").is_some() && again.header("age").is_some(), "{}", again.head);

        let head = viewer.ask(&format!("HEAD {segment}"), "");
        assert_eq!((head.status(), head.header("content-length")), ("200", whole.header("content-length")));
        let part = viewer.ask(&format!("GET {segment}"), "Range: bytes=2-5\r\n");
        assert_eq!((part.status(), part.body.as_slice()), ("206", &whole.body[2..=5]));
        let none = viewer.ask(&format!("GET {segment}"), "Range: bytes=999999999-\r\n");
        assert_eq!(none.status(), "416");
        let same = viewer.ask(&format!("GET {segment}"), &format!("If-None-Match: {tag}\r\n"));
        assert_eq!((same.status(), same.body.len()), ("304", 0));

        let text = viewer.ask(&format!("GET {list}"), "");
        assert!(text.body.starts_with(b"#EXTM3U"), "{}", text.head);
        let short = viewer.ask(&format!("GET {list}"), "Accept-Encoding: gzip\r\n");
        assert_eq!(short.header("content-encoding"), Some("gzip"), "{}", short.head);
        assert_eq!(viewer.ask(&format!("GET {list}?_HLS_part=1"), "").status(), "400");
        assert_eq!(viewer.ask("GET /live/streams/nobody.m3u8", "").status(), "404");
        assert_eq!(viewer.ask("GET /live/play.html", "").status(), "200");
        assert_eq!(viewer.ask(&format!("OPTIONS {segment}"), "").status(), "204");
    }
    assert!(hits() >= before + 12, "what is there is no fetch: {before} {}", hits());
}

#[test]
fn the_answer_to_who_wants_to_go_says_good_bye() {
    let node = demo::node();
    let mut viewer = Kept::connect(&node);
    for _ in 0..2 {
        assert_eq!(viewer.ask("GET /live/streams/demo.m3u8", "").header("connection"), Some("keep-alive"));
    }
    let last = viewer.ask("GET /live/streams/demo.m3u8", "Connection: close\r\n");
    assert_eq!((last.status(), last.header("connection")), ("200", Some("close")));
    assert_eq!(viewer.0.read(&mut [0]).unwrap(), 0, "the connection is closed");
}
