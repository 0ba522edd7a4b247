//! A relay in front of the tests' MongoDB, so that a test can take the database away: closed, nothing listens
//! there; stuck, connections stay and are taken, and nothing is answered; slow, every call waits.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::address::Host;
use crate::until::until_true;

const PORT: u16 = 27_017;
/// Passed on at once.
const CHUNK: usize = 64 << 10;
/// For the listener to be gone.
const CLOSED: Duration = Duration::from_secs(10);

/// The relay. It ends with the test's process.
pub struct StoreRelay {
    host: Host,
    /// The database's address with its login and options, and the relay in the database's place.
    uri: String,
    database: String,
    gate: Arc<Gate>,
}

/// What all connections wait for.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stuck: bool,
    /// What a request waits.
    delay: Duration,
    /// Counts how often the relay was closed: connections of before are cut.
    closed: u64,
    /// What was taken since it was opened.
    connections: Vec<TcpStream>,
    traffic: Traffic,
}

/// What was passed on so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests of the wire protocol.
    pub commands: u64,
    /// Bytes, in both directions.
    pub bytes: u64,
}

/// Counts the requests in a stream of the wire protocol: each begins with its length, in four bytes.
#[derive(Default)]
struct Requests {
    length: Vec<u8>,
    missing: usize,
}

impl Requests {
    /// How many begin in `bytes`.
    fn count(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while !bytes.is_empty() {
            let within = self.missing.min(bytes.len());
            self.missing -= within;
            bytes = &bytes[within..];
            let lacks = (4 - self.length.len()).min(bytes.len());
            if self.missing > 0 || lacks == 0 {
                continue;
            }
            self.length.extend_from_slice(&bytes[..lacks]);
            bytes = &bytes[lacks..];
            if let Ok(length) = <[u8; 4]>::try_from(self.length.as_slice()) {
                begun += 1;
                // A length that lies would be the server's to refuse.
                self.missing = usize::try_from(u32::from_le_bytes(length)).unwrap_or(4).saturating_sub(4);
                self.length.clear();
            }
        }
        begun
    }
}

impl Gate {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until so many bytes may be passed on, in which so many requests begin, if it is to the database.
    fn pass(&self, bytes: usize, requests: Option<u64>) {
        let mut state = self.lock();
        if requests.is_some() {
            let (closed, delay) = (state.closed, state.delay);
            let waits = |state: &mut State| state.closed == closed && state.delay == delay;
            let waited = self.changed.wait_timeout_while(state, delay, waits);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let passed = self.changed.wait_while(state, |state| state.stuck);
        let traffic = &mut passed.unwrap_or_else(PoisonError::into_inner).traffic;
        traffic.bytes += bytes as u64;
        traffic.commands += requests.unwrap_or(0);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreRelay {
    /// A relay to the database at `uri`; closed.
    ///
    /// # Panics
    /// When `uri` is not `mongodb://HOST:PORT…`: other servers cannot be relayed to.
    #[must_use]
    pub fn to(uri: &str) -> Self {
        let rest = uri.strip_prefix("mongodb://").unwrap_or_else(|| panic!("{uri} cannot be relayed to"));
        let (place, options) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (login, database) = place.rsplit_once('@').map_or(("", place), |(login, hosts)| (login, hosts));
        assert!(!database.contains(','), "{uri} has several hosts, which one relay cannot stand for");
        let host = Host::claim();
        let at = if login.is_empty() { String::new() } else { format!("{login}@") };
        // A member of a replica set would tell its own address, and be asked past the relay.
        let (options, joint) = match options {
            "" => ("/", "?"),
            _ if options.contains('?') => (options, "&"),
            _ => (options, "?"),
        };
        let uri = format!("mongodb://{at}{}{options}{joint}directConnection=true", host.port(PORT));
        let database =
            if database.contains(':') { database.to_owned() } else { format!("{database}:{PORT}") };
        Self { host, uri, database, gate: Arc::default() }
    }

    /// The address by which nodes use it.
    #[must_use]
    pub fn uri(&self) -> String {
        self.uri.clone()
    }

    /// Where it listens once it is open.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.host.port(PORT)
    }

    /// Listens, and passes everything on.
    ///
    /// # Panics
    /// When it is open already.
    pub fn open(&self) {
        let listener = TcpListener::bind(self.address()).expect("the relay's port");
        let (database, gate) = (self.database.clone(), Arc::clone(&self.gate));
        let opened = gate.lock().closed;
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if gate.lock().closed != opened {
                    return;
                }
                // A database that is gone looks like this from the other side too: connected, then closed.
                let Ok(server) = TcpStream::connect(&database) else { continue };
                gate.change(|state| state.connections.extend(client.try_clone()));
                relay(&client, &server, &gate, Some(Requests::default()));
                relay(&server, &client, &gate, None);
            }
        });
    }

    /// Listens no more, and cuts all connections. It may be opened again.
    pub fn close(&self) {
        self.gate.change(|state| {
            state.closed += 1;
            for connection in state.connections.drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        });
        // The listener ends with the next connection; by then nothing may listen there any more.
        let _ = TcpStream::connect(self.address());
        until_true("the relay is closed", CLOSED, || TcpStream::connect(self.address()).is_err());
    }

    /// Passes nothing on any more. Connections stay, and new ones are taken.
    pub fn get_stuck(&self) {
        self.gate.change(|state| state.stuck = true);
    }

    /// Lets every request wait for so long.
    pub fn slow_down(&self, delay: Duration) {
        self.gate.change(|state| state.delay = delay);
    }

    /// Passes on what was held back, and what comes, at once.
    pub fn go_on(&self) {
        self.gate.change(|state| (state.stuck, state.delay) = (false, Duration::ZERO));
    }

    /// What was passed on so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.gate.lock().traffic
    }
}

/// Passes on one direction of a connection, until its end.
fn relay(from: &TcpStream, to: &TcpStream, gate: &Arc<Gate>, mut requests: Option<Requests>) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    let gate = Arc::clone(gate);
    thread::spawn(move || {
        let _ = to.set_nodelay(true);
        let mut buffer = vec![0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            gate.pass(read, requests.as_mut().map(|requests| requests.count(&buffer[..read])));
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // The other direction may have ended the connection.
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_and_options_stay_and_the_relay_takes_the_databases_place() {
        for (uri, before, after) in [
            ("mongodb://h:1", "mongodb://", "/?directConnection=true"),
            ("mongodb://u:p@h:1/admin", "mongodb://u:p@", "/admin?directConnection=true"),
            ("mongodb://h:1/?w=1", "mongodb://", "/?w=1&directConnection=true"),
        ] {
            let relay = StoreRelay::to(uri);
            assert_eq!(relay.uri(), format!("{before}{}{after}", relay.address()));
            assert_eq!(relay.database, "h:1");
        }
        assert_eq!(StoreRelay::to("mongodb://h").database, "h:27017");
    }

    fn echo_behind_a_relay() -> StoreRelay {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = StoreRelay::to(&format!("mongodb://{}", echo.local_addr().unwrap()));
        thread::spawn(move || {
            for stream in echo.incoming().map_while(Result::ok) {
                thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut &stream));
            }
        });
        relay
    }

    fn answer_within(client: &mut TcpStream, deadline: Duration) -> std::io::Result<[u8; 5]> {
        let mut answer = [0; 5];
        client.set_read_timeout(Some(deadline))?;
        client.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn a_slow_relay_lets_requests_wait_and_a_closed_one_cuts_them_and_opens_again() {
        let relay = echo_behind_a_relay();
        relay.open();
        relay.slow_down(Duration::from_secs(600));
        let mut client = TcpStream::connect(relay.address()).unwrap();
        client.write_all(b"hello").unwrap();
        assert!(answer_within(&mut client, Duration::from_millis(200)).is_err());
        relay.go_on();
        assert_eq!(&answer_within(&mut client, Duration::from_secs(10)).unwrap(), b"hello");
        relay.close();
        assert!(answer_within(&mut client, Duration::from_secs(10)).is_err());
        assert!(TcpStream::connect(relay.address()).is_err());
        relay.open();
        let mut client = TcpStream::connect(relay.address()).unwrap();
        client.write_all(b"again").unwrap();
        assert_eq!(&answer_within(&mut client, Duration::from_secs(10)).unwrap(), b"again");
        assert_eq!(relay.traffic().bytes, 20);
    }

    #[test]
    fn requests_are_counted_however_their_bytes_arrive() {
        let request =
            |body: usize| [&u32::try_from(body + 4).unwrap().to_le_bytes()[..], &vec![7; body]].concat();
        let stream = [request(12), request(300), request(0), request(40)].concat();
        for piece in [1, 3, 5, 64, stream.len()] {
            let mut requests = Requests::default();
            let counted: u64 = stream.chunks(piece).map(|bytes| requests.count(bytes)).sum();
            assert_eq!(counted, 4, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_stuck_relay_takes_connections_and_answers_nothing_until_it_goes_on() {
        let relay = echo_behind_a_relay();
        assert!(TcpStream::connect(relay.address()).is_err(), "it is closed at first");
        relay.open();
        relay.get_stuck();
        let mut client = TcpStream::connect(relay.address()).unwrap();
        client.write_all(b"hello").unwrap();
        assert!(answer_within(&mut client, Duration::from_millis(200)).is_err());
        relay.go_on();
        assert_eq!(&answer_within(&mut client, Duration::from_secs(10)).unwrap(), b"hello");
    }
}
