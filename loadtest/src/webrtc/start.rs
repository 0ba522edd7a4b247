//! From a viewer's offer to the first frame that it can decode. Where pictures are encoded for WebRTC, a keyframe is
//! made when one is asked for; where they are passed through, the publisher's next one has to be waited for.

use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sluicegate_e2e::cluster::Cluster;
use sluicegate_media::frame::Track;
use sluicegate_rtc::{Delivery, Event};

use super::viewers::Viewers;
use super::{Film, pause, whep};
use crate::Run;
use crate::figure::Figure;
use crate::stats::{ms, percentile};

const ENCODED_P95_MS: f64 = 250.0;
const AFTER_KEYFRAME_P95_MS: f64 = 100.0;
/// For a first picture: longer than from one keyframe to the next.
const PICTURE: Duration = Duration::from_secs(10);
/// Between viewers: no divisor of the time between keyframes, and longer than a request for one is held back.
const BETWEEN: Duration = Duration::from_millis(1_370);

pub(super) fn measure(how: &Run) -> anyhow::Result<Vec<Figure>> {
    let viewers = if how.quick { 6 } else { 30 };
    let encoded = Film { kbps: 1_200, keyframe_every_s: 4, b_frames: true };
    let encoded: Vec<f64> = starts(how, encoded, viewers)?.iter().map(Start::whole_ms).collect();
    let passed_through = Film { kbps: 1_200, keyframe_every_s: 2, b_frames: false };
    let passed_through: Vec<f64> =
        starts(how, passed_through, viewers)?.iter().map(Start::after_keyframe_ms).collect();
    let at = |samples: &[f64], percent| percentile(samples, percent).context("nobody came");
    Ok(vec![
        Figure::new("offer_to_picture_encoded_p50_ms", at(&encoded, 50.0)?),
        Figure::new("offer_to_picture_encoded_p95_ms", at(&encoded, 95.0)?).at_most(ENCODED_P95_MS),
        Figure::new("picture_after_keyframe_passed_through_p50_ms", at(&passed_through, 50.0)?),
        Figure::new("picture_after_keyframe_passed_through_p95_ms", at(&passed_through, 95.0)?)
            .at_most(AFTER_KEYFRAME_P95_MS),
    ])
}

/// How a viewer began.
struct Start {
    asked: Instant,
    /// Its first picture came.
    seen: Instant,
    /// The next keyframe came to who watched already.
    keyframe: Instant,
}

impl Start {
    fn whole_ms(&self) -> f64 {
        ms(self.seen.saturating_duration_since(self.asked))
    }

    /// How long after the keyframe that had to be waited for; nothing when it began before that.
    fn after_keyframe_ms(&self) -> f64 {
        ms(self.seen.saturating_duration_since(self.keyframe))
    }
}

/// Viewers come to `film` one after another, each for a while, and one is there all the time.
fn starts(how: &Run, film: Film, viewers: usize) -> anyhow::Result<Vec<Start>> {
    let cluster = Cluster::start(&[1_000]);
    let _publisher = film.publish_to(&how.folder, &cluster)?;
    let place = Viewers::new()?;
    let (_, there) = come(&place, &whep(&cluster))?;
    next(&there)?;
    let mut starts = Vec::with_capacity(viewers);
    for _ in 0..viewers {
        pause(BETWEEN);
        let (asked, keyframes) = come(&place, &whep(&cluster))?;
        let seen = next(&keyframes)?;
        let keyframe = std::iter::from_fn(|| next(&there).ok()).find(|at| *at >= asked);
        starts.push(Start { asked, seen, keyframe: keyframe.context("no keyframe came any more")? });
    }
    Ok(starts)
}

/// A viewer: when it was asked for, and when its keyframes come.
fn come(place: &Viewers, url: &str) -> anyhow::Result<(Instant, Receiver<Instant>)> {
    let (keyframes, came) = mpsc::channel();
    let on = move |event| {
        if let Event::Frame(frame) = event
            && frame.keyframe
            && frame.codec.track() == Track::Video
        {
            // Nobody listens to one that has begun.
            let _ = keyframes.send(frame.received);
        }
    };
    let asked = place.watch(url, &[], Delivery::Frames, on)?;
    Ok((asked, came))
}

fn next(keyframes: &Receiver<Instant>) -> anyhow::Result<Instant> {
    keyframes.recv_timeout(PICTURE).context("no picture came")
}
