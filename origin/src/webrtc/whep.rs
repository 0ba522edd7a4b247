//! WHEP, for edges: one rendition of a stream, in H.264 and Opus, for as long as it is pulled
//! (draft-ietf-wish-whep).

use std::sync::Arc;

use ::http::HeaderMap;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::metrics::Kind;
use sluicegate_cluster::signalling::Protocol;
use sluicegate_media::frame::Unit;
use sluicegate_media::names::Rung;
use sluicegate_rtc::{Delivery, Direction, Event, SessionId, SessionOptions, Wanted, limits};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::http::{self, Refusal};
use super::outgo::Outgo;
use crate::hub::Units;
use crate::live::LiveStream;
use crate::origin::Origin;

/// Units that wait for a session: 2 s of video and audio. One that is further behind goes on at a keyframe.
const UNITS: usize = 256;

const SENDS: SessionOptions =
    SessionOptions { direction: Direction::Send, delivery: Delivery::Frames, estimate_from_bps: None };

/// What an edge asks for.
#[derive(Deserialize)]
pub(super) struct Asked {
    /// The rendition's name, as in playlists; the source when there is none.
    rendition: Option<String>,
}

/// A pull as its task has it.
struct Pull {
    stream: Arc<LiveStream>,
    rung: Rung,
    session: SessionId,
    events: mpsc::Receiver<Event>,
    deleted: CancellationToken,
}

/// `POST /origin/{app}/whep/{stream}?rendition=`.
pub(super) async fn create(
    State(origin): State<Arc<Origin>>,
    Path((app, stream)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made = async {
        let key = http::stream_key(&app, &stream)?;
        make(&origin, &key, &asked, &headers, &body).await
    };
    http::counted(&origin, Kind::Whep, made.await)
}

async fn make(
    origin: &Arc<Origin>,
    key: &StreamKey,
    asked: &Asked,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Refusal> {
    let offer = http::offer(headers, body)?;
    let rung: Rung = match &asked.rendition {
        Some(name) => name.parse().map_err(|_| Refusal::NotFound("no rendition has such a name"))?,
        None => Rung::Source,
    };
    let stream = origin.streams.get(key).filter(|_| origin.streams.has(key)).ok_or(Refusal::NotLive)?;
    if !stream.has_rung(rung) {
        return Err(Refusal::NotFound("this stream has no such rendition"));
    }
    let (owner, events) = mpsc::channel(limits::EVENTS);
    let answer = origin.webrtc.mux.accept(offer, SENDS, owner).await?;
    let session = answer.session;
    let (kept, deleted, response) = http::created(origin, Protocol::Whep, key, answer);
    let ours = Arc::clone(origin);
    origin.webrtc.tasks.spawn(async move {
        ours.send_to(Pull { stream, rung, session, events, deleted }).await;
        drop(kept);
        ours.webrtc.mux.close(session).await;
    });
    Ok(response)
}

impl Origin {
    /// Sends until the session or the stream ends.
    async fn send_to(&self, mut pull: Pull) {
        let mut outgo = Outgo::new(pull.stream.started_at);
        let mut units: Option<Units> = None;
        loop {
            tokio::select! {
                event = pull.events.recv() => match event {
                    // From the group of pictures that runs, so that it can begin at once.
                    Some(Event::Connected) => units = Some(pull.stream.subscribe_webrtc(pull.rung, UNITS)),
                    Some(Event::KeyframeRequested) => pull.stream.request_keyframe(pull.rung),
                    None | Some(Event::Ended(_)) => return,
                    Some(_) => {}
                },
                unit = next(&mut units) => match unit {
                    Some(unit) => self.send_unit(pull.session, &mut outgo, &unit),
                    None => return,
                },
                () = pull.deleted.cancelled() => return,
                () = self.webrtc.stop.cancelled() => return,
            }
        }
    }

    fn send_unit(&self, session: SessionId, outgo: &mut Outgo, unit: &Unit) {
        if let Some(frame) = outgo.take(unit, clock::now(), clock::cluster_ms()) {
            // A shard that is too busy loses it; the edge asks for a keyframe then.
            self.webrtc.mux.post(session.shard(), Wanted::Frame(session, frame));
        }
    }
}

/// The next unit, once there is a subscription.
async fn next(units: &mut Option<Units>) -> Option<Unit> {
    match units {
        Some(units) => units.recv().await,
        None => std::future::pending().await,
    }
}
