//! From a frame that comes in by RTMP to its part on the wire, through balancer, origin and edge, while 50 other
//! streams are published: an encoder of 30 pictures a second, and a viewer who asks for each part before it is made.
//! What is left when the part's own length and an idle request are taken off is what the servers add.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use sluicegate_cluster::clock;
use sluicegate_e2e::film::{Film, Script};
use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::http;
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::rtmp_client::RtmpClient;
use sluicegate_e2e::until::until;

use crate::Run;
use crate::figure::Figure;
use crate::publishers::{KEY, Publishers, publish_to_origin};
use crate::stats::{ms, percentile};

use super::through;

/// The part's length, and what may come on top: the median and the 99th percentile.
const PART_MS: f64 = 200.0;
const P50_OVER_MS: f64 = 10.0;
const P99_OVER_MS: f64 = 50.0;
const PICTURES_A_SEGMENT: usize = 30;
const PICTURES_A_PART: usize = 6;
const PARTS_A_SEGMENT: usize = PICTURES_A_SEGMENT / PICTURES_A_PART;
/// For the stream's first segment.
const ON_AIR: Duration = Duration::from_secs(20);

/// A keyframe each second, and no sound.
const FILM: Script = Script {
    name: "wire",
    picture: "testsrc2=size=640x360:rate=30",
    sound: None,
    seconds: 0.0,
    gop: 30,
    encoders: &["-preset", "ultrafast", "-tune", "zerolatency"],
};

/// When the picture of that number was sent.
type Sent = (usize, Instant);

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let seconds = if how.quick { 12 } else { 45 };
    let film = Film::make(&how.folder, &Script { seconds: seconds as f64, ..FILM })?;
    let others = Arc::new(Film::make(&how.folder, &through::FILM)?);
    let config = NodeConfig::standalone().set("origin", "capacity_mpx = 10000");
    let node = config.set("cluster", &format!("key = {KEY:?}")).start();
    let publish = |stream: &str| publish_to_origin(node.origin_rtmp(), KEY, stream);
    let others = Publishers::start(&others, if how.quick { 10 } else { 50 }, publish)?;
    let (sent, seen) = mpsc::channel();
    let address = node.rtmp();
    let publisher = thread::spawn(move || play(address, &film, &sent));
    let watched = watch(&node.url("/live/streams/wire.m3u8"), &seen, seconds - 5);
    publisher.join().map_err(|_| anyhow!("the publisher broke off"))??;
    let watched = watched?;
    others.stop()?;
    let at = |samples: &[f64], percent| percentile(samples, percent).context("no part was seen");
    let over = |percent| anyhow::Ok(at(&watched.parts_ms, percent)? - at(&watched.idle_ms, percent)?);
    Ok(vec![
        Figure::new("frame_to_part_p50_ms", over(50.0)?).at_most(PART_MS + P50_OVER_MS),
        Figure::new("frame_to_part_p99_ms", over(99.0)?).at_most(PART_MS + P99_OVER_MS),
        Figure::new("frame_to_part_idle_control_p50_ms", at(&watched.idle_ms, 50.0)?),
    ])
}

/// Sends the film, and says when each picture was sent.
fn play(address: SocketAddr, film: &Film, sent: &Sender<Sent>) -> anyhow::Result<()> {
    let taken = RtmpClient::publish(address, "live", "wire");
    let mut client = taken.map_err(|refusal| anyhow!("the publish was refused: {refusal:?}"))?;
    let mut picture = 0;
    film.play(&mut client, |tag| {
        if tag.is_picture() {
            // Nobody may be watching any more.
            let _ = sent.send((picture, clock::now()));
            picture += 1;
        }
    });
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
