//! A stream that AMS's own nodes have. What a client says of it goes to one of them as it is, over a line of the
//! stream's own, and what is said there comes back. What it means is their affair: looked at is only what shows that
//! the line is needed no more.

use std::time::Instant;

use serde_json::Value;
use sluicegate_cluster::ids::{StreamKey, StreamName};

use super::talk::{DESCRIPTION, finished};
use super::{FAREWELL, STREAMS_MAX, Session, refuse};
use crate::websocket::action::{Action, Cluster, Line};
use crate::websocket::message::{self, Command, Definition, Way};

/// One of them.
#[derive(Debug)]
pub(super) struct Carried {
    line: u64,
    way: Way,
    stage: Stage,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Something was asked that begins nothing.
    Asked,
    /// It is to begin.
    Begun,
    /// It runs.
    Runs,
    /// It is to end.
    Stopped,
    /// Nothing of it is left to be done.
    Idle,
}

impl Session {
    /// What a message brings about that is of a stream of AMS's; `None`: it is of another.
    pub(super) fn carry(
        &mut self,
        key: &StreamKey,
        command: &Command,
        text: &str,
        now: Instant,
        cluster: &impl Cluster,
    ) -> Option<Vec<Action>> {
        let stream = &key.stream;
        let is_known = self.carried.contains_key(stream);
        if self.streams.contains_key(stream) || !(is_known || cluster.is_at_ams(key)) {
            return None;
        }
        if let Command::Begin(way, token) = command
            && !cluster.admits(key, *way, token.as_deref())
        {
            return Some(vec![refuse(Definition::UnauthorizedAccess, stream)]);
        }
        let mut actions = Vec::new();
        if !self.has_line(stream, command) {
            let way = match command {
                Command::Begin(way, _) => *way,
                Command::Info | Command::Tracks | Command::Unknown => Way::Play,
                _ => return None,
            };
            actions.extend(self.carried.remove(stream).map(|old| Action::HangUp(old.line)));
            if self.count() >= STREAMS_MAX {
                actions.push(refuse(Definition::HighResourceUsage, stream));
                return Some(actions);
            }
            actions.push(self.open(key.clone(), way, now));
        }
        let carried = self.carried.get_mut(stream)?;
        carried.hear_client(command, now);
        actions.push(Action::Pass(carried.line, text.to_owned()));
        Some(actions)
    }

    /// Takes what AMS said on a line.
    #[must_use]
    pub fn said(&mut self, line: &Line, text: String, now: Instant) -> Vec<Action> {
        let stream = &line.key.stream;
        let Some(carried) = self.carried.get_mut(stream).filter(|carried| carried.line == line.number) else {
            return Vec::new();
        };
        // What is no message of this protocol is not passed on.
        let Ok(said @ Value::Object(_)) = serde_json::from_str(&text) else { return Vec::new() };
        let word = |name: &str| said.get(name).and_then(Value::as_str).unwrap_or_default();
        match (word("command"), word("definition")) {
            // Clients' pings are answered here.
            ("pong", _) => return Vec::new(),
            ("notification", "publish_started" | "play_started") => carried.enter(Stage::Runs, now),
            ("notification", "publish_finished" | "play_finished") => carried.enter(Stage::Idle, now),
            ("error", _) if carried.stage == Stage::Begun => carried.enter(Stage::Idle, now),
            _ if carried.stage == Stage::Asked => carried.enter(Stage::Idle, now),
            _ => {}
        }
        vec![Action::Relay(text)]
    }

    /// A line is lost, or could not be had.
    #[must_use]
    pub fn lost(&mut self, line: &Line) -> Vec<Action> {
        let stream = &line.key.stream;
        if self.carried.get(stream).is_none_or(|carried| carried.line != line.number) {
            return Vec::new();
        }
        let Some(carried) = self.carried.remove(stream) else { return Vec::new() };
        match carried.stage {
            Stage::Idle => Vec::new(),
            Stage::Asked | Stage::Begun => vec![refuse(Definition::ServerError, stream)],
            Stage::Runs | Stage::Stopped => vec![carried.is_over(stream)],
        }
    }

    /// Pings are answered, and passed on: lines are kept open by them as well.
    pub(super) fn pong(&self, text: &str) -> Vec<Action> {
        let lines = self.carried.values().map(|carried| Action::Pass(carried.line, text.to_owned()));
        [Action::Say(message::pong())].into_iter().chain(lines).collect()
    }

    /// Lets go of lines that are needed no more.
    pub(super) fn hang_up(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.carried.retain(|stream, carried| {
            let rested = now.saturating_duration_since(carried.since);
            let is_over = match carried.stage {
                Stage::Begun | Stage::Runs => false,
                Stage::Asked | Stage::Idle => rested >= DESCRIPTION,
                Stage::Stopped => rested >= FAREWELL,
            };
            if is_over {
                actions.extend((carried.stage == Stage::Stopped).then(|| carried.is_over(stream)));
                actions.push(Action::HangUp(carried.line));
            }
            !is_over
        });
        actions
    }

    /// Whether a line is there that may carry `command`: what is published is published to the node that has the
    /// stream, everything else is asked of edges.
    fn has_line(&self, stream: &StreamName, command: &Command) -> bool {
        self.carried.get(stream).is_some_and(|carried| match command {
            Command::Begin(way, _) => {
                *way == carried.way || !matches!(carried.stage, Stage::Asked | Stage::Idle)
            }
            _ => true,
        })
    }

    fn open(&mut self, key: StreamKey, way: Way, now: Instant) -> Action {
        let number = self.turns;
        self.turns += 1;
        let carried = Carried { line: number, way, stage: Stage::Asked, since: now };
        self.carried.insert(key.stream.clone(), carried);
        Action::Open(Line { number, key, way })
    }
}

impl Carried {
    fn hear_client(&mut self, command: &Command, now: Instant) {
        match (command, self.stage) {
            // What runs is refused a second time by AMS itself.
            (Command::Begin(..), Stage::Asked | Stage::Stopped | Stage::Idle) => {
                self.enter(Stage::Begun, now);
            }
            (Command::Stop, Stage::Begun | Stage::Runs) => self.enter(Stage::Stopped, now),
            (Command::Info | Command::Tracks | Command::Unknown, Stage::Idle) => {
                self.enter(Stage::Asked, now);
            }
            _ => {}
        }
    }

    fn enter(&mut self, stage: Stage, now: Instant) {
        (self.stage, self.since) = (stage, now);
    }

    fn is_over(&self, stream: &StreamName) -> Action {
        Action::Say(message::notification(finished(self.way), stream.as_str()))
    }
}
