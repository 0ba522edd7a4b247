//! AMS's REST, its paths and shapes: through any node, and through the balancer.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_e2e::ams::AmsDatabase;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_e2e::http;
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::until::{until, until_true};

/// For what one node has written to be known to all.
const KNOWN: Duration = Duration::from_secs(5);

const BASE: &str = "/live/rest/v2/broadcasts";

/// Asks and expects a status.
#[track_caller]
fn ask(method: &str, url: &str, body: Option<&Value>, status: u16) -> Value {
    let answer = http::send(method, url, body);
    assert_eq!(answer.status, status, "{method} {url}: {}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json", "{method} {url}");
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn streams_are_made_listed_stopped_and_deleted_by_ams_rest() {
    let cluster = Cluster::start(&[100, 100]);
    let lb = |path: &str| cluster.lb.url(&format!("{BASE}{path}"));
    let edge = |path: &str| cluster.edge.node_url(&format!("{BASE}{path}"));

    let made = ask("POST", &lb("/create"), Some(&json!({"streamId": "made", "name": "Front door"})), 200);
    let shape = (made["streamId"].as_str(), made["status"].as_str(), made["type"].as_str());
    assert_eq!(shape, (Some("made"), Some("created"), Some("liveStream")), "{made}");
    let random = ask("POST", &lb("/create"), Some(&json!({"description": "no name given"})), 200);
    assert!(random["streamId"].as_str().is_some_and(|id| id.len() > 10), "{random}");
    assert_eq!(ask("GET", &edge("/made"), None, 200)["status"], "created", "every node knows it at once");
    until_true("it is counted", KNOWN, || ask("GET", &edge("/count"), None, 200) == json!({"number": 2}));
    assert_eq!(ask("GET", &edge("/active-live-stream-count"), None, 200), json!({"number": 0}));

    let mut publisher = RtmpClient::publish(cluster.lb.rtmp(), "live", "made").unwrap();
    let status = |url: &str| http::send("GET", url, None);
    until_true("it is live", KNOWN, || status(&edge("/made")).text().contains("broadcasting"));
    let live = ask("GET", &lb("/made"), None, 200);
    assert_eq!(
        (live["name"].as_str(), live["hlsViewerCount"].as_i64()),
        (Some("Front door"), Some(0)),
        "{live}"
    );
    // REST reads the store, the balancer's view a moment later.
    let known = until("the balancer knows it", KNOWN, || cluster.lb.stream("live/made"));
    let origin = known["origin"].as_str().unwrap().to_owned();
    assert_eq!(live["originAdress"], cluster.origin(&origin).ip().to_string());
    let listed = ask("GET", &lb("/list/0/10"), None, 200);
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!(ask("GET", &lb("/list/1/10"), None, 200).as_array().map(Vec::len), Some(1));
    let total = ask("GET", &lb("/total-broadcast-statistics"), None, 200);
    assert_eq!(
        (total["activeLiveStreamCount"].as_i64(), total["totalHLSWatchersCount"].as_i64()),
        (Some(1), Some(0))
    );
    let one = ask("GET", &lb("/made/broadcast-statistics"), None, 200);
    assert_eq!(one["totalWebRTCWatchersCount"], 0, "{one}");

    // Asked of the edge, carried to the origin.
    assert_eq!(ask("POST", &edge("/made/stop"), None, 200)["success"], true);
    assert!(publisher.ended().description.contains("operator"));
    until_true("it has ended", KNOWN, || status(&edge("/made")).text().contains("finished"));
    assert_eq!(ask("POST", &lb("/made/stop"), None, 200)["success"], false, "it is not live any more");

    let _again = until("it can be published again", KNOWN, || {
        RtmpClient::publish(cluster.lb.rtmp(), "live", "made").ok()
    });
    until_true("it is live again", KNOWN, || status(&lb("/made")).text().contains("broadcasting"));
    assert_eq!(ask("DELETE", &edge("/made"), None, 200)["success"], true);
    until_true("it is gone", KNOWN, || http::get(&edge("/made")).status == 404);
    let ams = AmsDatabase::at(cluster.database());
    until_true("and so is its mirror", KNOWN * 3, || {
        ams.broadcast("live", "made").is_none_or(|d| d.get_str("status").unwrap() == "finished")
    });
    let id = random["streamId"].as_str().unwrap();
    assert_eq!(ask("DELETE", &lb(&format!("/{id}")), None, 200)["success"], true);
    refused(&cluster);
}

fn refused(cluster: &Cluster) {
    let lb = |path: &str| cluster.lb.url(path);
    let wrong = |method: &str, path: &str, body: Option<&Value>, status: u16| {
        let said = ask(method, &lb(path), body, status);
        assert_eq!(said["success"], false, "{method} {path}: {said}");
        assert!(said["message"].as_str().is_some_and(|m| !m.is_empty()), "{method} {path}: {said}");
    };
    let create = format!("{BASE}/create");
    wrong("POST", &create, Some(&json!({"streamId": "a__b"})), 400);
    wrong("POST", &create, Some(&json!({"streamId": 7})), 400);
    wrong("POST", &create, Some(&json!([1, 2])), 400);
    wrong("POST", &create, Some(&json!(["listed"])), 400);
    wrong("GET", "/nobodys/rest/v2/broadcasts/count", None, 404);
    wrong("POST", &create, None, 415);
    wrong("POST", &create, Some(&json!({"name": "x".repeat(70_000)})), 413);
    wrong("POST", &create, Some(&json!({"name": "x".repeat(9_000)})), 400);
    wrong("GET", &format!("{BASE}/nobody"), None, 404);
    wrong("DELETE", &format!("{BASE}/nobody"), None, 404);
    wrong("POST", &format!("{BASE}/nobody/stop"), None, 404);
    wrong("GET", &format!("{BASE}/list/0/many"), None, 400);
    wrong("PUT", &format!("{BASE}/count"), None, 405);
    wrong("GET", "/live/rest/v2/nothing", None, 404);
    let name = json!({"streamId": "twice"});
    ask("POST", &lb(&create), Some(&name), 200);
    until_true("a name is taken once", KNOWN, || http::send("POST", &lb(&create), Some(&name)).status == 400);
    ask("DELETE", &lb(&format!("{BASE}/twice")), None, 200);
}
