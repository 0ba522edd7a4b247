//! A relay in front of the tests' MongoDB, so that a test can take the database away: closed, nothing listens
//! there; stuck, connections stay and are taken, and nothing is answered.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::address::Host;

const PORT: u16 = 27_017;
/// Passed on at once.
const CHUNK: usize = 64 << 10;

/// The relay. It ends with the test's process.
pub struct StoreRelay {
    host: Host,
    /// The database's address with its login and options, and the relay in the database's place.
    uri: String,
    database: String,
    gate: Arc<Gate>,
}

/// What all connections wait for while the relay is stuck.
#[derive(Default)]
struct Gate {
    stuck: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, stuck: bool) {
        *self.lock() = stuck;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let stuck = self.lock();
        drop(self.changed.wait_while(stuck, |stuck| *stuck).unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
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
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A database that is gone looks like this from the other side too: connected, then closed.
                let Ok(server) = TcpStream::connect(&database) else { continue };
                relay(&client, &server, &gate);
                relay(&server, &client, &gate);
            }
        });
    }

    /// Passes nothing on any more. Connections stay, and new ones are taken.
    pub fn get_stuck(&self) {
        self.gate.set(true);
    }

    /// Passes on what was held back, and what comes.
    pub fn go_on(&self) {
        self.gate.set(false);
    }
}

/// Passes on one direction of a connection, until its end.
fn relay(from: &TcpStream, to: &TcpStream, gate: &Arc<Gate>) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    let gate = Arc::clone(gate);
    thread::spawn(move || {
        let _ = to.set_nodelay(true);
        let mut buffer = vec![0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            gate.pass();
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
    use std::time::Duration;

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

    #[test]
    fn a_stuck_relay_takes_connections_and_answers_nothing_until_it_goes_on() {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = StoreRelay::to(&format!("mongodb://{}", echo.local_addr().unwrap()));
        thread::spawn(move || {
            for stream in echo.incoming().map_while(Result::ok) {
                thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut &stream));
            }
        });
        assert!(TcpStream::connect(relay.address()).is_err(), "it is closed at first");
        relay.open();
        relay.get_stuck();
        let mut client = TcpStream::connect(relay.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        assert!(client.read_exact(&mut answer).is_err());
        relay.go_on();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }
}
