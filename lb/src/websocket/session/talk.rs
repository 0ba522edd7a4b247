//! A stream of a client's that is ended here: from `publish` or `play` to its end, by way of what nodes answer.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;
use sluicegate_cluster::ids::{StreamKey, StreamName};

use super::{STREAMS_MAX, Session, refuse};
use crate::websocket::action::{Action, Answered, Ask, Cluster, Place, Question};
use crate::websocket::message::{self, Definition, Way};

/// Questions to nodes that wait for their answers; more streams are refused meanwhile.
const ASKS_MAX: usize = 64;
/// For a client to offer after it was told to start, or to answer an offer: AMS's time for a publish to start.
pub(super) const DESCRIPTION: Duration = Duration::from_secs(10);

/// One stream of a client.
#[derive(Debug)]
pub(super) struct Talk {
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

    pub(super) fn begin(
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
        if self.count() >= STREAMS_MAX || self.asking >= ASKS_MAX {
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

    pub(super) fn describe(
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

    pub(super) fn stop(&mut self, key: &StreamKey) -> Vec<Action> {
        // SDKs say it of streams that they have not begun.
        let Some(way) = self.streams.get(&key.stream).map(|talk| talk.way) else { return Vec::new() };
        let told = Action::Say(message::notification(finished(way), key.stream.as_str()));
        self.forget(key).into_iter().chain([told]).collect()
    }

    /// Ends what has ended elsewhere, or has not begun in time.
    pub(super) fn finish(&mut self, now: Instant, cluster: &impl Cluster) -> Vec<Action> {
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

    /// Asks for another rendition of what is played.
    pub(super) fn force(&mut self, key: StreamKey, lines: u32) -> Action {
        match self.running(&key.stream) {
            Some(place) if self.asking < ASKS_MAX => self.ask(key, Way::Play, Question::Height(place, lines)),
            Some(_) => refuse(Definition::HighResourceUsage, &key.stream),
            None => refuse(Definition::NoStreamExist, &key.stream),
        }
    }

    fn running(&self, stream: &StreamName) -> Option<Place> {
        let talk = self.streams.get(stream).filter(|talk| talk.way == Way::Play)?;
        talk.place.clone().filter(|_| talk.stage == Stage::Runs)
    }

    pub(super) fn forget(&mut self, key: &StreamKey) -> Option<Action> {
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
    /// Whether its node drains that did not when it came there.
    pub(super) fn is_left(&self, cluster: &impl Cluster) -> bool {
        !self.was_draining && self.place.as_ref().is_some_and(|place| cluster.drains(&place.node))
    }

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

/// What the end of it is called.
pub(super) fn finished(way: Way) -> &'static str {
    match way {
        Way::Publish => "publish_finished",
        Way::Play => "play_finished",
    }
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
