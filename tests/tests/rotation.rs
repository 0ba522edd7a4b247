//! Certificates and keys that are replaced under a node that runs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeConfig, NodeProcess, run_sluicegate};
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::tls_client::TlsClient;
use sluicegate_e2e::until::until_true;

/// For changed files to be noticed.
const NOTICED: Duration = Duration::from_secs(15);
const OLD: &str = "the key of last year";
const NEW: &str = "the key of this year";

/// Another development authority, and what it signed for `node`.
fn another_pair(node: &NodeProcess, folder: &Path) {
    let (folder, name) = (folder.display().to_string(), node.ip().to_string());
    let made = run_sluicegate(&["certs", "dev", "--out", &folder, "--name", &name]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
}

/// Puts a file in the place of another, as careful programs do.
fn replace(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    fs::copy(from, &beside).unwrap();
    fs::rename(&beside, to).unwrap();
}

fn https(node: &NodeProcess) -> SocketAddr {
    node.https_url("").trim_start_matches("https://").parse().unwrap()
}

fn is_trusted_by(node: &NodeProcess, authority: &Path) -> bool {
    TlsClient::connect(https(node), authority).is_ok()
}

#[test]
fn certificates_change_under_open_connections_and_bad_ones_do_not() {
    let node = NodeConfig::standalone().with_certificate().start();
    let served: PathBuf = node.authority().parent().unwrap().to_owned();
    let (before, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(served.join(file), before.path().join(file)).unwrap();
    }
    another_pair(&node, other.path());
    let (old_authority, new_authority) = (before.path().join("ca.pem"), other.path().join("ca.pem"));
    let mut kept = TlsClient::connect(https(&node), &old_authority).unwrap();
    assert_eq!(kept.get("/live/play.html").unwrap(), 200);
    let expiry = node.count("sluicegate_certificate_expiry_timestamp_seconds", &[]);
    assert!(expiry > 1_700_000_000, "{expiry}");

    // The certificate alone is half of a pair.
    replace(&other.path().join("cert.pem"), &served.join("cert.pem"));
    until_true("it is told that the pair does not match", NOTICED, || {
        node.count("sluicegate_files_refused", &[("what", "certificates")]) == 1
            && node.log().contains("changed files cannot be used")
    });
    assert!(is_trusted_by(&node, &old_authority), "the old pair stays");
    replace(&other.path().join("key.pem"), &served.join("key.pem"));
    until_true("the new pair is served", NOTICED, || is_trusted_by(&node, &new_authority));
    assert!(!is_trusted_by(&node, &old_authority));
    until_true("nothing is refused any more", NOTICED, || {
        node.count("sluicegate_files_refused", &[("what", "certificates")]) == 0
    });
    assert_eq!(kept.get("/live/play.html").unwrap(), 200, "who was connected stays connected");
}

#[test]
fn token_keys_in_files_are_replaced_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("live.key");
    let write = |lines: &[&str]| {
        let beside = folder.path().join("new.key");
        fs::write(&beside, lines.join("\n")).unwrap();
        replace(&beside, &file);
    };
    write(&[OLD]);
    let node = NodeConfig::standalone()
        .set("[app]", "name = \"live\"")
        .set("[app]", "play = \"token\"\npublish = \"token\"")
        .set("[app]", &format!("token_keys = [{{ id = \"a\", key_file = {file:?} }}]"))
        .start();
    let sign = |purpose| {
        let words = ["token", "sign", "--app", "live", "--stream", "cam1", "--type", purpose];
        let signed = node.config().run(&words);
        assert_eq!(signed.code, Some(0), "{}", signed.stderr);
        signed.stdout.trim().to_owned()
    };
    let publish = |token: &str| RtmpClient::publish(node.rtmp(), "live", &format!("cam1?token={token}"));
    // Nobody publishes the stream: a good token is one that only finds nothing.
    let opens = |token: &str| {
        let answer = http::get(&node.url(&format!("/live/streams/cam1.m3u8?token={token}")));
        assert!([401, 404].contains(&answer.status), "{}", answer.status);
        answer.status == 404
    };
    let (old_play, old_publish) = (sign("play"), sign("publish"));
    assert!(opens(&old_play));
    drop(publish(&old_publish).unwrap());

    write(&[NEW, OLD]);
    let new_play = sign("play");
    until_true("the new key is taken", NOTICED, || opens(&new_play));
    assert!(opens(&old_play), "the old one still is");

    write(&["short"]);
    until_true("a key that is none is refused", NOTICED, || {
        node.count("sluicegate_files_refused", &[("what", "token_keys")]) == 1
    });
    assert!(opens(&new_play) && opens(&old_play));
    write(&[NEW]);
    until_true("the old key is gone", NOTICED, || !opens(&old_play));
    assert!(opens(&new_play));
    assert!(publish(&old_publish).is_err());
    assert!(!node.log().contains(OLD) && !node.log().contains(NEW) && !node.log().contains("short"));
}
