//! Configurations that cannot be started: one line that names what is wrong, exit code 2, nothing half started.

use std::fs;
use std::net::TcpListener;

use sluicegate_e2e::node::{NodeConfig, run_sluicegate};
use sluicegate_e2e::process::Finished;

#[track_caller]
fn is_one_line_with(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    for word in words {
        assert!(finished.stderr.contains(word), "{word} is not in: {}", finished.stderr);
    }
}

#[test]
fn a_port_in_use_is_named() {
    for (key, port) in [
        ("lb.http", 5080),
        ("lb.rtmp", 1935),
        ("node.http", 5081),
        ("node.admin", 9180),
        ("origin.rtmp", 19350),
    ] {
        let config = NodeConfig::standalone();
        let address = config.host().port(port);
        let _held = TcpListener::bind(address).unwrap();
        is_one_line_with(&config.start_in_vain(), &[key, &address.to_string(), "in use"]);
    }
}

#[test]
fn a_certificate_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("bad.pem"), "not a certificate").unwrap();
    for (cert, why) in [("absent.pem", "No such file"), ("bad.pem", "certificate")] {
        let config = NodeConfig::standalone();
        let https = format!("https = [\"{}\"]", config.host().port(5443));
        let pair = format!("certificates = [{{ cert = {:?}, key = {:?} }}]", path(cert), path("key.pem"));
        let finished = config.set("lb", &https).set("lb", &pair).start_in_vain();
        is_one_line_with(&finished, &["lb.certificates", &path(cert), why]);
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sluicegate.toml").display().to_string();
    fs::write(&file, "[lb]\nhttp = [\"127.0.0.1:5080\"]\nhttpz = []\n").unwrap();
    for command in ["check", "standalone", "run"] {
        is_one_line_with(&run_sluicegate(&[command, "--config", &file]), &[&format!("{file}:3"), "httpz"]);
    }
}

#[test]
fn a_value_of_the_wrong_type_and_a_file_that_is_not_there_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sluicegate.toml").display().to_string();
    is_one_line_with(&run_sluicegate(&["check", "--config", &file]), &[&file, "No such file"]);
    fs::write(&file, "\n[limits]\nrtmp_idle_ms = \"long\"\n").unwrap();
    is_one_line_with(&run_sluicegate(&["check", "--config", &file]), &[&format!("{file}:3")]);
}
