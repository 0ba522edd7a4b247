//! Claims, as origins make them.

use std::collections::HashMap;
use std::sync::Arc;

use super::Store;
use crate::claims::{Claimed, Claims};
use crate::ids::StreamKey;
use crate::stream::StreamRecord;
use crate::testing;

async fn taken(claims: &Claims, key: &StreamKey, node: &str, session: &str) -> StreamRecord {
    match claims.claim(key, &testing::taker(node, session)).await.unwrap() {
        Claimed::Taken(record) => *record,
        Claimed::Held(owner) => panic!("held by {owner:?}"),
    }
}

pub(super) async fn of_many_takers_of_a_stream_one_wins(store: Store) {
    const STREAMS: usize = 100;
    const TAKERS: usize = 8;
    let now = store.now().await.unwrap();
    for taker in 0..TAKERS {
        let node = testing::node(&format!("o{taker}"), now.plus(std::time::Duration::from_secs(600)));
        assert!(store.put_node(&node, None).await.unwrap());
    }
    // Every other stream was there before and is free: claims race by inserting and by replacing.
    for n in (1..STREAMS).step_by(2) {
        let before = testing::stream_held_by(&format!("live/s{n}"), "o9", "s9", now);
        let ended = StreamRecord { ended_at: Some(now), ..before };
        assert!(store.put_stream(&ended, None).await.unwrap());
    }
    let takers: Vec<_> = (0..TAKERS)
        .map(|taker| {
            let claims = Claims::new(Arc::clone(&store));
            let taker = testing::taker(&format!("o{taker}"), &format!("s{taker}"));
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                for n in 0..STREAMS {
                    let key = format!("live/s{n}").parse().unwrap();
                    outcomes.push(claims.claim(&key, &taker).await.unwrap());
                }
                outcomes
            })
        })
        .collect();

    let mut winners = HashMap::new();
    let mut losers = Vec::new();
    for taker in takers {
        for (n, outcome) in taker.await.unwrap().into_iter().enumerate() {
            match outcome {
                Claimed::Taken(record) => assert_eq!(winners.insert(n, record.owner), None),
                Claimed::Held(owner) => losers.push((n, owner)),
            }
        }
    }
    assert_eq!((winners.len(), losers.len()), (STREAMS, STREAMS * (TAKERS - 1)));
    for (n, told) in losers {
        assert_eq!(told, winners[&n], "live/s{n}");
    }
    let all = crate::store::StreamQuery::Known { ended_since: crate::clock::UnixMs(0) };
    let stored = crate::store::read_streams(store.as_ref(), all).await.unwrap().streams;
    assert_eq!(stored.len(), STREAMS);
    assert_eq!(stored.iter().filter(|s| s.claims == 1).count(), STREAMS / 2);
    assert_eq!(stored.iter().filter(|s| s.claims == 2).count(), STREAMS / 2);
}

pub(super) async fn numbers_rise_from_claim_to_claim(store: Store) {
    let claims = Claims::new(Arc::clone(&store));
    let key: StreamKey = "live/cam".parse().unwrap();
    let first = taken(&claims, &key, "o1", "s1").await;
    assert!(claims.release(&key, first.epoch, &first.owner.node, 41).await.unwrap());
    let second = taken(&claims, &key, "o2", "s2").await;
    assert!(second.epoch > first.epoch && second.claims == 2 && second.sequence > 41, "{second:?}");
    assert!(!claims.release(&key, first.epoch, &first.owner.node, 99).await.unwrap(), "a stale release");
    let carried = taken(&claims, &key, "o3", "s2").await;
    assert!(carried.epoch > second.epoch && carried.claims == 3 && carried.sequence > second.sequence);
    let stored = store.stream(&key).await.unwrap().unwrap();
    assert_eq!(StreamRecord { changed: carried.changed, ..stored }, carried);
}

pub(super) async fn the_clock_runs_forward(store: Store) {
    let here = crate::clock::unix_ms();
    let first = store.now().await.unwrap();
    let second = store.now().await.unwrap();
    assert!(second >= first);
    let apart = first.age(here).max(here.age(first));
    assert!(apart.as_secs() < 3_600, "the database's clock is {apart:?} from this machine's");
}
