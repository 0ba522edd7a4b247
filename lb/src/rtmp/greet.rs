//! A publisher's connection from its first byte to its `publish`.

use sluicegate_cluster::clock;
use sluicegate_cluster::ids::{AppName, StreamKey};
use sluicegate_cluster::limits;
use sluicegate_cluster::token::{self, TokenUse};
use sluicegate_media::rtmp::{ConnectRequest, PublishRequest, ServerEvent};

use super::{PublishError, Publisher};
use crate::state::Balancer;

/// Answers everything up to `publish`, and gives the stream's name, checked, once its publisher may publish it, and
/// the token that it brought.
pub(super) async fn greet(
    balancer: &Balancer,
    publisher: &mut Publisher,
) -> Result<(StreamKey, Option<String>), PublishError> {
    let mut app = None;
    loop {
        match publisher.next().await? {
            ServerEvent::Connect(request) => {
                publisher.session.accept_connect()?;
                app = Some(request);
            }
            ServerEvent::Publish(request) => {
                let connect = app.as_ref().ok_or(PublishError::NoApp)?;
                let key = stream_key(balancer, connect, &request)?;
                let token = token_of(connect, &request);
                balancer.admission.admit(&key, TokenUse::Publish, token, clock::cluster_ms())?;
                let token = token.filter(|token| token.len() <= limits::TOKEN_BYTES);
                return Ok((key, token.map(str::to_owned)));
            }
            ServerEvent::Media(_)
            | ServerEvent::Metadata(_)
            | ServerEvent::Unpublish
            | ServerEvent::HandedOver => {}
        }
    }
}

/// `rtmp://host/live` with the key `cam1`, and `rtmp://host/live/cam1` with none, name the same stream.
fn stream_key(
    balancer: &Balancer,
    connect: &ConnectRequest,
    publish: &PublishRequest,
) -> Result<StreamKey, PublishError> {
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

/// The token behind the stream's name, where encoders' settings have room for it, or else behind the
/// application or in the URL: AMS takes `rtmp://host/live/cam1?token=…`, which encoders cut up differently.
fn token_of<'a>(connect: &'a ConnectRequest, publish: &'a PublishRequest) -> Option<&'a str> {
    let of_url = || connect.tc_url.as_deref().and_then(|url| Some(url.split_once('?')?.1));
    let queries = [publish.query.as_deref(), connect.query(), of_url()];
    queries.into_iter().flatten().find_map(token::in_query)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(app: &str, tc_url: &str, query: Option<&str>, expect: Option<&str>) {
        let connect =
            ConnectRequest { app: app.to_owned(), tc_url: Some(tc_url.to_owned()), properties: Vec::new() };
        let query = query.map(str::to_owned);
        let publish = PublishRequest { name: "cam1".to_owned(), query, kind: "live".to_owned() };
        assert_eq!(token_of(&connect, &publish), expect);
    }

    #[test]
    fn a_token_is_found_wherever_an_encoder_puts_it() {
        check("live", "rtmp://h/live", Some("token=t"), Some("t"));
        check("live?token=t", "rtmp://h/live?token=u", Some("x=1"), Some("t"));
        check("live", "rtmp://h/live?x=1&token=t", None, Some("t"));
        check("live", "rtmp://h/live", None, None);
    }
}
