//! Names of things: applications, streams, nodes and their incarnations. Each is checked once, where it
//! enters, and is a type of its own from there on.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing was given.
    #[error("the name is empty")]
    Empty,
    /// Longer than [`limits::NAME_BYTES`].
    #[error("the name is longer than {} bytes", limits::NAME_BYTES)]
    TooLong,
    /// A byte outside `[A-Za-z0-9._-]`.
    #[error("a name holds letters, digits, '.', '_' and '-' only")]
    Charset,
    /// `__` separates a stream's name from a file's number (AMS reserves it as well).
    #[error("a stream's name holds no '__'")]
    Reserved,
    /// `.` and `..` mean something else in a path.
    #[error("a name is not '.' or '..'")]
    Dots,
    /// It would be taken for one of the stream's own playlists.
    #[error(
        "a stream's name does not end like a playlist ('_adaptive', '_720p', '_2000kbps', '_720p2000kbps')"
    )]
    PlaylistSuffix,
    /// A stream's key is `app/stream`.
    #[error("a stream is named app/stream")]
    NotAPath,
}

fn check_charset(name: &str) -> Result<(), BadName> {
    if name.is_empty() {
        return Err(BadName::Empty);
    }
    if name.len() > limits::NAME_BYTES {
        return Err(BadName::TooLong);
    }
    if name == "." || name == ".." {
        return Err(BadName::Dots);
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.bytes().all(allowed) { Ok(()) } else { Err(BadName::Charset) }
}

/// Whether `name` ends in `_adaptive`, `_{height}p`, `_{kbps}kbps` or `_{height}p{kbps}kbps`: the names
/// AMS gives the playlists of a stream (`{stream}_adaptive.m3u8`, `{stream}_720p2000kbps.m3u8`).
fn ends_like_a_playlist(name: &str) -> bool {
    let Some((_, tail)) = name.rsplit_once('_') else { return false };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if tail == "adaptive" {
        return true;
    }
    if let Some(rest) = tail.strip_suffix("kbps") {
        return digits(rest) || rest.split_once('p').is_some_and(|(h, k)| digits(h) && digits(k));
    }
    tail.strip_suffix('p').is_some_and(digits)
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(name: &str) -> Result<Self, BadName> {
                $check(name)?;
                Ok(Self(name.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(name: String) -> Result<Self, BadName> {
                name.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// An application, as in AMS: the first part of every public path (`live`).
    AppName,
    check_charset
);
name_type!(
    /// A stream's name within its application (`cam1`).
    StreamName,
    check_stream
);
name_type!(
    /// A process in the cluster, by the id its operator gave it (its host's name unless configured).
    NodeId,
    check_charset
);

fn check_stream(name: &str) -> Result<(), BadName> {
    check_charset(name)?;
    if name.contains("__") {
        return Err(BadName::Reserved);
    }
    if ends_like_a_playlist(name) {
        return Err(BadName::PlaylistSuffix);
    }
    Ok(())
}

/// A stream in the cluster: `app/stream`, the `_id` of its record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamKey {
    /// The application it belongs to.
    pub app: AppName,
    /// Its name there.
    pub stream: StreamName,
}

impl StreamKey {
    /// Both names checked.
    ///
    /// # Errors
    /// [`BadName`] says which rule was broken.
    pub fn new(app: &str, stream: &str) -> Result<Self, BadName> {
        Ok(Self { app: app.parse()?, stream: stream.parse()? })
    }
}

impl FromStr for StreamKey {
    type Err = BadName;

    fn from_str(key: &str) -> Result<Self, BadName> {
        let (app, stream) = key.split_once('/').ok_or(BadName::NotAPath)?;
        Self::new(app, stream)
    }
}

impl TryFrom<String> for StreamKey {
    type Error = BadName;

    fn try_from(key: String) -> Result<Self, BadName> {
        key.parse()
    }
}

impl From<StreamKey> for String {
    fn from(key: StreamKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.stream)
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new one: 128 random bits in hexadecimal.
            #[must_use]
            pub fn random() -> Self {
                Self(format!("{:032x}", rand::random::<u128>()).into())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

random_id!(
    /// One run of a node's process. A node that restarts, or that finds itself marked gone, has a new one.
    Incarnation
);
random_id!(
    /// A publisher's connection, named by the balancer that terminated it. Whoever holds it may move the
    /// stream, so it is a secret of the cluster: never logged, never sent to a publisher.
    PublisherSession
);
random_id!(
    /// Room taken on an origin before a publish reaches it.
    ReservationId
);

/// The number a claim on a stream gets. It only rises, and fences off older owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expect: Option<BadName>) {
        assert_eq!(name.parse::<StreamName>().err(), expect, "{name:?}");
    }

    #[test]
    fn stream_names() {
        check("cam1", None);
        check("a.b-c_d", None);
        check("stage_left", None);
        check("24p", None);
        check("x_p", None);
        check("", Some(BadName::Empty));
        check("..", Some(BadName::Dots));
        check("a b", Some(BadName::Charset));
        check("a/b", Some(BadName::Charset));
        check("ü", Some(BadName::Charset));
        check("a__b", Some(BadName::Reserved));
        check("a_adaptive", Some(BadName::PlaylistSuffix));
        check("a_720p", Some(BadName::PlaylistSuffix));
        check("a_2000kbps", Some(BadName::PlaylistSuffix));
        check("a_720p2000kbps", Some(BadName::PlaylistSuffix));
        check(&"x".repeat(limits::NAME_BYTES + 1), Some(BadName::TooLong));
    }

    #[test]
    fn keys() {
        let key: StreamKey = "live/cam1".parse().unwrap();
        assert_eq!(key.to_string(), "live/cam1");
        assert_eq!("live".parse::<StreamKey>(), Err(BadName::NotAPath));
        assert_eq!("live/a/b".parse::<StreamKey>(), Err(BadName::Charset));
    }
}
