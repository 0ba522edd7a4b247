//! A question to a node, as WHIP or WHEP has it.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sluicegate_cluster::signalling::{Protocol, SDP_MEDIA_TYPE};
use sluicegate_cluster::viewer::{ViewerBody, ViewerResponse};

use crate::http::route::Endpoint;
use crate::http::signalling::Asked;
use crate::state::Balancer;
use crate::websocket::{Answered, Ask, Place, Question, Way};

/// Asks it in the name of `client`.
pub(super) async fn ask(balancer: &Balancer, client: Option<IpAddr>, ask: &Ask) -> Answered {
    let protocol = match ask.way {
        Way::Publish => Protocol::Whip,
        Way::Play => Protocol::Whep,
    };
    let endpoint = Endpoint { key: ask.key.clone(), protocol, session: None };
    let request = |method: Method, body: &str, token: Option<&str>| Asked {
        balancer,
        endpoint: &endpoint,
        method,
        query: String::new(),
        headers: headers(token),
        viewer: client.map(|ip| ip.to_string()).unwrap_or_default(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    let answered = match &ask.question {
        Question::Begin { token, offer } => {
            let offer = offer.as_deref().unwrap_or_default();
            let asked = request(Method::POST, offer, token.as_deref());
            match ask.way {
                Way::Publish => asked.publish().await,
                Way::Play => asked.view().await,
            }
        }
        Question::Answer(place, sdp) => request(Method::PATCH, sdp, None).change(&place.id, "").await,
        Question::Height(place, lines) => {
            request(Method::PUT, &lines.to_string(), None).change(&place.id, "/height").await
        }
        Question::End(place) => request(Method::DELETE, "", None).change(&place.id, "").await,
    };
    match answered {
        Ok((response, node)) if response.status == StatusCode::CREATED => {
            let place = node.and_then(|node| Some(Place { node, id: session_id(&response)? }));
            match (place, description(response)) {
                (Some(place), Some(sdp)) => Answered::Made(place, sdp),
                _ => Answered::Refused(StatusCode::BAD_GATEWAY),
            }
        }
        Ok((response, _)) if response.status.is_success() => Answered::Done,
        Ok((response, _)) => Answered::Refused(response.status),
        Err(refusal) => Answered::Refused(refusal.status()),
    }
}

fn headers(token: Option<&str>) -> HeaderMap {
    let mut headers =
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(SDP_MEDIA_TYPE))]);
    // One that cannot be a header's value is no token either, and was refused as such where one is needed.
    if let Some(bearer) = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok()) {
        headers.insert(header::AUTHORIZATION, bearer);
    }
    headers
}

/// The last part of the session's address.
fn session_id(response: &ViewerResponse) -> Option<String> {
    let location = response.headers.get(header::LOCATION)?.to_str().ok()?;
    Some(location.rsplit('/').next()?.to_owned())
}

fn description(response: ViewerResponse) -> Option<String> {
    match response.body {
        ViewerBody::Whole(body) => String::from_utf8(body.to_vec()).ok(),
        ViewerBody::Empty | ViewerBody::Pieces(_) => None,
    }
}
