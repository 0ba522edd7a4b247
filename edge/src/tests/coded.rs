//! Playlists and pages by gzip and by Brotli.

use std::io::Read as _;

use flate2::read::GzDecoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use proptest::prelude::*;

use super::*;
use crate::object::{Format, Head, Object};
use crate::testing::low_latency;

fn gunzipped(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(body).read_to_end(&mut plain).unwrap();
    plain
}

async fn ask(world: &World, path: &str, coding: &'static str) -> ViewerResponse {
    world.ask(Method::GET, path, &[(ACCEPT_ENCODING, coding)]).await
}

#[tokio::test]
async fn a_playlist_is_compressed_once_for_all_who_accept_it() {
    let world = World::new().await;
    let text = low_latency(EPOCH, 1).replace("TARGETDURATION:1", "TARGETDURATION:20");
    world.origin.will(PLAYLIST, whole(text.clone()));
    let plain = world.get(PLAYLIST).await;
    assert_eq!((header(&plain, CONTENT_ENCODING), header(&plain, VARY)), ("", "accept-encoding"));
    let (first, second) = (ask(&world, PLAYLIST, "gzip").await, ask(&world, PLAYLIST, "br, gzip").await);
    assert_eq!((header(&first, CONTENT_ENCODING), header(&first, VARY)), ("gzip", "accept-encoding"));
    assert_ne!(header(&first, ETAG), header(&plain, ETAG));
    let tag: &'static str = header(&first, ETAG).to_owned().leak();
    let length: usize = header(&first, CONTENT_LENGTH).parse().unwrap();
    let (ViewerBody::Whole(first), ViewerBody::Whole(second)) = (first.body, second.body) else {
        panic!("not from the cache")
    };
    assert_eq!((first.as_ptr(), first.len()), (second.as_ptr(), length), "the same bytes to both");
    assert_eq!(gunzipped(&first), text.as_bytes());
    assert!(first.len() < text.len());
    assert_eq!(body(plain).await.unwrap(), text.as_bytes());
    assert_eq!(world.origin.asked(PLAYLIST).len(), 1);
    assert!(world.origin.asked(PLAYLIST)[0].get(ACCEPT_ENCODING).is_none(), "origins compress nothing");

    let has = [(ACCEPT_ENCODING, "gzip"), (IF_NONE_MATCH, tag)];
    let same = world.ask(Method::GET, PLAYLIST, &has).await;
    assert_eq!((same.status, header(&same, VARY)), (StatusCode::NOT_MODIFIED, "accept-encoding"));
    let other = world.ask(Method::GET, PLAYLIST, &has[1..]).await;
    assert_eq!(other.status, StatusCode::OK, "it has another body than what is asked for");
    let head = world.ask(Method::HEAD, PLAYLIST, &has[..1]).await;
    assert_eq!(header(&head, CONTENT_LENGTH), length.to_string());
}

#[tokio::test]
async fn media_is_never_compressed_and_ranges_are_of_it_as_it_is() {
    let world = World::new().await;
    world.origin.will(SEGMENT, whole("0".repeat(1_000)));
    let segment = ask(&world, SEGMENT, "gzip, br").await;
    assert_eq!((header(&segment, CONTENT_ENCODING), header(&segment, VARY)), ("", ""));
    assert_eq!(body(segment).await.unwrap().len(), 1_000);
    let part = world.ask(Method::GET, SEGMENT, &[(ACCEPT_ENCODING, "gzip"), (RANGE, "bytes=990-")]).await;
    assert_eq!(
        (part.status, header(&part, CONTENT_RANGE)),
        (StatusCode::PARTIAL_CONTENT, "bytes 990-999/1000")
    );
}

#[tokio::test]
async fn pages_are_there_in_all_codings() {
    let world = World::new().await;
    let plain = world.get("/live/play.html").await;
    assert_eq!((header(&plain, CONTENT_ENCODING), header(&plain, VARY)), ("", "accept-encoding"));
    let brotli = ask(&world, "/live/play.html", "gzip, deflate, br").await;
    assert_eq!(header(&brotli, CONTENT_ENCODING), "br");
    let gzip = ask(&world, "/live/play.html", "gzip").await;
    assert_eq!(header(&gzip, CONTENT_ENCODING), "gzip");
    let tags = [&plain, &brotli, &gzip].map(|answer| header(answer, ETAG).to_owned());
    assert!(tags[0] != tags[1] && tags[0] != tags[2] && tags[1] != tags[2], "{tags:?}");
    let tag: &'static str = tags[1].clone().leak();
    let again = [(ACCEPT_ENCODING, "br"), (IF_NONE_MATCH, tag)];
    assert_eq!(world.ask(Method::GET, "/live/play.html", &again).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(gunzipped(&body(gzip).await.unwrap()), body(plain).await.unwrap());
}

proptest! {
    #[test]
    fn what_is_compressed_is_what_was_there(text in "(#EXTINF:[0-9.]{1,5},\n[a-z0-9_.]{1,30}\n){0,60}") {
        let head = Head {
            etag: "\"a\"".parse().unwrap(),
            date: "d".parse().unwrap(),
            asked: sluicegate_cluster::clock::now(),
            format: Format::Cmaf,
        };
        let object = Object::new(head, Bytes::from(text.clone()), None);
        match object.gzip() {
            Some(short) => {
                prop_assert!(short.len() < text.len());
                prop_assert_eq!(gunzipped(short), text.as_bytes());
            }
            None => prop_assert!(text.len() < 200, "{}", text.len()),
        }
    }
}
