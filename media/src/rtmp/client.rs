//! The client's side of a connection that publishes: what a balancer speaks to an origin, ours or AMS's.
//! It drives itself from the handshake to the publish; the caller passes bytes and waits for an event.

use super::amf::AmfValue;
use super::chunk;
use super::command::Command;
use super::handshake::RANDOM_BYTES;
use super::link::Link;
use super::{HAND_OVER, Limits, MediaMessage, RtmpError};

/// The transactions of the commands that want an answer, in the order in which they are sent.
const CONNECT: u8 = 1;
const RELEASE_STREAM: u8 = 2;
const FC_PUBLISH: u8 = 3;
const CREATE_STREAM: u8 = 4;
const PUBLISH: u8 = 5;
const FC_UNPUBLISH: u8 = 6;

/// What is to be published, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishTarget {
    /// The application: `live`.
    pub app: String,
    /// The URL up to the application: `rtmp://host:1935/live`.
    pub tc_url: String,
    /// The stream's name, with its query if the origin wants one.
    pub stream: String,
    /// More properties of `connect`'s command object: how our nodes know each other. Empty towards others.
    pub properties: Vec<(String, AmfValue)>,
}

/// What became of the publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// The origin takes the stream: [`ClientSession::send`] works from now on.
    PublishStarted,
    /// The origin refused `connect`, `createStream` or `publish`. Close the connection.
    Refused {
        /// Like `NetStream.Publish.BadName`; may be empty.
        code: String,
        /// The origin's own words; may be empty.
        description: String,
    },
    /// The origin ended a publish that had started. Close the connection.
    Ended {
        /// Like `NetStream.Publish.BadName`; may be empty.
        code: String,
        /// The origin's own words; may be empty.
        description: String,
    },
}

/// One connection to an origin.
#[derive(Debug)]
pub struct ClientSession {
    link: Link,
    amf_depth: usize,
    target: PublishTarget,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Handshake,
    Connecting,
    Creating,
    Asked { stream_id: u32 },
    Publishing { stream_id: u32 },
    Over,
}

impl ClientSession {
    /// A connection just made; its first bytes are ready in [`ClientSession::take_output`]. `random` is
    /// sent to the peer and need not be secret.
    #[must_use]
    pub fn new(target: PublishTarget, limits: Limits, random: &[u8; RANDOM_BYTES]) -> Self {
        let link = Link::client(limits, random);
        Self { link, amf_depth: limits.amf_depth, target, state: State::Handshake }
    }

    /// Takes bytes from the front of `input` up to the next event. `None` means that all of `input` was
    /// taken. Call it again with the same `input` after each event.
    ///
    /// # Errors
    /// The peer broke a rule or a limit: close the connection.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<ClientEvent>, RtmpError> {
        if !self.link.shake_hands(input)? {
            return Ok(None);
        }
        if self.state == State::Handshake {
            self.connect()?;
        }
        while let Some(message) = self.link.read(input)? {
            if message.type_id != chunk::COMMAND || self.state == State::Over {
                continue;
            }
            let command = Command::decode(&message.payload, self.amf_depth)?;
            if let Some(event) = self.command(&command)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The bytes to send to the origin now.
    #[must_use = "what is taken and not sent is lost"]
    pub fn take_output(&mut self) -> bytes::Bytes {
        self.link.take_output()
    }

    /// Sends one message of the stream. Its payload is copied once, into the output.
    ///
    /// # Errors
    /// [`RtmpError::NotPublishing`] before [`ClientEvent::PublishStarted`] and after the end;
    /// [`RtmpError::OutputFull`] if the origin does not keep up and the output was not taken.
    pub fn send(&mut self, message: &MediaMessage) -> Result<(), RtmpError> {
        let State::Publishing { stream_id } = self.state else { return Err(RtmpError::NotPublishing) };
        self.link.send(message.kind.type_id(), stream_id, message.timestamp_ms, &message.payload)
    }

    /// Ends the publish in good order. Close the connection when the output has been sent.
    ///
    /// # Errors
    /// [`RtmpError::OutputFull`] if there is no room left to say so.
    pub fn unpublish(&mut self) -> Result<(), RtmpError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let (State::Asked { stream_id } | State::Publishing { stream_id }) = state else { return Ok(()) };
        self.call("FCUnpublish", FC_UNPUBLISH)?;
        self.link.send_command(0, "deleteStream", 0.0, &[AmfValue::Null, f64::from(stream_id).into()])
    }

    /// Ends the publish here, and says that the stream goes on at another origin. Close the connection when the
    /// output has been sent.
    ///
    /// # Errors
    /// [`RtmpError::NotPublishing`] when nothing is published; [`RtmpError::OutputFull`] if there is no room
    /// left to say so.
    pub fn hand_over(&mut self) -> Result<(), RtmpError> {
        let State::Publishing { stream_id } = std::mem::replace(&mut self.state, State::Over) else {
            return Err(RtmpError::NotPublishing);
        };
        self.link.send_command(stream_id, HAND_OVER, 0.0, &[AmfValue::Null])
    }

    fn connect(&mut self) -> Result<(), RtmpError> {
        self.state = State::Connecting;
        self.link.send_chunk_size()?;
        let own = [
            ("app", self.target.app.as_str()),
            ("type", "nonprivate"),
            ("flashVer", "FMLE/3.0 (compatible; sluicegate)"),
            ("tcUrl", self.target.tc_url.as_str()),
        ];
        let mut properties: Vec<_> = own.map(|(name, text)| (name.to_owned(), text.into())).into();
        properties.append(&mut self.target.properties);
        self.link.send_command(0, "connect", CONNECT.into(), &[AmfValue::Object(properties)])
    }

    fn command(&mut self, command: &Command) -> Result<Option<ClientEvent>, RtmpError> {
        let answers = |transaction: u8| command.transaction.to_bits() == f64::from(transaction).to_bits();
        match (command.name.as_str(), self.state) {
            ("_result", State::Connecting) if answers(CONNECT) => self.create_stream()?,
            ("_result", State::Creating) if answers(CREATE_STREAM) => self.publish(command)?,
            ("_error", State::Connecting) if answers(CONNECT) => return Ok(Some(self.over(command))),
            ("_error", State::Creating) if answers(CREATE_STREAM) => return Ok(Some(self.over(command))),
            ("_error", State::Asked { .. }) if answers(PUBLISH) => return Ok(Some(self.over(command))),
            ("onStatus", _) => return Ok(self.on_status(command)),
            ("close", _) => return Ok(Some(self.over(command))),
            // `_error` to releaseStream and FCPublish is usual: not every server knows them.
            _ => {}
        }
        Ok(None)
    }

    fn create_stream(&mut self) -> Result<(), RtmpError> {
        self.state = State::Creating;
        self.call("releaseStream", RELEASE_STREAM)?;
        self.call("FCPublish", FC_PUBLISH)?;
        self.link.send_command(0, "createStream", CREATE_STREAM.into(), &[AmfValue::Null])
    }

    fn publish(&mut self, created: &Command) -> Result<(), RtmpError> {
        let number = created.arguments.get(1).and_then(AmfValue::as_number);
        // A number that is no stream id saturates, and the server will refuse to publish there.
        let stream_id = number.ok_or(RtmpError::IncompleteCommand)? as u32;
        self.state = State::Asked { stream_id };
        let arguments = [AmfValue::Null, self.target.stream.as_str().into(), "live".into()];
        self.link.send_command(stream_id, "publish", PUBLISH.into(), &arguments)
    }

    /// A command whose one argument is the stream's name.
    fn call(&mut self, name: &str, transaction: u8) -> Result<(), RtmpError> {
        let arguments = [AmfValue::Null, self.target.stream.as_str().into()];
        self.link.send_command(0, name, transaction.into(), &arguments)
    }

    fn on_status(&mut self, command: &Command) -> Option<ClientEvent> {
        match (self.state, command.status("code")) {
            (State::Asked { stream_id }, "NetStream.Publish.Start") => {
                self.state = State::Publishing { stream_id };
                Some(ClientEvent::PublishStarted)
            }
            (_, "NetConnection.Connect.Closed" | "NetStream.Unpublish.Success") => Some(self.over(command)),
            _ if command.status("level") == "error" => Some(self.over(command)),
            _ => None,
        }
    }

    fn over(&mut self, command: &Command) -> ClientEvent {
        let code = command.status("code").to_owned();
        let description = command.status("description").to_owned();
        match std::mem::replace(&mut self.state, State::Over) {
            State::Publishing { .. } => ClientEvent::Ended { code, description },
            _ => ClientEvent::Refused { code, description },
        }
    }
}
