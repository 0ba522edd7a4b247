//! Requests that wait for what is about to come.

use std::sync::Arc;

use futures_util::future::join_all;
use http::StatusCode;
use http::header::{AGE, CACHE_CONTROL, ETAG, RETRY_AFTER};
use sluicegate_cluster::viewer::ViewerResponse;

use super::header;
use crate::testing::{
    EPOCH, PLAYLIST, World, body, breathe, low_latency, playlist, status, until, whole, within,
};

/// The request for the first part of segment 41, as it comes to the origin.
const NEXT: &str = "/live/streams/cam1.m3u8?_HLS_msn=41&_HLS_part=0";

fn ask(world: &Arc<World>, path: &'static str) -> tokio::task::JoinHandle<ViewerResponse> {
    let world = Arc::clone(world);
    tokio::spawn(async move { world.get(path).await })
}

#[tokio::test]
async fn two_hundred_waiting_viewers_are_one_request_to_the_origin() {
    let world = Arc::new(World::new().await);
    let text = low_latency(EPOCH, 1);
    world.origin.will(NEXT, whole(text.clone()));
    world.origin.hold();
    // Whatever else they add, and in whichever order, they ask for the same.
    let spellings = [NEXT, "/live/streams/cam1.m3u8?_HLS_part=0&token=abc&_HLS_msn=41"];
    let viewers: Vec<_> = (0..200).map(|n| ask(&world, spellings[n % 2])).collect();
    until(|| world.served("joined") == 199).await;
    world.origin.release();
    for viewer in within(join_all(viewers)).await {
        let answer = viewer.unwrap();
        assert_eq!(header(&answer, CACHE_CONTROL), "public, max-age=6");
        assert_eq!(header(&answer, AGE), "0");
        assert_eq!(body(answer).await.unwrap(), text.as_bytes());
    }
    assert_eq!(world.origin.asked(NEXT).len(), 1);
    // Whoever comes later, for this or for no part at all, gets it from the cache.
    for path in [NEXT, PLAYLIST, "/live/streams/cam1.m3u8?_HLS_msn=39"] {
        assert_eq!(body(world.get(path).await).await.unwrap(), text.as_bytes(), "{path}");
    }
    assert_eq!(world.served("hit"), 3);
    assert!(world.origin.asked(PLAYLIST).is_empty());
    assert_eq!(world.edge.load().viewers, 1, "it is the stream's first second");
}

#[tokio::test]
async fn the_others_get_their_playlist_when_the_first_viewer_leaves() {
    let world = Arc::new(World::new().await);
    world.origin.will(NEXT, whole(low_latency(EPOCH, 1)));
    world.origin.hold();
    let leader = ask(&world, NEXT);
    until(|| !world.origin.asked(NEXT).is_empty()).await;
    leader.abort();
    assert!(leader.await.is_err_and(|error| error.is_cancelled()));
    let follower = ask(&world, NEXT);
    until(|| world.served("joined") == 1).await;
    world.origin.release();
    assert_eq!(within(follower).await.unwrap().status, StatusCode::OK);
    assert_eq!(world.origin.asked(NEXT).len(), 1);
}

#[tokio::test]
async fn bad_directives_cost_the_origin_nothing_and_what_is_too_far_one_request() {
    let world = World::new().await;
    for query in ["_HLS_part=1", "_HLS_msn=x", "_HLS_msn=1&_HLS_part=-1"] {
        let answer = world.get(&format!("{PLAYLIST}?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(header(&answer, CACHE_CONTROL), "no-store");
    }
    let far = "/live/streams/cam1.m3u8?_HLS_msn=99";
    world.origin.will(far, status(StatusCode::BAD_REQUEST));
    assert_eq!(world.get(far).await.status, StatusCode::BAD_REQUEST);
    // The next request is not refused for that.
    world.origin.will(NEXT, whole(low_latency(EPOCH, 1)));
    assert_eq!(world.get(NEXT).await.status, StatusCode::OK);
}

#[tokio::test]
async fn whoever_waits_gets_the_playlist_of_the_next_origin() {
    let world = Arc::new(World::new().await);
    world.origin.will(PLAYLIST, whole(low_latency(EPOCH, 1)));
    assert_eq!(world.get(PLAYLIST).await.status, StatusCode::OK);
    world.origin.hold();
    let second = "/live/streams/cam1.m3u8?_HLS_msn=41&_HLS_part=1";
    let viewers: Vec<_> = (0..3).map(|_| ask(&world, second)).collect();
    until(|| world.served("joined") == 2).await;

    world.origin_is("o1-2", EPOCH + 1);
    // The origin that hung is not waited for; the next one has no playlist yet.
    until(|| world.origin.asked(PLAYLIST).len() > 1).await;
    world.origin.release();
    until(|| world.origin.asked(PLAYLIST).len() > 2).await;
    let next = low_latency(EPOCH + 1, 1).replace("SEQUENCE:40", "SEQUENCE:60");
    world.origin.will(PLAYLIST, whole(next.clone()));
    for viewer in within(join_all(viewers)).await {
        assert_eq!(body(viewer.unwrap()).await.unwrap(), next.as_bytes());
    }
}

#[tokio::test]
async fn an_origin_that_breaks_off_is_asked_again() {
    let world = World::new().await;
    let (answer, tap) = crate::testing::tapped(Some(100));
    world.origin.will(NEXT, answer);
    tap.send(Err(sluicegate_cluster::viewer::BrokenOff)).unwrap();
    world.origin.will(NEXT, whole(low_latency(EPOCH, 1)));
    assert_eq!(within(world.get(NEXT)).await.status, StatusCode::OK);
    assert_eq!(world.origin.asked(NEXT).len(), 2);
}

#[tokio::test]
async fn an_older_answer_never_takes_the_place_of_a_newer_one() {
    let world = World::new().await;
    let newest = low_latency(EPOCH, 2);
    let late = "/live/streams/cam1.m3u8?_HLS_msn=42";
    world.origin.will(PLAYLIST, whole(newest.clone()));
    assert_eq!(world.get(PLAYLIST).await.status, StatusCode::OK);
    world.origin.will(late, whole(low_latency(EPOCH, 1)));
    assert_eq!(body(world.get(late).await).await.unwrap(), newest.as_bytes());
}

#[tokio::test]
async fn no_more_wait_than_may() {
    let world = Arc::new(World::with(|settings| settings.limits.edge_holds = 1).await);
    world.origin.will(NEXT, whole(low_latency(EPOCH, 1)));
    world.origin.hold();
    let first = ask(&world, NEXT);
    until(|| world.served("fill") == 1).await;
    let refused = world.get(NEXT).await;
    assert_eq!((refused.status, header(&refused, RETRY_AFTER)), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    world.origin.release();
    assert_eq!(within(first).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_stream_that_pauses_is_unavailable() {
    let world = World::new().await;
    world.origin.will(NEXT, status(StatusCode::SERVICE_UNAVAILABLE));
    let answer = world.get(NEXT).await;
    assert_eq!((answer.status, header(&answer, RETRY_AFTER)), (StatusCode::SERVICE_UNAVAILABLE, "1"));
}

#[tokio::test]
async fn a_delta_update_is_an_object_of_its_own() {
    let world = World::new().await;
    let (full, delta) =
        (low_latency(EPOCH, 1), low_latency(EPOCH, 1).replace("#EXTINF:1.0,", "#EXTINF:1.00,"));
    world.origin.will(NEXT, whole(full.clone()));
    let skipping = "/live/streams/cam1.m3u8?_HLS_msn=41&_HLS_part=0&_HLS_skip=YES";
    world.origin.will(skipping, whole(delta.clone()));
    for (path, expect) in [(NEXT, &full), (skipping, &delta), (NEXT, &full), (skipping, &delta)] {
        assert_eq!(body(world.get(path).await).await.unwrap(), expect.as_bytes(), "{path}");
    }
    assert_eq!(world.served("hit"), 2);
}

#[tokio::test]
async fn a_hinted_part_is_waited_for_by_one_request() {
    let world = Arc::new(World::new().await);
    let part = "/live/streams/cam1_source__17_41.0.m4s";
    world.origin.will(part, whole(b"0123456789".as_slice()));
    world.origin.hold();
    let viewers: Vec<_> = (0..50).map(|_| ask(&world, part)).collect();
    until(|| world.served("joined") == 49).await;
    world.origin.release();
    for viewer in within(join_all(viewers)).await {
        assert_eq!(body(viewer.unwrap()).await.unwrap(), b"0123456789");
    }
    assert_eq!(world.origin.asked(part).len(), 1);
}

#[tokio::test]
async fn a_hinted_part_of_a_lost_origin_is_not_waited_for() {
    let world = Arc::new(World::new().await);
    world.origin.hold();
    let part = "/live/streams/cam1_source__17_41.0.m4s";
    let viewer = ask(&world, part);
    until(|| !world.origin.asked(part).is_empty()).await;
    world.origin_is("o1-2", EPOCH + 1);
    assert_eq!(within(viewer).await.unwrap().status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_segment_whose_parts_are_here_costs_the_origin_nothing() {
    let world = World::new().await;
    world.origin.will(PLAYLIST, whole(low_latency(EPOCH, 1)));
    let parts = ["/live/streams/cam1_source__17_40.0.m4s", "/live/streams/cam1_source__17_40.1.m4s"];
    world.origin.will(parts[0], whole(b"0123".as_slice()));
    world.origin.will(parts[1], whole(b"4567".as_slice()));
    for path in [PLAYLIST, parts[0], parts[1]] {
        assert_eq!(body(world.get(path).await).await.map(|body| body.is_empty()), Ok(false));
    }
    let segment = "/live/streams/cam1_source__17_40.m4s";
    within(async {
        // A fill lands in the cache just after its last follower has all of it.
        while world.served("hit") == 0 {
            let answer = world.get(segment).await;
            if answer.status == StatusCode::OK {
                assert_eq!(header(&answer, ETAG), "\"cam1_source__17_40.m4s\"");
                assert_eq!(body(answer).await.unwrap(), b"01234567");
            }
            breathe().await;
        }
    })
    .await;
    assert_eq!(body(world.get(segment).await).await.unwrap(), b"01234567");
}

#[tokio::test]
async fn a_playlist_that_cannot_be_waited_for_is_asked_of_its_origin() {
    let world = World::new().await;
    world.origin.will(PLAYLIST, whole(playlist(EPOCH, 10)));
    assert_eq!(world.get(PLAYLIST).await.status, StatusCode::OK);
    world.origin.will(NEXT, whole(low_latency(EPOCH, 1)));
    assert_eq!(body(world.get(NEXT).await).await.unwrap(), low_latency(EPOCH, 1).as_bytes());
}
