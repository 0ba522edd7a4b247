//! One client's socket: its streams, and what each message of it brings about.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sluicegate_cluster::ids::{AppName, StreamKey, StreamName};

use super::action::{Action, Closing, Cluster};
use super::message::{self, BadMessage, Command, Definition, Message};

mod carried;
mod talk;

use carried::Carried;
use talk::Talk;

/// Streams that one socket publishes and plays at once.
const STREAMS_MAX: usize = 32;
/// Messages that a client may send at once, and so many a second on the way. A stream's set-up has about thirty.
const MESSAGES_BURST: f64 = 300.0;
const MESSAGES_PER_S: f64 = 50.0;
/// A client that says nothing for this long is gone. SDKs ping every 3 s.
const IDLE: Duration = Duration::from_secs(60);
/// For a client to close its socket after it was told to, and for a node of AMS's to end what it was told to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// One client's socket.
#[derive(Debug)]
pub struct Session {
    app: AppName,
    /// Those that are ended here.
    streams: HashMap<StreamName, Talk>,
    /// Those that AMS's own nodes have.
    carried: HashMap<StreamName, Carried>,
    turns: u64,
    asking: usize,
    heard: Instant,
    budget: f64,
    /// After how long this client is told when the clients of a node are moved, so that not all come at once.
    pace: Duration,
    /// Clients of a balancer that is drained already may have no other.
    was_drained: bool,
    moves_at: Option<Instant>,
    closes_at: Option<Instant>,
}

impl Session {
    /// A socket that was opened `now`, by a client of `app`. `pace`: after how long this client is told when a node
    /// is drained.
    #[must_use]
    pub fn new(app: AppName, pace: Duration, now: Instant, cluster: &impl Cluster) -> Self {
        Self {
            app,
            streams: HashMap::new(),
            carried: HashMap::new(),
            turns: 0,
            asking: 0,
            heard: now,
            budget: MESSAGES_BURST,
            pace,
            was_drained: cluster.is_drained(),
            moves_at: None,
            closes_at: None,
        }
    }

    /// Takes a message.
    #[must_use]
    pub fn take(&mut self, text: &str, now: Instant, cluster: &impl Cluster) -> Vec<Action> {
        let since = now.saturating_duration_since(self.heard).as_secs_f64();
        self.budget = (self.budget + since * MESSAGES_PER_S).min(MESSAGES_BURST) - 1.0;
        self.heard = self.heard.max(now);
        if self.budget < 0.0 {
            return vec![Action::Close(Closing::Flood)];
        }
        match Message::read(text, &self.app) {
            Ok(Message::Ping) => self.pong(text),
            Ok(Message::IceServerConfig) => {
                message::ice_server_config(cluster.ice_servers()).map(Action::Say).into_iter().collect()
            }
            Ok(Message::About(key, command)) => match self.carry(&key, &command, text, now, cluster) {
                Some(actions) => actions,
                None => self.obey(key, command, now, cluster),
            },
            Err(bad) => vec![Action::Say(message::error(bad.definition(), None, Some(&bad.to_string())))],
        }
    }

    /// Time has passed.
    #[must_use]
    pub fn tick(&mut self, now: Instant, cluster: &impl Cluster) -> Vec<Action> {
        if now.saturating_duration_since(self.heard) >= IDLE {
            return vec![Action::Close(Closing::Silent)];
        }
        if self.closes_at.is_some_and(|at| now >= at) {
            return vec![Action::Close(Closing::Moved)];
        }
        let mut actions = self.finish(now, cluster);
        actions.extend(self.hang_up(now));
        if self.closes_at.is_none() && self.is_to_move(now, cluster) {
            self.closes_at = Some(now + FAREWELL);
            actions.push(Action::Say(message::server_will_stop()));
        }
        actions
    }

    /// The socket is closed, and its lines are: what is to be asked of nodes.
    #[must_use]
    pub fn end(&mut self) -> Vec<Action> {
        let app = &self.app;
        let keys = self.streams.keys().map(|stream| StreamKey { app: app.clone(), stream: stream.clone() });
        let keys: Vec<StreamKey> = keys.collect();
        self.carried.clear();
        keys.iter().filter_map(|key| self.forget(key)).collect()
    }

    /// How many streams it publishes and plays, and questions that wait for their answers.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.count(), self.asking)
    }

    fn count(&self) -> usize {
        self.streams.len() + self.carried.len()
    }

    fn obey(
        &mut self,
        key: StreamKey,
        command: Command,
        now: Instant,
        cluster: &impl Cluster,
    ) -> Vec<Action> {
        let stream = key.stream.clone();
        let done = match command {
            Command::Begin(way, token) => self.begin(key, way, token, now, cluster),
            Command::Description(way, sdp) => self.describe(key, way, sdp, now),
            Command::Stop => return self.stop(&key),
            Command::Candidate => return Vec::new(),
            Command::Info => cluster
                .live(&key)
                .map(|record| Action::Say(message::stream_information(&record)))
                .ok_or(Definition::NoStreamExist),
            Command::Tracks => Ok(Action::Say(message::track_list(stream.as_str()))),
            Command::Height(lines) => Ok(self.force(key, lines)),
            Command::Unknown => {
                let why = BadMessage::Unknown;
                return vec![Action::Say(message::error(why.definition(), None, Some(&why.to_string())))];
            }
        };
        vec![done.unwrap_or_else(|definition| refuse(definition, &stream))]
    }

    fn is_to_move(&mut self, now: Instant, cluster: &impl Cluster) -> bool {
        if cluster.is_stopping() {
            return true;
        }
        let leaves = cluster.is_drained() && !self.was_drained;
        if !leaves && !self.streams.values().any(|talk| talk.is_left(cluster)) {
            self.moves_at = None;
            return false;
        }
        now >= *self.moves_at.get_or_insert(now + self.pace)
    }
}

fn refuse(definition: Definition, stream: &StreamName) -> Action {
    Action::Say(message::error(definition, Some(stream.as_str()), None))
}
