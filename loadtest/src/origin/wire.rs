//! From a frame that comes in by RTMP to its part on the wire, through balancer, origin and edge: an encoder of
//! 30 pictures a second, and a viewer who asks for each part before it is made. What is left when the part's own
//! length and an idle request are taken off is what the servers add.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use sluicegate_cluster::clock;
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::http;
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::process::{command, run};
use sluicegate_e2e::rtmp_client::{MediaKind, RtmpClient};
use sluicegate_e2e::until::until;

use crate::Run;
use crate::figure::Figure;
use crate::stats::{ms, percentile};

/// The part's length, and what may come on top: the median and the 99th percentile.
const PART_MS: f64 = 200.0;
const P50_OVER_MS: f64 = 10.0;
const P99_OVER_MS: f64 = 50.0;
const PICTURES_A_SEGMENT: usize = 30;
const PICTURES_A_PART: usize = 6;
const PARTS_A_SEGMENT: usize = PICTURES_A_SEGMENT / PICTURES_A_PART;
/// For ffmpeg to encode the film.
const ENCODING: Duration = Duration::from_secs(60);
/// For the stream's first segment.
const ON_AIR: Duration = Duration::from_secs(20);

/// A message of the film: the body of an FLV tag.
struct Tag {
    kind: MediaKind,
    timestamp_ms: u32,
    body: Bytes,
}

/// When the picture of that number was sent.
type Sent = (usize, Instant);

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let seconds = if how.quick { 12 } else { 45 };
    let film = film(&how.folder, seconds)?;
    let node = NodeConfig::standalone().start();
    let (sent, seen) = mpsc::channel();
    let address = node.rtmp();
    let publisher = thread::spawn(move || play(address, &film, &sent));
    let watched = watch(&node.url("/live/streams/wire.m3u8"), &seen, seconds - 5);
    publisher.join().map_err(|_| anyhow!("the publisher broke off"))??;
    let watched = watched?;
    let at = |samples: &[f64], percent| percentile(samples, percent).context("no part was seen");
    let over = |percent| anyhow::Ok(at(&watched.parts_ms, percent)? - at(&watched.idle_ms, percent)?);
    Ok(vec![
        Figure::new("frame_to_part_p50_ms", over(50.0)?).at_most(PART_MS + P50_OVER_MS),
        Figure::new("frame_to_part_p99_ms", over(99.0)?).at_most(PART_MS + P99_OVER_MS),
        Figure::new("frame_to_part_idle_control_p50_ms", at(&watched.idle_ms, 50.0)?),
    ])
}

/// A film of so many seconds, with a keyframe each, and no sound.
fn film(folder: &Path, seconds: usize) -> anyhow::Result<Vec<Tag>> {
    let file = folder.join("wire.flv");
    let mut ffmpeg = command("ffmpeg");
    ffmpeg.args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"]);
    ffmpeg.args([
        "-t",
        &seconds.to_string(),
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
    ]);
    ffmpeg.args(["-g", "30", "-keyint_min", "30", "-sc_threshold", "0", "-pix_fmt", "yuv420p", "-f", "flv"]);
    ffmpeg.arg(&file);
    let finished = run("ffmpeg", ffmpeg, ENCODING);
    ensure!(finished.code == Some(0), "ffmpeg says {}", finished.stderr);
    Ok(tags(&Bytes::from(fs::read(&file)?)))
}

/// The audio and video tags of an FLV file.
fn tags(file: &Bytes) -> Vec<Tag> {
    const FILE_HEADER: usize = 9 + 4;
    const TAG_HEADER: usize = 11;
    let mut tags = Vec::new();
    let mut at = FILE_HEADER;
    while let Some(header) = file.get(at..at + TAG_HEADER) {
        let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        let timestamp_ms = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
        let body = at + TAG_HEADER..at + TAG_HEADER + length;
        at = body.end + 4;
        let kind = match header[0] {
            8 => MediaKind::Audio,
            9 => MediaKind::Video,
            _ => continue,
        };
        if body.end <= file.len() {
            tags.push(Tag { kind, timestamp_ms, body: file.slice(body) });
        }
    }
    tags
}

/// Sends the film as an encoder would, and says when each picture was sent.
fn play(address: SocketAddr, film: &[Tag], sent: &Sender<Sent>) -> anyhow::Result<()> {
    /// Of a video tag's body: the second byte of a picture is 1 (AVC NALU).
    const PICTURE: u8 = 1;
    let taken = RtmpClient::publish(address, "live", "wire");
    let mut client = taken.map_err(|refusal| anyhow!("the publish was refused: {refusal:?}"))?;
    let (began, mut picture) = (clock::now(), 0);
    for tag in film {
        let due = began + Duration::from_millis(tag.timestamp_ms.into());
        thread::park_timeout(due.saturating_duration_since(clock::now()));
        client.send_bytes(tag.kind, tag.timestamp_ms, tag.body.clone());
        if tag.kind == MediaKind::Video && tag.body.get(1) == Some(&PICTURE) {
            // Nobody may be watching any more.
            let _ = sent.send((picture, clock::now()));
            picture += 1;
        }
    }
    client.end();
    Ok(())
}

/// What a viewer saw.
struct Watched {
    /// From a part's first picture, sent, to the part, received.
    parts_ms: Vec<f64>,
    /// A request for something that is there.
    idle_ms: Vec<f64>,
}

fn watch(url: &str, seen: &Receiver<Sent>, seconds: usize) -> anyhow::Result<Watched> {
    let playlist = until("the first segment", ON_AIR, || MediaPlaylist::fetch(url));
    let (folder, _) = url.rsplit_once('/').context("an address with a folder")?;
    let oldest = &playlist.segments.first().context("a segment")?.uri;
    let (stem, number) = oldest.rsplit_once('_').context("a numbered segment")?;
    let first: usize = number.trim_end_matches(".m4s").parse()?;
    let coming = usize::try_from(playlist.last_sequence())? + 1;
    // Only what comes next is waited for.
    let begun = http::get(&format!("{url}?_HLS_msn={coming}"));
    ensure!(begun.status == 200, "segment {coming}: {}", begun.text());
    let next = coming + 1;
    let mut arrived = HashMap::new();
    let mut idle_ms = Vec::new();
    let there = format!("{folder}/{oldest}");
    for part in (next..next + seconds.saturating_sub(next - first)).flat_map(parts_of) {
        let answer = http::get(&format!("{folder}/{stem}_{}.{}.m4s", part.0, part.1));
        ensure!(answer.status == 200, "part {part:?}: {}", answer.text());
        arrived.insert((part.0 - first) * PICTURES_A_SEGMENT + part.1 * PICTURES_A_PART, clock::now());
        let asked = clock::now();
        if http::get(&there).status == 200 {
            idle_ms.push(ms(asked.elapsed()));
        }
    }
    let sent: HashMap<usize, Instant> = seen.try_iter().collect();
    let took =
        |(picture, at): (&usize, &Instant)| Some(ms(at.saturating_duration_since(*sent.get(picture)?)));
    Ok(Watched { parts_ms: arrived.iter().filter_map(took).collect(), idle_ms })
}

fn parts_of(segment: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..PARTS_A_SEGMENT).map(move |part| (segment, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_an_flv_file() {
        let tag = |kind: u8, body: &[u8]| {
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            [&[kind, length[1], length[2], length[3], 0, 1, 2, 9, 0, 0, 0][..], body, &[0, 0, 0, 0][..]]
                .concat()
        };
        let file = [&[0; 13][..], &tag(18, b"meta"), &tag(9, b"xyz"), &tag(8, b"cut off")[..13]].concat();
        let tags = tags(&Bytes::from(file));
        assert_eq!(tags.len(), 1);
        assert_eq!((tags[0].timestamp_ms, &tags[0].body[..]), (0x0900_0102, &b"xyz"[..]));
    }
}
