//! Viewers' tokens: who is let in, and how a token goes on to what a playlist lists. The cache knows nothing
//! of either: its playlist is one object for everybody, and a viewer's token is written into the copy that
//! this viewer gets.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use http::{HeaderValue, Method};
use sluicegate_cluster::admission::Admission;
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::token::{self, TokenRefusal, TokenUse};
use sluicegate_cluster::viewer::{ViewerBody, ViewerRequest, ViewerResponse};

/// A viewer that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass<'a> {
    /// Anybody may watch.
    Open,
    /// The token came in a header, and so will the next.
    Header,
    /// The token stands in the address, so it must stand in those that a playlist lists.
    Address(&'a str),
}

/// Lets a viewer of `stream` in, or not.
///
/// # Errors
/// [`TokenRefusal`].
pub(crate) fn admit<'a>(
    admission: &Admission,
    request: &'a ViewerRequest,
    stream: &StreamKey,
    now: UnixMs,
) -> Result<Pass<'a>, TokenRefusal> {
    if !admission.is_guarded(&stream.app, TokenUse::Play) {
        return Ok(Pass::Open);
    }
    let in_address = request.query.as_deref().and_then(token::in_query);
    let presented = in_address.or_else(|| token::bearer(&request.headers));
    admission.admit(stream, TokenUse::Play, presented, now)?;
    Ok(in_address.map_or(Pass::Header, Pass::Address))
}

impl Pass<'_> {
    /// Whether this viewer gets a playlist as it is kept, and so in whatever coding that is kept in.
    pub(crate) fn takes_it_as_kept(self) -> bool {
        !matches!(self, Self::Address(_))
    }

    /// `answer` as this viewer gets it: kept by no shared cache, and if it is a playlist, with the token in
    /// the addresses it lists.
    pub(crate) fn write_into(self, request: &ViewerRequest, mut answer: ViewerResponse) -> ViewerResponse {
        if self == Self::Open {
            return answer;
        }
        make_private(&mut answer);
        let Self::Address(token) = self else { return answer };
        if !request.path.ends_with(".m3u8") || !answer.status.is_success() {
            return answer;
        }
        if request.method == Method::HEAD {
            // It is that of the playlist without tokens.
            answer.headers.remove(CONTENT_LENGTH);
        }
        if let ViewerBody::Whole(playlist) = &answer.body {
            let body = with_token(playlist, token);
            answer.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            answer.body = ViewerBody::Whole(body);
        }
        answer
    }
}

/// `private` where the answer says `public`.
fn make_private(answer: &mut ViewerResponse) {
    let said = answer.headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let rest = said.and_then(|value| value.strip_prefix("public"));
    if let Some(value) = rest.and_then(|rest| HeaderValue::from_str(&format!("private{rest}")).ok()) {
        answer.headers.insert(CACHE_CONTROL, value);
    }
}

/// `playlist` with `token` in every address of this host that it lists: lines that are no tags, and `URI`
/// attributes of those that are (RFC 8216 section 4.1).
fn with_token(playlist: &[u8], token: &str) -> Bytes {
    const URI: &[u8] = b"URI=\"";
    /// The addresses of a live playlist, about.
    const ADDRESSES: usize = 32;
    let mut out = BytesMut::with_capacity(playlist.len() + ADDRESSES * (token.len() + 7));
    for line in playlist.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii_end();
        let (head, uri) = match text.first() {
            None => (text, &[][..]),
            Some(b'#') => {
                let begin = text.windows(URI.len()).position(|w| w == URI).map(|at| at + URI.len());
                let tail = begin.map_or(&[][..], |begin| &text[begin..]);
                let end = tail.iter().position(|byte| *byte == b'"').unwrap_or(0);
                (&text[..begin.unwrap_or(text.len())], &tail[..end])
            }
            Some(_) => (&[][..], text),
        };
        out.put_slice(head);
        out.put_slice(uri);
        if is_ours(uri) {
            out.put_u8(if uri.contains(&b'?') { b'&' } else { b'?' });
            out.put_slice(token::PARAMETER.as_bytes());
            out.put_u8(b'=');
            out.put_slice(token.as_bytes());
        }
        out.put_slice(&line[head.len() + uri.len()..]);
    }
    out.freeze()
}

/// Whether an address stays on this host: a token goes nowhere else.
fn is_ours(uri: &[u8]) -> bool {
    let has_scheme = uri.iter().take_while(|byte| **byte != b'/' && **byte != b'?').any(|byte| *byte == b':');
    !uri.is_empty() && !has_scheme && !uri.starts_with(b"//")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::{
        ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, AUTHORIZATION, CONTENT_ENCODING, HeaderName,
        WWW_AUTHENTICATE,
    };
    use proptest::prelude::*;
    use sluicegate_cluster::config::Settings;
    use sluicegate_cluster::token::Grant;
    use sluicegate_cluster::{clock, testing};

    use super::*;
    use crate::testing::{PLAYLIST, SEGMENT, World, body, whole};

    const BODY: &[u8] = b"0123456789";

    fn header(response: &ViewerResponse, name: HeaderName) -> &str {
        response.headers.get(&name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asks viewers of `live` for tokens. Returns one for `cam1` that is good for a minute.
    fn guard(settings: &mut Settings) -> String {
        settings.apps = testing::apps(
            "[[app]]\nname = \"live\"\nplay = \"token\"\ntoken_keys = [{ id = \"a\", key = \"0123456789abcdef\" }]\n",
        );
        let expires = clock::unix_ms().plus(Duration::from_secs(60));
        let grant = Grant { stream: "cam1".to_owned(), purpose: TokenUse::Play, expires, begins: None };
        settings.apps[0].token_keys.sign(&grant).unwrap()
    }

    #[tokio::test]
    async fn a_viewers_token_is_in_what_it_gets_and_in_nothing_that_is_kept() {
        let mut token = String::new();
        let world = World::with(|settings| token = guard(settings)).await;
        world
            .origin
            .will(PLAYLIST, whole("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\ncam1_source__17_4.m4s\n"));
        world.origin.will(SEGMENT, whole(BODY));
        let list = world.get(&format!("{PLAYLIST}?token={token}")).await;
        assert!(header(&list, CACHE_CONTROL).starts_with("private"), "{:?}", list.headers);
        let length: usize = header(&list, CONTENT_LENGTH).parse().unwrap();
        let text = String::from_utf8(body(list).await.unwrap()).unwrap();
        assert!(text.ends_with(&format!("cam1_source__17_4.m4s?token={token}\n")), "{text}");
        assert_eq!(length, text.len());

        let coded =
            world.ask(Method::GET, &format!("{PLAYLIST}?token={token}"), &[(ACCEPT_ENCODING, "gzip")]).await;
        assert_eq!(header(&coded, CONTENT_ENCODING), "", "what is written for one viewer is not compressed");
        assert_eq!(body(coded).await.unwrap(), text.as_bytes());

        let bearer = format!("Bearer {token}");
        let bearer: &'static str = bearer.leak();
        let list = world.ask(Method::GET, PLAYLIST, &[(AUTHORIZATION, bearer)]).await;
        assert!(!String::from_utf8(body(list).await.unwrap()).unwrap().contains("token"));
        let segment = world.get(&format!("{SEGMENT}?token={token}&x=1")).await;
        assert!(header(&segment, CACHE_CONTROL).starts_with("private"));
        assert_eq!(body(segment).await.unwrap(), BODY);
        let again = world.ask(Method::GET, SEGMENT, &[(AUTHORIZATION, bearer)]).await;
        assert_eq!(body(again).await.unwrap(), BODY);
        assert_eq!((world.origin.asked(PLAYLIST).len(), world.origin.asked(SEGMENT).len()), (1, 1));
        assert!(world.origin.asked(SEGMENT)[0].get(AUTHORIZATION).is_none());
    }

    #[tokio::test]
    async fn without_a_good_token_nothing_is_served_or_fetched() {
        let mut token = String::new();
        let world = World::with(|settings| token = guard(settings)).await;
        let other = format!("/live/streams/cam2.m3u8?token={token}");
        let forged = format!("{SEGMENT}?token={}x", &token[..token.len() - 1]);
        for (path, status) in [(PLAYLIST, 401), (SEGMENT, 401), (&forged, 401), (&other, 403)] {
            let refused = world.get(path).await;
            assert_eq!(refused.status, status, "{path}");
            assert_eq!(header(&refused, WWW_AUTHENTICATE), if status == 401 { "Bearer" } else { "" });
            assert_eq!(header(&refused, CACHE_CONTROL), "no-store");
            let problem: serde_json::Value = serde_json::from_slice(&body(refused).await.unwrap()).unwrap();
            assert!(problem["detail"].as_str().unwrap().contains("token"), "{problem}");
        }
        assert!(world.origin.asked(PLAYLIST).is_empty() && world.origin.asked(SEGMENT).is_empty());
        assert_eq!(world.count("sluicegate_tokens_refused_total", "missing"), 2);
        let open = world.ask(Method::OPTIONS, PLAYLIST, &[]).await;
        assert!(header(&open, ACCESS_CONTROL_ALLOW_HEADERS).contains("authorization"));
    }

    #[track_caller]
    fn check(playlist: &str, expect: &str) {
        assert_eq!(with_token(playlist.as_bytes(), "a.b.c"), expect.as_bytes());
    }

    #[test]
    fn every_address_of_this_host_carries_the_token() {
        check(
            "#EXTM3U\n#EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"1@2\"\n#EXTINF:1.0,\ns_4.m4s\n",
            "#EXTM3U\n#EXT-X-MAP:URI=\"i.mp4?token=a.b.c\",BYTERANGE=\"1@2\"\n#EXTINF:1.0,\ns_4.m4s?token=a.b.c\n",
        );
        check("#EXT-X-PART:DURATION=0.2,URI=\"p\"\r\n", "#EXT-X-PART:DURATION=0.2,URI=\"p?token=a.b.c\"\r\n");
        check("a.m3u8?x=1", "a.m3u8?x=1&token=a.b.c");
        check("/live/streams/a.m3u8\n", "/live/streams/a.m3u8?token=a.b.c\n");
        check("\n\n", "\n\n");
    }

    #[test]
    fn no_other_host_gets_it() {
        for text in
            ["https://ads.example/x.m4s\n", "//ads.example/x\n", "#EXT-X-KEY:URI=\"data:text/plain,x\"\n"]
        {
            check(text, text);
        }
    }

    proptest! {
        #[test]
        fn only_tokens_are_added(playlist in "([#a-zURI=\"?:/\\r\\n]|URI=\"){0,80}") {
            let written = with_token(playlist.as_bytes(), "TOKEN");
            let text = std::str::from_utf8(&written).unwrap();
            prop_assert_eq!(text.replace("?token=TOKEN", "").replace("&token=TOKEN", ""), playlist);
        }
    }
}
