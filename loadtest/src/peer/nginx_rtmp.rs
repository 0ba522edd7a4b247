//! nginx with its RTMP module (Debian's `libnginx-mod-rtmp`): takes publishes and writes HLS of segments of a second.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use sluicegate_e2e::nginx;
use sluicegate_e2e::process::Process;

const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// One that runs. It is killed when this is dropped.
pub(crate) struct NginxRtmp {
    _process: Process,
    hls: PathBuf,
}

impl NginxRtmp {
    /// Starts one at `listen`, with configuration, log and HLS in `folder`, which is emptied before.
    ///
    /// # Errors
    /// When it or its module is not installed.
    ///
    /// # Panics
    /// When it does not accept connections.
    pub(crate) fn start(folder: &Path, listen: SocketAddr) -> anyhow::Result<Self> {
        ensure!(Path::new(MODULE).is_file(), "{MODULE} is missing: `setup/packages bench` installs it");
        let hls = folder.join("hls");
        let process = nginx::start(folder, listen, &configuration(listen, &hls))?;
        Ok(Self { _process: process, hls })
    }

    /// How many segments its playlist of `stream` lists.
    pub(crate) fn segments(&self, stream: &str) -> usize {
        let list = std::fs::read_to_string(self.hls.join(format!("{stream}.m3u8"))).unwrap_or_default();
        list.lines().filter(|line| line.ends_with(".ts")).count()
    }
}

fn configuration(listen: SocketAddr, hls: &Path) -> String {
    let hls = hls.display();
    format!(
        "load_module {MODULE};
rtmp {{
    access_log off;
    server {{
        listen {listen};
        chunk_size 65536;
        application live {{
            live on;
            hls on;
            hls_path {hls};
            hls_fragment 1s;
            hls_playlist_length 6s;
        }}
    }}
}}
"
    )
}
