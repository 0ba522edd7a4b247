//! nginx as its manual recommends it for this work: a cache in front of an origin (`proxy_cache` with
//! `proxy_cache_lock`, files sent by the kernel), or a proxy in front of such a cache; connections upstream are kept.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sluicegate_e2e::nginx::{self, TEMPORARY_FILES};
use sluicegate_e2e::process::Process;

/// One nginx.
pub(crate) struct Nginx {
    /// Its own address.
    pub(crate) listen: SocketAddr,
    /// Where it serves TLS as well, with which certificate and key.
    pub(crate) tls: Option<(SocketAddr, PathBuf, PathBuf)>,
    /// What it passes requests on to.
    pub(crate) behind: Behind,
}

/// What is behind it.
pub(crate) enum Behind {
    /// An origin of ours: it is a cache of that.
    Origin(SocketAddr),
    /// A cache: it is a proxy.
    Cache(SocketAddr),
}

/// What comes before a viewer's path at an origin.
const PREFIX: &str = "/origin";

/// Starts one whose configuration, cache and log are in `folder`, which is emptied before. It is killed when
/// the process is dropped.
///
/// # Errors
/// When it is not installed.
///
/// # Panics
/// When it does not accept connections.
pub(crate) fn start(folder: &Path, nginx: &Nginx) -> anyhow::Result<Process> {
    let started = nginx::start(folder, nginx.listen, &configuration(nginx));
    started.context("nginx: `setup/packages bench` installs it")
}

fn configuration(nginx: &Nginx) -> String {
    let Nginx { listen, tls, behind } = nginx;
    let tls = tls.as_ref().map_or_else(String::new, |(address, certificate, key)| {
        format!(
            "listen {address} ssl backlog=4096;
        ssl_certificate {};
        ssl_certificate_key {};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:tls:10m;",
            certificate.display(),
            key.display()
        )
    });
    let (upstream, locations) = match behind {
        Behind::Origin(address) => (address, cache()),
        Behind::Cache(address) => (address, "location / { proxy_pass http://upstream; }".to_owned()),
    };
    format!(
        "http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    {TEMPORARY_FILES}
    proxy_cache_path cache levels=1:2 keys_zone=live:10m max_size=512m inactive=5m use_temp_path=off;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    proxy_buffers 16 16k;
    upstream upstream {{
        server {upstream};
        keepalive 64;
        keepalive_requests 1000000;
    }}
    server {{
        listen {listen} backlog=4096;
        {tls}
        {locations}
    }}
}}
"
    )
}

/// Segments are kept for long, playlists for a second, and those are compressed for whom that suits.
fn cache() -> String {
    format!(
        "location ~ \\.m3u8$ {{
            proxy_pass http://upstream{PREFIX}$uri$is_args$args;
            proxy_cache live;
            proxy_cache_lock on;
            proxy_ignore_headers Cache-Control;
            proxy_cache_valid 200 1s;
            proxy_cache_use_stale updating;
            proxy_cache_background_update on;
            proxy_set_header Accept-Encoding \"\";
            proxy_set_header Connection \"\";
            gzip on;
            gzip_proxied any;
            gzip_types application/vnd.apple.mpegurl;
        }}
        location / {{
            proxy_pass http://upstream{PREFIX}/;
            proxy_cache live;
            proxy_cache_lock on;
            proxy_cache_valid 200 5m;
        }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_both_ends() {
        let behind = Behind::Origin("127.0.0.4:5080".parse().unwrap());
        let tls = Some(("127.0.0.3:443".parse().unwrap(), "/c.pem".into(), "/k.pem".into()));
        let text = configuration(&Nginx { listen: "127.0.0.3:80".parse().unwrap(), tls, behind });
        for line in [
            "listen 127.0.0.3:80 backlog=4096;",
            "listen 127.0.0.3:443 ssl backlog=4096;",
            "ssl_certificate_key /k.pem;",
            "server 127.0.0.4:5080;",
            "proxy_pass http://upstream/origin/;",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn a_proxy_keeps_nothing() {
        let behind = Behind::Cache("127.0.0.4:80".parse().unwrap());
        let text = configuration(&Nginx { listen: "127.0.0.3:80".parse().unwrap(), tls: None, behind });
        assert!(text.contains("proxy_pass http://upstream;") && !text.contains("proxy_cache live"));
    }
}
