//! Tells origins how many watch their streams by WebRTC: what HLS viewers are counted by travels with what is fetched
//! for them, but a feed is asked for once and then flows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::report::Watched;
use sluicegate_cluster::view::ClusterView;
use tokio_util::sync::CancellationToken;

use super::Relay;
use super::feed::Feed;

/// How often; origins go by what they heard in the last ten seconds.
const EVERY: Duration = Duration::from_secs(3);

/// Tells them until cancelled.
pub(super) async fn tell(relay: Arc<Relay>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let watched = watched(relay.feeds().values().map(AsRef::as_ref));
        for (origin, watched) in by_origin(&relay.view.load(), watched) {
            for part in watched.chunks(Watched::MAX) {
                if let Err(error) = relay.origins.tell(origin, part).await {
                    // It is said again in a moment, to whoever has the stream by then.
                    tracing::debug!(%origin, %error, "an origin was not told of its viewers");
                }
            }
        }
    }
}

/// The viewers of each stream, whichever renditions they have.
fn watched<'a>(feeds: impl Iterator<Item = &'a Feed>) -> HashMap<StreamKey, u64> {
    let mut watched = HashMap::new();
    for feed in feeds {
        *watched.entry(feed.name.key.clone()).or_default() += feed.viewers() as u64;
    }
    watched
}

/// What each origin of ours is to be told.
fn by_origin(view: &ClusterView, watched: HashMap<StreamKey, u64>) -> HashMap<SocketAddr, Vec<Watched>> {
    let mut told: HashMap<SocketAddr, Vec<Watched>> = HashMap::new();
    for (stream, viewers) in watched {
        if let Some(origin) = view.upstream(&stream).filter(|origin| !origin.is_ams) {
            told.entry(origin.http).or_default().push(Watched { stream, viewers });
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock::UnixMs;
    use sluicegate_cluster::testing::{node, stream_held_by};

    use super::super::feed::{FeedId, FeedName};
    use super::*;

    #[test]
    fn each_origin_is_told_of_its_own_streams_only() {
        let now = UnixMs(1_000_000);
        let feed = |n, stream: &str, rendition: Option<&str>| {
            let key = stream.parse().unwrap();
            Feed::new(FeedId(n), FeedName { key, rendition: rendition.map(str::to_owned) })
        };
        let feeds =
            [feed(0, "live/a", None), feed(1, "live/a", Some("360p700kbps")), feed(2, "live/gone", None)];
        let _seats = [feeds[0].seat(), feeds[0].seat(), feeds[1].seat(), feeds[2].seat()];
        let view = ClusterView::default().fold(
            vec![Ok(node("o1", now))],
            vec![stream_held_by("live/a", "o1", "s", now)],
            now,
        );
        let told = by_origin(&view, watched(feeds.iter().map(AsRef::as_ref)));
        let origin = view.nodes.values().next().unwrap().addresses.http;
        let expected = vec![Watched { stream: "live/a".parse().unwrap(), viewers: 3 }];
        assert_eq!(told, HashMap::from([(origin, expected)]));
    }
}
