//! Publishers that ffmpeg cannot play: one that reads the status it is given, and one that breaks the protocol.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
pub use sluicegate_media::rtmp::MediaKind;
use sluicegate_media::rtmp::{ClientEvent, ClientSession, Limits, MediaMessage, PublishTarget, handshake};

use crate::until::until;

/// For the other side to answer.
const ANSWER: Duration = Duration::from_secs(15);
/// For the other side to close once a stream has ended.
const CLOSE: Duration = Duration::from_secs(2);
/// A read that brings nothing is tried again after this, so that a deadline is seen.
const READ: Duration = Duration::from_millis(50);

/// How the other side said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `NetStream.Publish.BadName`
    pub code: String,
    /// Its own words.
    pub description: String,
}

/// A publisher whose stream was taken. It sends only what it is told to send.
pub struct RtmpClient {
    connection: TcpStream,
    session: ClientSession,
}

impl RtmpClient {
    /// Publishes `stream` in `app` at `address`.
    ///
    /// # Errors
    /// The status by which it was refused.
    ///
    /// # Panics
    /// When there is no answer, or one that is not RTMP.
    #[track_caller]
    pub fn publish(address: SocketAddr, app: &str, stream: &str) -> Result<Self, Refusal> {
        Self::publish_with(address, app, stream, &[])
    }

    /// The same, with more properties in `connect`'s command object.
    ///
    /// # Errors
    /// As [`RtmpClient::publish`].
    ///
    /// # Panics
    /// As [`RtmpClient::publish`].
    #[track_caller]
    pub fn publish_with(
        address: SocketAddr,
        app: &str,
        stream: &str,
        properties: &[(&str, &str)],
    ) -> Result<Self, Refusal> {
        let target = PublishTarget {
            app: app.to_owned(),
            tc_url: format!("rtmp://{address}/{app}"),
            stream: stream.to_owned(),
            properties: properties.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())).collect(),
        };
        let connection = connect(address);
        let session = ClientSession::new(target, Limits::default(), &[7; handshake::RANDOM_BYTES]);
        let mut client = Self { connection, session };
        match client.next_event("an answer to a publish") {
            ClientEvent::PublishStarted => Ok(client),
            ClientEvent::Refused { code, description } | ClientEvent::Ended { code, description } => {
                Err(Refusal { code, description })
            }
        }
    }

    /// Sends one message: the body of an FLV tag.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn send(&mut self, kind: MediaKind, timestamp_ms: u32, payload: &'static [u8]) {
        self.send_bytes(kind, timestamp_ms, Bytes::from_static(payload));
    }

    /// The same with a body that was read.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn send_bytes(&mut self, kind: MediaKind, timestamp_ms: u32, payload: Bytes) {
        let message = MediaMessage { kind, timestamp_ms, payload };
        self.session.send(&message).expect("the stream is being published");
        self.flush();
    }

    /// Waits for the other side to end the stream, and says why it did.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    #[must_use]
    pub fn ended(&mut self) -> Refusal {
        match self.next_event("the end of a publish") {
            ClientEvent::Ended { code, description } | ClientEvent::Refused { code, description } => {
                Refusal { code, description }
            }
            ClientEvent::PublishStarted => panic!("the publish started a second time"),
        }
    }

    /// Ends the stream in good order, and the connection when the other side has closed it, or did not for long.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn end(mut self) {
        self.session.unpublish().expect("the stream is being published");
        self.flush();
        // Closed with something unread it would be reset, and what was sent last be lost.
        let _ = self.connection.shutdown(Shutdown::Write);
        let (began, mut buffer) = (Instant::now(), [0; 4_096]);
        while read_some(&mut self.connection, &mut buffer) != Some(0) && began.elapsed() < CLOSE {}
    }

    fn flush(&mut self) {
        let output = self.session.take_output();
        self.connection.write_all(&output).expect("the connection is open");
    }

    #[track_caller]
    fn next_event(&mut self, what: &str) -> ClientEvent {
        let mut buffer = [0; 4_096];
        until(what, ANSWER, || {
            self.flush();
            let read = read_some(&mut self.connection, &mut buffer)?;
            assert!(read > 0, "the connection was closed before {what}");
            let mut input = &buffer[..read];
            let event = self.session.read(&mut input).expect("RTMP");
            self.flush();
            event
        })
    }
}

/// A client that sends bytes as they are.
pub struct RawClient(TcpStream);

impl RawClient {
    /// Connects.
    ///
    /// # Panics
    /// When nothing listens there.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self(connect(address))
    }

    /// Connects and shakes hands (RTMP 1.0, 5.2), so that messages come next.
    ///
    /// # Panics
    /// When the other side does not do its part.
    #[track_caller]
    #[must_use]
    pub fn shake_hands(address: SocketAddr) -> Self {
        const HALF: usize = 1_536;
        let mut client = Self::connect(address);
        client.send(&[&[3][..], &[0; HALF]].concat());
        let mut theirs = Vec::new();
        until("the other half of a handshake", ANSWER, || {
            let mut buffer = [0; 4_096];
            let read = read_some(&mut client.0, &mut buffer)?;
            assert!(read > 0, "the connection was closed within the handshake");
            theirs.extend_from_slice(&buffer[..read]);
            (theirs.len() > 2 * HALF).then_some(())
        });
        client.send(&theirs[1..=HALF]);
        client
    }

    /// Sends `bytes`, as far as the other side takes them.
    pub fn send(&mut self, bytes: &[u8]) {
        // It may have closed already: that is what the caller looks at.
        let _ = self.0.write_all(bytes);
    }

    /// What the other side has said, if anything is there.
    pub fn answer(&mut self) -> Option<String> {
        let mut buffer = [0; 4_096];
        let read = read_some(&mut self.0, &mut buffer)?;
        Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
    }

    /// Whether the other side has closed by now. What it has said before is thrown away.
    ///
    /// # Panics
    /// When the socket takes no options.
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        self.0.set_nonblocking(true).expect("a socket that does not block");
        let mut buffer = [0; 4_096];
        let seen = read_some(&mut self.0, &mut buffer);
        self.0.set_nonblocking(false).expect("a socket that blocks");
        seen == Some(0)
    }

    /// Waits until the other side closes.
    ///
    /// # Panics
    /// At the deadline.
    #[track_caller]
    pub fn is_closed_within(mut self, deadline: Duration) {
        let mut buffer = [0; 4_096];
        until("the connection is closed", deadline, || {
            (read_some(&mut self.0, &mut buffer) == Some(0)).then_some(())
        });
    }

    /// Waits until the other side closes, who is to say nothing before.
    ///
    /// # Panics
    /// At the deadline, and when something was said.
    #[track_caller]
    pub fn is_silently_closed_within(mut self, deadline: Duration) {
        let mut buffer = [0; 4_096];
        let read = until("the connection is closed", deadline, || read_some(&mut self.0, &mut buffer));
        assert_eq!(read, 0, "{}", String::from_utf8_lossy(&buffer[..read]));
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    connection.set_read_timeout(Some(READ)).expect("a read timeout");
    connection
}

/// What is there to read; 0 when the connection is over, `None` when nothing came yet.
fn read_some(connection: &mut TcpStream, buffer: &mut [u8]) -> Option<usize> {
    match connection.read(buffer) {
        Ok(read) => Some(read),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(_) => Some(0),
    }
}
