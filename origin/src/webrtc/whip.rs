//! WHIP: a publisher's session, and what comes of it (RFC 9725).

use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderMap;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::metrics::Kind;
use sluicegate_cluster::signalling::Protocol;
use sluicegate_cluster::stream::PublishType;
use sluicegate_cluster::ticket::PublishTicket;
use sluicegate_cluster::wire::WireError;
use sluicegate_media::frame::Track;
use sluicegate_rtc::{Delivery, Direction, Event, ReceivedFrame, SessionId, SessionOptions, Wanted, limits};
use tokio::sync::{SemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::http::{self, Refusal};
use super::intake::Intake;
use crate::error::IngestError;
use crate::origin::Origin;
use crate::publish::Publish;

/// How often a publisher's task looks whether the node is drained, and whether the stream plays elsewhere.
const DRAIN_LOOK: Duration = Duration::from_millis(500);
/// The next publisher is sent away when the last one's stream plays elsewhere, or after this.
const AWAY: Duration = Duration::from_secs(8);

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
    let publish = match origin.admit(key, &ticket, PublishType::WebRtc).await {
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
        let (ended, turn) = tokio::select! {
            ended = ours.feed_from(&mut ingest, &publish) => (ended, None),
            turn = ours.turn_to_leave() => (Err(IngestError::Drained), turn),
        };
        if let Err(error) = &ended {
            tracing::info!(%error, stream = %publish.stream.key, "a publish ended");
        }
        drop(kept);
        ours.webrtc.mux.close(session).await;
        ours.conclude(&publish, &ended).await;
        if turn.is_some() {
            ours.until_it_plays_elsewhere(&publish).await;
        }
    });
    Ok(response)
}

impl Origin {
    /// Resolves when this node is drained and it is the turn of one more publisher to leave. Media flows between
    /// a WebRTC publisher and its origin alone, so nobody else can move it: its session is closed (RTCP BYE, DTLS
    /// close_notify, and 404 at its address), and it comes again through a balancer.
    async fn turn_to_leave(&self) -> Option<SemaphorePermit<'_>> {
        let mut looks = tokio::time::interval(DRAIN_LOOK);
        loop {
            looks.tick().await;
            if !self.is_drained() {
                continue;
            }
            let turn = self.webrtc.leaving.acquire().await.ok();
            // The drain may have been taken back meanwhile.
            if self.is_drained() {
                return turn;
            }
        }
    }

    async fn until_it_plays_elsewhere(&self, publish: &Publish) {
        let seen = async {
            let mut looks = tokio::time::interval(DRAIN_LOOK);
            while !self.is_superseded(&publish.stream) {
                looks.tick().await;
            }
        };
        // Who does not come again keeps nobody waiting.
        let _ = tokio::time::timeout(AWAY, seen).await;
    }

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
        for unit in intake.take(frame, clock::cluster_ms())? {
            publish.stream.push(unit)?;
        }
        if frame.codec.track() == Track::Video && intake.wants_keyframe(clock::now()) {
            // One that is not taken is asked for again at the next picture.
            self.webrtc.mux.post(session.shard(), Wanted::Keyframe(session));
        }
        Ok(())
    }
}
