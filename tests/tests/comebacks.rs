//! Publishers that come back through another balancer when theirs dies, and nodes that are started anew while
//! their earlier run ends.

use std::time::Duration;

use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::node::{END, NodeProcess};
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::until::{timed, until, until_true};
use sluicegate_e2e::viewer::{Viewer, newest_epoch};

/// For what one node has written to be known to all.
const KNOWN: Duration = Duration::from_secs(5);
/// For an encoder that tries again and again to be taken by another balancer.
const TAKEN: Duration = Duration::from_secs(3);
/// For the first segment of a stream that was published anew.
const LISTED: Duration = Duration::from_secs(10);

/// Does `harm` to the balancer of a publisher, whose encoder then tries another one until it is taken.
#[track_caller]
fn comes_back(what: &str, harm: impl FnOnce(&mut NodeProcess)) {
    let mut cluster = Cluster::start(&[100]);
    let second = cluster.join("lb", "lb-2");
    let lost = publish(cluster.lb.rtmp(), "live/back");
    let mut viewer = Viewer::watch(&second.url("/live/streams/back.m3u8"));
    let before = until("the stream's record", KNOWN, || second.stream("live/back"));

    harm(&mut cluster.lb);
    lost.freeze();
    let mut encoder = publish(second.rtmp(), "live/back");
    let (took, ()) = timed(|| {
        until_true("the other balancer takes the stream", TAKEN, || {
            if !encoder.is_running() {
                encoder = publish(second.rtmp(), "live/back");
            }
            second.count("sluicegate_rtmp_publishers", &[("role", "lb")]) == 1
        });
    });
    eprintln!("{what}: {} ms until the publisher is back", took.as_millis());
    let epoch = before["epoch"].as_i64().unwrap();
    viewer.until("a segment of the next claim", LISTED, |p| newest_epoch(p) > epoch);
    assert!(encoder.is_running(), "{}", encoder.last_lines());
    cluster.lb.thaw_if_it_runs();
}

#[test]
fn a_publisher_whose_balancer_is_killed_comes_back_through_another() {
    comes_back("a balancer is killed", NodeProcess::kill);
}

/// As when its machine is gone: no connection is closed.
#[test]
fn a_publishers_dead_connection_does_not_lock_it_out() {
    comes_back("a balancer hangs", |lb| lb.freeze());
}

#[test]
fn a_node_that_starts_while_its_earlier_run_is_being_stopped_gets_in() {
    let mut cluster = Cluster::start(&[100]);
    let refused = cluster.lb.start_in_vain();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("in use"), "while the earlier one serves: {refused:?}");
    for node in [&mut cluster.lb, &mut cluster.edge, &mut cluster.origins[0]] {
        assert!(node.ask_to_end());
        let mut earlier = node.start_over();
        let ended = earlier.exit_within(END);
        assert!(ended.success(), "{}: {ended}", node.id());
        node.wait_until_ready();
    }
    cluster.lb.wait_for_an_edge();
    let known = cluster.lb.cluster()["nodes"].clone();
    let serving = known.as_array().unwrap().iter().filter(|node| node["state"] == "serving").count();
    assert_eq!(serving, 3, "{known}");
}
