//! Streams that are published and watched with tokens.

use std::time::Duration;

use sluicegate_e2e::browser::watch;
use sluicegate_e2e::hls::{MediaPlaylist, variants};
use sluicegate_e2e::http;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::probe::probe;
use sluicegate_e2e::publisher::publish;
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::until::{until, until_true};

use crate::demo::FIRST_SEGMENTS;

const PAGE: Duration = Duration::from_secs(30);
/// A token that was good for a second is none after this: clocks may differ by 5 s.
const EXPIRED: Duration = Duration::from_secs(15);
const KEYS: &str = "token_keys = [{ id = \"new\", key = \"a key for tests only\" }, { id = \"old\", key_env = \"OLD_KEY\" }]";

/// A node whose application wants tokens for both uses. Everything it can log of requests, it logs.
fn guarded() -> NodeConfig {
    NodeConfig::standalone()
        .set("[app]", "name = \"live\"")
        .set("[app]", "publish = \"token\"\nplay = \"token\"")
        .set("[app]", KEYS)
        .variable("OLD_KEY", "another key for tests")
        .variable("SLUICEGATE_LOG", "access,info,pingora_core=info,pingora_proxy=info")
}

fn start() -> NodeProcess {
    guarded().start()
}

#[track_caller]
fn sign(config: &NodeConfig, stream: &str, purpose: &str, ttl: &str) -> String {
    let words = ["token", "sign", "--app", "live", "--stream", stream, "--type", purpose, "--ttl", ttl];
    let signed = config.run(&words);
    assert_eq!(signed.code, Some(0), "{}", signed.stderr);
    signed.stdout.trim().to_owned()
}

#[test]
fn a_stream_is_published_and_watched_with_tokens_and_not_without() {
    let node = start();
    let (publish_token, play_token) =
        (sign(node.config(), "cam1", "publish", "1h"), sign(node.config(), "cam1", "play", "1h"));
    let mut publisher = publish(node.rtmp(), &format!("live/cam1?token={publish_token}"));
    let url = node.url(&format!("/live/streams/cam1.m3u8?token={play_token}"));
    let playlist = until("it plays", FIRST_SEGMENTS, || MediaPlaylist::fetch(&url));
    assert!(publisher.is_running());
    assert_eq!(probe(&url).codecs(), ["aac", "h264"]);
    let adaptive = node.url(&format!("/live/streams/cam1_adaptive.m3u8?token={play_token}"));
    assert_eq!(probe(&adaptive).codecs(), ["aac", "h264"]);
    let listed = variants(&http::get(&adaptive).text());
    assert!(listed[0].1.ends_with(&format!("?token={play_token}")), "{listed:?}");

    // What the playlist lists carries the token on, and is nothing without one.
    let files = [playlist.map.clone().unwrap(), playlist.segments[0].uri.clone()];
    for uri in files.map(|uri| playlist.resolve(&uri)) {
        let answer = http::get(&uri);
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (200, "private, max-age=86400, immutable")
        );
        let bare = uri.split('?').next().unwrap();
        let refused = http::get(bare);
        assert!(refused.status == 401 && refused.is_problem(), "{bare}: {}", refused.text());
        assert_eq!(http::get_as_bearer(bare, &play_token).status, 200);
    }
    let page = watch(&node.url(&format!("/live/play.html?id=cam1&token={play_token}")), "live", PAGE);
    assert_eq!(page["recoveries"], 0, "{page}");

    let log = node.log();
    assert!(log.contains("/live/streams/cam1.m3u8") && log.contains("a publisher was placed"), "{log}");
    for token in [&publish_token, &play_token] {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        assert!(!log.contains(signature) && !log.contains(signed), "a token was logged");
    }
    assert!(!node.metrics().contains(&play_token));
}

#[test]
fn a_publisher_without_a_good_token_is_told_why() {
    let node = start();
    let token = |stream, purpose| sign(node.config(), stream, purpose, "1h");
    let cases = [
        ("cam1".to_owned(), "a token is needed"),
        (format!("cam1?token={}", token("cam1", "play")), "another use"),
        (format!("cam1?token={}", token("cam2", "publish")), "another stream"),
        ("cam1?token=not.a.token".to_owned(), "not valid"),
    ];
    for (stream, why) in &cases {
        let refusal = RtmpClient::publish(node.rtmp(), "live", stream).err().unwrap();
        assert_eq!(refusal.code, "NetStream.Publish.Denied", "{refusal:?}");
        assert!(refusal.description.contains(why) && !refusal.description.contains("eyJ"), "{refusal:?}");
    }
    let mut ffmpeg = publish(node.rtmp(), "live/cam1?token=not.a.token");
    assert!(ffmpeg.ends_within(FIRST_SEGMENTS).contains("the token is not valid"));
    assert_eq!(node.count("sluicegate_tokens_refused_total", &[("use", "publish")]), 5);

    // Where an encoder has no field for it behind the name, it stands behind the application's.
    let app = format!("live?token={}", token("cam1", "publish"));
    RtmpClient::publish(node.rtmp(), &app, "cam1").ok().unwrap().end();
}

#[test]
fn a_viewer_without_a_good_token_is_told_why() {
    let node = start();
    let short = sign(node.config(), "cam1", "play", "1s");
    let at = |token: &str| node.url(&format!("/live/streams/cam1.m3u8?token={token}"));
    let cases = [
        (node.url("/live/streams/cam1.m3u8"), 401, "a token is needed"),
        (at("not.a.token"), 401, "not valid"),
        (at(&sign(node.config(), "cam2", "play", "1h")), 403, "another stream"),
        (at(&sign(node.config(), "cam1", "publish", "1h")), 403, "another use"),
    ];
    for (url, status, why) in cases {
        let refused = http::get(&url);
        assert_eq!(refused.status, status, "{}", refused.text());
        assert!(refused.is_problem() && refused.text().contains(why), "{}", refused.text());
    }
    until_true("a token expires", EXPIRED, || {
        let answer = http::get(&at(&short));
        answer.status == 401 && answer.text().contains("expired")
    });
}

#[test]
fn a_token_is_inspected_and_its_key_replaced() {
    let config = guarded();
    let token = sign(&config, "cam1", "play", "2h");
    let told = config.run(&["token", "inspect", &token]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.stdout.contains("play live/cam1") && told.stdout.contains("key new"), "{}", told.stdout);
    let told = config.run(&["token", "inspect", "--json", &token]);
    let json: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((&json["streamId"], &json["valid"]), (&"cam1".into(), &true.into()), "{json}");
    assert_eq!(config.run(&["token", "inspect", "a.b.c"]).code, Some(1));

    // The key that signed it no longer signs, but is still there; then it is gone.
    let keys = |text: &str| NodeConfig::standalone().set("[app]", "name = \"live\"").set("[app]", text);
    let rotated = keys(
        "token_keys = [{ id = \"next\", key = \"the next key for tests\" }, { id = \"new\", key = \"a key for tests only\" }]",
    );
    assert_eq!(rotated.run(&["token", "inspect", &token]).code, Some(0));
    let over = keys("token_keys = [{ id = \"next\", key = \"the next key for tests\" }]");
    assert_eq!(over.run(&["token", "inspect", &token]).code, Some(1));
    let checked = config.run(&["check"]).stdout;
    assert!(checked.contains("play by token; keys new, old"), "{checked}");
    assert!(!checked.contains("key for tests"), "{checked}");
}
