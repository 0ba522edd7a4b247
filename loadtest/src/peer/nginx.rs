//! nginx as a cache in front of an origin: `proxy_cache` with `proxy_cache_lock`, connections to the origin
//! kept. Its one worker is the process itself (`master_process off`), so that it ends with its handle.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use sluicegate_e2e::process::{Process, command};
use sluicegate_e2e::until::until_true;

/// How long it may take until it accepts connections.
const START: Duration = Duration::from_secs(10);

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
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join("nginx.conf"), configuration(cache))?;
    let mut nginx = command(find().context("nginx is missing: `setup/packages bench` installs it")?);
    nginx.args(["-e", "error.log", "-c", "nginx.conf", "-p"]).arg(folder);
    let process = Process::start("nginx", nginx, folder.join("output.log"));
    until_true("nginx accepts connections", START, || TcpStream::connect(cache.listen).is_ok());
    Ok(process)
}

/// Daemons are where a user's PATH may not look.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(daemons).map(|folder| folder.join("nginx")).find(|file| file.is_file())
}

fn configuration(cache: &CacheOf<'_>) -> String {
    let CacheOf { listen, origin, prefix, header: (name, value) } = cache;
    format!(
        "daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
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
