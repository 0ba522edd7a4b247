//! What a public path names. Paths are taken as sent: no name that is allowed holds a byte that would need
//! an escape, so every object has exactly one path.

use sluicegate_cluster::config::AppSettings;
use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::metrics::Kind;
use sluicegate_media::names::ams::AmsFileKind;
use sluicegate_media::names::{self, FileName};
use sluicegate_web::Asset;

use crate::policy::Sort;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/{app}/streams/{file}`
    Media(MediaFile),
    /// `/{app}/play.html`, `/{app}/player.html`, `/{app}/publish.html` or `/{app}/assets/{file}`
    Page(Asset),
}

/// A file of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaFile {
    /// The stream.
    pub stream: StreamKey,
    /// What it is.
    pub role: FileRole,
}

/// What a file is to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRole {
    /// A list of renditions.
    Multivariant,
    /// A list of segments.
    MediaPlaylist,
    /// A segment of the claim with this epoch.
    Segment(u64),
    /// A part of a segment of the claim with this epoch.
    Part(u64),
    /// An init segment of the claim with this epoch.
    Init(u64),
    /// A segment or an init segment by AMS's own names.
    Ams(AmsFileKind),
}

impl FileRole {
    /// What it is as far as caching goes.
    #[must_use]
    pub fn sort(self) -> Sort {
        match self {
            Self::Multivariant | Self::MediaPlaylist => Sort::Playlist,
            Self::Segment(_) | Self::Part(_) | Self::Init(_) | Self::Ams(_) => Sort::Media,
        }
    }

    /// What it is counted as.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Multivariant | Self::MediaPlaylist => Kind::Playlist,
            Self::Ams(AmsFileKind::Init) | Self::Init(_) => Kind::Init,
            Self::Segment(_) | Self::Ams(_) => Kind::Segment,
            Self::Part(_) => Kind::Part,
        }
    }
}

/// Why a path names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// Its first part is not an application of this cluster.
    #[error("there is no such application")]
    UnknownApp,
    /// Below an application, but nothing that an edge has.
    #[error("there is no such page or file")]
    UnknownFile,
}

/// Finds out what `path` names among `apps`.
///
/// # Errors
/// [`NoRoute`] says why it names nothing.
pub fn route(path: &str, apps: &[AppSettings]) -> Result<Route, NoRoute> {
    let (app, rest) =
        path.strip_prefix('/').and_then(|path| path.split_once('/')).ok_or(NoRoute::UnknownApp)?;
    if !apps.iter().any(|known| known.name.as_str() == app) {
        return Err(NoRoute::UnknownApp);
    }
    match rest.strip_prefix("streams/") {
        Some(file) => media(app, file).map(Route::Media),
        None => page(rest).map(Route::Page).ok_or(NoRoute::UnknownFile),
    }
}

/// A file of the player page or of the publish page. The names of what they load carry its hash.
fn page(path: &str) -> Option<Asset> {
    sluicegate_web::player(path).or_else(|| sluicegate_web::publish(path))
}

fn media(app: &str, file: &str) -> Result<MediaFile, NoRoute> {
    let Some(name) = names::parse(file) else { return ams_media(app, file) };
    let (stream, role) = match name {
        FileName::Multivariant { stream } => (stream, FileRole::Multivariant),
        FileName::MediaPlaylist { stream, .. } => (stream, FileRole::MediaPlaylist),
        FileName::Segment { stream, epoch, .. } => (stream, FileRole::Segment(epoch)),
        FileName::Part { stream, epoch, .. } => (stream, FileRole::Part(epoch)),
        FileName::Init { stream, epoch, .. } => (stream, FileRole::Init(epoch)),
    };
    let stream = StreamKey::new(app, &stream).map_err(|_| NoRoute::UnknownFile)?;
    Ok(MediaFile { stream, role })
}

fn ams_media(app: &str, file: &str) -> Result<MediaFile, NoRoute> {
    let name = names::ams::parse(file).ok_or(NoRoute::UnknownFile)?;
    let role = match name.kind {
        AmsFileKind::Playlist => FileRole::MediaPlaylist,
        kind => FileRole::Ams(kind),
    };
    let stream = StreamKey::new(app, &name.stream).map_err(|_| NoRoute::UnknownFile)?;
    Ok(MediaFile { stream, role })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apps() -> Vec<AppSettings> {
        sluicegate_cluster::testing::apps("")
    }

    #[track_caller]
    fn check(path: &str, role: Result<FileRole, NoRoute>) {
        let expect = role.map(|role| Route::Media(MediaFile { stream: "live/cam1".parse().unwrap(), role }));
        assert_eq!(route(path, &apps()), expect, "{path}");
    }

    #[test]
    fn files_of_streams() {
        check("/live/streams/cam1.m3u8", Ok(FileRole::MediaPlaylist));
        check("/live/streams/cam1_720p2000kbps.m3u8", Ok(FileRole::MediaPlaylist));
        check("/live/streams/cam1_adaptive.m3u8", Ok(FileRole::Multivariant));
        check("/live/streams/cam1_source__17_4.m4s", Ok(FileRole::Segment(17)));
        check("/live/streams/cam1_source__17_4.0.m4s", Ok(FileRole::Part(17)));
        check("/live/streams/cam1_source__17_init0.mp4", Ok(FileRole::Init(17)));
        check("/live/streams/cam1_480p.m3u8", Ok(FileRole::MediaPlaylist));
        check("/live/streams/cam1000000007.ts", Ok(FileRole::Ams(AmsFileKind::TransportStream)));
    }

    #[test]
    fn what_names_nothing() {
        check("", Err(NoRoute::UnknownApp));
        check("/", Err(NoRoute::UnknownApp));
        check("/live", Err(NoRoute::UnknownApp));
        check("/other/streams/cam1.m3u8", Err(NoRoute::UnknownApp));
        check("//live/streams/cam1.m3u8", Err(NoRoute::UnknownApp));
        check("/live/", Err(NoRoute::UnknownFile));
        check("/live/streams/", Err(NoRoute::UnknownFile));
        check("/live/streams/cam1.ts", Err(NoRoute::UnknownFile));
        check("/live/assets/../../etc/passwd", Err(NoRoute::UnknownFile));
        check("/live/streams/../cam1.m3u8", Err(NoRoute::UnknownFile));
        check("/live/streams/cam%31.m3u8", Err(NoRoute::UnknownFile));
        check("/live/streams/a__b.m3u8", Err(NoRoute::UnknownFile));
    }

    #[test]
    fn the_pages_are_below_every_app() {
        assert!(matches!(route("/live/publish.html", &apps()), Ok(Route::Page(_))));
        assert!(matches!(route("/live/play.html", &apps()), Ok(Route::Page(_))));
        assert!(matches!(route("/live/player.html", &apps()), Ok(Route::Page(_))));
    }

    proptest! {
        #[test]
        fn any_path_is_routed_without_a_panic(path in "/live/streams/[ -~]{0,40}") {
            if let Ok(Route::Media(file)) = route(&path, &apps()) {
                prop_assert!(path.contains(file.stream.stream.as_str()), "{file:?}");
            }
        }
    }
}
