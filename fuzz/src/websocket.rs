//! What clients of AMS's signalling say, and what nodes answer meanwhile, ours and AMS's own.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_cluster::config::IceServer;
use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::stream::StreamRecord;
use sluicegate_cluster::testing;
use sluicegate_lb::websocket::{Action, Answered, Ask, Cluster, Line, Place, Question, Session, Way};

use crate::records;

/// Kinds of records; any other is a message.
const ANSWERED: u8 = 1;
const REFUSED: u8 = 2;
const TIME: u8 = 3;
const SAID: u8 = 4;
const LOST: u8 = 5;

/// A cluster where `cam` is live, and `theirs` on a node of AMS's own.
struct World;

impl Cluster for World {
    fn admits(&self, _: &StreamKey, _: Way, token: Option<&str>) -> bool {
        token.is_none_or(|token| token != "bad")
    }

    fn live(&self, key: &StreamKey) -> Option<Arc<StreamRecord>> {
        let record = || testing::stream_held_by("live/cam", "o1", "s", UnixMs(0));
        (key.stream.as_str() == "cam").then(record).map(Arc::new)
    }

    fn is_at_ams(&self, key: &StreamKey) -> bool {
        key.stream.as_str() == "theirs"
    }

    fn drains(&self, _: &NodeId) -> bool {
        false
    }

    fn is_stopping(&self) -> bool {
        false
    }

    fn is_drained(&self) -> bool {
        false
    }

    fn ice_servers(&self) -> &[IceServer] {
        &[]
    }
}

/// What is asked of nodes.
#[derive(Default)]
struct Nodes {
    asked: Vec<Ask>,
    lines: Vec<Line>,
    made: usize,
    ended: usize,
}

impl Nodes {
    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Ask(ask) => {
                    self.ended += usize::from(matches!(ask.question, Question::End(_)));
                    self.asked.push(ask);
                }
                Action::Say(told) => assert!(told["command"].is_string(), "{told}"),
                Action::Open(line) => self.lines.push(line),
                Action::Pass(number, _) => assert!(self.lines.iter().any(|line| line.number == number)),
                Action::HangUp(number) => self.lines.retain(|line| line.number != number),
                Action::Relay(_) | Action::Close(_) => {}
            }
        }
    }

    fn answer(&mut self, session: &mut Session, refuses: bool, now: std::time::Instant) {
        let Some(ask) = self.asked.pop() else { return };
        let answered = match &ask.question {
            _ if refuses => Answered::Refused(StatusCode::SERVICE_UNAVAILABLE),
            Question::Begin { .. } => {
                self.made += 1;
                let node = testing::node("n1", UnixMs(0)).id;
                Answered::Made(Place { node, id: "n1~1~x".to_owned() }, "v=0\r\na=mid:0\r\n".to_owned())
            }
            _ => Answered::Done,
        };
        let actions = session.answered(ask, answered, now, &World);
        self.take(actions);
    }
}

/// A client's whole socket: every session that was made is ended, and nothing is kept.
///
/// # Panics
/// When that does not hold.
pub fn sessions(data: &[u8]) {
    let _ = converse(data);
}

/// The same; how many sessions were made.
///
/// # Panics
/// As [`sessions`].
#[must_use]
pub fn converse(data: &[u8]) -> usize {
    let app = testing::stream_held_by("live/cam", "o1", "s", UnixMs(0)).key.app;
    let (mut now, mut nodes) = (clock::now(), Nodes::default());
    let mut session = Session::new(app, Duration::from_secs(1), now, &World);
    for record in records::read(data) {
        match record.kind {
            ANSWERED => nodes.answer(&mut session, false, now),
            REFUSED => nodes.answer(&mut session, true, now),
            TIME => {
                now += Duration::from_secs(record.body.first().copied().unwrap_or(1).into());
                nodes.take(session.tick(now, &World));
            }
            SAID => {
                let text = String::from_utf8_lossy(&record.body).into_owned();
                if let Some(line) = nodes.lines.last().cloned() {
                    nodes.take(session.said(&line, text, now));
                }
            }
            LOST => {
                if let Some(line) = nodes.lines.pop() {
                    nodes.take(session.lost(&line));
                }
            }
            _ => nodes.take(session.take(&String::from_utf8_lossy(&record.body), now, &World)),
        }
        assert_eq!(session.size().1, nodes.asked.len());
        assert!(nodes.lines.len() <= session.size().0);
    }
    nodes.take(session.end());
    while !nodes.asked.is_empty() {
        nodes.answer(&mut session, false, now);
    }
    assert_eq!((nodes.made, session.size()), (nodes.ended, (0, 0)));
    nodes.made
}
