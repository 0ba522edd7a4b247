//! Replays the corpora on stable Rust, and inputs made of them by seeded random changes.
//!
//! `FUZZ_ROUNDS=1000000 cargo test -p sluicegate-fuzz` searches for longer, `FUZZ_SEED=7` elsewhere. An input
//! that a target fails on is shown, and belongs into its corpus once the code is mended.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests: what does not work fails the test")]

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use sluicegate_cluster::testing;
use sluicegate_fuzz::{TARGETS, Target};

/// Changed inputs for each target in the normal tests.
const ROUNDS: u64 = 3_000;
/// No changed input is longer.
const BYTES_MAX: usize = 8 << 10;
/// Numbers at the edges of what fields hold.
const EDGES: [u32; 10] = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0xFF_FFFF, 0x7FFF_FFFF, 0xFFFF_FFFF];

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[track_caller]
fn holds(target: &Target, input: &[u8], what: &str) {
    let ended = std::panic::catch_unwind(|| (target.run)(input));
    let shown = || input.escape_ascii().to_string();
    assert!(ended.is_ok(), "{} fails on {what}: b\"{}\"", target.name, shown());
}

#[test]
fn what_is_in_the_corpora_holds() {
    for target in &TARGETS {
        holds(target, &[], "nothing");
        for (at, input) in corpus(target).iter().enumerate() {
            holds(target, input, &format!("file {at} of its corpus"));
            for end in 0..input.len().min(400) {
                holds(target, &input[..end], &format!("file {at}, cut after {end} bytes"));
            }
        }
    }
}

#[test]
fn the_seeds_get_past_what_refuses_bytes() {
    let seeds = |name: &str| corpus(TARGETS.iter().find(|target| target.name == name).unwrap());
    let all = |name: &str, good: fn(&[u8]) -> bool| {
        let refused = seeds(name).iter().position(|seed| !good(seed));
        assert_eq!(refused, None, "of the corpus of {name}");
    };
    all("aac", |seed| sluicegate_media::aac::parse(seed.to_vec().into()).is_ok());
    all("avc", |seed| sluicegate_media::avc::parse(seed.to_vec().into()).is_ok());
    all("fmp4", |seed| sluicegate_fuzz::fmp4::package(seed) > 2);
    all("webrtc_fragments", |seed| {
        std::str::from_utf8(seed).is_ok_and(|text| sluicegate_rtc::Fragment::parse(text).is_ok())
    });
    all("webrtc_offers", sluicegate_fuzz::webrtc::is_answered);
    all("proxy_headers", |seed| {
        matches!(
            sluicegate_cluster::proxies::beginning(seed),
            sluicegate_cluster::proxies::Beginning::Header { .. }
        )
    });
    all("websocket_sessions", |seed| sluicegate_fuzz::websocket::converse(seed) > 0);
    all("rtmp_sessions", |seed| sluicegate_fuzz::rtmp::converse(seed) > 4);
    all("mongo_documents", |seed| {
        let (node, stream) = (testing::read_node(seed).unwrap(), testing::read_stream(seed).unwrap());
        node.is_ok() || stream.is_ok()
    });
}

#[test]
fn what_is_made_of_the_corpora_by_chance_holds() {
    let (seed, rounds) = (setting("FUZZ_SEED", 1), setting("FUZZ_ROUNDS", ROUNDS));
    for target in &TARGETS {
        let (mut rng, corpus) = (StdRng::seed_from_u64(seed), corpus(target));
        for round in 0..rounds {
            let mut input = corpus.choose(&mut rng).unwrap().clone();
            for _ in 0..rng.random_range(1..6) {
                change(&mut input, &corpus, &mut rng);
            }
            input.truncate(BYTES_MAX);
            holds(target, &input, &format!("round {round} of seed {seed}"));
        }
    }
}

/// One of the changes that parsers fail on.
fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut StdRng) {
    let at = rng.random_range(0..=input.len());
    let some = rng.random_range(0..=(input.len() - at).min(40));
    match rng.random_range(0..8) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..at + some)),
        2 => {
            let again = input[at..at + some].to_vec();
            input.splice(at..at, again);
        }
        3 => {
            let noise: Vec<u8> = (0..some).map(|_| rng.random()).collect();
            input.splice(at..at, noise);
        }
        4 => {
            let other = corpus.choose(rng).unwrap();
            input.truncate(at);
            input.extend_from_slice(&other[rng.random_range(0..=other.len())..]);
        }
        5 => {
            let edge = EDGES.choose(rng).unwrap().to_be_bytes();
            let width = rng.random_range(1..=4).min(input.len() - at);
            input[at..at + width].copy_from_slice(&edge[4 - width..]);
        }
        6 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.random()),
        _ => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
    }
}

#[test]
fn a_target_that_fails_is_told_with_its_input() {
    let target = Target { name: "none", run: |data| assert!(data.len() < 3, "too long") };
    let told = std::panic::catch_unwind(|| holds(&target, &[1, 2, b'c'], "three bytes")).unwrap_err();
    let told = told.downcast_ref::<String>().unwrap();
    assert!(told.contains("three bytes") && told.contains("\\x01\\x02c"), "{told}");
}
