//! nginx as a cache in front of an origin: `proxy_cache` with `proxy_cache_lock`, connections to the origin
//! kept.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use sluicegate_e2e::nginx::{self, TEMPORARY_FILES};
use sluicegate_e2e::process::Process;

/// Where it listens and what it is a cache of.
pub(crate) struct CacheOf<'a> {
    /// Its own address.
    pub(crate) listen: SocketAddr,
    /// The origin.
    pub(crate) origin: SocketAddr,
    /// What comes before a viewer's path at the origin.
    pub(crate) prefix: &'a str,
    /// A header that the origin asks for, and its value.
    pub(crate) header: (&'a str, &'a str),
}

/// Starts one whose configuration, cache and log are in `folder`, which is emptied before. It is killed when
/// the process is dropped.
///
/// # Errors
/// When it is not installed.
///
/// # Panics
/// When it does not accept connections.
pub(crate) fn start(folder: &Path, cache: &CacheOf<'_>) -> anyhow::Result<Process> {
    let started = nginx::start(folder, cache.listen, &configuration(cache));
    started.context("nginx: `setup/packages bench` installs it")
}

fn configuration(cache: &CacheOf<'_>) -> String {
    let CacheOf { listen, origin, prefix, header: (name, value) } = cache;
    format!(
        "http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    {TEMPORARY_FILES}
    proxy_cache_path cache levels=1:2 keys_zone=live:10m max_size=512m inactive=5m use_temp_path=off;
    upstream origin {{
        server {origin};
        keepalive 32;
    }}
    server {{
        listen {listen} backlog=1024;
        location / {{
            proxy_pass http://origin{prefix};
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header {name} \"{value}\";
            proxy_cache live;
            proxy_cache_lock on;
            proxy_cache_valid 200 5m;
        }}
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_both_ends_and_the_header() {
        let cache = CacheOf {
            listen: "127.0.0.3:80".parse().unwrap(),
            origin: "127.0.0.4:5080".parse().unwrap(),
            prefix: "/origin/",
            header: ("x-key", "abc"),
        };
        let text = configuration(&cache);
        for line in [
            "listen 127.0.0.3:80 backlog=1024;",
            "server 127.0.0.4:5080;",
            "proxy_pass http://origin/origin/;",
            "proxy_set_header x-key \"abc\";",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
