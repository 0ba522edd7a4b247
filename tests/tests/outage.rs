//! The cluster's database goes away: what is known goes on, what is new is placed by what is known, and all of
//! it is told to the operator.

use std::time::Duration;

use serde_json::Value;
use sluicegate_e2e::cluster::{Cluster, KEY, database_alone};
use sluicegate_e2e::http;
use sluicegate_e2e::metrics;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::publisher::{Publisher, publish};
use sluicegate_e2e::rtmp_client::{MediaKind, RtmpClient};
use sluicegate_e2e::store_relay::StoreRelay;
use sluicegate_e2e::until::{timed, until, until_true};
use sluicegate_e2e::viewer::Viewer;

/// For a node to notice that the database is away, or back. A call that was under way may hang for 3 s first.
pub(crate) const NOTICED: Duration = Duration::from_secs(10);
/// For a stream to go on for [`SEGMENTS`].
const GOES_ON: Duration = Duration::from_secs(16);
/// Segments of a second each.
const SEGMENTS: u64 = 4;
/// For a publish to be placed while the database does not answer.
const PLACED: Duration = Duration::from_secs(10);
/// For what was placed meanwhile to be settled: a reservation that came to nothing is given back after 15 s.
const SETTLED: Duration = Duration::from_secs(25);
/// What a slow database takes for each call.
const SLOW: Duration = Duration::from_secs(2);
/// Less than what a request waits that waits for a hung database.
const WAITED: Duration = Duration::from_millis(500);
/// Requests of each kind; the middle one counts.
const ASKED: usize = 9;
const COST_MPX: f64 = 2.0;
/// The body of an FLV audio tag, so that a publisher is not taken to be gone.
const SOUND: &[u8] = &[0xAF, 1, 0x21];

pub(crate) fn store_is_known_to_be(node: &NodeProcess, up: bool) -> bool {
    node.cluster()["store_ok"] == up && node.count("sluicegate_store_up", &[]) == u64::from(up)
}

/// A stream that plays, and those that are published meanwhile.
struct Watched {
    relay: StoreRelay,
    cluster: Cluster,
    viewer: Viewer,
    publisher: Publisher,
    meanwhile: Vec<RtmpClient>,
}

impl Watched {
    fn start() -> Self {
        let (relay, cluster) = Cluster::start_behind_a_relay(&[100, 100]);
        let publisher = publish(cluster.lb.rtmp(), "live/before");
        let viewer = Viewer::watch(&cluster.lb.url("/live/streams/before.m3u8"));
        Self { relay, cluster, viewer, publisher, meanwhile: Vec::new() }
    }

    /// Waits, and watches on.
    #[track_caller]
    fn until(&mut self, what: &str, deadline: Duration, is_so: impl Fn(&Cluster) -> bool) {
        let (viewer, cluster, meanwhile) = (&mut self.viewer, &self.cluster, &mut self.meanwhile);
        until_true(what, deadline, || {
            let _ = viewer.reload();
            meanwhile.iter_mut().for_each(|client| client.send(MediaKind::Audio, 0, SOUND));
            is_so(cluster)
        });
    }

    #[track_caller]
    fn goes_on(&mut self) {
        let enough = self.viewer.last_sequence() + SEGMENTS;
        let latest = self.viewer.until("it goes on", GOES_ON, |p| p.last_sequence() >= enough);
        assert_eq!(http::get(&latest.resolve(&latest.segments.last().unwrap().uri)).status, 200);
        assert!(self.publisher.is_running(), "{}", self.publisher.last_lines());
    }

    /// An outage that begins by `harm` and ends by `mend`, of a store that then `answers` late or not at all.
    #[track_caller]
    fn outlives(&mut self, what: &str, answers: bool, harm: fn(&StoreRelay), mend: fn(&StoreRelay)) {
        let before = self.cluster.lb.stream("live/before").unwrap();
        harm(&self.relay);
        if !answers {
            self.until(&format!("{what}: it is told"), NOTICED, |c| {
                [&c.lb, &c.edge].into_iter().all(|node| store_is_known_to_be(node, false))
            });
        }
        let key = format!("live/{what}");
        let (took, placed) = timed(|| RtmpClient::publish(self.cluster.lb.rtmp(), "live", what));
        self.meanwhile.push(placed.unwrap_or_else(|refusal| panic!("{what}: {refusal:?}")));
        assert!(took < PLACED, "{what}: placed after {took:?}");
        self.goes_on();
        if !answers {
            self.its_age_is_told(what);
        }
        mend(&self.relay);
        self.until(&format!("{what}: it is over"), NOTICED, |c| {
            [&c.lb, &c.edge].into_iter().all(|node| store_is_known_to_be(node, true))
        });
        self.until(&format!("{key} is known"), NOTICED, |c| c.edge.stream(&key).is_some());
        let after = self.cluster.lb.stream("live/before").unwrap();
        assert_eq!((&after["epoch"], &after["origin"]), (&before["epoch"], &before["origin"]), "{what}");
        self.goes_on();
        let streams = self.meanwhile.len() + 1;
        self.until(&format!("{what}: the room is what {streams} streams leave"), SETTLED, |c| {
            is_counted_once(c, streams)
        });
    }

    /// The console and the metrics say how old the state is.
    #[track_caller]
    fn its_age_is_told(&self, what: &str) {
        let lb = &self.cluster.lb;
        let shown_ms = || lb.cluster()["state_age_ms"].as_u64().unwrap();
        let exported_s = || metrics::sum(&lb.metrics(), "sluicegate_node_state_age_seconds", &[]);
        let first = (shown_ms(), exported_s());
        assert!(first.0 > 3_000 && first.1 > 3.0, "{what}: {first:?}");
        until_true(&format!("{what}: it grows"), NOTICED, || {
            shown_ms() > first.0 + 1_000 && exported_s() > first.1 + 1.0
        });
    }
}

/// Each of so many streams is on one origin, which has so much room less.
#[track_caller]
pub(crate) fn nothing_is_counted_twice(cluster: &Cluster, streams: usize) {
    until_true(&format!("the room is what {streams} streams leave"), SETTLED, || {
        is_counted_once(cluster, streams)
    });
}

fn is_counted_once(cluster: &Cluster, streams: usize) -> bool {
    let origins: Vec<_> = cluster.origins.iter().filter_map(|o| cluster.lb.node(o.id())).collect();
    let left = |n: &Value| n["capacity_mpx"].as_f64().unwrap() - n["publishes"].as_f64().unwrap() * COST_MPX;
    let is_left = |n: &Value| (n["free_mpx"].as_f64().unwrap() - left(n)).abs() < 1e-6;
    let publishes: f64 = origins.iter().filter_map(|n| n["publishes"].as_f64()).sum();
    publishes as usize == streams && origins.len() == cluster.origins.len() && origins.iter().all(is_left)
}

#[test]
fn what_plays_plays_on_and_publishes_are_placed_whatever_the_database_does() {
    let mut watched = Watched::start();
    watched.outlives("hung", false, StoreRelay::get_stuck, StoreRelay::go_on);
    watched.outlives("stopped", false, StoreRelay::close, StoreRelay::open);
    watched.outlives("slow", true, |relay| relay.slow_down(SLOW), StoreRelay::go_on);
}

#[test]
fn no_viewer_waits_for_a_database_that_hangs() {
    let mut watched = Watched::start();
    let lb = watched.cluster.lb.rtmp();
    let names = |when: &str| (0..ASKED).map(|n| format!("{when}-{n}")).collect::<Vec<_>>();
    let (control, hung) = (names("control"), names("hung"));
    let all = control.iter().chain(&hung);
    let cold: Vec<_> = all.clone().map(|name| RtmpClient::publish(lb, "live", name).ok()).collect();
    assert!(cold.iter().all(Option::is_some));
    watched.until("the edge knows all streams", NOTICED, |c| {
        all.clone().all(|name| c.edge.stream(&format!("live/{name}")).is_some())
    });
    let control = Latencies::measure(&mut watched, &control);
    watched.relay.get_stuck();
    watched.until("it is told", NOTICED, |c| store_is_known_to_be(&c.edge, false));
    let hung = Latencies::measure(&mut watched, &hung);
    assert!(
        store_is_known_to_be(&watched.cluster.edge, false)
            && store_is_known_to_be(&watched.cluster.lb, false)
    );
    watched.relay.go_on();
    hung.are_those_of(&control);
}

/// What viewers wait for their answers: the median of each kind of request.
struct Latencies(Vec<(&'static str, Duration)>);

impl Latencies {
    /// Asks for what is warm, and for what nobody has asked for: streams of these `names`, which send nothing.
    #[track_caller]
    fn measure(watched: &mut Watched, names: &[String]) -> Self {
        let cluster = &watched.cluster;
        let at = |path: &str| cluster.lb.url(&format!("/live/streams/{path}"));
        let is = |wanted: u16, url: &str| assert_eq!(http::get(url).status, wanted, "{url}");
        let mut all = vec![
            ("a page", median(|_| is(200, &cluster.lb.url("/live/play.html")))),
            ("a warm playlist", median(|_| is(200, &at("before.m3u8")))),
            ("a list of renditions", median(|_| is(200, &at("before_adaptive.m3u8")))),
            ("a stream that nobody has asked for", median(|n| is(404, &at(&format!("{}.m3u8", names[n]))))),
            ("a stream that never was", median(|n| is(404, &at(&format!("never-{}.m3u8", names[n]))))),
        ];
        let last = watched.viewer.last_sequence();
        let listed = watched.viewer.until("another segment", GOES_ON, |p| p.last_sequence() > last);
        let segment = listed.resolve(&listed.segments.last().unwrap().uri);
        all.push(("a segment", median(|_| is(200, &segment))));
        Self(all)
    }

    /// A request that waits for a database that hangs waits for a time of its own, which is the same on any machine;
    /// what a busy machine does to it, it does to the control as well, if not to the same extent.
    #[track_caller]
    fn are_those_of(&self, control: &Self) {
        for ((what, took), (_, control)) in self.0.iter().zip(&control.0) {
            eprintln!("{what}: {took:?}, and {control:?} while the database answers");
            let at_most = *control * 10 + WAITED;
            assert!(*took < at_most, "{what}: {took:?}, and {control:?} while the database answers");
        }
    }
}

fn median(ask: impl Fn(usize)) -> Duration {
    let mut took: Vec<Duration> = (0..ASKED).map(|n| timed(|| ask(n)).0).collect();
    took.sort_unstable();
    took[ASKED / 2]
}

#[test]
fn a_node_waits_for_a_database_that_is_not_there_yet() {
    let (mongo, _alone) = database_alone();
    let relay = StoreRelay::to(mongo.uri());
    let mut node = NodeConfig::role("edge", "edge-early", &relay.uri(), KEY).launch();
    let ready = node.admin_url("/readyz");
    // Asked once it answers at all.
    let early = until("the admin plane answers", NOTICED, || http::try_get(&ready).ok());
    assert_eq!(early.status, 503, "{}", early.text());
    until_true("it says that the store is away", NOTICED, || store_is_known_to_be(&node, false));
    assert_eq!(http::get(&ready).status, 503);
    relay.open();
    node.wait_until_ready();
    assert!(store_is_known_to_be(&node, true));
}
