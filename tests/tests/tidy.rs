//! Rules of the repository that a program can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sluicegate_e2e::metrics::series_names;
use sluicegate_e2e::node::run_sluicegate;
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::until::until_true;

use crate::demo;

/// A Rust file that is longer is two files.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The files below `folder` with one of `extensions`; none that is built or installed.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    const NOT_OURS: [&str; 4] = ["target", "node_modules", "dist", ".git"];
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if !NOT_OURS.iter().any(|n| name == *n) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "nothing in {}", folder.display());
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn rust_files_say_what_they_are_for_and_are_short() {
    for path in files(&root(), &["rs"]) {
        let text = read(&path);
        assert!(text.starts_with("//! "), "{} does not begin with //!", path.display());
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let manifests = files(&root(), &["toml"]).into_iter().filter(|path| path.ends_with("Cargo.toml"));
    let mut crates = 0;
    for path in manifests {
        let manifest: toml::Table = toml::from_str(&read(&path)).unwrap();
        let inherits = manifest.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool);
        assert_eq!(inherits, Some(true), "{}", path.display());
        crates += 1;
    }
    assert!(crates >= 8, "{crates} crates");
}

#[test]
fn the_example_configuration_is_valid_and_names_every_key() {
    let path = root().join("sluicegate.example.toml");
    let finished = run_sluicegate(&["check", "--config", &path.display().to_string()]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let example = keys_of_example(&read(&path));
    let files = fs::read_dir(root().join("cluster/src/config")).unwrap().map(|file| file.unwrap().path());
    let known: BTreeSet<String> = files.flat_map(|file| keys_of_configuration(&read(&file))).collect();
    assert!(known.contains("limits.rtmp_idle_ms") && known.contains("app.name") && known.contains("roles"));
    assert_eq!(example, known, "left: the example; right: cluster/src/config");
}

/// `section.key` of every key in the example, those in comments too.
fn keys_of_example(text: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        let line = line.trim_start_matches(['#', ' ']);
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_matches(['[', ']']));
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_key(key)) {
            keys.insert(format!("{section}{key}"));
        }
    }
    keys
}

/// `section.key` of every field of the structs that the configuration is read into. Those of a struct that
/// is a value in itself (a certificate's two files, a rung) belong to the key that holds it.
fn keys_of_configuration(source: &str) -> BTreeSet<String> {
    let mut section = None;
    let mut keys = BTreeSet::new();
    for line in source.lines() {
        let declared = line.trim_start().trim_start_matches("pub(super) ");
        if let Some(name) = declared.strip_prefix("struct Raw").and_then(|name| name.strip_suffix(" {")) {
            section = match name {
                "" => Some(String::new()),
                "Certificate" | "IceServer" | "RoleRule" | "Rung" | "TokenKey" => None,
                name => Some(format!("{}.", name.to_lowercase())),
            };
        } else if line == "}" {
            section = None;
        } else if let Some((key, kind)) = declared.split_once(": ")
            && let Some(section) = section.as_ref().filter(|_| is_key(key))
            && !(section.is_empty() && kind.contains("Raw"))
        {
            keys.insert(format!("{section}{key}"));
        }
    }
    keys
}

fn is_key(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn dashboards_alerts_and_load_scripts_name_only_metrics_that_are_exported() {
    let node = demo::node();
    let _ = sluicegate_e2e::http::get(&demo::playlist(&node, "demo").resolve("demo_adaptive.m3u8"));
    // Ended connections are counted from the first one on.
    assert!(RtmpClient::publish(node.rtmp(), "nowhere", "x").is_err());
    let ended = || node.count("sluicegate_rtmp_connections_total", &[]) > 0;
    until_true("an ended connection is counted", demo::FIRST_SEGMENTS, ended);
    let mut exported = series_names(&node.metrics());
    // Cards' series are there where cards are; what they are called is there to read.
    exported.extend(metrics_in(&read(&root().join("origin/src/gpus/metrics.rs"))));
    let mut named = 0;
    let grafana = files(&root().join("grafana"), &["json", "yml"]);
    for path in grafana.into_iter().chain(files(&root().join("loadtest"), &["js"])) {
        for metric in metrics_in(&read(&path)) {
            assert!(exported.contains(&metric), "{}: {metric} is not exported", path.display());
            named += 1;
        }
    }
    assert!(named > 10, "{named} metrics are named");
}

/// What looks like a metric of ours.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let starts = text.match_indices("sluicegate_").map(|(at, _)| &text[at..]);
    starts.map(|rest| rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())].to_owned()).collect()
}
