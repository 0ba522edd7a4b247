//! The axum front door: what `node.http` serves of an edge to balancers. Whoever asks must hold the
//! cluster's key; viewers come through a balancer.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use sluicegate_cluster::trust::{self, ClusterKey};
use sluicegate_cluster::viewer::{ViewerBody, ViewerDoor, ViewerRequest, ViewerResponse};

use crate::reply;

#[derive(Clone)]
struct Front {
    door: Arc<dyn ViewerDoor>,
    key: ClusterKey,
}

/// Routes everything to `door`, for those who present a token of `key`; others get 401.
pub fn router(door: Arc<dyn ViewerDoor>, key: ClusterKey) -> Router {
    Router::new().fallback(answer).with_state(Front { door, key })
}

async fn answer(State(front): State<Front>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let request = ViewerRequest {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
    };
    let token = request.headers.get(trust::HEADER).and_then(|token| token.to_str().ok());
    match front.key.verify(token) {
        Ok(_) => respond(front.door.answer(request).await),
        Err(why) => respond(reply::problem(&request, StatusCode::UNAUTHORIZED, &why.to_string())),
    }
}

fn respond(answer: ViewerResponse) -> Response {
    let mut response = Response::new(match answer.body {
        ViewerBody::Empty => Body::empty(),
        ViewerBody::Whole(body) => Body::from(body),
        // A piece that is an error makes hyper cut the connection: the body never ends as if complete.
        ViewerBody::Pieces(pieces) => Body::from_stream(pieces),
    });
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sluicegate_cluster::viewer::BrokenOff;

    use super::*;
    use crate::testing::{SEGMENT, World, status, tapped, until, whole};

    /// The front door of `world`'s edge as a server, and a client of it.
    async fn open(world: &World) -> (String, reqwest::Client) {
        let listener = tokio::net::TcpListener::bind("127.0.5.2:0").await.unwrap();
        let url = format!("http://{}{SEGMENT}", listener.local_addr().unwrap());
        let router = router(world.edge.clone(), world.key.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (url, reqwest::Client::builder().no_proxy().build().unwrap())
    }

    fn token(world: &World) -> String {
        world.key.token(&"lb-1".parse().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn only_the_cluster_comes_in() {
        let world = World::new().await;
        let (url, client) = open(&world).await;
        world.origin.will(SEGMENT, whole(b"abc".as_slice()));
        let refused = client.get(&url).send().await.unwrap();
        assert_eq!(refused.status().as_u16(), 401);
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        let stranger = ClusterKey::random().token(&"lb-1".parse().unwrap()).unwrap();
        let refused = client.get(&url).header(trust::HEADER, stranger).send().await.unwrap();
        assert_eq!(refused.status().as_u16(), 401);
        assert!(world.origin.asked(SEGMENT).is_empty());
        let answer = client.get(&url).header(trust::HEADER, token(&world)).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "abc");
        let head = client.head(&url).header(trust::HEADER, token(&world)).send().await.unwrap();
        assert_eq!(head.headers()["content-length"], "3");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_breaks_the_connection_off() {
        let world = World::new().await;
        let (url, client) = open(&world).await;
        let (answer, tap) = tapped(None);
        world.origin.will(SEGMENT, answer);
        world.origin.will(SEGMENT, status(StatusCode::SERVICE_UNAVAILABLE));
        tap.send(Ok(Bytes::from_static(b"abc"))).unwrap();
        let mut answer = client.get(&url).header(trust::HEADER, token(&world)).send().await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "abc");
        tap.send(Err(BrokenOff)).unwrap();
        assert!(answer.chunk().await.is_err());
        until(|| world.fills("broken") == 1).await;
    }
}
