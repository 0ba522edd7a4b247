//! An application that hands each session's events to a channel of its owner, and takes what the owner
//! wants to send as messages. For sessions that need no fan-out: publishers, and nodes that pull.

use std::collections::HashMap;

use tokio::sync::mpsc;

use crate::media::{Event, FrameToSend, Negotiated, PacketToSend};
use crate::sessions::{SessionId, Sessions};
use crate::shard::App;

/// The application. A session whose owner does not take its events in time is closed, and one whose owner
/// is gone as well.
#[derive(Debug, Default)]
pub struct Channels {
    owners: HashMap<SessionId, mpsc::Sender<Event>>,
}

/// What a session's owner wants.
#[derive(Debug)]
pub enum Wanted {
    /// A frame to be sent.
    Frame(SessionId, FrameToSend),
    /// Packets to be sent, those of one frame.
    Packets(SessionId, Vec<PacketToSend>),
    /// A keyframe of the publisher.
    Keyframe(SessionId),
    /// The session to be closed.
    Close(SessionId),
}

impl App for Channels {
    type Session = mpsc::Sender<Event>;
    type Message = Wanted;

    fn opened(&mut self, session: SessionId, owner: Self::Session, _: Negotiated, _: &mut Sessions) {
        self.owners.insert(session, owner);
    }

    fn event(&mut self, session: SessionId, event: Event, sessions: &mut Sessions) {
        let over = matches!(event, Event::Ended(_));
        let Some(owner) = self.owners.get(&session) else { return };
        let told = owner.try_send(event).is_ok();
        if over || !told {
            self.owners.remove(&session);
            sessions.close(session);
        }
    }

    fn message(&mut self, wanted: Wanted, sessions: &mut Sessions) {
        match wanted {
            Wanted::Frame(session, frame) => {
                sessions.send_frame(session, &frame);
            }
            Wanted::Packets(session, packets) => {
                sessions.send_packets(session, &packets);
            }
            Wanted::Keyframe(session) => {
                sessions.request_keyframe(session);
            }
            Wanted::Close(session) => sessions.close(session),
        }
    }
}
