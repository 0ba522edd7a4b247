//! nginx, as a peer and as a server of plain files. Its one worker is the process itself (`master_process off`), so
//! that it ends with its handle.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{Process, command};
use crate::until::until_true;

/// How long it may take until it accepts connections.
const START: Duration = Duration::from_secs(10);

/// Runs it in `folder`, which is emptied before, with what `configuration` says beside `daemon`, `master_process` and
/// where its files are; returns once it accepts connections at `listen`. It is killed when the process is dropped.
///
/// # Errors
/// When it is not installed (`setup/packages test`), or the folder cannot be written.
///
/// # Panics
/// When it does not accept connections.
#[track_caller]
pub fn start(folder: &Path, listen: SocketAddr, configuration: &str) -> io::Result<Process> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let own = "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\n\
               events { worker_connections 16384; }\n";
    // `load_module` has to come before the events.
    let (modules, rest): (Vec<&str>, Vec<&str>) =
        configuration.lines().partition(|line| line.starts_with("load_module "));
    fs::write(folder.join("nginx.conf"), format!("{}\n{own}{}\n", modules.join("\n"), rest.join("\n")))?;
    let program = find().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "nginx is not installed"))?;
    let mut nginx = command(program);
    nginx.args(["-e", "error.log", "-c", "nginx.conf", "-p"]).arg(folder);
    let process = Process::start("nginx", nginx, folder.join("output.log"));
    until_true("nginx accepts connections", START, || TcpStream::connect(listen).is_ok());
    Ok(process)
}

/// Lines for `http { … }` that keep nginx's temporary files in its folder.
pub const TEMPORARY_FILES: &str = "client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;";

/// Serves the files of `files` at `listen`, as any web server does: it knows nothing of what is in them.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
#[must_use]
pub fn serve_files(folder: &Path, listen: SocketAddr, files: &Path) -> Process {
    let files = files.display();
    let configuration = format!(
        "http {{
    access_log off;
    {TEMPORARY_FILES}
    server {{
        listen {listen};
        root {files};
        expires 1s;
    }}
}}"
    );
    start(folder, listen, &configuration).unwrap_or_else(|error| panic!("nginx: {error}"))
}

/// Daemons are where a user's PATH may not look.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(daemons).map(|folder| folder.join("nginx")).find(|file| file.is_file())
}
