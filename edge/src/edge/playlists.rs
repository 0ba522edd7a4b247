//! Playlists to viewers: the newest one that is fresh, one that reaches as far as is asked, or the last one
//! while the origin gives none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use sluicegate_cluster::clock;
use sluicegate_cluster::coding::{self, Coding};
use sluicegate_cluster::viewer::ViewerResponse;
use sluicegate_media::reload::{Directives, Verdict};
use tokio::time::timeout;

use super::{Ask, Edge, Found, standing};
use crate::failure::Failure;
use crate::metrics::Served;
use crate::object::Object;
use crate::playlist::Playlist;
use crate::policy::{self, Standing};
use crate::reply;
use crate::route::FileRole;

impl Edge {
    /// The answer to a request for a playlist that is not fresh, or does not reach as far as is asked.
    pub(super) async fn playlist(&self, ask: &Ask<'_>) -> Result<ViewerResponse, Failure> {
        let object = self.newest(ask).await?;
        Ok(self.list(ask, &object, clock::now()))
    }

    /// The answer with a playlist, by gzip if that suits. Whoever loads it is counted.
    pub(super) fn list(&self, ask: &Ask<'_>, object: &Object, now: Instant) -> ViewerResponse {
        let Ask { request, file, asked, pass, .. } = ask;
        if let (FileRole::MediaPlaylist, &Method::GET, Some(playlist)) =
            (file.role, &request.method, &object.playlist)
        {
            self.audience().reloaded(&file.stream, interval(playlist, asked), now);
        }
        let coding = match pass.takes_it_as_kept() {
            true => coding::choose(&request.headers, &[Coding::Gzip]),
            false => Coding::Identity,
        };
        reply::playlist(request, asked, object, coding, now)
    }

    async fn newest(&self, ask: &Ask<'_>) -> Result<Arc<Object>, Failure> {
        if ask.asked.sequence.is_some() {
            return self.held(ask).await;
        }
        let last = self.fetcher.cache.get(&self.kept_as(ask));
        let last = last.filter(|object| standing(object, ask.now) != Standing::Expired);
        let (object, served) = match last {
            Some(last) => self.renewed(ask, last).await,
            None => match self.find(ask) {
                Err(failure) => (Err(failure), Served::Refused),
                Ok(Found::Here(object)) => (Ok(object), Served::Hit),
                Ok(Found::Coming(mut fill, served)) => (fill.whole().await, served),
            },
        };
        self.served(served);
        object
    }

    /// A playlist once it reaches as far as is asked.
    async fn held(&self, ask: &Ask<'_>) -> Result<Arc<Object>, Failure> {
        let found = self.wait().and_then(|place| Ok((place, self.find(ask)?)));
        let (_place, found) = found.inspect_err(|_| self.served(Served::Refused))?;
        match found {
            Found::Here(object) => {
                self.served(Served::Hit);
                Ok(object)
            }
            Found::Coming(mut fill, served) => {
                self.served(served);
                fill.whole().await
            }
        }
    }

    /// A playlist from its origin, or the `last` one when that gives none in time.
    async fn renewed(&self, ask: &Ask<'_>, last: Arc<Object>) -> (Result<Arc<Object>, Failure>, Served) {
        let (renewed, served) = match self.find(ask) {
            Err(failure) => (Err(failure), Served::Refused),
            Ok(Found::Here(object)) => (Ok(object), Served::Hit),
            Ok(Found::Coming(mut fill, served)) => {
                let patience = policy::patience(ask.now.saturating_duration_since(fill.begun));
                let whole = timeout(patience, fill.whole()).await;
                (whole.unwrap_or(Err(Failure::TimedOut)), served)
            }
        };
        let stands_in = |failure| last.playlist.is_some_and(|playlist| policy::stands_in(&playlist, failure));
        match renewed {
            Err(failure) if stands_in(failure) => (Ok(last), Served::Stale),
            other => (other, served),
        }
    }
}

/// Whether a playlist reaches as far as is asked. Anything else answers.
pub(super) fn answers(object: &Object, asked: &Directives) -> bool {
    let reach = match object.playlist {
        Some(Playlist::Media(media)) => media.reach,
        _ => None,
    };
    asked.sequence.is_none() || reach.is_some_and(|reach| reach.verdict(asked) == Verdict::Now)
}

/// When a player that asked so will ask again.
fn interval(playlist: &Playlist, asked: &Directives) -> Duration {
    let part = match playlist {
        Playlist::Media(media) => media.reach.map(|reach| Duration::from_millis(reach.part_target_ms)),
        Playlist::Multivariant => None,
    };
    part.filter(|_| asked.part.is_some()).unwrap_or_else(|| playlist.target())
}
