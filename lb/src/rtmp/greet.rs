//! A publisher's connection from its first byte to its `publish`.

use sluicegate_cluster::ids::{AppName, StreamKey};
use sluicegate_media::rtmp::{ConnectRequest, PublishRequest, ServerEvent};

use super::{PublishError, Publisher};
use crate::state::Balancer;

/// Answers everything up to `publish`, and gives the stream's name, checked.
pub(super) async fn greet(balancer: &Balancer, publisher: &mut Publisher) -> Result<StreamKey, PublishError> {
    let mut app = None;
    loop {
        match publisher.next().await? {
            ServerEvent::Connect(request) => {
                publisher.session.accept_connect()?;
                app = Some(request);
            }
            ServerEvent::Publish(request) => return stream_key(balancer, app.as_ref(), &request),
            ServerEvent::Media(_) | ServerEvent::Metadata(_) | ServerEvent::Unpublish => {}
        }
    }
}

/// `rtmp://host/live` with the key `cam1`, and `rtmp://host/live/cam1` with none, name the same stream.
fn stream_key(
    balancer: &Balancer,
    connect: Option<&ConnectRequest>,
    publish: &PublishRequest,
) -> Result<StreamKey, PublishError> {
    let connect = connect.ok_or(PublishError::NoApp)?;
    let app: AppName = connect.app_name().parse().map_err(|_| PublishError::NoApp)?;
    if !balancer.is_app(&app) {
        return Err(PublishError::NoApp);
    }
    let stream = match (connect.app_rest(), publish.name.as_str()) {
        (Some(rest), "") => rest.parse()?,
        (None, name) => name.parse()?,
        (Some(_), _) => return Err(PublishError::NoApp),
    };
    Ok(StreamKey { app, stream })
}

impl Publisher {
    /// The next event. What the session has to say is sent before more is read.
    pub(super) async fn next(&mut self) -> Result<ServerEvent, PublishError> {
        loop {
            let mut input = self.wire.unread();
            let before = input.len();
            let event = self.session.read(&mut input);
            let taken = before - input.len();
            self.wire.take(taken);
            if let Some(event) = event? {
                return Ok(event);
            }
            self.wire.send(&self.session.take_output()).await?;
            self.wire.read().await?;
        }
    }
}
