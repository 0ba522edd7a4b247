//! WHIP: a publisher's session, and what comes of it (RFC 9725).

use std::sync::Arc;

use ::http::HeaderMap;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::metrics::Kind;
use sluicegate_cluster::ticket::PublishTicket;
use sluicegate_cluster::wire::WireError;
use sluicegate_media::frame::Track;
use sluicegate_rtc::{Delivery, Direction, Event, ReceivedFrame, SessionId, SessionOptions, Wanted, limits};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::http::{self, Refusal};
use super::intake::Intake;
use super::resources::Protocol;
use crate::error::IngestError;
use crate::origin::Origin;
use crate::publish::Publish;

const RECEIVES: SessionOptions =
    SessionOptions { direction: Direction::Receive, delivery: Delivery::Frames, estimate_from_bps: None };

/// A publisher's session as its task has it.
struct Ingest {
    session: SessionId,
    with_sound: bool,
    events: mpsc::Receiver<Event>,
    deleted: CancellationToken,
}

/// `POST /origin/{app}/whip/{stream}`, with the ticket's properties among the headers.
pub(super) async fn create(
    State(origin): State<Arc<Origin>>,
    Path((app, stream)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made = async {
        let key = http::stream_key(&app, &stream)?;
        make(&origin, &key, &headers, &body).await
    };
    http::counted(&origin, Kind::Whip, made.await)
}

async fn make(
    origin: &Arc<Origin>,
    key: &StreamKey,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Refusal> {
    let property = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (ticket, _) = PublishTicket::read(property, &origin.key).map_err(IngestError::from)?;
    let offer = http::offer(headers, body)?;
    let (owner, events) = mpsc::channel(limits::EVENTS);
    // First the offer: one that cannot be answered takes nobody's place.
    let answer = origin.webrtc.mux.accept(offer, RECEIVES, owner).await?;
    let (session, with_sound) = (answer.session, answer.negotiated.audio.is_some());
    let publish = match origin.admit(key, &ticket).await {
        Ok(publish) => publish,
        Err(error) => {
            origin.webrtc.mux.close(session).await;
            return Err(error.into());
        }
    };
    let (kept, deleted, response) = http::created(origin, Protocol::Whip, key, answer);
    let ours = Arc::clone(origin);
    origin.webrtc.tasks.spawn(async move {
        let mut ingest = Ingest { session, with_sound, events, deleted };
        let ended = ours.feed_from(&mut ingest, &publish).await;
        if let Err(error) = &ended {
            tracing::info!(%error, stream = %publish.stream.key, "a publish ended");
        }
        drop(kept);
        ours.webrtc.mux.close(session).await;
        ours.conclude(&publish, &ended).await;
    });
    Ok(response)
}

impl Origin {
    /// Feeds the stream until its publisher ends it (`Ok`), or something breaks.
    async fn feed_from(&self, ingest: &mut Ingest, publish: &Publish) -> Result<(), IngestError> {
        let keyframe_every = self.app(&publish.stream.key.app).ok_or(IngestError::NoApp)?.segment;
        let mut intake = Intake::new(publish.stream.started_at, keyframe_every, ingest.with_sound);
        let mut silent_at = clock::now() + self.limits.webrtc_handshake + self.limits.rtmp_idle;
        loop {
            let event = tokio::select! {
                event = ingest.events.recv() => event,
                () = ingest.deleted.cancelled() => return Ok(()),
                why = publish.interrupted(&self.webrtc.stop) => return Err(why),
                () = tokio::time::sleep_until(silent_at.into()) => return Err(WireError::Silent.into()),
            };
            match event {
                Some(Event::Frame(frame)) => {
                    silent_at = clock::now() + self.limits.rtmp_idle;
                    self.take_frame(ingest.session, publish, &mut intake, &frame)?;
                }
                Some(Event::SenderReport(report)) => intake.report(&report),
                Some(Event::Ended(why)) => return Err(IngestError::Session(why)),
                Some(_) => {}
                None => return Err(IngestError::Session(sluicegate_rtc::Ended::Failed)),
            }
        }
    }

    fn take_frame(
        &self,
        session: SessionId,
        publish: &Publish,
        intake: &mut Intake,
        frame: &ReceivedFrame,
    ) -> Result<(), IngestError> {
        self.received(publish, frame.payload.len());
        for unit in intake.take(frame, clock::unix_ms())? {
            publish.stream.push(unit)?;
        }
        if frame.codec.track() == Track::Video && intake.wants_keyframe(clock::now()) {
            // One that is not taken is asked for again at the next picture.
            self.webrtc.mux.post(session.shard(), Wanted::Keyframe(session));
        }
        Ok(())
    }
}
