//! One suite for both stores: what a case says holds for `embedded` and for `mongodb` alike.

use std::sync::Arc;

use ::mongodb::bson::{Document, doc};
use ::mongodb::{Client, Collection};
use sluicegate_e2e::mongo::TestMongo;

use super::{ClusterStore, EmbeddedStore, MongoAddress, MongoStore, StoreError};
use crate::clock::UnixMs;

mod ams;
mod claims;
mod mongodb;
mod nodes;
mod reader;
mod streams;

const NOW: UnixMs = UnixMs(1_700_000_000_000);

type Store = Arc<dyn ClusterStore>;

macro_rules! against_both_stores {
    ($($module:ident::$case:ident,)*) => {
        mod in_embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$module::$case(std::sync::Arc::new(super::EmbeddedStore::in_memory())).await;
            })*
        }
        mod in_mongodb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let scratch = super::Scratch::new();
                super::$module::$case(std::sync::Arc::new(scratch.store().await)).await;
                scratch.discard().await;
            })*
        }
    };
}

against_both_stores! {
    nodes::a_node_comes_back_as_it_was_written,
    nodes::a_node_is_written_only_over_the_rev_it_was_read_at,
    nodes::of_many_first_writes_of_a_node_one_wins,
    nodes::heartbeats_and_room_are_no_change_of_a_node,
    nodes::a_node_is_removed_only_at_the_rev_it_was_read_at,
    nodes::of_equal_origins_the_one_with_the_most_room_is_taken,
    nodes::a_small_origin_is_spared_as_much_as_a_large_one,
    nodes::origins_that_cannot_take_it_are_passed_over,
    nodes::many_takers_never_oversell_an_origin,
    streams::a_stream_comes_back_as_it_was_written,
    streams::a_stream_is_written_only_over_the_write_that_was_read,
    streams::a_stream_of_an_older_program_has_no_rev_and_is_written_over,
    streams::of_many_first_writes_of_a_stream_one_wins,
    streams::only_streams_that_changed_are_read_again,
    streams::a_node_that_begins_reads_what_it_must_know,
    streams::streams_are_read_in_pages_and_none_is_missed,
    streams::progress_is_recorded_under_the_present_epoch_only,
    streams::progress_of_thousands_of_streams_is_recorded,
    reader::an_edge_reads_what_changed_and_itself,
    reader::a_balancer_reads_every_heartbeat_and_sees_who_is_removed,
    reader::after_an_outage_all_that_may_have_waited_is_read,
    claims::of_many_takers_of_a_stream_one_wins,
    claims::numbers_rise_from_claim_to_claim,
    claims::the_clock_runs_forward,
}

/// A database of a test's own on the shared server.
struct Scratch {
    name: String,
}

impl Scratch {
    fn new() -> Self {
        Self { name: format!("sluicegate_test_{:016x}", rand::random::<u64>()) }
    }

    async fn store(&self) -> MongoStore {
        let store = MongoStore::open_database(&address(), &self.name).await.unwrap();
        store.prepare().await.unwrap();
        store
    }

    /// A collection past the store.
    async fn collection(&self, name: &str) -> Collection<Document> {
        self.client().await.database(&self.name).collection(name)
    }

    async fn client(&self) -> Client {
        Client::with_uri_str(address().uri).await.unwrap()
    }

    async fn discard(self) {
        self.client().await.database(&self.name).run_command(doc! {"dropDatabase": 1}).await.unwrap();
    }
}

fn address() -> MongoAddress {
    let uri = TestMongo::shared().unwrap().uri().to_owned();
    MongoAddress { uri, user: None, password: None, tls_ca: None }
}
