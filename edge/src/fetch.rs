//! A fetch from an origin, from the request to the cache: the task behind every fill. It belongs to the
//! node's runtime and to no viewer, so it ends as it would have whoever leaves. A fetch of what is about to come
//! is held by its origin, and outlives that one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::view::{SharedView, Upstream};
use sluicegate_media::reload::Directives;
use tokio::time::{sleep, timeout};

use crate::cache::{self, Cache};
use crate::failure::Failure;
use crate::fill::{Growing, Writer};
use crate::flight::Seat;
use crate::limits;
use crate::metrics::{Filled, Metrics};
use crate::object::{Format, Head, Object};
use crate::playlist::Playlist;
use crate::policy::{self, Sort, Standing};
use crate::reply;
use crate::route::FileRole;
use crate::upstream::{Answer, Upstreams};

/// What fetches need.
pub(crate) struct Fetcher {
    pub(crate) cache: Cache,
    pub(crate) upstreams: Upstreams,
    pub(crate) view: SharedView,
    pub(crate) metrics: Metrics,
    pub(crate) object_bytes: usize,
    pub(crate) fill_time: Duration,
}

/// One fetch.
pub(crate) struct Job {
    /// The object's public path.
    pub(crate) path: Arc<str>,
    /// What it is kept under.
    pub(crate) kept_as: Arc<str>,
    /// What is asked for of a playlist.
    pub(crate) asked: Directives,
    /// The stream it belongs to.
    pub(crate) stream: StreamKey,
    /// What it is to the stream.
    pub(crate) role: FileRole,
    /// Where it comes from.
    pub(crate) upstream: Upstream,
    /// How many watch the stream here; told with playlists.
    pub(crate) viewers: Option<u64>,
}

impl Job {
    /// What the origin is asked for: one address for everybody who asks for the same.
    pub(crate) fn target(&self) -> String {
        with_query(&self.path, &self.asked)
    }

    /// The same without waiting for anything.
    fn target_of_now(&self) -> String {
        with_query(&self.path, &newest(&self.asked))
    }

    fn waits_for_a_playlist(&self) -> bool {
        self.asked.sequence.is_some()
    }
}

/// What is asked for without waiting for it.
pub(crate) fn newest(asked: &Directives) -> Directives {
    Directives { skip: asked.skip, ..Directives::default() }
}

/// `path` with `asked` as its query, always spelt the same.
pub(crate) fn with_query(path: &str, asked: &Directives) -> String {
    let query = asked.query();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// How a body's connection ended.
enum Poured {
    All,
    BrokeOff,
}

impl Fetcher {
    /// Fetches, caches, and lets followers know. `seat` is given back last.
    pub(crate) async fn run(self: Arc<Self>, job: Job, writer: Writer, seat: Seat) {
        let begun = clock::now();
        let (limit, at_limit) = self.limit(&job);
        let mut resumed = false;
        let filled = timeout(limit, self.fetched(&job, &writer, &mut resumed)).await;
        let object = filled.unwrap_or(Err(at_limit)).and_then(|()| self.object(&job, &writer));
        let now = clock::now();
        let ended = match object {
            Ok(object) => {
                self.cache.put(&job.kept_as, Arc::clone(&object));
                writer.complete(object);
                if resumed { Filled::Resumed } else { Filled::Complete }
            }
            Err(failure) => {
                tracing::debug!(path = %job.path, node = %job.upstream.node, kind = failure.kind(), "a fetch failed");
                let ended = how_it_failed(failure, writer.received());
                // That one request waited in vain says nothing of the next.
                if !job.waits_for_a_playlist() {
                    self.cache.refuse(&job.kept_as, job.role.sort(), failure, now);
                }
                writer.abort(failure);
                ended
            }
        };
        self.metrics.filled(ended, now.saturating_duration_since(begun));
        drop(seat);
    }

    /// The longest it may take, and what it failed by if it does.
    fn limit(&self, job: &Job) -> (Duration, Failure) {
        match job.role.sort() {
            Sort::Playlist if job.waits_for_a_playlist() => {
                let last = self.cache.get(&job.path).and_then(|object| object.playlist);
                (policy::hold_for(last.as_ref()), Failure::Paused)
            }
            Sort::Playlist => (limits::PLAYLIST_FILL.min(self.fill_time), Failure::TimedOut),
            Sort::Media => (self.fill_time, Failure::TimedOut),
        }
    }

    async fn fetched(&self, job: &Job, writer: &Writer, resumed: &mut bool) -> Result<(), Failure> {
        match job.role {
            _ if job.waits_for_a_playlist() => self.held(job, writer).await,
            FileRole::Part(_) => tokio::select! {
                filled = self.fill(job, writer, resumed) => filled,
                // What its origin has not made by now, nobody will.
                _ = self.successor(&job.stream, &job.upstream) => Err(Failure::NotFound),
            },
            _ => self.fill(job, writer, resumed).await,
        }
    }

    /// Waits for a playlist that reaches as far as is asked. When another origin has the stream meanwhile, its
    /// playlist is the answer, as soon as it has one: its numbers are beyond all that went before.
    async fn held(&self, job: &Job, writer: &Writer) -> Result<(), Failure> {
        let is_known = self.cache.get(&job.path).is_some();
        let (mut upstream, mut target) = (job.upstream.clone(), job.target());
        loop {
            if let Some(next) = self.newer(&job.stream, &upstream) {
                (upstream, target) = (next, job.target_of_now());
            }
            let answered = tokio::select! {
                answered = self.ask(job, &upstream, &target, writer) => answered,
                _ = self.successor(&job.stream, &upstream) => continue,
            };
            match answered {
                Err(Failure::Unreachable | Failure::BrokeOff) => sleep(limits::HOLD_PAUSE).await,
                Err(Failure::NotFound) if is_known => sleep(limits::HOLD_PAUSE).await,
                answered => return answered,
            }
        }
    }

    async fn ask(&self, job: &Job, origin: &Upstream, target: &str, writer: &Writer) -> Result<(), Failure> {
        let mut answer = self.upstreams.get(origin, target, job.viewers).await?;
        // It was made when it was sent, not when it was asked for.
        let made = clock::now();
        writer.start(head(job, origin, &answer, made), Growing::new(answer.length, limits::PLAYLIST_BYTES)?);
        match pour(&mut answer, writer).await? {
            Poured::All => Ok(()),
            Poured::BrokeOff => Err(Failure::BrokeOff),
        }
    }

    /// Returns once another origin than `before` has the stream.
    async fn successor(&self, stream: &StreamKey, before: &Upstream) {
        while self.newer(stream, before).is_none() {
            sleep(limits::SUCCESSOR_LOOK).await;
        }
    }

    fn newer(&self, stream: &StreamKey, before: &Upstream) -> Option<Upstream> {
        self.view.load().upstream(stream).filter(|now| now.epoch > before.epoch)
    }

    async fn fill(&self, job: &Job, writer: &Writer, resumed: &mut bool) -> Result<(), Failure> {
        let asked = clock::now();
        let mut answer = self.upstreams.get(&job.upstream, &job.target(), job.viewers).await?;
        let etag = answer.etag.clone();
        let most = match job.role.sort() {
            Sort::Playlist => limits::PLAYLIST_BYTES,
            Sort::Media => self.object_bytes,
        };
        writer.start(head(job, &job.upstream, &answer, asked), Growing::new(answer.length, most)?);
        let mut tries = 0;
        while let Poured::BrokeOff = pour(&mut answer, writer).await? {
            answer = self.resume(job, etag.as_ref(), writer.received(), &mut tries).await?;
            *resumed = true;
        }
        Ok(())
    }

    /// The rest of a body that broke off, from the same run of the same origin under the same claim; or
    /// nothing, since pieces of two versions make no file.
    async fn resume(
        &self,
        job: &Job,
        etag: Option<&HeaderValue>,
        from: u64,
        tries: &mut u32,
    ) -> Result<Answer, Failure> {
        let etag = etag.filter(|_| job.role.sort() == Sort::Media).ok_or(Failure::BrokeOff)?;
        while *tries < limits::RESUME_TRIES {
            *tries += 1;
            sleep(limits::RESUME_PAUSE * *tries).await;
            if self.view.load().upstream(&job.stream).as_ref() != Some(&job.upstream) {
                return Err(Failure::BrokeOff);
            }
            match self.upstreams.resume(&job.upstream, &job.path, etag, from).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Unreachable) => {}
                Err(_) => return Err(Failure::BrokeOff),
            }
        }
        Err(Failure::BrokeOff)
    }

    /// The object that the writer has got, if it may be served.
    fn object(&self, job: &Job, writer: &Writer) -> Result<Arc<Object>, Failure> {
        let (mut head, body) = writer.whole()?;
        let playlist = match job.role.sort() {
            Sort::Media => None,
            Sort::Playlist => {
                let new = Playlist::read(&body).ok_or(Failure::Malformed)?;
                if let Some(newer) = self.newer_than(job, &new) {
                    // Whoever waited for a playlist that reaches so far may have one that reaches further.
                    return if job.waits_for_a_playlist() { Ok(newer) } else { Err(Failure::WentBack) };
                }
                // Made from the body on every edge alike: two origins may tag two playlists the same.
                head.etag = reply::body_tag(&body);
                Some(new)
            }
        };
        Ok(Arc::new(Object::new(head, body, playlist)))
    }

    /// The playlist in the cache that `new` may not take the place of: a newer one that may still be served.
    fn newer_than(&self, job: &Job, new: &Playlist) -> Option<Arc<Object>> {
        let last = self.cache.get(&job.kept_as)?;
        let served = last.playlist.as_ref()?;
        let expired = policy::standing(served, cache::age(&last, clock::now())) == Standing::Expired;
        let stays = new.is_older_than(served) && !expired;
        stays.then_some(last)
    }
}

fn head(job: &Job, origin: &Upstream, answer: &Answer, asked: Instant) -> Head {
    let date = reply::http_date(clock::cluster_ms());
    let etag = answer.etag.clone().unwrap_or_else(|| reply::name_tag(&job.kept_as));
    Head { etag, date, asked, format: Format::of(&job.path, origin.is_ams) }
}

async fn pour(answer: &mut Answer, writer: &Writer) -> Result<Poured, Failure> {
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => writer.push(chunk)?,
            Ok(None) if !writer.is_short() => return Ok(Poured::All),
            Ok(None) | Err(_) => return Ok(Poured::BrokeOff),
        }
    }
}

fn how_it_failed(failure: Failure, received: u64) -> Filled {
    match failure {
        Failure::NotFound => Filled::NotFound,
        Failure::BrokeOff => Filled::Broken,
        Failure::TimedOut if received > 0 => Filled::Broken,
        _ => Filled::Error,
    }
}
