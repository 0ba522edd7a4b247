//! The relay between origins that are real WHEP servers and viewers that are real clients, over sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::config::Sources;
use sluicegate_cluster::hints::Hints;
use sluicegate_cluster::ids::Epoch;
use sluicegate_cluster::node::{Addresses, NodeRecord};
use sluicegate_cluster::stream::StreamRecord;
use sluicegate_cluster::testing::{node, stream_held_by};
use sluicegate_cluster::trust;
use sluicegate_cluster::view::ClusterView;
use sluicegate_media::frame::Track;
use sluicegate_rtc::{
    Channels, Client, Delivery, Direction, Event, Limits, MuxConfig, PacketToSend, ReceivedPacket, SessionId,
    SessionOptions, Wanted, limits as rtc_limits,
};
use tokio::sync::mpsc;

use super::*;

const DEADLINE: Duration = Duration::from_secs(15);
/// Frames between two keyframes, and between two frames.
const GOP: u64 = 15;
const FRAME: Duration = Duration::from_millis(20);

fn mux_config(name: &'static str, listen: SocketAddr, shards: usize) -> MuxConfig {
    MuxConfig { name, listen, candidates: vec![listen], shards, limits: Limits::default(), clock: clock::now }
}

/// An origin that sends a made-up stream to whoever asks, and can be killed.
struct Origin {
    http: SocketAddr,
    mux: Mux<Channels>,
    /// What was asked of it.
    asked_for: Mutex<Vec<Option<String>>>,
    keyframes_asked: Arc<AtomicU64>,
    sessions: Mutex<Vec<SessionId>>,
    stop: CancellationToken,
}

impl Origin {
    async fn start(ip: [u8; 4], first_sequence: u64) -> Arc<Self> {
        let stop = CancellationToken::new();
        let listen = SocketAddr::from((ip, 20_001));
        let bound = Bound::bind(mux_config("test-origin", listen, 1)).unwrap();
        let mux = Mux::start(bound, |_| Channels::default(), &stop).unwrap();
        let listener = tokio::net::TcpListener::bind((IpAddr::from(ip), 0)).await.unwrap();
        let origin = Arc::new(Self {
            http: listener.local_addr().unwrap(),
            mux,
            asked_for: Mutex::default(),
            keyframes_asked: Arc::default(),
            sessions: Mutex::default(),
            stop,
        });
        let router = Router::new().route("/origin/live/whep/cam", post(whep)).with_state(Arc::clone(&origin));
        let stopped = origin.stop.clone().cancelled_owned();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router).into_future() => served.unwrap(),
                () = stopped => {}
            }
        });
        tokio::spawn(Arc::clone(&origin).send(first_sequence));
        origin
    }

    /// A frame of two packets and some sound, again and again.
    async fn send(self: Arc<Self>, first: u64) {
        let mut ticks = tokio::time::interval(FRAME);
        for n in 0_u64.. {
            ticks.tick().await;
            if self.stop.is_cancelled() {
                return;
            }
            let moment = clock::now();
            let packet = |track, sequence, timestamp: u64, marker, payload: &[u8]| PacketToSend {
                track,
                sequence,
                timestamp: u32::try_from(timestamp & u64::from(u32::MAX)).unwrap(),
                marker,
                moment,
                payload: Arc::from(payload),
            };
            let unit = if n % GOP == 0 { 0x65 } else { 0x41 };
            let (video, audio) = (1_800 * (n + first), 960 * (n + first));
            let packets = [
                packet(Track::Video, first + 2 * n, video, false, &[unit, 1]),
                packet(Track::Video, first + 2 * n + 1, video, true, &[unit, 2]),
                packet(Track::Audio, first + n, audio, true, &[3]),
            ];
            for session in self.sessions.lock().unwrap().iter() {
                let _ = self.mux.post(session.shard(), Wanted::Packets(*session, packets.to_vec()));
            }
        }
    }

    fn asked(&self) -> usize {
        self.asked_for.lock().unwrap().len()
    }

    /// Nothing is heard of it any more.
    fn kill(&self) {
        self.stop.cancel();
    }
}

async fn whep(
    State(origin): State<Arc<Origin>>,
    Query(mut query): Query<HashMap<String, String>>,
    headers: http::HeaderMap,
    offer: String,
) -> Response {
    if headers.get(trust::HEADER).is_none() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    origin.asked_for.lock().unwrap().push(query.remove("rendition"));
    let (events, mut seen) = mpsc::channel(rtc_limits::EVENTS);
    let options =
        SessionOptions { direction: Direction::Send, delivery: Delivery::Packets, estimate_from_bps: None };
    let answer = origin.mux.accept(&offer, options, events).await.unwrap();
    let wanted = Arc::clone(&origin.keyframes_asked);
    tokio::spawn(async move {
        while let Some(event) = seen.recv().await {
            if event == Event::KeyframeRequested {
                wanted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    origin.sessions.lock().unwrap().push(answer.session);
    (StatusCode::CREATED, [("location", "/origin/live/whep/cam/1")], answer.sdp).into_response()
}

struct World {
    relay: Arc<Relay>,
    ip: IpAddr,
    http: SocketAddr,
    client: reqwest::Client,
    stop: CancellationToken,
}

impl World {
    /// A relay at `ip`, whose cluster has `live/cam` on `origin`.
    async fn start(ip: [u8; 4], origin: &Origin) -> Self {
        let stop = CancellationToken::new();
        let view = ClusterView::shared();
        let settings = Sources { host_name: "e1".to_owned(), ..Sources::default() }.load().unwrap();
        let registry = prometheus::Registry::new();
        let relay = Relay::new(RelayParts {
            bound: Bound::bind(mux_config("test-edge", (ip, 20_000).into(), 2)).unwrap(),
            ice_servers: vec!["<stun:stun.example.net>; rel=\"ice-server\"".to_owned()],
            node: "e1".parse().unwrap(),
            key: ClusterKey::random(),
            hints: Hints::of(view),
            admission: Admission::new(&settings.apps, &registry).unwrap(),
            apps: settings.apps,
            runtime: Handle::current(),
            registry: &registry,
            http: HttpMetrics::register(&registry).unwrap(),
            stop: stop.clone(),
            tasks: TaskTracker::new(),
        })
        .unwrap();
        let listener = tokio::net::TcpListener::bind((IpAddr::from(ip), 0)).await.unwrap();
        let http = listener.local_addr().unwrap();
        let router = relay.router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let world = Self { relay, ip: ip.into(), http, client, stop };
        world.live_on(origin, "o1", 1);
        world
    }

    /// The cluster has `live/cam` on `origin`, by its claim number `epoch`.
    fn live_on(&self, origin: &Origin, id: &str, epoch: i64) {
        let now = UnixMs(1_000_000 + epoch);
        let record = stream_held_by("live/cam", id, "s", now);
        self.is_known(origin, id, StreamRecord { epoch: Epoch(epoch), ..record }, now);
    }

    fn is_known(&self, origin: &Origin, id: &str, record: StreamRecord, now: UnixMs) {
        let plain = node(id, now);
        let origin = NodeRecord { addresses: Addresses { http: origin.http, ..plain.addresses }, ..plain };
        let before = self.relay.view.load_full();
        self.relay.view.store(Arc::new(before.fold(vec![Ok(origin)], vec![record], now)));
    }

    fn request(&self, method: http::Method, path: &str) -> reqwest::RequestBuilder {
        let token = self.relay.key.token(&"lb-1".parse().unwrap()).unwrap();
        let url = format!("http://{}{path}", self.http);
        self.client.request(method, url).header(trust::HEADER, token)
    }

    async fn post(&self, path: &str, offer: &str) -> reqwest::Response {
        let request = self.request(http::Method::POST, path).header("content-type", "application/sdp");
        request.body(offer.to_owned()).send().await.unwrap()
    }

    async fn watch(&self) -> Watching {
        let (viewer, answer) = self.ask().await;
        viewer.client.answer(answer).await.unwrap();
        viewer
    }

    /// A viewer that was answered, and has done nothing about it yet.
    async fn ask(&self) -> (Watching, String) {
        let options = SessionOptions {
            direction: Direction::Receive,
            delivery: Delivery::Packets,
            estimate_from_bps: None,
        };
        let client = Client::start(self.ip, options, clock::now).unwrap();
        let answer = self.post("/live/whep/cam", client.offer()).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        assert!(answer.headers()["link"].to_str().unwrap().contains("ice-server"));
        (Watching { client, location }, answer.text().await.unwrap())
    }

    async fn choose(&self, viewer: &Watching, lines: u32) {
        let put = self.request(http::Method::PUT, &format!("{}/height", viewer.location));
        assert_eq!(put.body(lines.to_string()).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Watching {
    client: Client,
    location: String,
}

impl Watching {
    /// Receives until `enough` of what came so far, in the order of its numbers.
    async fn until(&mut self, what: &str, enough: impl Fn(&[ReceivedPacket]) -> bool) -> Vec<ReceivedPacket> {
        let mut packets: Vec<ReceivedPacket> = Vec::new();
        let receiving = async {
            while !enough(&packets) {
                match self.client.next().await {
                    Some(Event::Packet(packet)) => packets.push(packet),
                    Some(Event::Ended(why)) => panic!("{what}: ended: {why:?}"),
                    Some(_) => {}
                    None => panic!("{what}: gone"),
                }
            }
        };
        let received = tokio::time::timeout(DEADLINE, receiving).await;
        assert!(received.is_ok(), "not in time: {what}: {} packets came", packets.len());
        packets.sort_by_key(|packet| packet.sequence);
        packets
    }

    async fn ends(&mut self) {
        let ended = async { while !matches!(self.client.next().await, Some(Event::Ended(_)) | None) {} };
        tokio::time::timeout(DEADLINE, ended).await.expect("the viewer is let go");
    }
}

fn of(track: Track) -> impl Fn(&&ReceivedPacket) -> bool {
    move |packet| packet.codec.track() == track
}

fn pictures(packets: &[ReceivedPacket]) -> usize {
    packets.iter().filter(of(Track::Video)).count()
}

#[track_caller]
fn assert_continuous(packets: &[ReceivedPacket], track: Track) {
    let numbers: Vec<u64> = packets.iter().filter(of(track)).map(|packet| packet.sequence).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{track:?}: {numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_viewers_cost_one_pull_and_begin_at_a_keyframe() {
    let origin = Origin::start([127, 0, 7, 1], 100).await;
    let world = World::start([127, 0, 7, 2], &origin).await;
    let mut viewers = Vec::new();
    for _ in 0..5 {
        viewers.push(world.watch().await);
    }
    for viewer in &mut viewers {
        let packets = viewer.until("a second of video", |packets| pictures(packets) >= 80).await;
        let first = packets.iter().find(|packet| packet.codec.track() == Track::Video).unwrap();
        assert_eq!(first.payload[..], [0x65, 1], "it begins with a keyframe's first packet");
        assert_continuous(&packets, Track::Video);
        assert_continuous(&packets, Track::Audio);
    }
    assert_eq!(origin.asked(), 1);
    assert_eq!(world.relay.load().viewers, 5);
    assert!(origin.keyframes_asked.load(Ordering::Relaxed) <= 3, "asked at most once a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rendition_is_never_pulled_twice() {
    let origin = Origin::start([127, 0, 7, 16], 100).await;
    let world = World::start([127, 0, 7, 17], &origin).await;
    let now = UnixMs(1_000_002);
    let renditions = vec!["source".to_owned(), "360p600kbps".to_owned()];
    let record = StreamRecord { renditions, epoch: Epoch(1), ..stream_held_by("live/cam", "o1", "s", now) };
    world.is_known(&origin, "o1", record, now);
    // All come at once to what nobody watches yet, and go to and fro.
    let mut viewers = Vec::new();
    for (viewer, answer) in futures_util::future::join_all((0..6).map(|_| world.ask())).await {
        viewer.client.answer(answer).await.unwrap();
        viewers.push(viewer);
    }
    for viewer in &mut viewers {
        viewer.until("a picture", |packets| pictures(packets) > 0).await;
    }
    for lines in [360, 1_080, 360, 1_080, 360] {
        futures_util::future::join_all(viewers.iter().map(|viewer| world.choose(viewer, lines))).await;
        for viewer in &mut viewers {
            viewer.until("a group of pictures", |packets| pictures(packets) >= 30).await;
        }
    }
    let mut asked_for = origin.asked_for.lock().unwrap().clone();
    asked_for.sort();
    assert_eq!(asked_for, [None, Some("360p600kbps".to_owned())]);
    assert_eq!(world.relay.metrics.pulls.get(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewers_connection_outlives_its_origin() {
    let origins = [Origin::start([127, 0, 7, 3], 100).await, Origin::start([127, 0, 7, 4], 30_000).await];
    let world = World::start([127, 0, 7, 5], &origins[0]).await;
    let mut viewer = world.watch().await;
    let before = viewer.until("the first origin's picture", |packets| pictures(packets) >= 20).await;
    origins[0].kill();
    world.live_on(&origins[1], "o2", 2);
    let after = viewer.until("the second origin's picture", |packets| pictures(packets) >= 60).await;
    assert_eq!((origins[0].asked(), origins[1].asked()), (1, 1));

    let all = [before, after].concat();
    assert_continuous(&all, Track::Video);
    let mut last = None;
    for packet in all.iter().filter(of(Track::Video)) {
        let step = last.map_or(0, |last| packet.timestamp.wrapping_sub(last));
        assert!(step < 5 * 90_000, "time went on by {step} steps");
        last = Some(packet.timestamp);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_lets_its_viewers_go_and_is_not_live_any_more() {
    let origin = Origin::start([127, 0, 7, 6], 100).await;
    let world = World::start([127, 0, 7, 7], &origin).await;
    let mut viewer = world.watch().await;
    viewer.until("a picture", |packets| pictures(packets) >= 4).await;
    let now = UnixMs(1_000_009);
    let record = stream_held_by("live/cam", "o1", "s", now);
    let ended = StreamRecord { ended_at: Some(now), epoch: Epoch(1), ..record };
    world.is_known(&origin, "o1", ended, now);
    viewer.ends().await;
    let answer = world.post("/live/whep/cam", viewer.client.offer()).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert_eq!(answer.headers()["retry-after"], "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_ended_at_its_own_address_and_a_feed_without_viewers_is_dropped() {
    let origin = Origin::start([127, 0, 7, 8], 100).await;
    let world = World::start([127, 0, 7, 9], &origin).await;
    let mut viewer = world.watch().await;
    viewer.until("a picture", |packets| pictures(packets) >= 4).await;
    for wrong in ["/live/whep/cam/0", &viewer.location.replace("/cam/", "/other/")] {
        let answer = world.request(http::Method::DELETE, wrong).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{wrong}");
    }
    let patch = world.request(http::Method::PATCH, &viewer.location).body("a=end-of-candidates\r\n");
    assert_eq!(patch.send().await.unwrap().status(), StatusCode::PRECONDITION_REQUIRED);
    let patch = world.request(http::Method::PATCH, &viewer.location).header("if-match", "\"another\"");
    let patched = patch.body("a=end-of-candidates\r\n").send().await.unwrap();
    assert_eq!(patched.status(), StatusCode::PRECONDITION_FAILED);
    let patch = world.request(http::Method::PATCH, &viewer.location).header("if-match", "*");
    let patched = patch.body("a=end-of-candidates\r\n").send().await.unwrap();
    assert_eq!(patched.status(), StatusCode::NO_CONTENT);

    let answer = world.request(http::Method::DELETE, &viewer.location).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    viewer.ends().await;
    let dropped = async {
        while world.relay.metrics.pulls.get() > 0 || world.relay.load().viewers > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, dropped).await.expect("nobody watches: it is not pulled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_drains_or_stops_tells_its_viewers() {
    let origin = Origin::start([127, 0, 7, 12], 100).await;
    let world = World::start([127, 0, 7, 13], &origin).await;
    let mut viewer = world.watch().await;
    viewer.until("a picture", |packets| pictures(packets) >= 4).await;
    let record = NodeRecord { state: NodeState::Draining, ..node("e1", UnixMs(1_000_001)) };
    let view = ClusterView::clone(&world.relay.view.load());
    let nodes = view.nodes.values().map(|node| Ok(NodeRecord::clone(node)));
    let nodes = nodes.chain([Ok(record)]).collect();
    world.relay.view.store(Arc::new(view.fold(nodes, Vec::new(), UnixMs(1_000_002))));
    viewer.ends().await;

    world.live_on(&origin, "o1", 1);
    let mut viewer = world.watch().await;
    viewer.until("a picture", |packets| pictures(packets) >= 4).await;
    world.stop.cancel();
    viewer.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_request_is_told() {
    let origin = Origin::start([127, 0, 7, 10], 100).await;
    let world = World::start([127, 0, 7, 11], &origin).await;
    let status = async |path: &str, offer: &str| world.post(path, offer).await.status().as_u16();
    assert_eq!(status("/live/whep/nobody", "v=0\r\n").await, 409);
    assert_eq!(status("/live/whep/a__b", "v=0\r\n").await, 404);
    assert_eq!(status("/nowhere/whep/cam", "v=0\r\n").await, 404);
    assert_eq!(status("/live/whep/cam", "nonsense").await, 400);
    assert_eq!(status("/live/whep/cam", &"x".repeat(rtc_limits::SDP_BYTES + 1)).await, 413);
    let url = format!("http://{}/live/whep/cam", world.http);
    let stranger = world.client.post(url).body("v=0\r\n").send().await.unwrap();
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_waits_for_the_offer_is_made_one_and_its_answer_is_read() {
    let origin = Origin::start([127, 0, 7, 14], 100).await;
    let world = World::start([127, 0, 7, 15], &origin).await;
    let invited = world.request(http::Method::POST, "/live/whep/cam").send().await.unwrap();
    assert_eq!(invited.status(), StatusCode::CREATED);
    let location = invited.headers()["location"].to_str().unwrap().to_owned();
    let offer = invited.text().await.unwrap();
    for line in ["a=ice-lite", "a=setup:actpass", "a=sendonly", "m=application", "a=candidate"] {
        assert!(offer.contains(line), "{line}: {offer}");
    }
    let chosen = async |lines: &'static str| {
        let put = world.request(http::Method::PUT, &format!("{location}/height")).body(lines);
        put.send().await.unwrap().status().as_u16()
    };
    assert_eq!((chosen("360").await, chosen("many").await), (204, 400));
    let answer = async || {
        let patch = world.request(http::Method::PATCH, &location).header("content-type", "application/sdp");
        patch.body("v=0\r\nnonsense").send().await.unwrap().status().as_u16()
    };
    assert_eq!((answer().await, answer().await), (400, 404), "a bad answer ends it");
    assert_eq!(chosen("360").await, 404);
    assert_eq!(world.post("/live/whep/nobody", "").await.status(), StatusCode::CONFLICT);
}
