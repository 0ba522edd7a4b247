//! Where a request goes, from its path alone.

use sluicegate_cluster::ids::{AppName, StreamKey};
use sluicegate_cluster::metrics::Kind;
use sluicegate_cluster::signalling::Protocol;
use sluicegate_media::names::ams::AmsFileKind;
use sluicegate_media::names::{self, FileName};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// To an edge: media of a stream. Requests of one stream meet on few edges.
    Media {
        /// The stream.
        key: StreamKey,
        /// What is asked for.
        kind: Kind,
    },
    /// To AMS's signalling of this process.
    WebSocket,
    /// To a node that speaks WebRTC: an origin for publishers, an edge for viewers.
    Signalling(Endpoint),
    /// To any edge: a page and its assets.
    Page(AppName),
    /// To this node's own REST.
    Rest,
    /// To AMS's own nodes, if there are any: what nothing of ours answers below an application.
    Ams(&'static str),
    /// Nowhere.
    NotFound(&'static str),
}

/// Where WebRTC sessions are made, or, with `session`, one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The stream.
    pub(super) key: StreamKey,
    /// Which way its media goes.
    pub(super) protocol: Protocol,
    /// A session's id as the client has it, unchecked.
    pub(super) session: Option<String>,
}

impl Route {
    /// What is asked for, for metrics.
    #[must_use]
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Media { kind, .. } => *kind,
            Self::Signalling(endpoint) => endpoint.protocol.kind(),
            Self::Page(_) => Kind::Page,
            Self::WebSocket | Self::Rest | Self::Ams(_) | Self::NotFound(_) => Kind::Other,
        }
    }
}

/// Reads `path`: `/{app}/streams/{file}`, `/{app}/whip/{stream}`, `/{app}/whep/{stream}`, those two with a
/// session's id behind them, `/{app}/websocket`, `/{app}/play.html`, `/{app}/player.html`, `/{app}/publish.html`,
/// `/{app}/assets/{file}`.
#[must_use]
pub(super) fn route(path: &str, is_app: impl Fn(&AppName) -> bool) -> Route {
    let mut parts = path.trim_start_matches('/').split('/');
    if path.starts_with("/rest/v2/") {
        return Route::Rest;
    }
    let (app, rest) = (parts.next().unwrap_or_default(), (parts.next(), parts.next(), parts.next()));
    if matches!(rest, (Some("rest"), Some("v2"), Some(_))) {
        // An application that is none is told of in AMS's shape.
        return Route::Rest;
    }
    let Some(app) = app.parse::<AppName>().ok().filter(|app| is_app(app)) else {
        return Route::NotFound("there is no such application");
    };
    match rest {
        (Some("streams"), Some(file), None) => media(app, file),
        (Some("whip"), Some(stream), session) if parts.next().is_none() => {
            endpoint(app, stream, Protocol::Whip, session)
        }
        (Some("whep"), Some(stream), session) if parts.next().is_none() => {
            endpoint(app, stream, Protocol::Whep, session)
        }
        (Some("play.html" | "player.html" | "publish.html"), None, None) => Route::Page(app),
        (Some("assets"), Some(_), None) => Route::Page(app),
        (Some("websocket"), None | Some("signaling"), None) => Route::WebSocket,
        _ => Route::Ams("there is nothing at this path"),
    }
}

fn endpoint(app: AppName, stream: &str, protocol: Protocol, session: Option<&str>) -> Route {
    match stream.parse() {
        Ok(stream) => Route::Signalling(Endpoint {
            key: StreamKey { app, stream },
            protocol,
            session: session.map(ToOwned::to_owned),
        }),
        Err(_) => Route::NotFound("no stream has such a name"),
    }
}

fn media(app: AppName, file: &str) -> Route {
    let (kind, stream) = match names::parse(file) {
        Some(name) => (kind_of(&name), name.stream().parse()),
        None => match names::ams::parse(file) {
            Some(name) => (kind_of_ams(name.kind), name.stream.parse()),
            None => return Route::Ams("no file of a stream has such a name"),
        },
    };
    match stream {
        Ok(stream) => Route::Media { key: StreamKey { app, stream }, kind },
        Err(_) => Route::NotFound("no stream has such a name"),
    }
}

fn kind_of_ams(kind: AmsFileKind) -> Kind {
    match kind {
        AmsFileKind::Playlist => Kind::Playlist,
        AmsFileKind::TransportStream | AmsFileKind::FragmentedMp4 => Kind::Segment,
        AmsFileKind::Init => Kind::Init,
    }
}

fn kind_of(name: &FileName) -> Kind {
    match name {
        FileName::MediaPlaylist { .. } | FileName::Multivariant { .. } => Kind::Playlist,
        FileName::Segment { .. } => Kind::Segment,
        FileName::Part { .. } => Kind::Part,
        FileName::Init { .. } => Kind::Init,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expect: &str) {
        let shown = match route(path, |app| app.as_str() == "live") {
            Route::Media { key, kind } => format!("{key} {kind:?}"),
            Route::Signalling(Endpoint { key, protocol, session }) => {
                format!("{} of {key} {}", protocol.as_str(), session.unwrap_or_default())
            }
            Route::Page(app) => format!("page of {app}"),
            Route::Rest => "rest".to_owned(),
            Route::WebSocket => "websocket".to_owned(),
            Route::Ams(_) => "ams".to_owned(),
            Route::NotFound(_) => "nowhere".to_owned(),
        };
        assert_eq!(shown, expect, "{path}");
    }

    #[test]
    fn paths() {
        check("/live/streams/cam.m3u8", "live/cam Playlist");
        check("/live/streams/cam_adaptive.m3u8", "live/cam Playlist");
        check("/live/streams/cam_720p2000kbps.m3u8", "live/cam Playlist");
        check("/live/streams/cam_source__17_3.m4s", "live/cam Segment");
        check("/live/streams/cam_source__17_3.0.m4s", "live/cam Part");
        check("/live/streams/cam_source__17_init0.mp4", "live/cam Init");
        check("/live/whip/cam", "whip of live/cam ");
        check("/live/whep/cam", "whep of live/cam ");
        check("/live/whep/cam/e1~7~mac", "whep of live/cam e1~7~mac");
        check("/live/streams/cam000000012.ts", "live/cam Segment");
        check("/live/streams/cam_480p.m3u8", "live/cam Playlist");
        check("/rest/v2/cluster/node-count", "rest");
        check("/live/rest/v2/broadcasts/cam", "rest");
        check("/live/websocket", "websocket");
        check("/live/websocket/signaling", "websocket");
        check("/live/websocket/other", "ams");
        check("/live/", "ams");
        check("/live/streams/cam.mp4", "ams");
        check("/other/websocket", "nowhere");
        check("/live/whep/cam/e1/7", "ams");
        check("/live/whep", "ams");
        check("/live/whip/a__b", "nowhere");
        check("/live/play.html", "page of live");
        check("/live/publish.html", "page of live");
        check("/live/assets/play-abc.js", "page of live");
        check("/live/streams/..m3u8", "ams");
        check("/live/streams/a%2fb.m3u8", "ams");
        check("/other/streams/cam.m3u8", "nowhere");
        check("/live/streams/cam.m3u8/x", "ams");
        check("/origin/live/streams/cam.m3u8", "nowhere");
        check("/", "nowhere");
    }
}
