//! All WebRTC of a role behind one UDP port: a thread for each shard, which owns its socket and its
//! sessions, and hands what is not for it to the others.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::counters::Counters;
use crate::error::Refused;
use crate::fragment::{Fragment, IceChange};
use crate::limits::{self, Limits};
use crate::media::Negotiated;
use crate::peer::{Certificate, SessionOptions};
use crate::sessions::{Answer, Common, Note, Offer, SessionId};
use crate::shard::{App, Shard};
use crate::socket::{self, Buffers, Socket};

/// Commands taken between two looks at the socket.
const COMMANDS_AT_ONCE: usize = 64;
/// Batches read between two looks at the commands.
const BATCHES_AT_ONCE: usize = 8;

/// What a mux is made of.
pub struct MuxConfig {
    /// For its threads' names: the role.
    pub name: &'static str,
    /// The UDP address it listens on.
    pub listen: SocketAddr,
    /// Where its sessions are told that they reach it, best first: the public address behind NAT, else this
    /// machine's own.
    pub candidates: Vec<SocketAddr>,
    /// Threads, at most [`limits::SHARDS`].
    pub shards: usize,
    /// What it bounds.
    pub limits: Limits,
    /// The monotonic clock.
    pub clock: fn() -> Instant,
}

/// UDP sockets that are bound, so that a port in use is known before anything starts.
pub struct Bound {
    sockets: Vec<std::net::UdpSocket>,
    config: MuxConfig,
}

impl Bound {
    /// Binds the sockets.
    ///
    /// # Errors
    /// When the port is taken, or the address is not this machine's.
    pub fn bind(config: MuxConfig) -> io::Result<Self> {
        let shards = config.shards.clamp(1, limits::SHARDS);
        Ok(Self { sockets: socket::bind(config.listen, shards)?, config })
    }
}

/// A handle of all its sessions. Cheap to clone.
pub struct Mux<A: App> {
    shards: Arc<[mpsc::Sender<Command<A>>]>,
    next: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

impl<A: App> Clone for Mux<A> {
    fn clone(&self) -> Self {
        Self {
            shards: Arc::clone(&self.shards),
            next: Arc::clone(&self.next),
            counters: Arc::clone(&self.counters),
        }
    }
}

enum Command<A: App> {
    Accept(Box<Accept<A>>),
    Offer(Box<Offering<A>>),
    Answer(SessionId, String, oneshot::Sender<Result<Negotiated, Refused>>),
    ChangeIce(SessionId, Fragment, oneshot::Sender<Result<IceChange, Refused>>),
    Close(SessionId),
    Message(A::Message),
    Note(Note),
}

struct Accept<A: App> {
    offer: String,
    options: SessionOptions,
    with: A::Session,
    answer: oneshot::Sender<Result<Answer, Refused>>,
}

struct Offering<A: App> {
    channel: String,
    options: SessionOptions,
    with: A::Session,
    offer: oneshot::Sender<Result<Offer, Refused>>,
}

impl<A: App> Mux<A> {
    /// Starts the threads of a mux, until `stop`. `app` makes the application of each shard.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(bound: Bound, mut app: impl FnMut(u8) -> A, stop: &CancellationToken) -> io::Result<Self> {
        let Bound { sockets, config } = bound;
        let counters = Arc::new(Counters::default());
        let common = Common {
            limits: config.limits,
            candidates: config.candidates,
            certificate: Certificate::generate(),
            counters: Arc::clone(&counters),
        };
        let (senders, receivers): (Vec<_>, Vec<_>) =
            sockets.iter().map(|_| mpsc::channel(limits::COMMANDS)).unzip();
        let shards: Arc<[_]> = senders.into();
        for (index, (socket, commands)) in (0_u8..).zip(sockets.into_iter().zip(receivers)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let socket = {
                let _on = runtime.enter();
                Socket::new(socket, Arc::clone(&counters))?
            };
            let shard =
                Shard::new(index, app(index), common.clone(), Box::new(socket.clone()), (config.clock)());
            let driver =
                Driver { index, shard, socket, neighbours: Arc::clone(&shards), clock: config.clock };
            let stop = stop.clone();
            std::thread::Builder::new()
                .name(format!("rtc-{}-{index}", config.name))
                .spawn(move || runtime.block_on(driver.run(commands, stop)))?;
        }
        Ok(Self { shards, next: Arc::default(), counters })
    }

    /// Answers an offer, on the shard whose turn it is.
    ///
    /// # Errors
    /// [`Refused`] says why there is no answer; nothing is left behind.
    pub async fn accept(
        &self,
        offer: &str,
        options: SessionOptions,
        with: A::Session,
    ) -> Result<Answer, Refused> {
        let (answer, answered) = oneshot::channel();
        let accept = Accept { offer: offer.to_owned(), options, with, answer };
        let shard = self.next_shard().ok_or(Refused::Stopped)?;
        shard.send(Command::Accept(Box::new(accept))).await.map_err(|_| Refused::Stopped)?;
        answered.await.map_err(|_| Refused::Stopped)?
    }

    /// Makes an offer, with a data channel of this name, on the shard whose turn it is.
    ///
    /// # Errors
    /// [`Refused`] says why there is no offer; nothing is left behind.
    pub async fn offer(
        &self,
        channel: &str,
        options: SessionOptions,
        with: A::Session,
    ) -> Result<Offer, Refused> {
        let (offer, offered) = oneshot::channel();
        let offering = Offering { channel: channel.to_owned(), options, with, offer };
        let shard = self.next_shard().ok_or(Refused::Stopped)?;
        shard.send(Command::Offer(Box::new(offering))).await.map_err(|_| Refused::Stopped)?;
        offered.await.map_err(|_| Refused::Stopped)?
    }

    /// Takes the answer to an offer.
    ///
    /// # Errors
    /// [`Refused::Gone`] when the session has ended or was answered already. A bad answer ends it.
    pub async fn answer(&self, session: SessionId, answer: String) -> Result<Negotiated, Refused> {
        let shard = self.shard(session.shard).ok_or(Refused::Gone)?;
        let (taken, is_taken) = oneshot::channel();
        shard.send(Command::Answer(session, answer, taken)).await.map_err(|_| Refused::Stopped)?;
        is_taken.await.map_err(|_| Refused::Stopped)?
    }

    /// Trickled candidates or an ICE restart.
    ///
    /// # Errors
    /// [`Refused::Gone`] when the session has ended.
    pub async fn change_ice(&self, session: SessionId, fragment: Fragment) -> Result<IceChange, Refused> {
        let shard = self.shard(session.shard).ok_or(Refused::Gone)?;
        let (changed, answer) = oneshot::channel();
        let command = Command::ChangeIce(session, fragment, changed);
        shard.send(command).await.map_err(|_| Refused::Stopped)?;
        answer.await.map_err(|_| Refused::Stopped)?
    }

    /// Closes a session, if it is still there.
    pub async fn close(&self, session: SessionId) {
        if let Some(shard) = self.shard(session.shard) {
            // A shard that has stopped has no sessions.
            let _ = shard.send(Command::Close(session)).await;
        }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u8 {
        u8::try_from(self.shards.len()).unwrap_or(u8::MAX)
    }

    /// Tells a shard's application something, without waiting. Whether it was taken: a shard that is too busy
    /// or has stopped loses it.
    pub fn post(&self, shard: u8, message: A::Message) -> bool {
        self.shard(shard).is_some_and(|sender| sender.try_send(Command::Message(message)).is_ok())
    }

    /// Registers what it counts as metrics of `role`.
    ///
    /// # Errors
    /// When that role has registered them already.
    pub fn register(&self, role: &str, registry: &prometheus::Registry) -> prometheus::Result<()> {
        self.counters.register(role, registry)
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn next_shard(&self) -> Option<&mpsc::Sender<Command<A>>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len().max(1);
        self.shards.get(turn)
    }

    fn shard(&self, index: u8) -> Option<&mpsc::Sender<Command<A>>> {
        self.shards.get(usize::from(index))
    }
}

/// Drives one shard.
struct Driver<A: App> {
    index: u8,
    shard: Shard<A>,
    socket: Socket,
    neighbours: Arc<[mpsc::Sender<Command<A>>]>,
    clock: fn() -> Instant,
}

impl<A: App> Driver<A> {
    async fn run(mut self, mut commands: mpsc::Receiver<Command<A>>, stop: CancellationToken) {
        let mut buffers = Buffers::new();
        loop {
            let deadline = self.shard.deadline();
            tokio::select! {
                readable = self.socket.readable() => if readable.is_ok() { self.read(&mut buffers) },
                Some(command) = commands.recv() => {
                    self.obey(command);
                    for _ in 1..COMMANDS_AT_ONCE {
                        let Ok(command) = commands.try_recv() else { break };
                        self.obey(command);
                    }
                }
                () = until(deadline) => {}
                () = stop.cancelled() => return,
            }
            let now = (self.clock)();
            if self.shard.deadline().is_some_and(|at| at <= now) {
                self.shard.timeout(now);
            }
            self.pass_notes();
            self.shard.flush();
        }
    }

    fn read(&mut self, buffers: &mut Buffers) {
        let now = (self.clock)();
        for _ in 0..BATCHES_AT_ONCE {
            let shard = &mut self.shard;
            if !self
                .socket
                .receive(buffers, |source, local, bytes| shard.receive_on(local, source, bytes, now))
            {
                return;
            }
        }
    }

    fn obey(&mut self, command: Command<A>) {
        let now = (self.clock)();
        match command {
            Command::Accept(accept) => {
                let Accept { offer, options, with, answer } = *accept;
                // Who asked may have gone: the session then lapses, as one whose client went silent.
                let _ = answer.send(self.shard.accept(&offer, options, with, now));
            }
            Command::Offer(offering) => {
                let Offering { channel, options, with, offer } = *offering;
                let _ = offer.send(self.shard.offer(&channel, options, with, now));
            }
            Command::Answer(session, answer, taken) => {
                let _ = taken.send(self.shard.answer(session, &answer, now));
            }
            Command::ChangeIce(session, fragment, answer) => {
                let _ = answer.send(self.shard.change_ice(session, &fragment, now));
            }
            Command::Close(session) => self.shard.close(session, now),
            Command::Message(message) => self.shard.message(message, now),
            Command::Note(note) => self.shard.take_note(note, now),
        }
    }

    /// What is for other shards. One that is too busy loses it, as a network would.
    fn pass_notes(&mut self) {
        for (shard, note) in self.shard.notes() {
            if let Some(neighbour) = self.neighbours.get(usize::from(shard))
                && shard != self.index
            {
                let _ = neighbour.try_send(Command::Note(note));
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
