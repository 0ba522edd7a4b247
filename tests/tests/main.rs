//! The end-to-end tests: the built program as separate processes, a MongoDB spoken to for real, ffmpeg
//! publishing, ffprobe and headless Chromium watching. They wait for conditions up to deadlines.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: what does not work fails the test with a message"
)]

/// A stream that is not there, and one that has just come.
mod absent;
/// Documents that cannot be true.
mod absurd;
/// The console and REST from elsewhere.
mod access;
/// An AMS cluster's documents, nodes and tools beside ours.
mod ams;
/// AMS's own origins and edges behind our balancer.
mod ams_nodes;
/// AMS's own SDK in a browser.
mod ams_sdk;
/// Bytes that are no RTMP, or that lie.
mod bad_bytes;
/// Media that lies.
mod bad_media;
/// Names that are none.
mod bad_names;
/// Publishes that are refused, and who may take a stream over.
mod bad_publishes;
/// Messages of AMS's signalling that are none.
mod bad_signalling;
/// Configurations that cannot be started.
mod bad_starts;
/// Streams that begin while the database is away.
mod begun_without;
/// Streams that outlive their origin.
mod both_kinds;
mod carry_over;
/// Machines whose clocks are off.
mod clocks;
/// Balancer, edge and origins as separate processes.
mod cluster;
/// Balancers that die under publishers, and nodes that are started anew.
mod comebacks;
/// What an operator sees.
mod console;
/// Nodes that others take for dead.
mod dead;
/// From ffmpeg to ffprobe and to the browser, in one process.
mod delivery;
/// The node that tests share which only look.
mod demo;
/// Who comes in, and how many.
mod doors;
/// Nodes that an operator takes out of placement.
mod drain;
/// How often an origin is asked.
mod fetches;
/// Graphics cards.
mod gpu;
/// A viewer's connection, from request to request.
mod kept;
/// What is encoded beside the source.
mod ladder;
/// Every way to log in to the database, and what happens when it is the wrong one.
mod logins;
/// Low-latency HLS, as a strict player sees it.
mod low_latency;
/// A database that goes away.
mod outage;
/// More to encode than the machine can.
mod overload;
/// AMS's REST.
mod rest;
/// Certificates and keys that are replaced under a node that runs.
mod rotation;
/// Many publishes at once.
mod srv;
mod storm;
/// Rules of the repository that a program can check.
mod tidy;
/// Streams that are published and watched with tokens.
mod tokens;
/// Published and watched over WebRTC.
mod webrtc;
/// WebRTC at the origin: publishers, and edges that pull.
mod webrtc_origin;
