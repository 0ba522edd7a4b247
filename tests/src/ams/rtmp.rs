//! The RTMP side of the AMS-shaped server: takes what is published, and says AMS's words when it cannot.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use sluicegate_media::rtmp::{ConnectRequest, Limits, PublishRequest, ServerEvent, ServerSession, handshake};

use super::server::{Seen, State};

/// Speaks on one connection until its end.
pub(super) fn serve(state: &Arc<State>, mut connection: TcpStream) {
    let mut session = ServerSession::new(Limits::default(), &[9; handshake::RANDOM_BYTES]);
    let (mut app, mut stream) = (None::<ConnectRequest>, None::<String>);
    let (mut unread, mut buffer) = (Vec::new(), [0; 16_384]);
    while let Ok(read @ 1..) = connection.read(&mut buffer) {
        unread.extend_from_slice(&buffer[..read]);
        loop {
            let mut input = unread.as_slice();
            let before = input.len();
            let Ok(event) = session.read(&mut input) else { return };
            let taken = before - input.len();
            unread.drain(..taken);
            match event {
                Some(ServerEvent::Connect(request)) => {
                    session.accept_connect().expect("a connect to accept");
                    app = Some(request);
                }
                Some(ServerEvent::Publish(request)) => {
                    let connect = app.as_ref().expect("a connect before a publish");
                    state.saw(seen(connect, &request));
                    if state.is_full() {
                        let why = "current system resources not enough";
                        session.reject_publish("NetStream.Failed", why).expect("a publish to refuse");
                    } else {
                        session.accept_publish().expect("a publish to accept");
                        state.begin(connect.app_name(), &request.name);
                        stream = Some(request.name);
                    }
                }
                Some(ServerEvent::Unpublish) => {
                    if let Some(stream) = stream.take() {
                        state.end(&stream);
                    }
                }
                Some(ServerEvent::Media(_) | ServerEvent::Metadata(_) | ServerEvent::HandedOver) => {}
                None => break,
            }
            let _ = connection.write_all(&session.take_output());
        }
        if connection.write_all(&session.take_output()).is_err() {
            break;
        }
    }
    if let Some(stream) = stream {
        state.end(&stream);
    }
}

fn seen(connect: &ConnectRequest, publish: &PublishRequest) -> Seen {
    let text = |name: &String| connect.text(name).unwrap_or_default().to_owned();
    let fields = connect.properties.iter().map(|(name, _)| (name.clone(), text(name))).collect();
    let query = publish.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let target = format!("{}/{}{query}", connect.app_name(), publish.name);
    Seen { method: "RTMP".to_owned(), target, fields }
}
