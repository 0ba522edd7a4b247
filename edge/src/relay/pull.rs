//! A feed's pull: what keeps its packets coming for as long as somebody watches, from whichever origin has the
//! stream. When that changes, or the connection breaks, the feed is pulled anew; its viewers' connections stay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use sluicegate_cluster::clock;
use sluicegate_cluster::view::{SharedView, Upstream};
use sluicegate_rtc::{Client, Event, ReceivedPacket};

use super::feed::{Feed, Pulling};
use super::keyframe::Keyframes;
use super::keyframe_requests::KeyframeRequests;
use super::media_clock::MediaClock;
use super::metrics::PullBegun;
use super::packet::Packet;
use super::upstream::{Agreed, PullError};
use super::{Relay, fanout::Message};

/// How often a pull looks at whether it is still wanted, and from where.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A feed that nobody watches is pulled for this long, for who comes back.
const IDLE: Duration = Duration::from_secs(5);
/// An origin that sends nothing for this long is asked again.
const SILENT: Duration = Duration::from_secs(3);
/// Between tries at the same origin, the first and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A live stream that no origin sends for this long: its viewers are let go.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Packets that are passed on together at most.
const BATCH: usize = 128;

/// Why an origin is not listened to any longer.
enum Turned {
    /// Nobody watches any more, or there is no stream any more.
    Over,
    /// The stream is to be had elsewhere, or again.
    Again,
}

/// One pull.
pub(crate) struct Pull {
    relay: Arc<Relay>,
    feed: Arc<Feed>,
    /// Since when nobody has watched.
    idle_since: Option<Instant>,
    /// When something came last, or the pull began.
    alive_at: Instant,
}

impl Pull {
    pub(crate) fn new(relay: Arc<Relay>, feed: Arc<Feed>) -> Self {
        Self { relay, feed, idle_since: None, alive_at: clock::now() }
    }

    /// Pulls until nobody watches, or there is nothing to watch.
    pub(crate) async fn run(mut self) {
        self.relay.metrics.pulls.inc();
        let mut retry = RETRY_FIRST;
        while !self.is_over(clock::now()) {
            let Some(upstream) = upstream_of(&self.relay.view, &self.feed) else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            match self.relay.origins.pull(upstream.http, &self.feed.name).await {
                Ok(agreed) => {
                    self.begun(PullBegun::Agreed, Pulling::Agreed);
                    retry = RETRY_FIRST;
                    if let Turned::Over = self.listen(agreed, &upstream).await {
                        break;
                    }
                    // One that agrees and hangs up is not asked again and again without a breath.
                    tokio::time::sleep(RETRY_FIRST).await;
                }
                Err(error) => {
                    tracing::debug!(stream = %self.feed.name.key, node = %upstream.node, %error, "no pull");
                    if self.refused(&error) {
                        break;
                    }
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
        self.relay.forget(&self.feed);
        self.relay.tell_all(|| Message::Over(self.feed.id));
        self.relay.metrics.pulls.dec();
    }

    /// Notes why an origin sends nothing; whether that is final.
    fn refused(&self, error: &PullError) -> bool {
        match error {
            PullError::Absent(_) => self.relay.metrics.pull_begun(PullBegun::Absent),
            PullError::Failed(_) => self.relay.metrics.pull_begun(PullBegun::Failed),
            PullError::Refused(why) => {
                self.begun(PullBegun::Failed, Pulling::Refused(why.clone()));
                return true;
            }
        }
        false
    }

    fn begun(&self, result: PullBegun, pulling: Pulling) {
        self.relay.metrics.pull_begun(result);
        self.feed.pulling.send_replace(pulling);
    }

    /// Passes on what an origin sends.
    async fn listen(&mut self, agreed: Agreed, upstream: &Upstream) -> Turned {
        let Agreed { mut client, negotiated } = agreed;
        let origin = client.handle();
        let mut reader = Reader::new(self.relay.next_source(), negotiated.video.is_none());
        let mut requests = KeyframeRequests::default();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        self.alive_at = clock::now();
        loop {
            tokio::select! {
                event = client.next() => {
                    let now = clock::now();
                    let Some(batch) = reader.read_all(event, &mut client) else { return Turned::Again };
                    if batch.iter().any(|packet| packet.begins_keyframe) {
                        requests.came(now);
                    }
                    if !batch.is_empty() {
                        self.pass_on(batch, now);
                    }
                }
                () = self.feed.keyframe_wanted.notified() => {
                    if self.feed.take_beginners() { requests.need() } else { requests.want(clock::now()) }
                }
                _ = ticks.tick() => {
                    let now = clock::now();
                    if self.is_over(now) {
                        return Turned::Over;
                    }
                    if now.saturating_duration_since(self.alive_at) < SILENT {
                        self.relay.hints.keep(&self.feed.name.key, now);
                    }
                    if self.is_elsewhere(upstream) || now.saturating_duration_since(self.alive_at) >= SILENT {
                        return Turned::Again;
                    }
                }
            }
            if requests.is_due(clock::now()) {
                self.relay.metrics.keyframe_requests.inc();
                origin.request_keyframe();
            }
        }
    }

    fn pass_on(&mut self, batch: Vec<Packet>, now: Instant) {
        self.alive_at = now;
        self.relay.metrics.received(batch.len());
        let packets: Arc<[Packet]> = batch.into();
        self.relay.tell_all(|| Message::Packets(self.feed.id, Arc::clone(&packets)));
    }

    /// Whether the stream has another origin by now, or the same one under another claim.
    fn is_elsewhere(&self, upstream: &Upstream) -> bool {
        upstream_of(&self.relay.view, &self.feed).is_some_and(|now| now != *upstream)
    }

    /// Whether the pull is to end: nobody has watched for a while, or the stream is no more.
    fn is_over(&mut self, now: Instant) -> bool {
        if self.feed.viewers() > 0 {
            self.idle_since = None;
        }
        let idle = now.saturating_duration_since(*self.idle_since.get_or_insert(now));
        let is_idle = idle >= IDLE && self.relay.release(&self.feed);
        let view = self.relay.view.load();
        let is_live = view.stream(&self.feed.name.key).is_some_and(|stream| stream.is_live());
        is_idle || !is_live || now.saturating_duration_since(self.alive_at) >= GIVE_UP
    }
}

fn upstream_of(view: &SharedView, feed: &Feed) -> Option<Upstream> {
    view.load().upstream(&feed.name.key)
}

/// Makes of what comes in one pull what is passed on.
struct Reader {
    source: u64,
    audio_only: bool,
    clock: MediaClock,
    keyframes: Keyframes,
}

impl Reader {
    fn new(source: u64, audio_only: bool) -> Self {
        Self { source, audio_only, clock: MediaClock::default(), keyframes: Keyframes::default() }
    }

    /// Reads an event and those that have come already: a frame's packets go on together, and leave in one
    /// system call. `None`: the session is over.
    fn read_all(&mut self, event: Option<Event>, client: &mut Client) -> Option<Vec<Packet>> {
        let mut packets = Vec::new();
        let mut next = Some(event);
        while let Some(event) = next {
            match event? {
                Event::Packet(packet) => packets.push(self.read(packet)),
                Event::SenderReport(report) => self.clock.report(&report),
                Event::Ended(_) => return None,
                _ => {}
            }
            next = if packets.len() < BATCH { client.next().now_or_never() } else { None };
        }
        Some(packets)
    }

    fn read(&mut self, packet: ReceivedPacket) -> Packet {
        let ReceivedPacket { codec, sequence, timestamp, marker, payload, received } = packet;
        Packet {
            track: codec.track(),
            source: self.source,
            sequence,
            timestamp,
            marker,
            moment: self.clock.moment(codec.track(), timestamp, received),
            begins_keyframe: self.keyframes.begins(codec, timestamp, &payload),
            audio_only: self.audio_only,
            payload,
        }
    }
}
