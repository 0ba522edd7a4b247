//! Builds the player page, the publish page and the console with npm into `OUT_DIR`, and writes `assets.rs`, the tables of what
//! was built that `lib.rs` includes. The source tree gains nothing but `node_modules`.

#![allow(clippy::print_stdout, reason = "cargo listens to a build script's standard output")]

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// What the pages are built from. Cargo looks through folders itself.
const SOURCES: [&str; 9] = [
    "player",
    "publish",
    "console",
    "shared",
    "build.mjs",
    "package.json",
    "package-lock.json",
    ".npmrc",
    "tsconfig.json",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    if let Err(problem) = build() {
        println!("cargo::error={problem}");
    }
}

fn build() -> Result<(), String> {
    let web = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let pages = out.join("pages");
    if !installed(&web) {
        npm(&web, ["ci"])?;
    }
    npm(&web, [OsStr::new("run"), "build".as_ref(), "--".as_ref(), "--out".as_ref(), pages.as_os_str()])?;
    let manifest = read(&pages.join("manifest.tsv"))?;
    let tables = format!(
        "{}{}{}",
        table("PLAYER", "player", &pages, &manifest)?,
        table("PUBLISH", "publish", &pages, &manifest)?,
        table("CONSOLE", "console", &pages, &manifest)?
    );
    fs::write(out.join("assets.rs"), tables).map_err(|e| format!("assets.rs cannot be written: {e}"))
}

/// Whether `node_modules` was installed from the lock file as it is now; npm notes there what it installed.
fn installed(web: &Path) -> bool {
    let changed = |file: &str| -> Option<SystemTime> { fs::metadata(web.join(file)).ok()?.modified().ok() };
    changed("node_modules/.package-lock.json")
        .is_some_and(|noted| changed("package-lock.json").is_none_or(|locked| noted >= locked))
}

fn npm<A: AsRef<OsStr>>(web: &Path, arguments: impl IntoIterator<Item = A>) -> Result<(), String> {
    let mut command = Command::new("npm");
    command.current_dir(web).args(arguments);
    let output = command.output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => "npm is not installed: `make setup` installs it".to_owned(),
        _ => format!("npm cannot be started: {e}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    // A directive to cargo is one line long.
    let said = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).trim().replace('\n', " | "));
    Err(format!("{command:?} failed: {}", said.join(" | ")))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
}

/// The Rust source of a page's table, from the manifest's lines: page, path, content type, entity tag, whether the
/// name carries a hash, and whether it is there compressed as well.
fn table(name: &str, page: &str, pages: &Path, manifest: &str) -> Result<String, String> {
    let mut rows = String::new();
    for line in manifest.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [of, path, content_type, etag, immutable, compressed] = fields[..] else {
            return Err(format!("the manifest has a line of {} fields, not 6", fields.len()));
        };
        if of != page {
            continue;
        }
        let etag = format!("\"{etag}\"");
        let file = pages.join(page).join(path);
        let coded = |name: &str| {
            let file = pages.join("compressed").join(page).join(format!("{path}.{name}"));
            if compressed == "true" { format!("Some(include_bytes!({file:?}))") } else { "None".to_owned() }
        };
        let (gzip, brotli) = (coded("gz"), coded("br"));
        let row = format!(
            "    ({path:?}, Asset {{ content_type: {content_type:?}, body: include_bytes!({file:?}), \
             gzip: {gzip}, brotli: {brotli}, etag: {etag:?}, immutable: {immutable} }}),"
        );
        writeln!(rows, "{row}").map_err(|e| e.to_string())?;
    }
    Ok(format!("static {name}: &[(&str, Asset)] = &[\n{rows}];\n"))
}
