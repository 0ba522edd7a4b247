//! AMS's own origins and edges behind our balancer and our edge: publishers placed on them, their streams
//! played from our cache, their WebSocket signalling and pages tunnelled; never written to.

use std::sync::MutexGuard;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_e2e::ams::{AmsDatabase, AmsServer, Socket};
use sluicegate_e2e::cluster::database_alone;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::http;
use sluicegate_e2e::mongo::TestMongo;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::until::{until, until_true};

/// For what AMS wrote to be known, and for a node that ended to be missed.
const KNOWN: Duration = Duration::from_secs(15);
const KEY: &str = "only-for-tests-0123456789";

/// Our balancer and our edge in front of two AMS origins, the first less loaded, and an AMS edge.
struct Mixed {
    lb: NodeProcess,
    edge: NodeProcess,
    origins: [AmsServer; 2],
    ams_edge: AmsServer,
    database: AmsDatabase,
    _mongo: TestMongo,
    _alone: MutexGuard<'static, ()>,
}

impl Mixed {
    #[track_caller]
    fn start() -> Self {
        let (mongo, alone) = database_alone();
        let uri = mongo.uri().to_owned();
        let origins = [AmsServer::start(&uri, "10"), AmsServer::start(&uri, "60")];
        let ams_edge = AmsServer::start(&uri, "5");
        let rule =
            |server: &AmsServer, role: &str| format!("{{ match = \"{}\", role = \"{role}\" }}", server.ip());
        let rules =
            [rule(&origins[0], "origin"), rule(&origins[1], "origin"), rule(&ams_edge, "edge")].join(", ");
        let lb = NodeConfig::role("lb", "lb-1", &uri, KEY).set("lb", &format!("roles = [{rules}]"));
        let mut mixed = Self {
            lb: lb.launch(),
            edge: NodeConfig::role("edge", "edge-1", &uri, KEY).launch(),
            database: AmsDatabase::at(&uri),
            origins,
            ams_edge,
            _mongo: mongo,
            _alone: alone,
        };
        mixed.lb.wait_until_ready();
        mixed.edge.wait_until_ready();
        mixed.lb.wait_for_an_edge();
        let page = mixed.lb.url("/live/whoami");
        until_true("AMS's nodes are known", KNOWN, || http::get(&page).status == 200);
        mixed
    }

    #[track_caller]
    fn publish(&self, stream: &str) -> RtmpClient {
        RtmpClient::publish(self.lb.rtmp(), "live", stream)
            .unwrap_or_else(|refusal| panic!("{stream}: {refusal:?}"))
    }

    /// The segment that a stream's playlist lists first, as it is served.
    #[track_caller]
    fn segment(&self, stream: &str) -> (String, http::Answer) {
        let url = self.lb.url(&format!("/live/streams/{stream}.m3u8"));
        let playlist = until(&format!("{url} is served"), KNOWN, || MediaPlaylist::fetch(&url));
        let segment = playlist.resolve(&playlist.segments[0].uri);
        let answer = http::get(&segment);
        assert_eq!(answer.status, 200, "{segment}: {}", answer.text());
        (segment, answer)
    }
}

#[test]
fn ams_own_nodes_take_publishers_and_serve_viewers_behind_us() {
    let mixed = Mixed::start();
    let [first, second] = &mixed.origins;
    let stays = mixed.publish("cam1");
    assert_eq!((first.live(), second.live().len()), (vec!["cam1".to_owned()], 0), "the less loaded of two");
    told_nothing_of_the_cluster(first);
    played_from_our_cache(&mixed);
    a_stream_published_again_is_another(&mixed);
    tunnelled(&mixed);
    never_written(&mixed);

    first.be_full(true);
    let _moved = mixed.publish("cam2?token=a.b.c&x=1");
    assert_eq!(second.live(), ["cam2"], "the next one, when the first has no resources");
    assert_eq!(second.asked("live/cam2")[0].target, "live/cam2?token=a.b.c", "AMS checks its tokens itself");
    second.be_full(true);
    let refusal = RtmpClient::publish(mixed.lb.rtmp(), "live", "cam3").err().unwrap();
    assert!(refusal.description.contains("current system resources not enough"), "{refusal:?}");
    first.be_full(false);
    second.be_full(false);

    first.stop();
    drop(stays);
    until("publishers go past a node that does not answer probes", KNOWN, || {
        let placed = RtmpClient::publish(mixed.lb.rtmp(), "live", "cam4").ok();
        second.live().contains(&"cam4".to_owned()).then_some(placed)
    });
}

fn told_nothing_of_the_cluster(origin: &AmsServer) {
    let connects = origin.asked("live/cam1");
    assert_eq!(connects.len(), 1);
    let told: Vec<&str> = connects[0].fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(told, ["app", "type", "flashVer", "tcUrl"]);
}

fn played_from_our_cache(mixed: &Mixed) {
    let origin = &mixed.origins[0];
    let (segment, answer) = mixed.segment("cam1");
    assert_eq!(answer.header("content-type"), "video/mp2t");
    assert_eq!(answer.header("cache-control"), "public, max-age=10");
    let path = "/live/streams/cam1000000000.ts";
    assert!(segment.ends_with(path), "{segment}");
    let before = origin.asked(path).len();
    let answers = http::get_at_once(&segment, 30);
    assert!(answers.iter().all(|a| a.status == 200 && a.body == answer.body));
    assert_eq!((before, origin.asked(path).len()), (1, 1), "one fetch for all");
    let asked = format!("{:?}", origin.asked(path)[0].fields).to_lowercase();
    assert!(!asked.contains("clusterauthorization") && !asked.contains("sluicegate"), "{asked}");
    assert_eq!(http::get(&mixed.lb.url("/live/streams/nobody000000001.ts")).status, 404);
}

/// AMS counts from 0 again, so the same name is another segment.
fn a_stream_published_again_is_another(mixed: &Mixed) {
    let publisher = mixed.publish("again");
    let (segment, old) = mixed.segment("again");
    publisher.end();
    let origin = mixed.origins.iter().find(|o| !o.asked("live/again").is_empty()).unwrap();
    until_true("the origin's stream has ended", KNOWN, || !origin.live().contains(&"again".to_owned()));
    let _publisher = mixed.publish("again");
    until_true("the new segment is served under the old name", Duration::from_secs(9), || {
        let answer = http::get(&segment);
        answer.status == 200 && answer.body != old.body
    });
}

fn tunnelled(mixed: &Mixed) {
    let ping = json!({"command": "ping"});
    let lb = std::net::SocketAddr::from((mixed.lb.ip(), 5080));
    let mut publisher = Socket::open(lb, "/live/websocket?target=origin").unwrap();
    assert_eq!(publisher.ask(&ping), json!({"command": "pong"}));
    let started = publisher.ask(&json!({"command": "publish", "streamId": "ws1", "token": "x".repeat(300)}));
    assert_eq!((started["command"].as_str(), started["streamId"].as_str()), (Some("start"), Some("ws1")));
    let mut viewer = Socket::open(lb, "/live/websocket").unwrap();
    assert_eq!(viewer.ask(&json!({"command": "play", "streamId": "x"}))["definition"], "no_stream_exist");
    assert_eq!(mixed.ams_edge.asked("/live/websocket").len(), 1, "port 5080 is the edges'");
    let on_origins: usize = mixed.origins.iter().map(|o| o.asked("/live/websocket").len()).sum();
    assert_eq!(on_origins, 1);
    assert_eq!(publisher.ask(&ping), json!({"command": "pong"}), "one socket leaves the other alone");

    let answer: Value =
        serde_json::from_slice(&http::get(&mixed.lb.url("/live/any/page?target=edge")).body).unwrap();
    assert_eq!(answer["node"], mixed.ams_edge.ip().to_string());
    let asked = &mixed.ams_edge.asked("/live/any/page")[0];
    let told = format!("{:?}", asked.fields).to_lowercase();
    assert!(told.contains("x-forwarded-for") && !told.contains("clusterauthorization"), "{told}");
    assert_eq!(http::get(&mixed.lb.url("/other/any/page")).status, 404);
}

fn never_written(mixed: &Mixed) {
    for ip in [mixed.origins[0].ip(), mixed.ams_edge.ip()] {
        let document = mixed.database.cluster_node("_id", &ip.to_string()).unwrap();
        let fields: Vec<&String> = document.keys().collect();
        let ams = ["_id", "_t", "ip", "lastUpdateTime", "memory", "cpu", "dbQueryAveargeTimeMs"];
        assert_eq!(fields, ams, "{document}");
    }
    let broadcast = mixed.database.broadcast("live", "cam1").unwrap();
    assert!(!broadcast.keys().any(|key| key.to_lowercase().contains("sluicegate")), "{broadcast}");
    let nodes = http::get(&mixed.edge.node_url("/rest/v2/cluster/nodes/0/50"));
    let nodes: Value = serde_json::from_slice(&nodes.body).unwrap();
    let known: Vec<&str> = nodes.as_array().unwrap().iter().filter_map(|n| n["id"].as_str()).collect();
    assert_eq!(known.len(), 4, "one of ours, three of theirs: {known:?}");
    let remove = mixed.edge.node_url(&format!("/rest/v2/cluster/node/{}", mixed.ams_edge.ip()));
    assert_eq!(http::send("DELETE", &remove, None).status, 409);
}
