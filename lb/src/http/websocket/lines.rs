//! Lines to AMS's own nodes, one for each stream that a client publishes or plays there: sockets as the tunnel opens
//! them for a whole client (`?target=origin|edge`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use sluicegate_cluster::access::FORWARDED_FOR;
use sluicegate_cluster::node::Role;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{BUFFER_BYTES, FRAME_BYTES_MAX, WRITE, WRITE_BYTES_MAX};
use crate::http::EDGE_TRIES;
use crate::placement::ams;
use crate::state::Balancer;
use crate::websocket::{Line, Way};

/// For a node to be reached and to take the upgrade. SDKs begin anew after 3 s.
const CONNECT: Duration = Duration::from_secs(2);
/// Messages that wait for a node, or for the client. A node that lets more wait is given up.
const QUEUE: usize = 64;
/// A node that says nothing for this long is gone: pings are passed on to it, every 3 s.
const SILENCE: Duration = Duration::from_secs(60);

/// The lines of one client.
pub(super) struct Lines {
    open: HashMap<u64, Sender<String>>,
    told: Sender<News>,
    news: Receiver<News>,
}

/// What happened on a line.
pub(super) struct News {
    pub(super) line: Line,
    /// What the node said; `None`: it is lost.
    pub(super) said: Option<String>,
}

impl Lines {
    pub(super) fn new() -> Self {
        let (told, news) = mpsc::channel(QUEUE);
        Self { open: HashMap::new(), told, news }
    }

    /// Opens one. It is let go of when this is dropped.
    pub(super) fn open(&mut self, balancer: &Arc<Balancer>, client: Option<IpAddr>, line: Line) {
        let (texts, waiting) = mpsc::channel(QUEUE);
        self.open.insert(line.number, texts);
        tokio::spawn(carry(Arc::clone(balancer), client, line, waiting, self.told.clone()));
    }

    /// Sends a text. A node that takes none any more is given up.
    pub(super) fn pass(&mut self, line: u64, text: String) {
        if self.open.get(&line).is_some_and(|texts| texts.try_send(text).is_err()) {
            self.hang_up(line);
        }
    }

    /// Ends one: its task closes the socket when it finds no sender any more.
    pub(super) fn hang_up(&mut self, line: u64) {
        self.open.remove(&line);
    }

    /// What happens next; never an end of it.
    pub(super) async fn next(&mut self) -> Option<News> {
        let news = self.news.recv().await?;
        if news.said.is_none() {
            self.open.remove(&news.line.number);
        }
        Some(news)
    }
}

async fn carry(
    balancer: Arc<Balancer>,
    client: Option<IpAddr>,
    line: Line,
    texts: Receiver<String>,
    told: Sender<News>,
) {
    if let Some(socket) = connect(&balancer, client, &line).await {
        converse(socket, &line, texts, &told).await;
    } else {
        tracing::warn!(stream = %line.key, "none of AMS's nodes takes a client's socket");
    }
    // The client may have gone.
    let _ = told.send(News { line, said: None }).await;
}

/// Passes texts both ways until either side ends.
async fn converse(
    mut socket: WebSocketStream<TcpStream>,
    line: &Line,
    mut texts: Receiver<String>,
    told: &Sender<News>,
) {
    let mut silence = Box::pin(tokio::time::sleep(SILENCE));
    loop {
        let said = tokio::select! {
            text = texts.recv() => {
                let Some(text) = text else { break };
                match tokio::time::timeout(WRITE, socket.send(Message::text(text))).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            said = socket.next() => said,
            () = &mut silence => break,
        };
        silence.set(tokio::time::sleep(SILENCE));
        match said {
            Some(Ok(Message::Text(text))) => {
                let news = News { line: line.clone(), said: Some(text.to_string()) };
                if told.send(news).await.is_err() {
                    break;
                }
            }
            // Pings are answered by the library.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_)) | Err(_)) | None => return,
        }
    }
    let _ = tokio::time::timeout(WRITE, socket.close(None)).await;
}

async fn connect(
    balancer: &Balancer,
    client: Option<IpAddr>,
    line: &Line,
) -> Option<WebSocketStream<TcpStream>> {
    for node in nodes(balancer, client, line) {
        match tokio::time::timeout(CONNECT, dial(node, client, line)).await {
            Ok(Ok(socket)) => return Some(socket),
            Ok(Err(why)) => tracing::debug!(%node, %why, "AMS's node takes no socket"),
            Err(_) => tracing::debug!(%node, "AMS's node does not answer"),
        }
    }
    None
}

/// Who publishes a stream that is live goes to the node that has it, and is told so there; who plays it goes to an
/// edge of theirs.
fn nodes(balancer: &Balancer, client: Option<IpAddr>, line: &Line) -> Vec<SocketAddr> {
    let (view, health) = (balancer.view.load(), balancer.health());
    let of = |role| ams::nodes_of(&view, &health, &balancer.ams_roles, role);
    let nodes = match line.way {
        Way::Publish => {
            let owner = view.ams.streams.get(&line.key).map(|stream| &stream.node);
            of(Role::Origin).into_iter().filter(|node| Some(&node.id) == owner).collect()
        }
        Way::Play => {
            let viewer = client.map(|ip| ip.to_string()).unwrap_or_default();
            ams::by_viewer(of(Role::Edge), &viewer)
        }
    };
    nodes.into_iter().take(EDGE_TRIES).map(|node| node.http()).collect()
}

async fn dial(
    node: SocketAddr,
    client: Option<IpAddr>,
    line: &Line,
) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
    let target = match line.way {
        Way::Publish => "origin",
        Way::Play => "edge",
    };
    let uri = format!("ws://{node}/{}/websocket?target={target}", line.key.app).parse()?;
    let mut request = ClientRequestBuilder::new(uri);
    if let Some(client) = client {
        request = request.with_header(FORWARDED_FOR, client.to_string());
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BYTES_MAX);
    let stream = TcpStream::connect(node).await?;
    stream.set_nodelay(true)?;
    Ok(client_async_with_config(request, stream, Some(config)).await?.0)
}
