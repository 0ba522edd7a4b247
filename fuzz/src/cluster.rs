//! What comes from the database, from the operator's file, from proxies and in a publish's ticket.

use std::time::Duration;

use sluicegate_cluster::claims::{self, Taker};
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::config::Sources;
use sluicegate_cluster::membership::{self, Room};
use sluicegate_cluster::node::{Load, NodeState};
use sluicegate_cluster::proxies::{self, Beginning};
use sluicegate_cluster::store::StreamPage;
use sluicegate_cluster::stream::StreamRecord;
use sluicegate_cluster::testing;
use sluicegate_cluster::ticket::PublishTicket;
use sluicegate_cluster::trust::ClusterKey;
use sluicegate_cluster::view::{ClusterView, News, NodesRead};

const NOW: UnixMs = UnixMs(1_760_000_000_000);

/// Documents of the two collections: unreadable, or decided upon without an overflow, however absurd.
pub fn mongo_documents(data: &[u8]) {
    match testing::read_node(data) {
        Some(Ok(node)) => {
            let room = Room { capacity_mpx: 124.0, running_mpx: 2.0, settled: Vec::new() };
            let next = membership::next_beat(&node, NodeState::Serving, &Load::default(), &room, NOW);
            assert!(next.free_mpx <= room.capacity_mpx, "{next:?}");
            let _ =
                (node.is_alive(NOW), node.heartbeat.age(NOW), node.heartbeat.plus(Duration::from_secs(1)));
            let news = News::read(NodesRead::All(vec![Ok(node)]), StreamPage::default(), Vec::new(), NOW);
            let view = ClusterView::default().after(news);
            assert_eq!(view.nodes.len() + view.unreadable.len(), 1);
        }
        Some(Err(why)) => assert!(!why.is_empty()),
        None => {}
    }
    match testing::read_stream(data) {
        Some(Ok(stream)) => decide(&stream),
        Some(Err(why)) => assert!(!why.is_empty()),
        None => {}
    }
}

fn decide(stream: &StreamRecord) {
    let taker: Taker = testing::taker("fuzz", "session");
    if let claims::Claimed::Taken(next) = claims::decide(&stream.key, Some(stream), None, &taker, NOW) {
        assert!(next.epoch > stream.epoch || stream.epoch.0 == i64::MAX, "{next:?}");
        assert!(next.sequence >= stream.sequence && next.claims >= stream.claims, "{next:?}");
    }
    let page = StreamPage { streams: vec![stream.clone()], ..StreamPage::default() };
    let view = ClusterView::default().after(News::read(NodesRead::All(Vec::new()), page, Vec::new(), NOW));
    assert!(view.upstream(&stream.key).is_none());
    assert_eq!(view.streams.len() + view.unreadable_streams.len(), 1);
}

/// The configuration: refused in one line, or within bounds.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(mut table) = toml::from_str::<toml::Table>(text) else { return };
    if let Some(toml::Value::Table(cluster)) = table.get_mut("cluster") {
        // It names a file to be read, and a fuzzer finds those that never end.
        cluster.remove("key_file");
    }
    let sources = Sources { command_line: table, host_name: "fuzz".to_owned(), ..Sources::default() };
    match sources.load() {
        Ok(settings) => {
            assert!(!settings.roles.is_empty() && !settings.apps.is_empty());
            assert!(settings.node.admin.ip().is_loopback());
            assert!(settings.limits.stream_floor_mpx > 0.0 && settings.limits.rtmp_connections > 0);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// PROXY headers: one that is read is read the same without what follows, and is incomplete without its end.
pub fn proxy_headers(data: &[u8]) {
    let read = proxies::beginning(data);
    let Beginning::Header { bytes, .. } = read else { return };
    let header = data.get(..bytes).expect("a header within what was read");
    assert_eq!(proxies::beginning(header), read);
    for cut in (0..bytes).step_by(1 + bytes / 64) {
        assert_eq!(proxies::beginning(&header[..cut]), Beginning::Incomplete, "cut after {cut}");
    }
}

/// A publish's ticket: lines are the values of its properties, the token first. Nobody guesses the key.
pub fn tickets(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let key = ClusterKey::new("known-to-no-fuzzer-0123456789").expect("a long key");
    let mut lines = text.lines();
    let token = lines.next();
    let rest = lines.next();
    let property = |name: &str| if name == "clusterAuthorization" { token } else { rest };
    assert!(PublishTicket::read(property, &key).is_err(), "{text:?} is taken for a token");
}
