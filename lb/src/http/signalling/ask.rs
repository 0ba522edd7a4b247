//! Asking a node: one request of a WebRTC session to its `node.http`, under the cluster's key.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::trust::{self, ClusterKey};

use super::SDP_BYTES_MAX;

/// To connect to a node on the internal network.
const CONNECT: Duration = Duration::from_secs(1);
/// For a node's answer. An origin writes its claim meanwhile.
const ANSWER: Duration = Duration::from_secs(5);
/// Idle connections kept to one node.
const IDLE_CONNECTIONS: usize = 16;

/// What of a client's request a node is told.
const PASSED_ON: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::AUTHORIZATION, header::IF_MATCH, header::USER_AGENT];
/// What of a node's answer a client is told. `Location` is told in other words.
const PASSED_BACK: [HeaderName; 5] =
    [header::CONTENT_TYPE, header::ETAG, header::LINK, header::RETRY_AFTER, header::WWW_AUTHENTICATE];

/// Why a node gave no answer that can be passed on.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// It was not reached, or its answer did not arrive.
    #[error("the node does not answer: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// Its answer is longer than [`SDP_BYTES_MAX`].
    #[error("the node's answer is too long")]
    TooLong,
    /// The cluster's token cannot be made.
    #[error("{0}")]
    Token(#[from] trust::Distrust),
}

/// A request as a node gets it.
pub(super) struct Question {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A node's answer.
pub(super) struct NodeAnswer {
    pub(super) status: StatusCode,
    /// Those of [`PASSED_BACK`].
    pub(super) headers: HeaderMap,
    pub(super) location: Option<String>,
    pub(super) body: Bytes,
}

/// The client of all nodes.
pub(crate) struct NodeClient {
    client: reqwest::Client,
    key: ClusterKey,
    node: NodeId,
}

impl NodeClient {
    /// One that asks in the name of `node`.
    pub(crate) fn new(key: ClusterKey, node: NodeId) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .http1_only()
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, key, node })
    }

    /// Asks the node at `address`.
    pub(super) async fn ask(&self, address: SocketAddr, question: &Question) -> Result<NodeAnswer, AskError> {
        let response = self
            .client
            .request(question.method.clone(), format!("http://{address}{}", question.target))
            .headers(question.headers.clone())
            .header(trust::HEADER, self.key.token(&self.node)?)
            .body(question.body.clone())
            .send()
            .await?;
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|l| l.to_str().ok()).map(ToOwned::to_owned);
        let (status, headers) = (response.status(), only(&PASSED_BACK, response.headers()));
        Ok(NodeAnswer { status, headers, location, body: whole(response).await? })
    }
}

/// What of a client's `headers` a node is told.
pub(super) fn passed_on(headers: &HeaderMap) -> HeaderMap {
    only(&PASSED_ON, headers)
}

fn only(names: &[HeaderName], headers: &HeaderMap) -> HeaderMap {
    let of = |name: &HeaderName| -> Vec<(HeaderName, HeaderValue)> {
        headers.get_all(name).iter().map(|value| (name.clone(), value.clone())).collect()
    };
    names.iter().flat_map(of).collect()
}

async fn whole(mut response: reqwest::Response) -> Result<Bytes, AskError> {
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > SDP_BYTES_MAX {
            return Err(AskError::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}
