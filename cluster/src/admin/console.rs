//! What the console is sent once a second: totals, a page of the nodes and one of the streams as it asks for
//! them, and what happened last. Small whatever the cluster's size; filtering and sorting are done here, on the view
//! itself, and only what is on a page is made into rows.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::model::{About, ClusterModel, NodeModel, StreamModel};
use super::streams::{self, ShownStream};
use crate::clock::UnixMs;
use crate::timeline::Event;
use crate::view::ClusterView;

/// The most rows of one table in an update: an update stays below 20 KiB.
const ROWS_MAX: usize = 15;
/// The longest filter.
const FILTER_BYTES: usize = 200;

/// What a console asks for. Everything has a default; what makes no sense counts as that.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConsoleQuery {
    /// Words that a node's row holds, all of them.
    pub(super) nodes_filter: String,
    /// `id`, `state`, `heartbeat`, `cpu`, `memory`, `viewers`, `publishes`, `egress` or `free`.
    pub(super) nodes_sort: String,
    /// The largest first.
    pub(super) nodes_descending: bool,
    /// From which row on.
    pub(super) nodes_from: usize,
    /// As with nodes.
    pub(super) streams_filter: String,
    /// `key`, `origin`, `viewers`, `bitrate`, `picture` or `age`.
    pub(super) streams_sort: String,
    /// The largest first.
    pub(super) streams_descending: bool,
    /// From which row on.
    pub(super) streams_from: usize,
}

/// What an update is made of.
pub(super) struct Shown<'a> {
    pub(super) view: &'a ClusterView,
    pub(super) now: UnixMs,
    pub(super) about: About,
    pub(super) logged_in: bool,
}

/// An update.
#[derive(Debug, Serialize)]
pub(super) struct ConsoleModel {
    /// Who says it, and how old it is: the cluster without its nodes and streams.
    #[serde(flatten)]
    about: ClusterModel,
    /// Whether the console is used within a login's session.
    logged_in: bool,
    totals: Totals,
    nodes_page: Page<NodeModel>,
    streams_page: Page<StreamModel>,
    events: Vec<Event>,
}

/// Rows of a table.
#[derive(Debug, Serialize)]
struct Page<T> {
    rows: Vec<T>,
    /// The first one's place among those that match.
    from: usize,
    matching: usize,
    all: usize,
}

/// Figures of the whole cluster.
#[derive(Debug, Default, Serialize)]
struct Totals {
    nodes_serving: usize,
    streams_live: usize,
    viewers: u64,
    egress_bps: u64,
    free_mpx: f64,
    capacity_mpx: f64,
}

impl ConsoleModel {
    /// The part of it that `query` asks for.
    #[must_use]
    pub(super) fn new(shown: Shown<'_>, query: &ConsoleQuery, events: Vec<Event>) -> Self {
        let Shown { view, now, about, logged_in } = shown;
        let mut about = ClusterModel::without_streams(about, view, now);
        let nodes = std::mem::take(&mut about.nodes);
        let streams: Vec<ShownStream<'_>> = streams::shown(view, now).collect();
        let totals = Totals::of(&nodes, streams.iter().filter(|s| s.live).count());
        let nodes_page = Page::cut(nodes, &query.nodes_filter, query.nodes_from, node_text, |a, b| {
            by_node(&query.nodes_sort, query.nodes_descending, a, b)
        });
        let streams_page =
            Page::cut(streams, &query.streams_filter, query.streams_from, stream_text, |a, b| {
                by_stream(&query.streams_sort, query.streams_descending, a, b)
            });
        let streams_page = streams_page.map(|s| s.model(now));
        Self { about, logged_in, totals, nodes_page, streams_page, events }
    }
}

impl Totals {
    fn of(nodes: &[NodeModel], streams_live: usize) -> Self {
        let serving = || nodes.iter().filter(|n| n.state == "serving");
        // A node that is silent takes its last figures with it; a draining one still serves its viewers.
        let heard = || nodes.iter().filter(|n| n.state != "silent");
        Self {
            nodes_serving: serving().count(),
            streams_live,
            viewers: heard().map(|n| n.viewers).sum(),
            egress_bps: heard().map(|n| n.egress_bps).sum(),
            free_mpx: serving().map(|n| n.free_mpx).sum(),
            capacity_mpx: serving().map(|n| n.capacity_mpx).sum(),
        }
    }
}

impl<T> Page<T> {
    /// The rows of `all` that hold the words of `filter`, in order, from the place `from` on.
    fn cut(
        mut all: Vec<T>,
        filter: &str,
        from: usize,
        text: impl Fn(&T) -> String,
        order: impl Fn(&T, &T) -> Ordering,
    ) -> Self {
        let count = all.len();
        let mut filter = filter.to_lowercase();
        filter.truncate(filter.floor_char_boundary(FILTER_BYTES));
        let words: Vec<&str> = filter.split_whitespace().collect();
        if !words.is_empty() {
            all.retain(|row| {
                let text = text(row).to_lowercase();
                words.iter().all(|word| text.contains(word))
            });
        }
        let matching = all.len();
        // A page that has emptied shows the last one that has not.
        let from = from.min(matching.saturating_sub(1) / ROWS_MAX * ROWS_MAX);
        // What is not on the page need not be in order.
        if from > 0 {
            all.select_nth_unstable_by(from, &order);
        }
        let mut rows = all.split_off(from);
        if rows.len() > ROWS_MAX {
            rows.select_nth_unstable_by(ROWS_MAX, &order);
            rows.truncate(ROWS_MAX);
        }
        rows.sort_by(order);
        Self { rows, from, matching, all: count }
    }

    fn map<R>(self, row: impl Fn(T) -> R) -> Page<R> {
        let rows = self.rows.into_iter().map(row).collect();
        Page { rows, from: self.from, matching: self.matching, all: self.all }
    }
}

fn node_text(node: &NodeModel) -> String {
    let roles: Vec<&str> = node.roles.iter().map(|r| r.as_str()).collect();
    let problem = node.problem.as_deref().unwrap_or_default();
    [&node.id, &node.group, &node.http, &node.state, &node.version, problem, &roles.join(" ")].join(" ")
}

fn stream_text(stream: &ShownStream<'_>) -> String {
    let state = match (stream.problem(), stream.live) {
        (Some(_), _) => "unreadable",
        (None, true) => "live",
        (None, false) => "not live",
    };
    format!("{} {} {state} {}", stream.key, stream.origin(), stream.problem().unwrap_or_default())
}

fn by_node(sort: &str, descending: bool, a: &NodeModel, b: &NodeModel) -> Ordering {
    let order = match sort {
        "state" => a.state.cmp(&b.state),
        "heartbeat" => a.heartbeat_age_ms.cmp(&b.heartbeat_age_ms),
        "memory" => a.memory_used_bytes.cmp(&b.memory_used_bytes),
        "cpu" => a.cpu.total_cmp(&b.cpu),
        "viewers" => a.viewers.cmp(&b.viewers),
        "publishes" => a.publishes.cmp(&b.publishes),
        "egress" => a.egress_bps.cmp(&b.egress_bps),
        "free" => a.free_mpx.total_cmp(&b.free_mpx),
        _ => natural(&a.id, &b.id),
    };
    turned(order, descending).then_with(|| natural(&a.id, &b.id))
}

fn by_stream(sort: &str, descending: bool, a: &ShownStream<'_>, b: &ShownStream<'_>) -> Ordering {
    let pixels = |s: &ShownStream<'_>| {
        let (width, height) = s.picture();
        u64::from(width) * u64::from(height)
    };
    let by_name = || {
        let apps = natural(a.key.app.as_str(), b.key.app.as_str());
        apps.then_with(|| natural(a.key.stream.as_str(), b.key.stream.as_str()))
    };
    let order = match sort {
        "origin" => natural(a.origin(), b.origin()),
        "viewers" => a.viewers().cmp(&b.viewers()),
        "bitrate" => a.bitrate_bps().cmp(&b.bitrate_bps()),
        "picture" => pixels(a).cmp(&pixels(b)),
        // The older, the longer it has been on air.
        "age" => b.started_at().cmp(&a.started_at()),
        _ => by_name(),
    };
    turned(order, descending).then_with(by_name)
}

fn turned(order: Ordering, descending: bool) -> Ordering {
    if descending { order.reverse() } else { order }
}

/// As people count: `edge-9` before `edge-10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let (x, y) = (digits(a), digits(b));
        if x > 0 && y > 0 {
            let ((m, rest_a), (n, rest_b)) = (a.split_at(x), b.split_at(y));
            let (m, n) = (m.trim_start_matches('0'), n.trim_start_matches('0'));
            let order = m.len().cmp(&n.len()).then_with(|| m.cmp(n));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (rest_a, rest_b);
        } else {
            let (c, d) = (a.chars().next(), b.chars().next());
            if c.is_none() || c != d {
                return c.cmp(&d);
            }
            let width = c.map_or(0, char::len_utf8);
            (a, b) = (a.get(width..).unwrap_or_default(), b.get(width..).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ams::roles::RoleRules;
    use crate::node::{Gpu, NodeRecord};
    use crate::testing::{node, stream_held_by};
    use crate::timeline::EventKind;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn gpu() -> Gpu {
        let (memory_used, memory_total) = (2 << 30, 24 << 30);
        Gpu { gpu: 1, encoder: 2, decoder: 3, memory_used, memory_total, ..Gpu::default() }
    }

    /// What `query` gets of a cluster of so many nodes and streams.
    fn asked(nodes: usize, streams: usize, query: &ConsoleQuery, events: Vec<Event>) -> ConsoleModel {
        let gpu = Gpu { name: "NVIDIA L4".to_owned(), uuid: "GPU-".repeat(9), ..gpu() };
        let record = |n: usize| {
            let mut record =
                NodeRecord { group: "eu-west-1".to_owned(), ..node(&format!("origin-{n}.example.net"), NOW) };
            record.load.gpus = vec![gpu.clone(), gpu.clone()];
            Ok(record)
        };
        let stream = |n: usize| {
            let mut stream = stream_held_by(
                &format!("live/camera-{n}"),
                &format!("origin-{}.example.net", n % nodes),
                "s",
                NOW,
            );
            stream.viewers = n as u64;
            stream
        };
        let view = ClusterView::default().fold(
            (0..nodes).map(record).collect(),
            (0..streams).map(stream).collect(),
            NOW,
        );
        let about = About {
            cluster: "mongodb",
            node: "lb-1".parse().unwrap(),
            player_base: None,
            ams_roles: RoleRules::default(),
        };
        ConsoleModel::new(Shown { view: &view, now: NOW, about, logged_in: true }, query, events)
    }

    fn keys(model: &ConsoleModel) -> Vec<&str> {
        model.streams_page.rows.iter().map(|s| s.key.as_str()).collect()
    }

    #[test]
    fn an_update_of_a_large_cluster_is_small() {
        let event = Event {
            at: NOW,
            kind: EventKind::Moved,
            subject: "live/camera-20000".to_owned(),
            detail: Some("origin-1.example.net → origin-2.example.net".to_owned()),
        };
        let model = asked(200, 20_000, &ConsoleQuery::default(), vec![event; 12]);
        let bytes = serde_json::to_vec(&model).unwrap().len();
        assert!(bytes < 20 << 10, "{bytes}");
        assert_eq!((model.totals.nodes_serving, model.totals.streams_live), (200, 20_000));
        assert_eq!((model.nodes_page.rows.len(), model.streams_page.matching), (ROWS_MAX, 20_000));
    }

    /// The console's types are checked against the same sample (`web/console/rows.test.ts`).
    #[test]
    fn an_update_is_as_the_console_reads_it() {
        let event = Event { at: NOW, kind: EventKind::Joined, subject: "a".to_owned(), detail: None };
        let mut model = asked(1, 1, &ConsoleQuery::default(), vec![event]);
        "0.1.0".clone_into(&mut model.about.version);
        let sample = include_str!("../../../web/console/update.sample.json");
        let sample: serde_json::Value = serde_json::from_str(sample).unwrap();
        let sent = serde_json::to_value(&model).unwrap();
        assert_eq!(sent, sample, "{sent:#}");
    }

    #[test]
    fn a_page_is_filtered_sorted_and_never_empty_without_need() {
        let query = ConsoleQuery {
            streams_filter: "LIVE camera-12".to_owned(),
            streams_sort: "viewers".to_owned(),
            streams_descending: true,
            streams_from: 5_000,
            ..ConsoleQuery::default()
        };
        let model = asked(2, 1_000, &query, Vec::new());
        // camera-12 and camera-120 to camera-129.
        assert_eq!((model.streams_page.matching, model.streams_page.from), (11, 0));
        assert_eq!(keys(&model)[..2], ["live/camera-129", "live/camera-128"]);
        let from_15 = ConsoleQuery { streams_from: 15, ..ConsoleQuery::default() };
        let by_name = asked(2, 40, &from_15, Vec::new());
        let in_order: Vec<_> = (15..30).map(|n| format!("live/camera-{n}")).collect();
        assert_eq!(keys(&by_name), in_order, "names are sorted as people count");
        let none = ConsoleQuery { nodes_filter: "é".repeat(300), ..ConsoleQuery::default() };
        assert_eq!(asked(2, 1, &none, Vec::new()).nodes_page.matching, 0);
    }
}
