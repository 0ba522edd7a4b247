//! Streams and their progress.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{NOW, Store};
use crate::clock::UnixMs;
use crate::ids::{Epoch, NodeId};
use crate::limits;
use crate::placed::{Because, Placed, PlacedCandidate};
use crate::store::{StreamQuery, read_streams};
use crate::stream::{
    LadderState, PictureSize, PublishType, StreamFigures, StreamNotes, StreamProgress, StreamRecord,
};
use crate::testing;

const LATER: UnixMs = UnixMs(NOW.0 + 10_000);

fn full_stream() -> StreamRecord {
    StreamRecord {
        claims: 3,
        renditions: vec!["source".to_owned(), "720p".to_owned()],
        size: Some(PictureSize { width: 1280, height: 720, fps: 29.97 }),
        sequence: 4_711,
        sequence_at: UnixMs(NOW.0 + 1),
        started_at: UnixMs(NOW.0 + 2),
        bitrate_bps: 6_000_000_000,
        viewers: 12,
        webrtc_viewers: 5,
        publish_type: PublishType::WebRtc,
        placed: Some(Box::new(placed())),
        changed: UnixMs(NOW.0 + 3),
        ..testing::stream_held_by("live/cam", "o1", "s1", NOW)
    }
}

fn placed() -> Placed {
    let node: NodeId = "o1".parse().unwrap();
    let candidate = PlacedCandidate {
        node: node.clone(),
        free_mpx: 31.5,
        capacity_mpx: 62.0,
        cpu: 12.5,
        heartbeat_age_ms: 400,
    };
    let because = Because::LeastLoaded;
    Placed { by: node, at: NOW, because, cost_mpx: 2.0, of: 1, candidates: vec![candidate] }
}

fn ladder() -> Box<LadderState> {
    Box::new(LadderState {
        given_up: vec!["720p".to_owned()],
        lag_ms: 40,
        frames_lost: 7,
        restarts: 1,
        decode_percent: 12.5,
        scale_percent: 25.0,
        encode_percent: 150.0,
    })
}

fn progress(stream: &StreamRecord, sequence: i64) -> StreamProgress {
    StreamProgress {
        key: stream.key.clone(),
        epoch: stream.epoch,
        size: None,
        renditions: vec!["source".to_owned(), "360p700kbps".to_owned()],
        sequence,
        bitrate_bps: 2_500_000,
        viewers: 9,
        webrtc_viewers: 4,
        ladder: ladder(),
        is_news: false,
    }
}

/// What is stored, but for the store's own stamp.
async fn stored(store: &Store, record: &StreamRecord) -> StreamRecord {
    let stored = store.stream(&record.key).await.unwrap().unwrap();
    StreamRecord { changed: record.changed, ..stored }
}

async fn keys(store: &Store, query: StreamQuery) -> Vec<String> {
    let found = read_streams(store.as_ref(), query).await.unwrap().streams;
    let mut keys: Vec<String> = found.iter().map(|s| s.key.to_string()).collect();
    keys.sort_unstable();
    keys
}

/// A time of the store that everything written before it lies before, and everything after it at or behind it.
async fn a_moment(store: &Store) -> UnixMs {
    let mark = testing::stream_held_by("mark/mark", "o1", "s1", NOW);
    let _ = store.put_stream(&mark, None).await.unwrap();
    assert!(store.put_stream(&mark, Some(mark.version())).await.unwrap());
    let before = store.stream(&mark.key).await.unwrap().unwrap().changed;
    loop {
        assert!(store.put_stream(&mark, Some(mark.version())).await.unwrap());
        let at = store.stream(&mark.key).await.unwrap().unwrap().changed;
        if at > before {
            return at;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(super) async fn a_stream_comes_back_as_it_was_written(store: Store) {
    let live = full_stream();
    let key = "live/ended".parse().unwrap();
    let ended = StreamRecord { key, ended_at: Some(LATER), size: None, ..full_stream() };
    assert_eq!(store.stream(&live.key).await.unwrap(), None);
    for record in [&live, &ended] {
        assert!(store.put_stream(record, None).await.unwrap());
        assert_eq!(&stored(&store, record).await, record);
    }
    let read = store.streams(StreamQuery::Changed { since: UnixMs(0) }, None).await.unwrap().streams;
    assert!(read.len() == 2 && read.iter().all(|s| s.placed.is_none()), "{read:?}");
    let reclaimed = StreamRecord { ended_at: None, size: None, ..ended.clone() };
    assert!(store.put_stream(&reclaimed, Some(ended.version())).await.unwrap());
    assert_eq!(stored(&store, &ended).await, reclaimed, "nothing is left of its end");
}

pub(super) async fn a_stream_is_written_only_over_the_write_that_was_read(store: Store) {
    let first = full_stream();
    let second = StreamRecord { epoch: Epoch(first.epoch.0 + 1), rev: 2, ..first.clone() };
    let third = StreamRecord { rev: 3, viewers: 77, ..second.clone() };
    let over = |record: &StreamRecord| Some(record.version());
    assert!(!store.put_stream(&second, over(&first)).await.unwrap(), "there is none yet");
    assert!(store.put_stream(&first, None).await.unwrap());
    assert!(!store.put_stream(&second, None).await.unwrap(), "there is one already");
    assert!(store.put_stream(&second, over(&first)).await.unwrap());
    assert!(!store.put_stream(&first, over(&first)).await.unwrap(), "the epoch has moved");
    assert!(store.put_stream(&third, over(&second)).await.unwrap());
    assert!(!store.put_stream(&second, over(&second)).await.unwrap(), "it was written meanwhile");
    assert_eq!(stored(&store, &first).await, third);
}

pub(super) async fn a_stream_of_an_older_program_has_no_rev_and_is_written_over(store: Store) {
    let before = StreamRecord { rev: 0, ..full_stream() };
    assert!(store.put_stream(&before, None).await.unwrap());
    let after = StreamRecord { rev: 1, ..full_stream() };
    assert!(store.put_stream(&after, Some(before.version())).await.unwrap());
    assert_eq!(stored(&store, &before).await, after);
}

pub(super) async fn of_many_first_writes_of_a_stream_one_wins(store: Store) {
    let writers: Vec<_> = (0..16)
        .map(|claims| {
            let store = Arc::clone(&store);
            let record = StreamRecord { claims, ..full_stream() };
            tokio::spawn(async move { store.put_stream(&record, None).await.unwrap().then_some(claims) })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        winners.extend(writer.await.unwrap());
    }
    assert_eq!(winners, [stored(&store, &full_stream()).await.claims]);
}

pub(super) async fn only_streams_that_changed_are_read_again(store: Store) {
    let held = |key| testing::stream_held_by(key, "o1", "s1", NOW);
    for key in ["live/a", "live/b", "live/c"] {
        assert!(store.put_stream(&held(key), None).await.unwrap());
    }
    let moment = a_moment(&store).await;
    assert_eq!(keys(&store, StreamQuery::Changed { since: moment }).await, ["mark/mark"]);
    // A writer whose clock is ten minutes behind: its change is seen all the same.
    let late = StreamRecord { claims: 2, changed: UnixMs(NOW.0 - 600_000), ..held("live/b") };
    assert!(store.put_stream(&late, Some(late.version())).await.unwrap());
    assert_eq!(keys(&store, StreamQuery::Changed { since: moment }).await, ["live/b", "mark/mark"]);
    // One whose clock is ahead does not hide what comes after it.
    let early = StreamRecord { claims: 2, changed: UnixMs(i64::from(i32::MAX) * 1_000), ..held("live/a") };
    assert!(store.put_stream(&early, Some(early.version())).await.unwrap());
    let later = a_moment(&store).await;
    assert_eq!(keys(&store, StreamQuery::Changed { since: later }).await, ["mark/mark"]);
}

pub(super) async fn a_node_that_begins_reads_what_it_must_know(store: Store) {
    let held = |key| testing::stream_held_by(key, "o1", "s1", NOW);
    let ended = |key| StreamRecord { ended_at: Some(NOW), ..held(key) };
    let notes = Some(Box::new(StreamNotes { created_at: NOW, ..StreamNotes::default() }));
    for record in [held("live/on"), ended("live/over"), StreamRecord { notes, ..ended("live/noted") }] {
        assert!(store.put_stream(&record, None).await.unwrap());
    }
    let moment = a_moment(&store).await;
    assert!(store.put_stream(&ended("live/just-now"), None).await.unwrap());
    let known = keys(&store, StreamQuery::Known { ended_since: moment }).await;
    assert_eq!(known, ["live/just-now", "live/noted", "live/on", "mark/mark"]);
}

pub(super) async fn streams_are_read_in_pages_and_none_is_missed(store: Store) {
    let count = limits::STREAMS_PAGE + 10;
    let mut writing = JoinSet::new();
    for n in 0..count {
        let record = testing::stream_held_by(&format!("live/s{n}"), "o1", "s1", NOW);
        let store = Arc::clone(&store);
        writing.spawn(async move { store.put_stream(&record, None).await.unwrap() });
        if writing.len() >= 64 {
            assert!(writing.join_next().await.unwrap().unwrap());
        }
    }
    while let Some(written) = writing.join_next().await {
        assert!(written.unwrap());
    }
    let all = StreamQuery::Known { ended_since: UnixMs(0) };
    for query in [all, StreamQuery::Changed { since: UnixMs(0) }] {
        let first = store.streams(query, None).await.unwrap();
        assert_eq!(first.streams.len(), limits::STREAMS_PAGE);
        let second = store.streams(query, first.end).await.unwrap();
        assert_eq!(second.end, None);
        assert_eq!(second.streams.len(), 10);
        let mut found = keys(&store, query).await;
        found.dedup();
        assert_eq!(found.len(), count, "{query:?}");
    }
}

pub(super) async fn progress_is_recorded_under_the_present_epoch_only(store: Store) {
    let running = full_stream();
    let stream = |key: &str| StreamRecord { key: key.parse().unwrap(), ..full_stream() };
    let taken_over = stream("live/taken");
    let ended = StreamRecord { ended_at: Some(NOW), ..stream("live/ended") };
    for record in [&running, &taken_over, &ended] {
        assert!(store.put_stream(record, None).await.unwrap());
    }
    let stale = StreamProgress { epoch: Epoch(taken_over.epoch.0 - 1), ..progress(&taken_over, 9_000) };
    let unknown = StreamProgress { key: "live/unknown".parse().unwrap(), ..progress(&running, 9_000) };
    let steps = [stale, unknown, progress(&ended, 9_000), progress(&running, 5_000)];
    let moment = a_moment(&store).await;
    store.record_progress(&steps, LATER).await.unwrap();

    assert_eq!(stored(&store, &taken_over).await, taken_over);
    assert_eq!(stored(&store, &ended).await, ended);
    assert_eq!(store.stream(&"live/unknown".parse().unwrap()).await.unwrap(), None);
    let expected = StreamRecord {
        renditions: vec!["source".to_owned(), "360p700kbps".to_owned()],
        sequence: 5_000,
        bitrate_bps: 2_500_000,
        viewers: 9,
        webrtc_viewers: 4,
        ladder: ladder(),
        sequence_at: LATER,
        rev: running.rev + 1,
        ..running.clone()
    };
    assert_eq!(stored(&store, &running).await, expected);

    let changed = StreamQuery::Changed { since: moment };
    assert_eq!(keys(&store, changed).await, ["mark/mark"], "figures are no change");
    let figures: Vec<_> = store.stream_figures(LATER).await.unwrap();
    assert_eq!(figures, [StreamFigures::of(&progress(&running, 5_000), LATER)]);

    let size = Some(PictureSize { width: 1920, height: 1080, fps: 50.0 });
    let late = StreamProgress { size, is_news: true, ..progress(&running, 4_999) };
    store.record_progress(&[late], LATER).await.unwrap();
    let expected = StreamRecord { size, rev: running.rev + 2, ..expected };
    assert_eq!(stored(&store, &running).await, expected, "no number goes back");
    assert_eq!(keys(&store, changed).await, ["live/cam", "mark/mark"], "its picture is news");
}

pub(super) async fn progress_of_thousands_of_streams_is_recorded(store: Store) {
    let held = |n| testing::stream_held_by(&format!("live/s{n}"), "o1", "s1", NOW);
    for n in [0, 999, 1_000, 2_100] {
        assert!(store.put_stream(&held(n), None).await.unwrap());
    }
    let steps: Vec<_> = (0..=2_100).map(|n| progress(&held(n), 77)).collect();
    store.record_progress(&steps, LATER).await.unwrap();
    let mut moved = store.stream_figures(LATER).await.unwrap();
    moved.sort_by(|a, b| a.key.cmp(&b.key));
    let moved: Vec<_> = moved.iter().map(|s| (s.key.stream.as_str(), s.viewers)).collect();
    assert_eq!(moved, [("s0", 9), ("s1000", 9), ("s2100", 9), ("s999", 9)]);
    assert_eq!(stored(&store, &held(2_100)).await.sequence, 77);
    store.record_progress(&[], LATER).await.unwrap();
}
