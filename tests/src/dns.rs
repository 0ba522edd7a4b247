//! A name server of a test's own, and programs that ask it instead of the machine's: they run in a mount namespace
//! in which another file lies over `/etc/resolv.conf`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record};
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

use crate::address::Host;
use crate::process::{command, run};

const PORT: u16 = 53;
const TTL_S: u32 = 60;
/// The longest question without EDNS, and more than a name and a type take with it.
const QUESTION_BYTES: usize = 512;
/// For a namespace to be made.
const NAMESPACE: Duration = Duration::from_secs(10);

/// What a shell in its own namespace does before it becomes a program.
const LAY_OVER: &str = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;

/// The name server. It answers by UDP until it is dropped.
pub struct TestDns {
    host: Host,
    zone: Arc<Mutex<Zone>>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Zone {
    records: BTreeMap<Name, Vec<RData>>,
    asked: Vec<String>,
    is_silent: bool,
}

impl TestDns {
    /// One that knows no name yet, or why this machine lets no test have one: it takes root's rights, which some
    /// containers withhold.
    ///
    /// # Errors
    /// What is not permitted here.
    ///
    /// # Panics
    /// When it cannot be had for another reason.
    pub fn start() -> Result<Self, String> {
        if let Err(why) = try_a_namespace() {
            return Err(format!("no mount namespace of its own for a program: {why}"));
        }
        let (host, zone) = (Host::claim(), Arc::<Mutex<Zone>>::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let socket = match runtime.block_on(UdpSocket::bind(host.port(PORT))) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(format!("no name server on port {PORT}: {error}"));
            }
            socket => socket.expect("the name server's port"),
        };
        runtime.spawn(answer(socket, Arc::clone(&zone)));
        Ok(Self { host, zone, _runtime: runtime })
    }

    /// Where programs ask it.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.host.ip().into()
    }

    /// `name` is at `ip`.
    pub fn host(&self, name: &str, ip: Ipv4Addr) {
        self.add(name, RData::A(A(ip)));
    }

    /// The service `name` is at `port` of the host `target`.
    pub fn service(&self, name: &str, target: &str, port: u16) {
        self.add(name, RData::SRV(SRV::new(0, 0, port, full(target))));
    }

    /// `name` has this text.
    pub fn text(&self, name: &str, text: &str) {
        self.add(name, RData::TXT(TXT::new(vec![text.to_owned()])));
    }

    /// Whether it leaves questions without an answer.
    pub fn be_silent(&self, is_silent: bool) {
        self.zone().is_silent = is_silent;
    }

    /// What it was asked: `TXT cluster.example`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.zone().asked.clone()
    }

    fn add(&self, name: &str, data: RData) {
        self.zone().records.entry(full(name)).or_default().push(data);
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command of a program whose resolver reads `resolv_conf`.
#[must_use]
pub fn resolving_by(resolv_conf: &Path, program: &Path) -> Command {
    let mut namespace = command("unshare");
    namespace.args(["--mount", "sh", "-c", LAY_OVER]).arg(resolv_conf).arg(program);
    namespace
}

fn try_a_namespace() -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("resolv.conf");
    fs::write(&file, "").expect("a file");
    let tried = run("unshare", resolving_by(&file, Path::new("true")), NAMESPACE);
    if tried.code == Some(0) { Ok(()) } else { Err(tried.stderr.trim().to_owned()) }
}

fn full(name: &str) -> Name {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).expect("a name of the DNS")
}

async fn answer(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut bytes = [0; QUESTION_BYTES];
    while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
        let Ok(question) = Message::from_vec(&bytes[..length]) else { continue };
        let answer = zone.lock().unwrap_or_else(PoisonError::into_inner).answer(question);
        if let Some(answer) = answer.and_then(|answer| answer.to_vec().ok()) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

impl Zone {
    fn answer(&mut self, question: Message) -> Option<Message> {
        let query = question.queries.first()?.clone();
        if self.is_silent {
            return None;
        }
        self.asked.push(format!("{} {}", query.query_type, query.name.to_string().trim_end_matches('.')));
        let mut answer = question.into_response();
        answer.additionals.clear();
        answer.edns = None;
        match self.records.get(&query.name) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(known) => {
                let asked = known.iter().filter(|data| data.record_type() == query.query_type);
                answer.answers =
                    asked.map(|data| Record::from_rdata(query.name.clone(), TTL_S, data.clone())).collect();
            }
        }
        Some(answer)
    }
}
