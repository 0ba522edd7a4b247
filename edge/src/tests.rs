//! An edge in front of a real HTTP server that stands for its origin.

mod coded;
mod held;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, AGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::{Method, StatusCode};
use sluicegate_cluster::viewer::{BrokenOff, ViewerBody, ViewerDoor, ViewerResponse};

use crate::VIEWERS_HEADER;
use crate::testing::{
    EPOCH, PLAYLIST, SEGMENT, World, body, breathe, playlist, request, rest, status, tapped, until, whole,
    within,
};

const BODY: &[u8] = b"0123456789";

/// The next piece of a body that comes in pieces.
async fn piece(response: &mut ViewerResponse) -> Option<Result<Bytes, BrokenOff>> {
    let ViewerBody::Pieces(pieces) = &mut response.body else { panic!("not in pieces") };
    within(pieces.next()).await
}

fn header(response: &ViewerResponse, name: http::HeaderName) -> &str {
    response.headers.get(&name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn two_hundred_cold_requests_are_one_request_to_the_origin() {
    let world = Arc::new(World::new().await);
    world.origin.will(SEGMENT, whole(BODY));
    world.origin.hold();
    let viewers: Vec<_> = (0..200)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { body(world.get(SEGMENT).await).await })
        })
        .collect();
    until(|| world.served("joined") == 199).await;
    world.origin.release();
    for viewer in within(join_all(viewers)).await {
        assert_eq!(viewer.unwrap().unwrap(), BODY);
    }
    assert_eq!(world.origin.asked(SEGMENT).len(), 1);
    let ViewerBody::Whole(hit) = world.get(SEGMENT).await.body else { panic!("not from the cache") };
    assert_eq!(hit, BODY);
    assert_eq!((world.served("fill"), world.served("hit")), (1, 1));
}

#[tokio::test]
async fn a_follower_gets_the_first_bytes_before_the_rest_has_come() {
    let world = World::new().await;
    let (answer, tap) = tapped(Some(10));
    world.origin.will(SEGMENT, answer);
    tap.send(Ok(Bytes::from_static(&BODY[..4]))).unwrap();
    let mut leader = world.get(SEGMENT).await;
    assert_eq!(piece(&mut leader).await, Some(Ok(Bytes::from_static(&BODY[..4]))));
    let mut follower = world.get(SEGMENT).await;
    assert_eq!(header(&follower, CONTENT_LENGTH), "10");
    assert_eq!(piece(&mut follower).await, Some(Ok(Bytes::from_static(&BODY[..4]))));
    tap.send(Ok(Bytes::from_static(&BODY[4..]))).unwrap();
    assert_eq!(body(follower).await.unwrap(), &BODY[4..]);
    assert_eq!(body(leader).await.unwrap(), &BODY[4..]);
    assert_eq!(world.origin.asked(SEGMENT).len(), 1);
}

#[tokio::test]
async fn the_others_get_everything_when_the_first_viewer_leaves() {
    let world = Arc::new(World::new().await);
    let (answer, tap) = tapped(None);
    world.origin.will(SEGMENT, answer);
    world.origin.hold();
    let leader = tokio::spawn({
        let world = Arc::clone(&world);
        async move { drop(world.get(SEGMENT).await) }
    });
    until(|| !world.origin.asked(SEGMENT).is_empty()).await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    world.origin.release();
    let follower = within(world.get(SEGMENT)).await;
    tap.send(Ok(Bytes::from_static(BODY))).unwrap();
    drop(tap);
    assert_eq!(body(follower).await.unwrap(), BODY);
    assert_eq!(world.origin.asked(SEGMENT).len(), 1);
}

/// A viewer who has the first four bytes of a segment whose origin has just broken off.
async fn broken_after_four(world: &World) -> ViewerResponse {
    let (answer, tap) = tapped(Some(BODY.len()));
    world.origin.will(SEGMENT, answer);
    tap.send(Ok(Bytes::from_static(&BODY[..4]))).unwrap();
    let mut viewer = world.get(SEGMENT).await;
    assert_eq!(piece(&mut viewer).await, Some(Ok(Bytes::from_static(&BODY[..4]))));
    tap.send(Err(BrokenOff)).unwrap();
    viewer
}

#[tokio::test]
async fn a_body_that_breaks_off_is_resumed() {
    let world = World::new().await;
    let viewer = broken_after_four(&world).await;
    world.origin.will(SEGMENT, rest(BODY, 4));
    assert_eq!(body(viewer).await.unwrap(), &BODY[4..]);
    let asked = world.origin.asked(SEGMENT);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1][RANGE], "bytes=4-");
    assert_eq!(asked[1][IF_RANGE], "\"v1\"");
    until(|| world.fills("resumed") == 1).await;
    assert_eq!(body(world.get(SEGMENT).await).await.unwrap(), BODY);
    assert_eq!(world.served("hit"), 1);
}

#[tokio::test]
async fn a_body_that_cannot_be_resumed_breaks_its_followers_off_and_is_not_kept() {
    let world = World::new().await;
    let viewer = broken_after_four(&world).await;
    world.origin.will(SEGMENT, status(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(body(viewer).await, Err(BrokenOff));
    until(|| world.fills("broken") == 1).await;
    world.origin.will(SEGMENT, whole(BODY));
    assert_eq!(body(world.get(SEGMENT).await).await.unwrap(), BODY);
    assert_eq!(world.origin.asked(SEGMENT).len(), 3);
}

#[tokio::test]
async fn pieces_of_two_versions_or_two_runs_of_an_origin_are_never_joined() {
    let world = World::new().await;
    let viewer = broken_after_four(&world).await;
    world.origin.will(SEGMENT, whole(b"another version".as_slice()));
    assert_eq!(body(viewer).await, Err(BrokenOff));

    let world = World::new().await;
    let viewer = broken_after_four(&world).await;
    world.origin_is("o1-2", EPOCH);
    assert_eq!(body(viewer).await, Err(BrokenOff));
    assert_eq!(world.origin.asked(SEGMENT).len(), 1);
}

#[tokio::test]
async fn an_object_that_is_too_large_is_refused() {
    let world = World::with(|settings| settings.limits.edge_object_bytes = 8).await;
    world.origin.will(SEGMENT, whole(BODY));
    let answer = world.get(SEGMENT).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(header(&answer, CONTENT_TYPE), "application/problem+json");

    let unannounced = "/live/streams/cam1_source__17_5.m4s";
    let (answer, tap) = tapped(None);
    world.origin.will(unannounced, answer);
    tap.send(Ok(Bytes::from_static(BODY))).unwrap();
    let refused = world.get(unannounced).await;
    assert!(refused.status == StatusCode::BAD_GATEWAY || body(refused).await == Err(BrokenOff));
}

#[tokio::test]
async fn no_more_fetches_run_than_are_allowed() {
    let world = Arc::new(World::with(|settings| settings.limits.edge_fills = 1).await);
    world.origin.will(SEGMENT, whole(BODY));
    world.origin.hold();
    let first = tokio::spawn({
        let world = Arc::clone(&world);
        async move { body(world.get(SEGMENT).await).await }
    });
    until(|| world.served("fill") == 1).await;
    let refused = world.get("/live/streams/cam1_source__17_5.m4s").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.served("refused"), 1);
    world.origin.release();
    assert_eq!(within(first).await.unwrap().unwrap(), BODY);
}

/// Asks for the playlist until `holds`; every answer is `expect`.
async fn keeps_serving(world: &World, expect: &str, mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            let answer = world.get(PLAYLIST).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(body(answer).await.unwrap(), expect.as_bytes());
            breathe().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_playlist_is_served_while_the_origin_gives_none() {
    let world = World::new().await;
    let (last, next) = (playlist(EPOCH, 10), playlist(EPOCH + 1, 40));
    world.origin.will(PLAYLIST, whole(last.clone()));
    world.origin_is("o1-2", EPOCH + 1);
    keeps_serving(&world, &last, || world.served("stale") > 0).await;
    assert!(world.fills("not_found") >= 1, "the new origin has none yet");

    world.origin.hold();
    let asked = world.origin.asked(PLAYLIST).len();
    keeps_serving(&world, &last, || world.origin.asked(PLAYLIST).len() > asked).await;
    world.origin.release();

    world.view.store(Arc::default());
    let stale = world.served("stale");
    keeps_serving(&world, &last, || world.served("stale") > stale).await;

    world.origin_is("o1-2", EPOCH + 1);
    world.origin.will(PLAYLIST, whole(next.clone()));
    within(async {
        while body(world.get(PLAYLIST).await).await.unwrap() != next.as_bytes() {
            breathe().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_playlist_never_goes_back() {
    let world = World::new().await;
    let newest = playlist(EPOCH, 10);
    for answer in [newest.clone(), playlist(EPOCH, 9), playlist(EPOCH - 1, 90)] {
        world.origin.will(PLAYLIST, whole(answer));
    }
    keeps_serving(&world, &newest, || world.fills("error") == 2).await;
    assert!(world.served("stale") > 0);
}

#[tokio::test]
async fn what_cannot_be_there_is_not_asked_for() {
    let world = World::new().await;
    let old = "/live/streams/cam1_source__16_4.m4s";
    for path in ["/live/streams/cam2.m3u8", "/other/streams/cam1.m3u8", "/live/streams/a.ts", old] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(header(&answer, CACHE_CONTROL), "no-store");
        assert!(world.origin.asked(path).is_empty(), "{path}");
    }
    world.view.store(Arc::default());
    assert_eq!(world.get(PLAYLIST).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_missing_segment_is_asked_for_again_at_once() {
    let world = World::new().await;
    assert_eq!(world.get(SEGMENT).await.status, StatusCode::NOT_FOUND);
    world.origin.will(SEGMENT, whole(BODY));
    until(|| world.fills("not_found") == 1).await;
    assert_eq!(world.get(SEGMENT).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_origin_that_does_not_trust_this_node_is_a_bad_gateway() {
    let world = World::new().await;
    world.origin.will(SEGMENT, status(StatusCode::UNAUTHORIZED));
    assert_eq!(world.get(SEGMENT).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn ranges_conditions_and_heads() {
    let world = World::new().await;
    world.origin.will(SEGMENT, whole(BODY));
    let part = world.ask(Method::GET, SEGMENT, &[(RANGE, "bytes=2-4")]).await;
    assert_eq!((part.status, header(&part, CONTENT_RANGE)), (StatusCode::PARTIAL_CONTENT, "bytes 2-4/10"));
    assert_eq!(body(part).await.unwrap(), b"234");
    let beyond = world.ask(Method::GET, SEGMENT, &[(RANGE, "bytes=10-")]).await;
    assert_eq!(
        (beyond.status, header(&beyond, CONTENT_RANGE)),
        (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */10")
    );
    let unchanged = world.ask(Method::GET, SEGMENT, &[(IF_NONE_MATCH, "\"v1\"")]).await;
    assert_eq!((unchanged.status, header(&unchanged, ETAG)), (StatusCode::NOT_MODIFIED, "\"v1\""));
    assert!(body(unchanged).await.unwrap().is_empty());
    let head = world.ask(Method::HEAD, SEGMENT, &[]).await;
    assert_eq!((head.status, header(&head, CONTENT_LENGTH)), (StatusCode::OK, "10"));
    assert!(header(&head, CACHE_CONTROL).contains("immutable"));
    assert!(matches!(head.body, ViewerBody::Empty));
    assert_eq!(world.origin.asked(SEGMENT).len(), 1);
}

#[tokio::test]
async fn methods_and_preflights() {
    let world = World::new().await;
    let refused = world.ask(Method::POST, PLAYLIST, &[]).await;
    assert_eq!(
        (refused.status, header(&refused, ALLOW)),
        (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD, OPTIONS")
    );
    let preflight = world.ask(Method::OPTIONS, PLAYLIST, &[]).await;
    assert_eq!(
        (preflight.status, header(&preflight, ACCESS_CONTROL_ALLOW_ORIGIN)),
        (StatusCode::NO_CONTENT, "*")
    );
    let page = world.get("/live/play.html").await;
    assert_eq!((page.status, header(&page, CONTENT_TYPE)), (StatusCode::OK, "text/html; charset=utf-8"));
}

#[tokio::test]
async fn viewers_are_counted_and_told_to_the_origin() {
    let world = World::new().await;
    let long = playlist(EPOCH, 10).replace("DURATION:0", "DURATION:2");
    let length = u64::try_from(long.len()).unwrap();
    world.origin.will(PLAYLIST, whole(long));
    for _ in 0..3 {
        let answer = world.get(PLAYLIST).await;
        assert_eq!((header(&answer, AGE), header(&answer, CACHE_CONTROL)), ("0", "public, max-age=1"));
    }
    assert_eq!(world.edge.load().viewers, 1);
    assert_eq!(world.origin.asked(PLAYLIST)[0][VIEWERS_HEADER], "0");
    assert_eq!(world.count("sluicegate_http_requests_total", "playlist"), 3);
    assert_eq!(world.count("sluicegate_http_sent_bytes_total", "edge"), 3 * length);
}

#[test]
fn viewers_may_be_answered_on_another_runtime() {
    let node = tokio::runtime::Runtime::new().unwrap();
    let world = node.block_on(World::new());
    world.origin.will(SEGMENT, whole(BODY));
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer =
        other.block_on(async { body(world.edge.answer(request(Method::GET, SEGMENT, &[])).await).await });
    assert_eq!(answer.unwrap(), BODY);
}
