//! The offering side: one session on a UDP socket of its own, which pulls from or publishes to a WHEP or
//! WHIP server. An edge pulls with it; tests and load generators are made of it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::counters::Counters;
use crate::error::{Ended, Refused};
use crate::limits;
use crate::media::{Event, FrameToSend, Negotiated, PacketToSend};
use crate::outbox::Outbox;
use crate::peer::{Peer, SessionOptions, Sink};
use crate::socket::{self, Buffers, Socket};

/// From the offer to media that can flow.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long a session outlives what was last heard.
const SILENCE: Duration = Duration::from_secs(5);

/// A session that was offered, and waits for its answer. Dropping it ends it.
pub struct Client {
    offer: String,
    commands: mpsc::Sender<ClientCommand>,
    events: mpsc::Receiver<Event>,
}

/// What is said to a client's session. Cheap to clone; the session ends with its [`Client`].
#[derive(Clone)]
pub struct ClientHandle(mpsc::Sender<ClientCommand>);

enum ClientCommand {
    Answer(String, oneshot::Sender<Result<Negotiated, Refused>>),
    Frame(FrameToSend),
    Packets(Vec<PacketToSend>),
    Keyframe,
}

impl Client {
    /// Makes a session that will be reached at `local`, and runs it on the caller's runtime.
    ///
    /// # Errors
    /// When there is no socket to be had at that address, or no offer to be made.
    pub fn start(local: IpAddr, options: SessionOptions, clock: fn() -> Instant) -> io::Result<Self> {
        let mut sockets = socket::bind(SocketAddr::new(local, 0), 1)?;
        let bound = sockets.pop().ok_or_else(|| io::Error::other("no socket"))?;
        let address = bound.local_addr()?;
        let socket = Socket::new(bound, Arc::new(Counters::default()))?;
        let (peer, offer) = Peer::offer(options, &[address], clock()).map_err(io::Error::other)?;
        let (commands, received) = mpsc::channel(limits::EVENTS);
        let (sender, events) = mpsc::channel(limits::EVENTS);
        let outbox = Outbox::new(Box::new(socket.clone()));
        let driver = Driver { peer, outbox, socket, clock, opened: clock(), due: clock(), events: sender };
        tokio::spawn(driver.run(received));
        Ok(Self { offer, commands, events })
    }

    /// The offer, to be sent to the server.
    #[must_use]
    pub fn offer(&self) -> &str {
        &self.offer
    }

    /// Takes the server's answer.
    ///
    /// # Errors
    /// [`Refused`] when it cannot be used.
    pub async fn answer(&self, sdp: String) -> Result<Negotiated, Refused> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(ClientCommand::Answer(sdp, answer)).await.map_err(|_| Refused::Stopped)?;
        answered.await.map_err(|_| Refused::Stopped)?
    }

    /// What happens next; `None` once nothing will.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// A way to say something to the session.
    #[must_use]
    pub fn handle(&self) -> ClientHandle {
        ClientHandle(self.commands.clone())
    }
}

impl ClientHandle {
    /// Sends a frame. Whether it was taken: a session that is too slow loses it.
    pub fn send_frame(&self, frame: FrameToSend) -> bool {
        self.0.try_send(ClientCommand::Frame(frame)).is_ok()
    }

    /// Sends packets, those of one frame. Whether they were taken.
    pub fn send_packets(&self, packets: Vec<PacketToSend>) -> bool {
        self.0.try_send(ClientCommand::Packets(packets)).is_ok()
    }

    /// Asks for a keyframe, as often as [`limits::KEYFRAME_REQUEST_EVERY`] allows.
    pub fn request_keyframe(&self) {
        // One that finds no room asks again at the next loss.
        let _ = self.0.try_send(ClientCommand::Keyframe);
    }
}

struct Driver {
    peer: Peer,
    outbox: Outbox,
    socket: Socket,
    clock: fn() -> Instant,
    opened: Instant,
    due: Instant,
    events: mpsc::Sender<Event>,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<ClientCommand>) {
        let mut buffers = Buffers::new();
        while self.peer.ended().is_none() {
            let lapse = self.lapses();
            tokio::select! {
                readable = self.socket.readable() => if readable.is_ok() { self.read(&mut buffers) },
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => self.end(Ended::Closed),
                },
                () = tokio::time::sleep_until(self.due.min(lapse).into()) => {}
            }
            let now = (self.clock)();
            if now >= lapse {
                let why = if self.peer.is_connected() { Ended::Silent } else { Ended::NotConnected };
                self.end(why);
            } else if now >= self.due {
                self.change(Peer::timeout);
            }
            self.outbox.flush();
        }
        self.outbox.flush();
    }

    fn lapses(&self) -> Instant {
        let now = (self.clock)();
        match self.peer.is_connected() {
            true => now + SILENCE.saturating_sub(self.peer.silent_for(now)),
            false => self.opened + HANDSHAKE,
        }
    }

    fn read(&mut self, buffers: &mut Buffers) {
        let socket = self.socket.clone();
        socket.receive(buffers, |source, _, datagram| {
            // A full agent knows by the transaction which answers are its own; the rest has to come from
            // where a check has succeeded.
            if self.peer.accepts(source, datagram, (self.clock)()) {
                self.change(|peer, now, sink| peer.receive(source, datagram, now, sink));
            }
        });
    }

    fn obey(&mut self, command: ClientCommand) {
        match command {
            ClientCommand::Answer(sdp, answer) => {
                let accepted = self.peer.accept_answer(&sdp);
                // Who asked may have gone, and drops the session with that.
                let _ = answer.send(accepted.map(|()| self.peer.negotiated()));
                self.change(Peer::timeout);
            }
            ClientCommand::Frame(frame) => self.change(|peer, now, sink| peer.send_frame(&frame, now, sink)),
            ClientCommand::Packets(packets) => {
                self.change(|peer, now, sink| peer.send_packets(&packets, now, sink));
            }
            ClientCommand::Keyframe => self.change(|peer, now, sink| {
                peer.request_keyframe(now, sink);
                now
            }),
        }
    }

    fn end(&mut self, why: Ended) {
        self.change(|peer, now, sink| {
            peer.end(why, now, sink);
            now
        });
    }

    /// Changes the session. An owner that does not take its events loses the session.
    fn change(&mut self, change: impl FnOnce(&mut Peer, Instant, &mut Sink<'_>) -> Instant) {
        if self.peer.ended().is_some() {
            return;
        }
        let (now, events) = ((self.clock)(), &self.events);
        let mut lost = false;
        let mut tell = |event| lost |= events.try_send(event).is_err();
        self.due = change(&mut self.peer, now, &mut Sink::of_one_address(&mut self.outbox, &mut tell));
        if lost && self.peer.ended().is_none() {
            self.peer.end(Ended::Failed, now, &mut Sink::of_one_address(&mut self.outbox, &mut |_| {}));
        }
    }
}
