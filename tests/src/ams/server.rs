//! An AMS-shaped server: as much of one as a balancer in front of it, an edge that fetches from it and a
//! publisher on it can tell, with its documents in MongoDB. It takes RTMP publishes, and serves what AMS
//! serves of a live stream under AMS's names.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mongodb::bson::doc;

use super::{AmsDatabase, http, rtmp};
use crate::address::Host;

const HTTP: u16 = 5080;
const RTMP: u16 = 1935;
/// Its documents are written this often; AMS writes every 5 and 10 s.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// A server that runs until this is dropped.
pub struct AmsServer {
    host: Host,
    state: Arc<State>,
}

/// What its threads share.
pub(super) struct State {
    pub(super) ip: IpAddr,
    database: AmsDatabase,
    live: Mutex<HashMap<String, Run>>,
    cpu: Mutex<String>,
    seen: Mutex<Vec<Seen>>,
    full: AtomicBool,
    sockets: AtomicUsize,
    stopped: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

/// A live stream.
#[derive(Debug, Clone)]
pub(super) struct Run {
    app: String,
    /// When its publish began: part of what its segments hold.
    pub(super) began_ms: i64,
}

/// A request, or an RTMP `connect` with `RTMP` for a method.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`
    pub method: String,
    /// Path and query; with RTMP the stream.
    pub target: String,
    /// Headers; with RTMP the properties of `connect`.
    pub fields: Vec<(String, String)>,
}

impl AmsServer {
    /// Starts one whose processors are `cpu` percent busy, and writes its document.
    ///
    /// # Panics
    /// When its ports are taken.
    #[must_use]
    pub fn start(database: &str, cpu: &str) -> Self {
        let host = Host::claim();
        let state = Arc::new(State {
            ip: host.ip().into(),
            database: AmsDatabase::at(database),
            live: Mutex::default(),
            cpu: Mutex::new(cpu.to_owned()),
            seen: Mutex::default(),
            full: AtomicBool::new(false),
            sockets: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        serve(&state, host.port(HTTP), http::serve);
        serve(&state, host.port(RTMP), rtmp::serve);
        state.write();
        let writing = Arc::clone(&state);
        thread::spawn(move || {
            while !writing.stopped.load(Ordering::SeqCst) {
                thread::sleep(WRITE_EVERY);
                writing.write();
            }
        });
        Self { host, state }
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.host.ip().into()
    }

    /// What our nodes call it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("ams-{}", self.host.ip())
    }

    /// Refuses publishes for want of resources, or takes them again.
    pub fn be_full(&self, full: bool) {
        self.state.full.store(full, Ordering::SeqCst);
    }

    /// How many WebSockets are open.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.state.sockets.load(Ordering::SeqCst)
    }

    /// Where it takes publishers.
    #[must_use]
    pub fn rtmp(&self) -> SocketAddr {
        self.host.port(RTMP)
    }

    /// The names of its live streams.
    #[must_use]
    pub fn live(&self) -> Vec<String> {
        self.state.live().keys().cloned().collect()
    }

    /// What was asked of it at `path`.
    #[must_use]
    pub fn asked(&self, path: &str) -> Vec<Seen> {
        let seen = self.state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|s| s.target.split('?').next() == Some(path)).cloned().collect()
    }

    /// Ends at once, as a power cut would: its documents stay.
    pub fn stop(&self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        for port in [HTTP, RTMP] {
            // Wakes the listener, which then sees that it is to end.
            let _ = TcpStream::connect(self.host.port(port));
        }
        for connection in self.state.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for AmsServer {
    fn drop(&mut self) {
        self.stop();
        self.state.database.remove("clusterdb", "clusternode", &self.host.ip().to_string());
    }
}

fn serve(state: &Arc<State>, address: SocketAddr, speak: fn(&Arc<State>, TcpStream)) {
    let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let state = Arc::clone(state);
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            if state.stopped.load(Ordering::SeqCst) {
                return;
            }
            let kept = connection.try_clone().expect("a second handle");
            state.connections.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
            let state = Arc::clone(&state);
            thread::spawn(move || speak(&state, connection));
        }
    });
}

impl State {
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    pub(super) fn saw(&self, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    pub(super) fn run(&self, stream: &str) -> Option<Run> {
        self.live().get(stream).cloned()
    }

    /// Whether a stream is live on any node of its cluster.
    pub(super) fn is_live(&self, app: &str, stream: &str) -> bool {
        let found = self.database.broadcast(app, stream);
        found.is_some_and(|document| document.get_str("status").is_ok_and(|status| status == "broadcasting"))
    }

    /// Counts a WebSocket while `serve` serves it.
    pub(super) fn count_socket(&self, serve: impl FnOnce()) {
        self.sockets.fetch_add(1, Ordering::SeqCst);
        serve();
        self.sockets.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn begin(&self, app: &str, stream: &str) {
        self.live().insert(stream.to_owned(), Run { app: app.to_owned(), began_ms: now_ms() });
        self.write();
    }

    /// AMS says so at the end of a stream, and leaves the document.
    pub(super) fn end(&self, stream: &str) {
        let Some(run) = self.live().remove(stream) else { return };
        if !self.stopped.load(Ordering::SeqCst) {
            self.database.update_broadcast(&run.app, stream, &doc! {"status": "finished"});
        }
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Run>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its own document and those of its streams, with AMS's names and types.
    fn write(&self) {
        let ip = self.ip.to_string();
        let cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let node = doc! {
            "_id": &ip, "_t": "ClusterNode", "ip": &ip, "lastUpdateTime": now_ms(),
            "memory": "812/15921", "cpu": cpu, "dbQueryAveargeTimeMs": 2_i64,
        };
        self.database.save("clusterdb", "clusternode", &node);
        let live = self.live().clone();
        for (stream, run) in live {
            let fields = doc! {
                "status": "broadcasting", "type": "liveStream", "publishType": "RTMP", "name": &stream,
                "originAdress": &ip, "updateTime": now_ms(), "startTime": run.began_ms, "width": 1280_i32,
                "height": 720_i32, "hlsViewerCount": 2_i32, "webRTCViewerCount": 1_i32, "zombi": true,
            };
            self.database.update_broadcast(&run.app, &stream, &fields);
        }
    }
}

pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(0))
}
