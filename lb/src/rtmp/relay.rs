//! A publisher's messages to its origin, until one of them ends it. Neither side is read faster than the
//! other takes: that is the only buffer.

use pingora::server::ShutdownWatch;
use sluicegate_cluster::wire::WireError;
use sluicegate_media::rtmp::{ClientEvent, ServerEvent};

use super::place::OriginLink;
use super::{PublishError, Publisher};

/// Relays until the publisher ends its stream (`Ok`), or something breaks.
pub(super) async fn relay(
    publisher: &mut Publisher,
    origin: &mut OriginLink,
    mut shutdown: ShutdownWatch,
) -> Result<(), PublishError> {
    loop {
        let ended = forward(publisher, origin)?;
        origin.wire.send(&origin.session.take_output()).await.map_err(origin_lost)?;
        publisher.wire.send(&publisher.session.take_output()).await?;
        if ended {
            return finish(origin).await;
        }
        tokio::select! {
            read = publisher.wire.read() => match read {
                Ok(()) => {}
                // Encoders that just hang up have ended their stream too.
                Err(WireError::Closed) => return finish(origin).await,
                Err(error) => {
                    finish(origin).await?;
                    return Err(error.into());
                }
            },
            read = origin.wire.read() => {
                read.map_err(origin_lost)?;
                if let Some(ClientEvent::Ended { code, description } | ClientEvent::Refused { code, description }) =
                    origin.take_event()?
                {
                    return Err(PublishError::Refused { code, description });
                }
            },
            _ = shutdown.changed() => {
                finish(origin).await?;
                return Err(PublishError::Stopping);
            },
        }
    }
}

/// Passes on what was read from the publisher. `true`: its stream ended.
fn forward(publisher: &mut Publisher, origin: &mut OriginLink) -> Result<bool, PublishError> {
    let mut input = publisher.wire.unread();
    let before = input.len();
    let mut ended = false;
    while let Some(event) = publisher.session.read(&mut input)? {
        match event {
            ServerEvent::Media(message) | ServerEvent::Metadata(message) => {
                origin.session.send(&message).map_err(|e| PublishError::Origin(e.to_string()))?;
            }
            ServerEvent::Unpublish => {
                ended = true;
                break;
            }
            ServerEvent::Connect(_) | ServerEvent::Publish(_) => {}
        }
    }
    let taken = before - input.len();
    publisher.wire.take(taken);
    Ok(ended)
}

/// Tells the origin that the stream ended.
async fn finish(origin: &mut OriginLink) -> Result<(), PublishError> {
    if origin.session.unpublish().is_ok() && origin.wire.send(&origin.session.take_output()).await.is_ok() {
        origin.wire.close().await;
    }
    Ok(())
}

fn origin_lost(error: WireError) -> PublishError {
    PublishError::Origin(error.to_string())
}
