//! What only a database can do: hold what others wrote, refuse a login, not be there.

use mongodb::bson::{Document, doc, serialize_to_document};

use super::{NOW, Scratch, StoreError, address};
use crate::secret::Secret;
use crate::store::{ClusterStore, MongoAddress, MongoStore, StreamQuery, read_streams};
use crate::testing;

#[tokio::test]
async fn an_unreadable_node_is_told_by_its_field_and_hides_no_other() {
    let scratch = Scratch::new();
    let store = scratch.store().await;
    assert!(store.put_node(&testing::node("good", NOW), None).await.unwrap());
    let mut bad = serialize_to_document(&testing::node("bad", NOW)).unwrap();
    bad.insert("capacityMpx", "a lot");
    scratch.collection("sluicegate_node").await.insert_one(bad).await.unwrap();

    let (good, bad): (Vec<_>, Vec<_>) = store.nodes().await.unwrap().into_iter().partition(Result::is_ok);
    assert_eq!(good, [Ok(testing::node("good", NOW))]);
    let [Err(bad)] = bad.as_slice() else { panic!("{bad:?}") };
    assert_eq!(bad.id, "bad");
    assert!(bad.why.contains("capacityMpx"), "{bad:?}");
    let error = store.node(&"bad".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { id, .. } if id == "bad"));
    scratch.discard().await;
}

#[tokio::test]
async fn an_unreadable_stream_is_told_by_its_field_and_hides_no_other() {
    let scratch = Scratch::new();
    let store = scratch.store().await;
    let good = testing::stream_held_by("live/good", "o1", "s1", NOW);
    assert!(store.put_stream(&good, None).await.unwrap());
    let bad: Document = doc! {"_id": "live/bad", "epoch": 1_i64};
    scratch.collection("sluicegate_stream").await.insert_one(bad).await.unwrap();
    let known = read_streams(&store, StreamQuery::Known { ended_since: NOW }).await.unwrap();
    assert_eq!(known.streams.iter().map(|s| &s.key).collect::<Vec<_>>(), [&good.key]);
    let [bad] = known.unreadable.as_slice() else { panic!("{known:?}") };
    assert!(bad.id == "live/bad" && bad.why.contains("node"), "{bad:?}");
    let error = store.stream(&"live/bad".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { id, .. } if id == "live/bad"));
    scratch.discard().await;
}

#[tokio::test]
async fn what_readers_poll_is_indexed() {
    let scratch = Scratch::new();
    let store = scratch.store().await;
    store.prepare().await.unwrap();
    let streams = scratch.collection("sluicegate_stream").await;
    assert!(streams.list_index_names().await.unwrap().contains(&"changed_1__id_1".to_owned()));
    let nodes = scratch.collection("sluicegate_node").await;
    assert!(nodes.list_index_names().await.unwrap().contains(&"changed_1".to_owned()));
    scratch.discard().await;
}

#[tokio::test]
async fn a_login_that_the_server_refuses_is_told_without_the_password() {
    let password = Some(Secret::Fixed("geheim".to_owned()));
    let wrong = MongoAddress { user: Some("nobody".to_owned()), password, ..address() };
    let error = MongoStore::open(&wrong).await.unwrap().now().await.unwrap_err();
    assert_eq!(error.kind(), "refused", "{error}");
    assert!(!format!("{error} {error:?}").contains("geheim"), "{error:?}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unavailable_in_bounded_time() {
    let uri = "mongodb://127.0.0.1:1".to_owned();
    let nowhere = MongoAddress { uri, user: None, password: None, tls_ca: None };
    let began = crate::clock::now();
    let error = MongoStore::open(&nowhere).await.unwrap().now().await.unwrap_err();
    assert_eq!(error.kind(), "unavailable", "{error}");
    assert!(began.elapsed() <= crate::limits::STORE_CALL + std::time::Duration::from_secs(2));
}
