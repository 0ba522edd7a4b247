//! The head of a viewer's request, where that is all there is to it: a GET or HEAD by HTTP/1.1, without a body, that
//! has no wishes about its connection. Of everything else, and of whatever is odd, Pingora judges.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use sluicegate_cluster::viewer::ViewerRequest;
use sluicegate_cluster::{hints, trust};

/// Headers at most.
const HEADERS_MAX: usize = 48;

/// Reads the request that `bytes` are, from the first to the last of them.
pub(super) fn read(bytes: &[u8]) -> Option<ViewerRequest> {
    let mut space = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut space);
    let parsed = head.parse(bytes).ok()?;
    if parsed != httparse::Status::Complete(bytes.len()) || head.version != Some(1) {
        return None;
    }
    let method = match head.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    let target = head.path.filter(|target| target.starts_with('/') && target.bytes().all(is_usual))?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let headers = headers(head.headers)?;
    Some(ViewerRequest { method, path: path.to_owned(), query, headers })
}

/// A byte of a target that says nothing but itself.
fn is_usual(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

fn headers(parsed: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if !is_plain(&name, field.value) {
            return None;
        }
        let before = headers.len();
        headers.append(name.clone(), HeaderValue::from_bytes(field.value).ok()?);
        if name == header::HOST && headers.keys_len() == before {
            return None;
        }
    }
    headers.contains_key(header::HOST).then_some(headers)
}

/// Whether a header changes nothing about how the request is read, passed on, or believed.
fn is_plain(name: &HeaderName, value: &[u8]) -> bool {
    const OF_BODIES: [HeaderName; 3] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT];
    match *name {
        header::CONNECTION => value.eq_ignore_ascii_case(b"keep-alive"),
        header::HOST => value.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(byte)),
        header::UPGRADE => false,
        _ => !OF_BODIES.contains(name) && name.as_str() != hints::HEADER && name.as_str() != trust::HEADER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &str, is_read: bool) {
        let text = format!("{}\r\n\r\n", lines.replace('\n', "\r\n"));
        assert_eq!(read(text.as_bytes()).is_some(), is_read, "{text:?}");
    }

    #[test]
    fn a_request_is_what_it_says() {
        let text = b"GET /live/streams/a.m3u8?_HLS_msn=1&x HTTP/1.1\r\nHost: tv\r\nRange: bytes=0-1\r\n\r\n";
        let request = read(text).unwrap();
        assert_eq!((request.method, request.path.as_str()), (Method::GET, "/live/streams/a.m3u8"));
        assert_eq!(request.query.as_deref(), Some("_HLS_msn=1&x"));
        assert_eq!(request.headers[header::RANGE], "bytes=0-1");
    }

    #[test]
    fn what_is_not_all_of_a_plain_request_is_left_to_pingora() {
        check("HEAD /a HTTP/1.1\nHost: [::1]:5080\nConnection: Keep-Alive", true);
        for lines in [
            "GET /a HTTP/1.1",
            "GET /a HTTP/1.1\nHost: a\nHost: a",
            "GET /a HTTP/1.1\nHost: a/b",
            "GET /a HTTP/1.0\nHost: a",
            "POST /a HTTP/1.1\nHost: a",
            "GET http://a/a HTTP/1.1\nHost: a",
            "GET /a#b HTTP/1.1\nHost: a",
            "GET /a HTTP/1.1\nHost: a\nConnection: close",
            "GET /a HTTP/1.1\nHost: a\nContent-Length: 0",
            "GET /a HTTP/1.1\nHost: a\nTransfer-Encoding: chunked",
            "GET /a HTTP/1.1\nHost: a\nUpgrade: websocket",
            "GET /a HTTP/1.1\nHost: a\nSluicegate-Claim: {}",
            "GET /a HTTP/1.1\nHost: a\nClusterAuthorization: x",
            "GET /a HTTP/1.1\nHost: a\n b: folded",
            "GET /a HTTP/1.1\nHost : a",
            "GET /a HTTP/1.1\nHost: a\n\nGET /b HTTP/1.1\nHost: a",
        ] {
            check(lines, false);
        }
        assert!(read(b"GET /a HTTP/1.1\r\nHost: a\r\n").is_none());
        assert!(read(b"").is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_not(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
