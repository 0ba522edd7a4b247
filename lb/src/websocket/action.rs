//! What a session wants done, and what it asks.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;
use sluicegate_cluster::config::IceServer;
use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::stream::StreamRecord;

use super::message::Way;

/// What a session asks of the cluster.
pub trait Cluster {
    /// Whether whoever presents `token` may publish or play the stream.
    fn admits(&self, key: &StreamKey, way: Way, token: Option<&str>) -> bool;
    /// A stream's record, while it is live.
    fn live(&self, key: &StreamKey) -> Option<Arc<StreamRecord>>;
    /// Whether a stream is live on a node of AMS's own, and on none of ours.
    fn is_at_ams(&self, key: &StreamKey) -> bool;
    /// Whether a node lets those go whom it serves.
    fn drains(&self, node: &NodeId) -> bool;
    /// Whether this balancer ends in a moment.
    fn is_stopping(&self) -> bool;
    /// Whether this balancer is drained.
    fn is_drained(&self) -> bool;
    /// STUN and TURN servers that clients are told of.
    fn ice_servers(&self) -> &[IceServer];
}

/// Where a stream's session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node that has it.
    pub node: NodeId,
    /// Its id, as any balancer knows it.
    pub id: String,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The client is to be told this.
    Say(Value),
    /// A node is to be asked; [`Session::answered`] takes the answer.
    Ask(Ask),
    /// A node of AMS's is to be connected; [`Session::said`](super::Session::said) takes what it says,
    /// [`Session::lost`](super::Session::lost) its end.
    Open(Line),
    /// It is to be told this, as the client said it.
    Pass(u64, String),
    /// The client is to be told this, as it was said there.
    Relay(String),
    /// It is to be let go.
    HangUp(u64),
    /// The socket is to be closed.
    Close(Closing),
}

/// A connection to a node of AMS's for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which one: never used again.
    pub number: u64,
    /// The stream.
    pub key: StreamKey,
    /// Which way its media flows.
    pub way: Way,
}

/// A question to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whose turn it is: never used again.
    pub turn: u64,
    /// The stream.
    pub key: StreamKey,
    /// Which way its media flows.
    pub way: Way,
    /// What is asked.
    pub question: Question,
}

/// What is asked of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// To make a session: a publisher's, of its offer, or a player's, with an offer of the node's.
    Begin {
        /// What the client presented.
        token: Option<String>,
        /// A publisher's.
        offer: Option<String>,
    },
    /// To take a player's answer.
    Answer(Place, String),
    /// To send the rendition of so many lines.
    Height(Place, u32),
    /// To end the session.
    End(Place),
}

/// A node's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// A session was made; the description is a publisher's answer, or an offer for a player.
    Made(Place, String),
    /// It is done.
    Done,
    /// It is not.
    Refused(StatusCode),
}

/// Why a socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Nothing was heard of the client.
    Silent,
    /// It sent too much.
    Flood,
    /// It was told that it is to connect anew.
    Moved,
}
