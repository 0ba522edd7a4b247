//! A node: the real program, in a process and on addresses of its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::address::Host;
use crate::burden::confine;
use crate::dns::resolving_by;
use crate::http;
use crate::metrics;
use crate::process::{Finished, Process, command, run};
use crate::until::until_true;

/// For a node to take work.
pub const START: Duration = Duration::from_secs(20);
/// For a node to end after it was told to.
pub const END: Duration = Duration::from_secs(15);
/// For a command of the program that does not serve.
const COMMAND: Duration = Duration::from_secs(20);

const HTTP: u16 = 5080;
const HTTPS: u16 = 5443;
const RTMP: u16 = 1935;
const ADMIN: u16 = 9180;
/// Where an origin takes publishes from balancers, and where a node serves other nodes.
const ORIGIN_RTMP: u16 = 19_350;
const NODE_HTTP: u16 = 5081;
/// Below the ports that the kernel hands out: somebody else's socket on one of those would be in the way.
const EDGE_UDP: u16 = 20_000;
const ORIGIN_UDP: u16 = 20_001;

/// The built program: beside this test's own folder, or where `SLUICEGATE_TEST_BIN` says.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn binary() -> PathBuf {
    let named = std::env::var_os("SLUICEGATE_TEST_BIN").map(PathBuf::from);
    let beside = || std::env::current_exe().ok()?.parent()?.parent().map(|folder| folder.join("sluicegate"));
    let binary = named.or_else(beside).expect("this program's own path");
    assert!(binary.is_file(), "{} is not there: run `cargo build` first", binary.display());
    binary
}

/// A command line of the program, without variables that would change its configuration.
#[must_use]
pub fn sluicegate(arguments: &[&str]) -> Command {
    with_arguments(command(binary()), arguments)
}

fn with_arguments(mut program: Command, arguments: &[&str]) -> Command {
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|n| n.to_string_lossy().starts_with("SLUICEGATE_") && n != "SLUICEGATE_LOG") {
        program.env_remove(name);
    }
    program.args(arguments);
    program
}

/// Runs a command line of the program to its end.
///
/// # Panics
/// When it does not end.
#[track_caller]
#[must_use]
pub fn run_sluicegate(arguments: &[&str]) -> Finished {
    run("sluicegate", sluicegate(arguments), COMMAND)
}

/// A node that is not started yet. It listens on the usual ports of a host of its own.
pub struct NodeConfig {
    id: String,
    /// None: all of them, standalone.
    roles: Vec<&'static str>,
    host: Host,
    sections: BTreeMap<&'static str, Vec<String>>,
    variables: Vec<(&'static str, String)>,
    resolver: Option<IpAddr>,
    folder: TempDir,
}

impl NodeConfig {
    /// All roles, with the embedded store.
    #[must_use]
    pub fn standalone() -> Self {
        Self::new("standalone", &[])
    }

    /// A node of a cluster with one role: `lb`, `edge` or `origin`.
    #[must_use]
    pub fn role(role: &'static str, id: &str, store: &str, key: &str) -> Self {
        Self::roles(&[role], id, store, key)
    }

    /// A node of a cluster with these roles.
    #[must_use]
    pub fn roles(roles: &[&'static str], id: &str, store: &str, key: &str) -> Self {
        let config = Self::new(id, roles);
        config.set("cluster", &format!("store = {store:?}")).set("cluster", &format!("key = {key:?}"))
    }

    fn new(id: &str, roles: &[&'static str]) -> Self {
        let host = Host::claim();
        let at = |port| host.port(port);
        let lines = [
            ("node", format!("id = {id:?}")),
            ("node", format!("http = \"{}\"", at(NODE_HTTP))),
            ("node", format!("admin = \"{}\"", at(ADMIN))),
            ("lb", format!("http = [\"{}\"]", at(HTTP))),
            ("lb", format!("rtmp = [\"{}\"]", at(RTMP))),
            ("lb", "threads = 2".to_owned()),
            // Tests share their machine.
            ("limits", "cpu_percent = 100.0".to_owned()),
            ("limits", "memory_percent = 100.0".to_owned()),
            ("origin", format!("rtmp = \"{}\"", at(ORIGIN_RTMP))),
            ("edge", format!("udp = \"{}\"", at(EDGE_UDP))),
            ("origin", format!("udp = \"{}\"", at(ORIGIN_UDP))),
            ("webrtc", "threads = 2".to_owned()),
        ];
        let folder = TempDir::new().expect("a temporary folder");
        let (sections, variables) = (BTreeMap::new(), Vec::new());
        let (id, roles) = (id.to_owned(), roles.to_vec());
        let config = Self { id, roles, host, sections, variables, resolver: None, folder };
        lines.iter().fold(config, |config, (section, line)| config.set(section, line))
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Its machine's clock is off, as `faketime` says it: `+600s`. The monotonic one is as it is.
    ///
    /// # Panics
    /// When libfaketime is not installed.
    #[must_use]
    pub fn clock(self, offset: &str) -> Self {
        let library = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
        let library = library.map(|entry| entry.path().join("faketime/libfaketime.so.1"));
        let library = library.into_iter().find(|path| path.is_file());
        let library = library.expect("libfaketime: setup/packages test installs it");
        self.variable("LD_PRELOAD", &library.display().to_string())
            .variable("FAKETIME", offset)
            .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    /// It asks this name server instead of the machine's.
    #[must_use]
    pub fn resolver(mut self, server: IpAddr) -> Self {
        self.resolver = Some(server);
        self
    }

    /// Adds a line to a section; `[app]` is the application.
    #[must_use]
    pub fn set(mut self, section: &'static str, line: &str) -> Self {
        self.sections.entry(section).or_default().push(line.to_owned());
        self
    }

    /// Makes a development certificate for the node's address and serves HTTPS with it.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn with_certificate(self) -> Self {
        let certs = self.certs();
        let (folder, name) = (certs.display().to_string(), self.host.ip().to_string());
        let made = run_sluicegate(&["certs", "dev", "--out", &folder, "--name", &name]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let https = format!("https = [\"{}\"]", self.host.port(HTTPS));
        let pair = format!("certificates = [{{ cert = \"{folder}/cert.pem\", key = \"{folder}/key.pem\" }}]");
        self.set("lb", &https).set("lb", &pair)
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    fn http(&self) -> SocketAddr {
        self.host.port(HTTP)
    }

    fn certs(&self) -> PathBuf {
        self.folder.path().join("certs")
    }

    /// Starts the program; it may not be ready yet.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn launch(self) -> NodeProcess {
        let process = Process::start(&self.id, self.command(), self.folder.path().join("log"));
        NodeProcess { process, config: self }
    }

    /// Starts a program with all roles and waits until it takes publishers and viewers.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> NodeProcess {
        let mut node = self.launch();
        node.wait_until_ready();
        node.wait_for_an_edge();
        node
    }

    /// Starts the program where it is expected to end by itself.
    ///
    /// # Panics
    /// When it goes on.
    #[track_caller]
    #[must_use]
    pub fn start_in_vain(&self) -> Finished {
        run(&self.id, self.command(), COMMAND)
    }

    fn command(&self) -> Command {
        let verb = if self.roles.is_empty() { "standalone" } else { "run" };
        self.sluicegate(&[verb])
    }

    /// A command line of the program with this configuration.
    fn sluicegate(&self, arguments: &[&str]) -> Command {
        let file = self.folder.path().join("sluicegate.toml");
        fs::write(&file, self.text()).expect("a configuration file");
        let mut program = with_arguments(self.program(), arguments);
        program.arg("--config").arg(file).envs(self.variables.iter().map(|(name, value)| (*name, value)));
        program
    }

    fn program(&self) -> Command {
        let Some(server) = self.resolver else { return command(binary()) };
        let resolv_conf = self.folder.path().join("resolv.conf");
        fs::write(&resolv_conf, format!("nameserver {server}\n")).expect("a resolver's configuration");
        resolving_by(&resolv_conf, &binary())
    }

    /// Runs a command of the program with this configuration to its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        run("sluicegate", self.sluicegate(arguments), COMMAND)
    }

    fn text(&self) -> String {
        let roles = if self.roles.is_empty() { String::new() } else { format!("roles = {:?}\n", self.roles) };
        let sections = self.sections.iter().map(|(name, lines)| format!("[{name}]\n{}\n", lines.join("\n")));
        roles + &sections.collect::<String>()
    }
}

/// A node that runs. It is killed when this is dropped; if the test fails, it shows its last lines.
pub struct NodeProcess {
    process: Process,
    config: NodeConfig,
}

impl NodeProcess {
    /// Waits until it takes work.
    ///
    /// # Panics
    /// When it ends before, or at the deadline.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        let url = self.admin_url("/readyz");
        until_true(&format!("{} is ready", self.config.id), START, || {
            let ended = self.process.exit_status();
            assert!(ended.is_none(), "{} ended ({ended:?}): {}", self.config.id, self.process.last_lines());
            http::try_get(&url).is_ok_and(|answer| answer.status == 200)
        });
    }

    /// Waits until its balancer has an edge to send viewers to.
    ///
    /// # Panics
    /// At the deadline.
    #[track_caller]
    pub fn wait_for_an_edge(&self) {
        let page = self.url("/live/play.html");
        until_true("an edge takes viewers", START, || http::get(&page).status == 200);
    }

    /// Its configuration, to run other commands with.
    #[must_use]
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// All it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.config.host.ip()
    }

    /// What its balancer serves at `path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.config.http())
    }

    /// The same over TLS.
    #[must_use]
    pub fn https_url(&self, path: &str) -> String {
        format!("https://{}{path}", self.config.host.port(HTTPS))
    }

    /// The certificate of the authority that signed its own.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.config.certs().join("ca.pem")
    }

    /// Where its balancer serves HTTPS.
    #[must_use]
    pub fn https(&self) -> SocketAddr {
        self.config.host.port(HTTPS)
    }

    /// What it serves to other nodes at `path`.
    #[must_use]
    pub fn node_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.config.host.port(NODE_HTTP))
    }

    /// Its admin plane at `path`.
    #[must_use]
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.config.host.port(ADMIN))
    }

    /// Where its balancer takes publishers.
    #[must_use]
    pub fn rtmp(&self) -> SocketAddr {
        self.config.host.port(RTMP)
    }

    /// Where its edge is reached by WebRTC.
    #[must_use]
    pub fn edge_udp(&self) -> SocketAddr {
        self.config.host.port(EDGE_UDP)
    }

    /// Where its origin takes publishes from balancers.
    #[must_use]
    pub fn origin_rtmp(&self) -> SocketAddr {
        self.config.host.port(ORIGIN_RTMP)
    }

    /// The cluster as it sees it.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    #[must_use]
    pub fn cluster(&self) -> Value {
        let answer = http::get(&self.admin_url("/api/v1/cluster"));
        serde_json::from_slice(&answer.body).expect("JSON of the cluster")
    }

    /// A live stream as it sees it: `live/demo`.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    #[must_use]
    pub fn stream(&self, key: &str) -> Option<Value> {
        self.cluster()["streams"].as_array()?.iter().find(|stream| stream["key"] == key).cloned()
    }

    /// A node as it sees it.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    #[must_use]
    pub fn node(&self, id: &str) -> Option<Value> {
        self.cluster()["nodes"].as_array()?.iter().find(|node| node["id"] == id).cloned()
    }

    /// Its metrics.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    #[must_use]
    pub fn metrics(&self) -> String {
        http::get(&self.admin_url("/metrics")).text()
    }

    /// The sum of the series of one metric that have `labels`, for a metric that counts.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        metrics::sum(&self.metrics(), name, labels) as u64
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        assert!(self.ask_to_end(), "{} has ended already", self.config.id);
        self.wait_for_its_end()
    }

    /// Waits until it has ended after [`NodeProcess::ask_to_end`].
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn wait_for_its_end(&mut self) -> ExitStatus {
        self.process.exit_within(END)
    }

    /// Asks it to end. `false`: it had ended already.
    pub fn ask_to_end(&mut self) -> bool {
        let runs = self.process.exit_status().is_none();
        if runs {
            self.process.signal("TERM");
        }
        runs
    }

    /// Keeps it to one processor.
    ///
    /// # Panics
    /// When it has ended.
    pub fn confine(&self, processor: usize) {
        confine(self.process.pid(), processor);
    }

    /// Kills it, as a power cut would.
    ///
    /// # Panics
    /// When it has ended already, or does not end.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process.signal("KILL");
        let _ = self.process.exit_within(END);
    }

    /// Stops it where it stands: its connections stay, and nothing is answered any more.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on after [`NodeProcess::freeze`].
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    /// Lets it go on if it has not ended, so that it can be asked to end.
    pub fn thaw_if_it_runs(&mut self) {
        if self.process.exit_status().is_none() {
            self.thaw();
        }
    }

    /// Starts it again, after it has ended, at its address and under its id; it may not be ready yet.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_again(&mut self) {
        let log = self.config.folder.path().join("log-again");
        self.process = Process::start(&self.config.id, self.config.command(), log);
    }

    /// Starts it again while its earlier run is still there, which is returned.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_over(&mut self) -> Process {
        let log = self.config.folder.path().join("log-over");
        let next = Process::start(&self.config.id, self.config.command(), log);
        std::mem::replace(&mut self.process, next)
    }

    /// Starts a second program with its configuration, which is expected to end by itself.
    ///
    /// # Panics
    /// When that goes on.
    #[track_caller]
    #[must_use]
    pub fn start_in_vain(&self) -> Finished {
        self.config.start_in_vain()
    }

    /// Shows its last lines if the test is failing: for a node that outlives the test.
    pub fn explain_failure(&self) {
        self.process.explain_failure();
    }
}
