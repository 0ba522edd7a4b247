//! Why a publish is refused or ends.

use sluicegate_cluster::ids::BadName;
use sluicegate_cluster::metrics::RtmpEnd;
use sluicegate_cluster::trust::Distrust;
use sluicegate_cluster::wire::WireError;
use sluicegate_media::cmaf::MuxError;
use sluicegate_media::flv::FlvError;
use sluicegate_media::rtmp::RtmpError;
use sluicegate_rtc::Ended;

/// Why a publish is refused or ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IngestError {
    /// Whoever connects is not a node of this cluster.
    #[error("{0}")]
    Distrust(#[from] Distrust),
    /// There is no such application.
    #[error("there is no application of that name")]
    NoApp,
    /// The stream's name is none.
    #[error("{0}")]
    BadName(#[from] BadName),
    /// Another publisher has the stream, and lives.
    #[error("the stream is being published already")]
    InUse,
    /// The origin is full.
    #[error("current system resources not enough")]
    Full,
    /// The media cannot be taken.
    #[error("{0}")]
    Media(#[from] FlvError),
    /// A segment cannot be written.
    #[error("a segment cannot be written: {0}")]
    Mux(#[from] MuxError),
    /// The protocol was broken.
    #[error("{0}")]
    Protocol(#[from] RtmpError),
    /// The connection ended or went silent.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The WebRTC session ended.
    #[error("the session ended: {}", .0.label())]
    Session(Ended),
    /// It did not come to `publish` in time.
    #[error("no publish within the time for it")]
    Slow,
    /// Another publisher took its place.
    #[error("another publisher took this one's place")]
    Replaced,
    /// An operator ended it.
    #[error("this publish was ended by an operator")]
    Ended,
    /// Its balancer moved it to another origin.
    #[error("the stream goes on at another origin")]
    HandedOver,
    /// An operator drains the node: its publisher, which nobody can move for it, is to come again elsewhere.
    #[error("this origin is drained")]
    Drained,
    /// The node stops. A balancer takes the publish elsewhere.
    #[error("this origin is being stopped")]
    Stopping,
}

impl IngestError {
    /// The code of the status that the other side gets; `None` when it is past being told.
    pub(crate) fn status_code(&self) -> Option<&'static str> {
        match self {
            Self::Distrust(_) => Some("NetConnection.Connect.Rejected"),
            Self::NoApp | Self::BadName(_) | Self::InUse | Self::Replaced => {
                Some("NetStream.Publish.BadName")
            }
            Self::Stopping => Some("NetConnection.Connect.AppShutdown"),
            Self::Full | Self::Drained | Self::Media(_) | Self::Mux(_) | Self::Ended => {
                Some("NetStream.Publish.Rejected")
            }
            Self::Protocol(_) | Self::Wire(_) | Self::Session(_) | Self::Slow | Self::HandedOver => None,
        }
    }

    pub(crate) fn end(&self) -> RtmpEnd {
        match self {
            Self::Distrust(_)
            | Self::NoApp
            | Self::BadName(_)
            | Self::InUse
            | Self::Full
            | Self::Drained
            | Self::Media(_)
            | Self::Mux(_) => RtmpEnd::Refused,
            Self::Protocol(_) => RtmpEnd::Protocol,
            Self::Wire(WireError::Silent) | Self::Slow => RtmpEnd::Stalled,
            Self::Wire(_) | Self::Session(_) | Self::Ended => RtmpEnd::Finished,
            Self::Replaced | Self::HandedOver | Self::Stopping => RtmpEnd::Replaced,
        }
    }
}
