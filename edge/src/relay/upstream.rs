//! Asking an origin for a feed: a WHEP offer to its `node.http`, under the cluster's key. Any WHEP server would
//! understand it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use http::{StatusCode, header};
use sluicegate_cluster::clock;
use sluicegate_cluster::ids::NodeId;
use sluicegate_cluster::report::{self, Watched};
use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_rtc::{Client, Delivery, Direction, Negotiated, SessionOptions};

use super::feed::FeedName;
use crate::limits;

/// For an origin's answer.
const ANSWER: Duration = Duration::from_secs(3);

/// Why an origin sends nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    /// It does not have the stream, or not yet.
    #[error("the origin does not have it now ({0})")]
    Absent(StatusCode),
    /// It has the stream, and cannot send it by WebRTC.
    #[error("{0}")]
    Refused(String),
    /// It cannot be reached, or its answer cannot be used.
    #[error("the origin: {0}")]
    Failed(String),
}

/// A feed that an origin has agreed to send.
pub(crate) struct Agreed {
    pub(crate) client: Client,
    pub(crate) negotiated: Negotiated,
}

/// The client of all origins.
pub(crate) struct Origins {
    client: reqwest::Client,
    key: ClusterKey,
    node: NodeId,
}

impl Origins {
    /// One that asks in the name of `node`.
    pub(crate) fn new(key: ClusterKey, node: NodeId) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .http1_only()
            .connect_timeout(limits::CONNECT)
            .timeout(ANSWER)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, key, node })
    }

    /// Asks the origin at `address` for a feed.
    pub(crate) async fn pull(&self, address: SocketAddr, name: &FeedName) -> Result<Agreed, PullError> {
        let failed = |why: &dyn std::fmt::Display| PullError::Failed(why.to_string());
        let options = SessionOptions {
            direction: Direction::Receive,
            delivery: Delivery::Packets,
            estimate_from_bps: None,
        };
        let local = local_address(address).map_err(|e| failed(&e))?;
        let client = Client::start(local, options, clock::now).map_err(|e| failed(&e))?;
        let answer = self.offer(address, name, client.offer()).await?;
        let negotiated = client.answer(answer).await.map_err(|e| failed(&e))?;
        Ok(Agreed { client, negotiated })
    }

    /// Tells the origin at `address` how many watch its streams here.
    pub(crate) async fn tell(&self, address: SocketAddr, watched: &[Watched]) -> Result<(), PullError> {
        let failed = |error: reqwest::Error| PullError::Failed(error.without_url().to_string());
        let token = self.key.token(&self.node).map_err(|e| PullError::Failed(e.to_string()))?;
        let request = self.client.post(format!("http://{address}{}", report::WATCHED_PATH));
        let answer = request.header(trust::HEADER, token).json(watched).send().await.map_err(failed)?;
        answer.error_for_status().map(drop).map_err(failed)
    }

    async fn offer(&self, address: SocketAddr, name: &FeedName, offer: &str) -> Result<String, PullError> {
        let failed = |error: reqwest::Error| PullError::Failed(error.without_url().to_string());
        let token = self.key.token(&self.node).map_err(|e| PullError::Failed(e.to_string()))?;
        let rendition = name.rendition.as_ref().map(|r| format!("?rendition={r}")).unwrap_or_default();
        let url = format!("http://{address}/origin/{}/whep/{}{rendition}", name.key.app, name.key.stream);
        let request = self.client.post(url).header(trust::HEADER, token);
        let request = request.header(header::CONTENT_TYPE, "application/sdp").body(offer.to_owned());
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        if response.content_length().is_some_and(|length| length > sluicegate_rtc::limits::SDP_BYTES as u64) {
            return Err(PullError::Failed("its answer is too long".to_owned()));
        }
        let body = response.text().await.map_err(failed)?;
        match status {
            StatusCode::CREATED => Ok(body),
            StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::GONE => Err(PullError::Absent(status)),
            StatusCode::BAD_REQUEST | StatusCode::NOT_ACCEPTABLE | StatusCode::UNPROCESSABLE_ENTITY => {
                Err(PullError::Refused(title(&body)))
            }
            _ => Err(PullError::Failed(format!("it answered {status}"))),
        }
    }
}

/// What a problem body (RFC 9457) says.
fn title(body: &str) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let title = problem.as_ref().and_then(|problem| problem["title"].as_str());
    title.unwrap_or("the stream cannot be played by WebRTC").to_owned()
}

/// The address that this machine reaches `peer` from, by its routes. Nothing is sent.
fn local_address(peer: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}
