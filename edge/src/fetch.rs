//! A fetch from an origin, from the request to the cache: the task behind every fill. It belongs to the
//! node's runtime and to no viewer, so it ends as it would have whoever leaves.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::view::{SharedView, Upstream};
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
    /// The stream it belongs to.
    pub(crate) stream: StreamKey,
    /// What it is.
    pub(crate) sort: Sort,
    /// Where it comes from.
    pub(crate) upstream: Upstream,
    /// How many watch the stream here; told with playlists.
    pub(crate) viewers: Option<u64>,
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
        let limit = match job.sort {
            Sort::Playlist => limits::PLAYLIST_FILL.min(self.fill_time),
            Sort::Media => self.fill_time,
        };
        let mut resumed = false;
        let filled = timeout(limit, self.fill(&job, &writer, &mut resumed)).await;
        let object = filled.unwrap_or(Err(Failure::TimedOut)).and_then(|()| self.object(&job, &writer));
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
                self.cache.refuse(&job.kept_as, job.sort, failure, now);
                writer.abort(failure);
                ended
            }
        };
        self.metrics.filled(ended, now.saturating_duration_since(begun));
        drop(seat);
    }

    async fn fill(&self, job: &Job, writer: &Writer, resumed: &mut bool) -> Result<(), Failure> {
        let asked = clock::now();
        let mut answer = self.upstreams.get(&job.upstream, &job.path, job.viewers).await?;
        let etag = answer.etag.clone();
        let date = reply::http_date(clock::unix_ms());
        let tag = etag.clone().unwrap_or_else(|| reply::name_tag(&job.kept_as));
        let head = Head { etag: tag, date, asked, format: Format::of(&job.path, job.upstream.is_ams) };
        let most = match job.sort {
            Sort::Playlist => limits::PLAYLIST_BYTES,
            Sort::Media => self.object_bytes,
        };
        writer.start(head, Growing::new(answer.length, most)?);
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
        let etag = etag.filter(|_| job.sort == Sort::Media).ok_or(Failure::BrokeOff)?;
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
        let playlist = match job.sort {
            Sort::Media => None,
            Sort::Playlist => {
                let new = Playlist::read(&body).ok_or(Failure::Malformed)?;
                self.check_order(job, &new)?;
                // Made from the body on every edge alike: two origins may tag two playlists the same.
                head.etag = reply::body_tag(&body);
                Some(new)
            }
        };
        Ok(Arc::new(Object { head, body, playlist }))
    }

    /// A playlist never takes the place of a newer one, as long as that one may still be served.
    fn check_order(&self, job: &Job, new: &Playlist) -> Result<(), Failure> {
        let Some(last) = self.cache.get(&job.kept_as) else { return Ok(()) };
        let Some(served) = &last.playlist else { return Ok(()) };
        let expired = policy::standing(served, cache::age(&last, clock::now())) == Standing::Expired;
        if new.is_older_than(served) && !expired { Err(Failure::WentBack) } else { Ok(()) }
    }
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
