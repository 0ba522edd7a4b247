//! MediaMTX, a WHEP server: what is published to it by RTSP plays by WebRTC.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluicegate_e2e::address::Host;
use sluicegate_e2e::process::{Process, command};
use sluicegate_e2e::until::until_true;

const START: Duration = Duration::from_secs(20);

/// One that runs, until it is dropped.
pub(crate) struct MediaMtx {
    process: Process,
    host: Host,
}

/// Where `setup/mediamtx` has put it, if it has.
pub(crate) fn find() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/mediamtx");
    built.is_file().then_some(built)
}

impl MediaMtx {
    /// Starts `program` on a host of its own; what it says goes to `folder`.
    pub(crate) fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let host = Host::claim();
        let file = folder.join("mediamtx.yml");
        fs::write(&file, configuration(&host))?;
        let mut mediamtx = command(program);
        mediamtx.arg(&file);
        let process = Process::start("MediaMTX", mediamtx, folder.join("mediamtx.log"));
        let peer = Self { process, host };
        let listens = |address: SocketAddr| TcpStream::connect(address).is_ok();
        until_true("MediaMTX listens", START, || {
            listens(peer.host.port(RTSP)) && listens(peer.host.port(HTTP))
        });
        Ok(peer)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where a stream is published.
    pub(crate) fn rtsp(&self, stream: &str) -> String {
        format!("rtsp://{}/{stream}", self.host.port(RTSP))
    }

    /// Where it is watched.
    pub(crate) fn whep(&self, stream: &str) -> String {
        format!("http://{}/{stream}/whep", self.host.port(HTTP))
    }
}

const RTSP: u16 = 8_554;
const HTTP: u16 = 8_889;
const UDP: u16 = 8_189;

/// Only what the comparison needs of it.
fn configuration(host: &Host) -> String {
    let off =
        ["rtmp", "hls", "srt", "api", "metrics", "pprof", "playback"].map(|what| format!("{what}: no\n"));
    format!(
        "logLevel: warn\n{}rtspTransports: [tcp]\nrtspAddress: {}\nwebrtcAddress: {}\n\
         webrtcLocalUDPAddress: {}\nwebrtcIPsFromInterfaces: no\nwebrtcAdditionalHosts: [{}]\n\
         paths:\n  all_others:\n",
        off.concat(),
        host.port(RTSP),
        host.port(HTTP),
        host.port(UDP),
        host.ip(),
    )
}
