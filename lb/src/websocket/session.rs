//! One client's socket: its streams, and what each message of it brings about.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;
use sluicegate_cluster::ids::{AppName, StreamKey, StreamName};

use super::action::{Action, Answered, Ask, Closing, Cluster, Place, Question};
use super::message::{self, Command, Definition, Message, Way};

/// Streams that one socket publishes and plays at once.
const STREAMS_MAX: usize = 32;
/// Questions to nodes that wait for their answers; more streams are refused meanwhile.
const ASKS_MAX: usize = 64;
/// Messages that a client may send at once, and so many a second on the way. A stream's set-up has about thirty.
const MESSAGES_BURST: f64 = 300.0;
const MESSAGES_PER_S: f64 = 50.0;
/// A client that says nothing for this long is gone. SDKs ping every 3 s.
const IDLE: Duration = Duration::from_secs(60);
/// For a client to offer after it was told to start, or to answer an offer: AMS's time for a publish to start.
const DESCRIPTION: Duration = Duration::from_secs(10);
/// For a client to close its socket after it was told to.
const FAREWELL: Duration = Duration::from_secs(5);

/// One client's socket.
#[derive(Debug)]
pub struct Session {
    app: AppName,
    streams: HashMap<StreamName, Talk>,
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

/// One stream of a client.
#[derive(Debug)]
struct Talk {
    way: Way,
    token: Option<String>,
    stage: Stage,
    since: Instant,
    /// What is asked of a node at the moment.
    turn: Option<u64>,
    place: Option<Place>,
    /// Its node was draining when it came there: it may have no other.
    was_draining: bool,
    was_live: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A publisher's offer is awaited.
    Started,
    /// The node makes its session.
    Begins,
    /// A player's answer is awaited.
    Offered,
    /// The node takes that.
    Answered,
    /// It runs.
    Runs,
}

impl Session {
    /// A socket that was opened `now`, by a client of `app`. `pace`: after how long this client is told when a node
    /// is drained.
    #[must_use]
    pub fn new(app: AppName, pace: Duration, now: Instant, cluster: &impl Cluster) -> Self {
        Self {
            app,
            streams: HashMap::new(),
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
            Ok(Message::Ping) => vec![Action::Say(message::pong())],
            Ok(Message::IceServerConfig) => {
                message::ice_server_config(cluster.ice_servers()).map(Action::Say).into_iter().collect()
            }
            Ok(Message::About(key, command)) => self.obey(key, command, now, cluster),
            Err(bad) => vec![Action::Say(message::error(bad.definition(), None, Some(&bad.to_string())))],
        }
    }

    /// Takes a node's answer.
    #[must_use]
    pub fn answered(
        &mut self,
        ask: Ask,
        answered: Answered,
        now: Instant,
        cluster: &impl Cluster,
    ) -> Vec<Action> {
        self.asking = self.asking.saturating_sub(1);
        let stream = ask.key.stream.clone();
        let is_awaited = |talk: &&mut Talk| talk.turn == Some(ask.turn);
        let Some(talk) = self.streams.get_mut(&stream).filter(is_awaited) else {
            return match (ask.question, answered) {
                // Nobody waits for it any more.
                (Question::Begin { .. }, Answered::Made(place, _)) => {
                    vec![self.ask(ask.key, ask.way, Question::End(place))]
                }
                (Question::Height(_, lines), Answered::Done) => vec![resolution(&stream, lines)],
                (Question::Height(..), Answered::Refused(_)) => {
                    vec![refuse(Definition::NoStreamExist, &stream)]
                }
                _ => Vec::new(),
            };
        };
        (talk.turn, talk.since) = (None, now);
        match answered {
            Answered::Made(place, sdp) => {
                talk.was_draining = cluster.drains(&place.node);
                talk.place = Some(place);
                talk.made(stream.as_str(), &sdp)
            }
            Answered::Done => {
                talk.stage = Stage::Runs;
                vec![Action::Say(message::notification("play_started", stream.as_str()))]
            }
            Answered::Refused(status) => {
                let definition = definition(talk.way, status);
                let mut actions = vec![refuse(definition, &stream)];
                actions.extend(self.forget(&ask.key));
                actions
            }
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
        if self.closes_at.is_none() && self.is_to_move(now, cluster) {
            self.closes_at = Some(now + FAREWELL);
            actions.push(Action::Say(message::server_will_stop()));
        }
        actions
    }

    /// The socket is closed: what is to be asked of nodes.
    #[must_use]
    pub fn end(&mut self) -> Vec<Action> {
        let app = &self.app;
        let keys = self.streams.keys().map(|stream| StreamKey { app: app.clone(), stream: stream.clone() });
        let keys: Vec<StreamKey> = keys.collect();
        keys.iter().filter_map(|key| self.forget(key)).collect()
    }

    /// How many streams it publishes and plays, and questions that wait for their answers.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.streams.len(), self.asking)
    }

    fn obey(
        &mut self,
        key: StreamKey,
        command: Command,
        now: Instant,
        cluster: &impl Cluster,
    ) -> Vec<Action> {
        let stream = key.stream.clone();
        let say = |value| vec![Action::Say(value)];
        match command {
            Command::Begin(way, token) => match self.begin(key, way, token, now, cluster) {
                Ok(action) => vec![action],
                Err(definition) => vec![refuse(definition, &stream)],
            },
            Command::Description(way, sdp) => match self.describe(key, way, sdp, now) {
                Ok(action) => vec![action],
                Err(definition) => vec![refuse(definition, &stream)],
            },
            Command::Stop => self.stop(&key),
            Command::Candidate => Vec::new(),
            Command::Info => match cluster.live(&key) {
                Some(record) => say(message::stream_information(&record)),
                None => vec![refuse(Definition::NoStreamExist, &stream)],
            },
            Command::Tracks => say(message::track_list(stream.as_str())),
            Command::Height(lines) => match self.running(&stream) {
                Some(place) if self.asking < ASKS_MAX => {
                    vec![self.ask(key, Way::Play, Question::Height(place, lines))]
                }
                Some(_) => vec![refuse(Definition::HighResourceUsage, &stream)],
                None => vec![refuse(Definition::NoStreamExist, &stream)],
            },
        }
    }

    fn begin(
        &mut self,
        key: StreamKey,
        way: Way,
        token: Option<String>,
        now: Instant,
        cluster: &impl Cluster,
    ) -> Result<Action, Definition> {
        match self.streams.get(&key.stream).map(|talk| talk.way) {
            Some(Way::Publish) => return Err(Definition::AlreadyPublishing),
            Some(Way::Play) => return Err(Definition::AlreadyPlaying),
            None => {}
        }
        if !cluster.admits(&key, way, token.as_deref()) {
            return Err(Definition::UnauthorizedAccess);
        }
        if self.streams.len() >= STREAMS_MAX || self.asking >= ASKS_MAX {
            return Err(Definition::HighResourceUsage);
        }
        if way == Way::Play && cluster.live(&key).is_none() {
            return Err(Definition::NoStreamExist);
        }
        let stream = key.stream.clone();
        let mut talk = Talk {
            way,
            token,
            stage: Stage::Started,
            since: now,
            turn: None,
            place: None,
            was_draining: false,
            was_live: false,
        };
        let action = match way {
            Way::Publish => Action::Say(message::start(stream.as_str())),
            Way::Play => {
                let question = Question::Begin { token: talk.token.take(), offer: None };
                (talk.stage, talk.turn) = (Stage::Begins, Some(self.turns));
                self.ask(key, way, question)
            }
        };
        self.streams.insert(stream, talk);
        Ok(action)
    }

    fn describe(
        &mut self,
        key: StreamKey,
        way: Way,
        sdp: String,
        now: Instant,
    ) -> Result<Action, Definition> {
        let turn = self.turns;
        let talk = self.streams.get_mut(&key.stream).ok_or(Definition::NotInitializedYet)?;
        if talk.way != way {
            return Err(Definition::NotSetRemoteDescription);
        }
        let question = match (talk.stage, talk.place.clone()) {
            (Stage::Started, _) => {
                talk.stage = Stage::Begins;
                Question::Begin { token: talk.token.take(), offer: Some(sdp) }
            }
            (Stage::Offered, Some(place)) => {
                talk.stage = Stage::Answered;
                Question::Answer(place, sdp)
            }
            (Stage::Begins, _) if way == Way::Play => return Err(Definition::NotInitializedYet),
            _ => return Err(Definition::NotSetRemoteDescription),
        };
        (talk.turn, talk.since) = (Some(turn), now);
        Ok(self.ask(key, way, question))
    }

    fn stop(&mut self, key: &StreamKey) -> Vec<Action> {
        // SDKs say it of streams that they have not begun.
        let Some(way) = self.streams.get(&key.stream).map(|talk| talk.way) else { return Vec::new() };
        let told = Action::Say(message::notification(finished(way), key.stream.as_str()));
        self.forget(key).into_iter().chain([told]).collect()
    }

    /// Ends what has ended elsewhere, or has not begun in time.
    fn finish(&mut self, now: Instant, cluster: &impl Cluster) -> Vec<Action> {
        let mut over = Vec::new();
        for (stream, talk) in &mut self.streams {
            let key = StreamKey { app: self.app.clone(), stream: stream.clone() };
            let is_late = now.saturating_duration_since(talk.since) >= DESCRIPTION;
            match talk.stage {
                Stage::Started if is_late => over.push((key, refuse(Definition::PublishTimeout, stream))),
                Stage::Offered if is_late => {
                    over.push((key, refuse(Definition::NotSetRemoteDescription, stream)));
                }
                Stage::Runs => {
                    let is_live = cluster.live(&key).is_some();
                    if talk.was_live && !is_live {
                        let told = message::notification(finished(talk.way), stream.as_str());
                        over.push((key, Action::Say(told)));
                    }
                    talk.was_live |= is_live;
                }
                _ => {}
            }
        }
        let mut actions = Vec::new();
        for (key, told) in over {
            actions.extend(self.forget(&key));
            actions.push(told);
        }
        actions
    }

    fn is_to_move(&mut self, now: Instant, cluster: &impl Cluster) -> bool {
        if cluster.is_stopping() {
            return true;
        }
        let drains = |talk: &Talk| {
            !talk.was_draining && talk.place.as_ref().is_some_and(|place| cluster.drains(&place.node))
        };
        let leaves = cluster.is_drained() && !self.was_drained;
        if !leaves && !self.streams.values().any(drains) {
            self.moves_at = None;
            return false;
        }
        now >= *self.moves_at.get_or_insert(now + self.pace)
    }

    fn running(&self, stream: &StreamName) -> Option<Place> {
        let talk = self.streams.get(stream).filter(|talk| talk.way == Way::Play)?;
        talk.place.clone().filter(|_| talk.stage == Stage::Runs)
    }

    fn forget(&mut self, key: &StreamKey) -> Option<Action> {
        let talk = self.streams.remove(&key.stream)?;
        Some(self.ask(key.clone(), talk.way, Question::End(talk.place?)))
    }

    fn ask(&mut self, key: StreamKey, way: Way, question: Question) -> Action {
        let turn = self.turns;
        self.turns += 1;
        self.asking += 1;
        Action::Ask(Ask { turn, key, way, question })
    }
}

impl Talk {
    /// A node has made its session.
    fn made(&mut self, stream: &str, sdp: &str) -> Vec<Action> {
        let said = match self.way {
            Way::Publish => {
                self.stage = Stage::Runs;
                vec![message::answer(stream, sdp), message::notification("publish_started", stream)]
            }
            Way::Play => {
                self.stage = Stage::Offered;
                vec![message::offer(stream, sdp)]
            }
        };
        said.into_iter().map(Action::Say).collect()
    }
}

fn finished(way: Way) -> &'static str {
    match way {
        Way::Publish => "publish_finished",
        Way::Play => "play_finished",
    }
}

fn refuse(definition: Definition, stream: &StreamName) -> Action {
    Action::Say(message::error(definition, Some(stream.as_str()), None))
}

fn resolution(stream: &StreamName, lines: u32) -> Action {
    let mut told = message::notification("resolutionChangeInfo", stream.as_str());
    told["streamHeight"] = json!(lines);
    Action::Say(told)
}

/// What a node's refusal is called.
fn definition(way: Way, status: StatusCode) -> Definition {
    match (way, status.as_u16()) {
        (_, 401 | 403) => Definition::UnauthorizedAccess,
        (Way::Publish, 409) => Definition::StreamIdInUse,
        (Way::Play, 404 | 409) => Definition::NoStreamExist,
        (_, 429 | 503) => Definition::HighResourceUsage,
        (_, 400 | 406 | 413 | 415 | 422) => Definition::NotSetRemoteDescription,
        _ => Definition::ServerError,
    }
}
