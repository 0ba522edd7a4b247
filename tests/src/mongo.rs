//! A MongoDB for tests: the one that `SLUICEGATE_TEST_MONGODB` names, else `mongod` from the PATH, else the
//! MongoDB-wire server of `tests/mongo`. What is started here ends with the test, however the test ends.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::address::Host;

/// How long a server may take until it accepts connections. The first start of `tests/mongo` builds it.
const START: Duration = Duration::from_secs(120);

/// How many of a server's last lines are kept, to be told when it does not start.
const LINES_KEPT: usize = 20;

/// A MongoDB that tests may fill. It may be shared: each test takes a database name of its own.
pub struct TestMongo {
    uri: String,
    server: Option<Server>,
}

impl TestMongo {
    /// Starts one, or takes the one that `SLUICEGATE_TEST_MONGODB` names.
    ///
    /// # Errors
    /// What kept it from starting, and that `make setup` installs what it needs.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with_heap(None)
    }

    fn start_with_heap(heap: Option<&str>) -> anyhow::Result<Self> {
        if let Ok(uri) = std::env::var("SLUICEGATE_TEST_MONGODB") {
            return Ok(Self { uri, server: None });
        }
        let address = free_address()?;
        let server = match find_on_path("mongod") {
            Some(mongod) => Server::mongod(&mongod, address),
            None => Server::wire_server(address, &[], heap),
        };
        let server = server.context("no MongoDB for the tests: `make setup` installs what it needs")?;
        Ok(Self { uri: format!("mongodb://{address}"), server: Some(server) })
    }

    /// The wire server of `tests/mongo`, serving nobody but `user`, who logs in by SCRAM-SHA-256.
    ///
    /// # Errors
    /// What kept it from starting.
    pub fn start_with_login(user: &str, password: &str) -> anyhow::Result<Self> {
        let address = free_address()?;
        let server = Server::wire_server(address, &[user, password], None)?;
        Ok(Self { uri: format!("mongodb://{address}"), server: Some(server) })
    }

    /// Ends all connections; whoever logs in from now on needs this password. For one with a login.
    ///
    /// # Panics
    /// When the server has ended.
    pub fn set_password(&mut self, password: &str) {
        let input = self.server.as_mut().and_then(|server| server.child.stdin.as_mut());
        writeln!(input.expect("a server that was started here"), "{password}").expect("a server that runs");
    }

    /// Starts one that may hold much: the wire server of the tests has a small heap by itself.
    ///
    /// # Errors
    /// As [`TestMongo::start`].
    pub fn start_large() -> anyhow::Result<Self> {
        Self::start_with_heap(Some("3g"))
    }

    /// The one that all tests of this process share, started by the first of them.
    ///
    /// # Errors
    /// As [`TestMongo::start`], told to each of them.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceLock<Result<TestMongo, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::start().map_err(|error| format!("{error:#}")));
        shared.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// Its address, `mongodb://…`.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

/// A server process that ends when its standard input does, so that even a killed test leaves none behind.
struct Server {
    child: Child,
    /// Where a real one keeps its data. The wire server keeps none.
    data: Option<TempDir>,
}

impl Server {
    fn wire_server(address: SocketAddr, login: &[&str], heap: Option<&str>) -> anyhow::Result<Self> {
        let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("../setup/mongo-server");
        let mut command = Command::new(&launcher);
        command.arg(address.to_string()).args(login);
        command.envs(heap.map(|heap| ("SLUICEGATE_TEST_HEAP", heap)));
        Self::spawn(command, "ready ", None).with_context(|| format!("cannot run {}", launcher.display()))
    }

    fn mongod(program: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        // mongod does not watch its standard input; this shell does that for it.
        const SUPERVISE: &str = r#""$@" </dev/null & cat; kill -KILL $!; wait"#;
        let data = tempfile::tempdir()?;
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISE, "sh"]).arg(program).args(["--nounixsocket", "--dbpath"]);
        command.arg(data.path()).args(["--bind_ip", &host, "--port", &port]);
        Self::spawn(command, "Waiting for connections", Some(data)).context("cannot run mongod")
    }

    /// Runs `command` and waits for a line with `ready` in it.
    fn spawn(mut command: Command, ready: &'static str, data: Option<TempDir>) -> anyhow::Result<Self> {
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn()?;
        let (sender, is_ready) = mpsc::channel();
        let lines = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            follow(stderr, Arc::clone(&lines), None);
        }
        if let Some(stdout) = child.stdout.take() {
            follow(stdout, Arc::clone(&lines), Some((ready, sender)));
        }
        let server = Self { child, data };
        wait_until_ready(&is_ready, &lines)?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input is what ends a server. Only mongod's shell must be left to pass that on.
        drop(self.child.stdin.take());
        if self.data.is_none() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

type Lines = Mutex<VecDeque<String>>;

/// Reads `output` to its end, so that the server never waits for a reader; tells when it is ready.
fn follow(
    output: impl Read + Send + 'static,
    lines: Arc<Lines>,
    mut ready: Option<(&'static str, Sender<()>)>,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((_, sender)) = ready.take_if(|(sign, _)| line.contains(*sign)) {
                let _ = sender.send(());
            }
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES_KEPT {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
}

fn wait_until_ready(is_ready: &Receiver<()>, lines: &Lines) -> anyhow::Result<()> {
    if is_ready.recv_timeout(START).is_err() {
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        bail!(
            "it did not get ready; its last lines:\n{}",
            lines.iter().cloned().collect::<Vec<_>>().join("\n")
        );
    }
    Ok(())
}

fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// A free port of a host that no other test uses, so that it stays free until the server takes it.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Host::claim().ip(), 0))?.local_addr()?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_server_answers_while_it_is_held_and_is_gone_afterwards() {
        let address = free_address().unwrap();
        let server = Server::wire_server(address, &[], None).unwrap();
        assert!(TcpStream::connect(address).is_ok());
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_mongod_is_gone_with_its_handle() {
        let directory = tempfile::tempdir().unwrap();
        let (program, pid) = (directory.path().join("mongod"), directory.path().join("pid"));
        let script =
            format!("#!/bin/sh\necho $$ >{}\necho Waiting for connections\nexec sleep 600", pid.display());
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

        let server = Server::mongod(&program, free_address().unwrap()).unwrap();
        let process = Path::new("/proc").join(fs::read_to_string(pid).unwrap().trim());
        assert!(process.exists());
        drop(server);
        assert!(!process.exists());
    }

    #[test]
    fn what_a_server_said_is_told_when_it_does_not_start() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo it hurts here"]);
        let error = Server::spawn(command, "ready ", None).err().unwrap();
        assert!(format!("{error:#}").contains("it hurts here"), "{error:#}");
    }
}
